"""Names, addresses, numbers and e-mail addresses of a made-up company's customers; none belongs to anybody.

Tax ids have the form of a CNPJ with check digits that are wrong on purpose, and e-mail addresses end in the reserved `.example`.
"""

from __future__ import annotations

import random
import unicodedata

from attrs import frozen

from offlinekit_portal.places import Town

__all__ = ["SEGMENTS", "Firm", "address", "check_digits", "email", "make_firm", "person", "phone", "role", "tax_id"]

# Segment, how such a firm calls itself, and the families of goods that it buys most.
SEGMENTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Materiais de construção": (
        ("Materiais de Construção", "Depósito", "Constrular", "Casa do Construtor"),
        ("Argamassas", "Tubos", "Conexões", "Fixação", "Impermeabilização", "Metais e louças", "Tintas"),
    ),
    "Ferragens": (
        ("Ferragens", "Casa das Ferragens", "Comercial de Ferragens", "Parafusos e Cia"),
        ("Fixação", "Ferragens", "Ferramentas manuais", "Cadeados e cofres", "Abrasivos", "Máquinas e acessórios"),
    ),
    "Tintas": (
        ("Casa de Tintas", "Tintas", "Mundo das Cores", "Center Cores"),
        ("Tintas", "Acessórios para pintura", "Abrasivos", "Adesivos e vedantes", "Impermeabilização"),
    ),
    "Material elétrico": (
        ("Elétrica", "Casa da Luz", "Eletro Comercial", "Instaladora"),
        ("Fios e cabos", "Proteção elétrica", "Tomadas e interruptores", "Iluminação", "Tubos"),
    ),
    "Hidráulica": (
        ("Hidráulica", "Casa dos Tubos", "Hidro Comercial", "Banho e Cozinha"),
        ("Tubos", "Conexões", "Metais e louças", "Adesivos e vedantes", "Jardim"),
    ),
    "Agropecuária": (
        ("Agropecuária", "Casa do Campo", "Agro Comercial", "Terra Forte"),
        ("Jardim", "Segurança", "Cadeados e cofres", "Ferramentas manuais", "Tubos", "Fixação"),
    ),
    "Indústria e manutenção": (
        ("Suprimentos Industriais", "Manutec", "Ferramentaria", "Serviços de Manutenção"),
        ("Segurança", "Abrasivos", "Máquinas e acessórios", "Escadas e movimentação", "Fixação", "Fios e cabos"),
    ),
}
_FAMILY_NAMES = ("São Bento", "Santa Rita", "Irmãos Oliveira", "Boa Vista", "Três Irmãos", "Conceição", "Aurora",
                 "São Judas", "Nossa Senhora das Graças", "Ipiranga", "Horizonte", "Bela Vista", "São João",
                 "Primavera", "Dois Irmãos", "Santo Antônio", "Alvorada", "do Porto", "Araújo & Filhos",
                 "Guimarães", "Família Souza", "Bandeirantes", "Esperança", "Progresso", "Estrela", "Paraíso",
                 "Nova Era", "Morada Nova", "Sol Nascente", "Rio Claro", "Monte Alegre", "Planalto", "Vale Verde",
                 "Ouro Branco", "São Miguel", "Santa Luzia", "Central", "Universal", "Pioneira", "Liberdade",
                 "Menezes", "Carvalho", "Batista & Irmão", "Figueira", "Palmares", "Cruzeiro")  # fmt: skip
_FORMS = ("Ltda", "Ltda", "Ltda", "ME", "EPP", "& Cia Ltda", "S.A.")
_STREETS = ("Rua Barão de Jaguara", "Av. Brasil", "Rua XV de Novembro", "Av. Getúlio Vargas",
            "Rua Sete de Setembro", "Rua Tiradentes", "Av. São João", "Rua Marechal Deodoro", "Rua das Palmeiras",
            "Av. Independência", "Travessa do Comércio", "Rua José Bonifácio", "Av. Rui Barbosa",
            "Rua Santos Dumont", "Rua Duque de Caxias")  # fmt: skip
_ROADS = ("Rodovia do Contorno, km", "Estrada Municipal, km", "Via de Acesso Norte, km", "Anel Viário, km")
_DISTRICTS = ("Centro", "Jardim América", "Vila Nova", "Boa Vista", "Industrial", "São José", "Santa Cruz",
              "Vila Rica", "Cidade Nova", "Jardim Europa", "Nossa Senhora Aparecida")  # fmt: skip
