"""Where the made-up company sells: its representatives, each with a region, its towns and its price lists."""

from __future__ import annotations

from attrs import frozen

__all__ = ["PRICE_LISTS", "REPS", "Rep", "Town"]

WHOLESALE = "T90"
# Code, name, and what it makes of a basic price, in thousandths.
PRICE_LISTS = (
    ("T10", "Sudeste", 1000),
    ("T20", "Sul", 1015),
    ("T30", "Nordeste", 1055),
    ("T40", "Norte e Centro-Oeste", 1085),
    (WHOLESALE, "Atacado", 930),
)


@frozen
class Town:
    """A town: its postal codes begin with `postal`, its telephone numbers with `area`."""

    name: str
    state: str
    area: str
    postal: str


@frozen
class Rep:
    """A representative; `lists` are the price lists that may be sold by, that of the region first."""

    code: str
    name: str
    region: str
    lists: tuple[str, ...]
    towns: tuple[Town, ...]


# Representative, region, price list, then towns (the largest market first) as name/state/area code/postal prefix.
_TABLE = """
Marina Duarte; Campinas e região; T10 T90; Campinas/SP/19/1301 Jundiaí/SP/11/1320 Piracicaba/SP/19/1340 Limeira/SP/19/1348 \
Sorocaba/SP/15/1801
Carlos Eduardo Prado; Paraná; T20 T90; Curitiba/PR/41/8001 Londrina/PR/43/8601 Maringá/PR/44/8701 Ponta_Grossa/PR/42/8401 \
Cascavel/PR/45/8580
Fernanda Albuquerque; Pernambuco; T30 T90; Recife/PE/81/5001 Olinda/PE/81/5301 Caruaru/PE/81/5500 Petrolina/PE/87/5630 \
Garanhuns/PE/87/5529
João Pedro Teixeira; Minas Gerais; T10 T90; Belo_Horizonte/MG/31/3011 Uberlândia/MG/34/3840 Contagem/MG/31/3201 \
Juiz_de_Fora/MG/32/3601 Montes_Claros/MG/38/3940
Mariana Figueiredo; Santa Catarina; T20 T90; Joinville/SC/47/8920 Blumenau/SC/47/8901 Florianópolis/SC/48/8801 \
Chapecó/SC/49/8980 Criciúma/SC/48/8880
Rafael Monteiro; Rio Grande do Sul; T20; Porto_Alegre/RS/51/9001 Caxias_do_Sul/RS/54/9501 Pelotas/RS/53/9601 \
Canoas/RS/51/9201 Santa_Maria/RS/55/9701
Luciana Tavares; Bahia; T30 T90; Salvador/BA/71/4002 Feira_de_Santana/BA/75/4400 Ilhéus/BA/73/4565 Itabuna/BA/73/4560 \
Vitória_da_Conquista/BA/77/4500
Tiago Vasconcelos; Goiás; T40 T90; Goiânia/GO/62/7401 Anápolis/GO/62/7500 Aparecida_de_Goiânia/GO/62/7490 \
Rio_Verde/GO/64/7590 Catalão/GO/64/7570
Priscila Magalhães; Ceará; T30; Fortaleza/CE/85/6001 Juazeiro_do_Norte/CE/88/6300 Sobral/CE/88/6201 Caucaia/CE/85/6160 \
Crato/CE/88/6310
Gustavo Sampaio; Pará; T40; Belém/PA/91/6601 Ananindeua/PA/91/6700 Santarém/PA/93/6800 Marabá/PA/94/6850 \
Castanhal/PA/91/6874
Beatriz Antunes; Rio de Janeiro; T10 T90; Rio_de_Janeiro/RJ/21/2003 Niterói/RJ/21/2401 Duque_de_Caxias/RJ/21/2501 \
Petrópolis/RJ/24/2561 Volta_Redonda/RJ/24/2721
André Luiz Siqueira; Espírito Santo; T10; Vitória/ES/27/2901 Vila_Velha/ES/27/2910 Serra/ES/27/2916 \
Cachoeiro_de_Itapemirim/ES/28/2930 Linhares/ES/27/2990
Camila Rezende; São Paulo e Guarulhos; T10 T90; São_Paulo/SP/11/0310 Guarulhos/SP/11/0701 Osasco/SP/11/0601 \
Barueri/SP/11/0640 Cotia/SP/11/0670
Paulo Henrique Brandão; ABC paulista; T10 T90; Santo_André/SP/11/0901 São_Bernardo_do_Campo/SP/11/0970 \
São_Caetano_do_Sul/SP/11/0951 Diadema/SP/11/0990 Mauá/SP/11/0931
Renata Cavalcanti; Vale do Paraíba; T10; São_José_dos_Campos/SP/12/1221 Taubaté/SP/12/1201 Jacareí/SP/12/1230 \
Guaratinguetá/SP/12/1250 Pindamonhangaba/SP/12/1240
Leandro Furtado; Ribeirão Preto e região; T10 T90; Ribeirão_Preto/SP/16/1401 Franca/SP/16/1440 Araraquara/SP/16/1480 \
São_Carlos/SP/16/1356 Sertãozinho/SP/16/1416
Juliana Peixoto; Noroeste paulista; T10; São_José_do_Rio_Preto/SP/17/1501 Araçatuba/SP/18/1601 Catanduva/SP/17/1580 \
Votuporanga/SP/17/1550 Birigui/SP/18/1620
Marcelo Quintela; Mato Grosso; T40 T90; Cuiabá/MT/65/7800 Várzea_Grande/MT/65/7811 Rondonópolis/MT/66/7870 \
Sinop/MT/66/7855 Sorriso/MT/66/7889
Simone Barcelos; Mato Grosso do Sul; T40; Campo_Grande/MS/67/7900 Dourados/MS/67/7980 Três_Lagoas/MS/67/7960 \
Corumbá/MS/67/7930 Ponta_Porã/MS/67/7990
Otávio Nogueira; Paraíba e Rio Grande do Norte; T30; Natal/RN/84/5901 João_Pessoa/PB/83/5801 Campina_Grande/PB/83/5840 \
Mossoró/RN/84/5960 Parnamirim/RN/84/5914
"""


def _read(table: str) -> tuple[Rep, ...]:
    reps = []
    for n, line in enumerate(table.strip().splitlines(), 1):
        name, region, lists, towns = line.split("; ")
        places = (town.replace("_", " ").split("/") for town in towns.split())
        reps.append(Rep(f"R{n:02}", name, region, tuple(lists.split()), tuple(Town(*place) for place in places)))
    return tuple(reps)


REPS = _read(_TABLE)