_FIRST_NAMES = ("Adriana", "Alexandre", "Ana Paula", "Antônio", "Bianca", "Bruno", "Carla", "César", "Cláudia",
                "Daniel", "Débora", "Edson", "Elaine", "Fábio", "Fernando", "Flávia", "Geraldo", "Helena", "Igor",
                "Ivone", "Joana", "Jorge", "José", "Kátia", "Lúcia", "Luís", "Márcia", "Marcos", "Maria",
                "Nelson", "Patrícia", "Pedro", "Regina", "Roberto", "Rosana", "Sérgio", "Sílvia", "Solange",
                "Tânia", "Vera", "Vinícius", "Wagner")  # fmt: skip
_LAST_NAMES = ("Almeida", "Alves", "Barbosa", "Cardoso", "Castro", "Costa", "Cunha", "Dias", "Fernandes",
               "Ferreira", "Freitas", "Gomes", "Gonçalves", "Lima", "Lopes", "Machado", "Martins", "Melo",
               "Mendes", "Moreira", "Nascimento", "Nunes", "Oliveira", "Pereira", "Pinto", "Ramos", "Ribeiro",
               "Rocha", "Santos", "Silva", "Soares", "Vieira")  # fmt: skip
_ROLES = ("Compras", "Proprietário", "Financeiro", "Gerente", "Almoxarifado", "Vendas")
_WEIGHTS_1 = (5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2)
_WEIGHTS_2 = (6, *_WEIGHTS_1)


@frozen
class Firm:
    """What a firm is called: its legal name, its trade name, and the part of e-mail addresses after the @."""

    name: str
    trade_name: str
    domain: str


def make_firm(segment: str, chance: random.Random) -> Firm:
    """A firm of a segment."""
    kind, family = chance.choice(SEGMENTS[segment][0]), chance.choice(_FAMILY_NAMES)
    trade = f"{kind} {family}"
    return Firm(f"{trade} {chance.choice(_FORMS)}", trade, f"{_plain(family)}{chance.randrange(10, 1000)}.example")


def check_digits(twelve: str) -> str:
    """The two digits that a valid CNPJ with these first twelve would end in."""
    digits = list(map(int, twelve))
    for weights in (_WEIGHTS_1, _WEIGHTS_2):
        rest = sum(d * w for d, w in zip(digits, weights, strict=True)) % 11
        digits.append(0 if rest < 2 else 11 - rest)
    return f"{digits[-2]}{digits[-1]}"


def tax_id(root: int, store: int, chance: random.Random) -> str:
    """A tax id of the right form whose check digits are both wrong, so that it can be nobody's."""
    twelve = f"{root:08}{store:04}"
    wrong = "".join(str((int(digit) + chance.randrange(1, 10)) % 10) for digit in check_digits(twelve))
    return f"{twelve[:2]}.{twelve[2:5]}.{twelve[5:8]}/{twelve[8:]}-{wrong}"


def address(town: Town, chance: random.Random, *, delivery: bool = False) -> dict[str, str]:
    """The fields of an address in a town; goods may go to a warehouse by the road."""
    if delivery and chance.random() < 0.5:
        street = f"{chance.choice(_ROADS)} {chance.randrange(1, 40)}"
    else:
        street = f"{chance.choice(_STREETS)}, {chance.randrange(10, 3000)}"
    postal = f"{town.postal}{chance.randrange(0, 10)}-{chance.randrange(0, 1000):03}"
    district = chance.choice(_DISTRICTS)
    return {"street": street, "district": district, "city": town.name, "state": town.state, "postal_code": postal}


def phone(town: Town, chance: random.Random) -> str:
    """A telephone number; the first digits are those of no exchange."""
    return f"({town.area}) {chance.choice((3000, 93000)) + 555}-{chance.randrange(10_000):04}"


def person(chance: random.Random) -> str:
    """Somebody's name."""
    return f"{chance.choice(_FIRST_NAMES)} {chance.choice(_LAST_NAMES)}"


def role(place: int, chance: random.Random) -> str:
    """What somebody does; the first contact of a firm buys."""
    return _ROLES[0] if place == 1 else chance.choice(_ROLES[1:])


def email(name: str, domain: str) -> str:
    """Somebody's e-mail address: the first name and the last."""
    first, *_, last = name.split() if " " in name else (name, name)
    return f"{_plain(first)}.{_plain(last)}@{domain}" if first != last else f"{_plain(first)}@{domain}"


def _plain(text: str) -> str:
    """The text in letters without accents, nothing else."""
    folded = unicodedata.normalize("NFKD", text.lower())
    return "".join(c for c in folded if c.isascii() and c.isalnum())
