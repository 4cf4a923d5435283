"""What the made-up company sells: families of goods in kinds, finishes, sizes and brands, with a basic price for each."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import date, timedelta
from itertools import product as combinations

from attrs import define

from offlinekit_portal.places import PRICE_LISTS

__all__ = ["FAMILIES", "PRODUCTS_MAX", "Good", "make_goods"]

BRANDS = ("Andorinha", "Ferrobom", "Itaúna", "Sabiá", "Prumo", "Jequitibá", "Mestre João", "Araruna", "Cambará",
          "Pedra Alta", "Guaraúna", "Tocantim")  # fmt: skip
BRANDS_EACH = 6
# What brand and finish make of a price, in hundredths; the size counts for a fifth of the smallest one's price each.
BRAND_SHARES = (100, 88, 112, 95, 123, 105)
FINISH_SHARES = (100, 116, 131, 152)
DAYS_OLD_MAX = 3650
LAUNCHED = 0.06  # the share of products that were launched this year
OUT_OF_STOCK = 0.08
LOWEST = (0.80, 0.90)  # of the lowest list price

# Family | unit | kinds with the price of the smallest size in reais | finishes | sizes. A family may have several lines.
_TABLE = """
Fixação|cx|Parafuso sextavado 18, Parafuso Allen 26, Parafuso francês 21|zincado, bicromatizado, galvanizado, inox 304\
|M5x16, M6x20, M6x40, M8x25, M8x50, M10x40, M10x80, M12x60
Fixação|pct|Porca sextavada 9, Arruela lisa 6, Arruela de pressão 7|zincada, bicromatizada, galvanizada, inox 304\
|M4, M5, M6, M8, M10, M12, M16, M20
Ferragens|un|Fechadura externa 74, Fechadura interna 52, Fechadura de banheiro 49|cromada, branca, preta fosca, inox escovado\
|40 mm, 45 mm, 50 mm, 55 mm, 60 mm, 70 mm, 80 mm, 90 mm
Ferragens|par|Dobradiça 9, Trinco de sobrepor 12, Porta-cadeado 8|zincado, cromado, preto, inox\
|1 pol, 1.1/2 pol, 2 pol, 2.1/2 pol, 3 pol, 3.1/2 pol, 4 pol, 5 pol
Ferramentas manuais|un|Chave combinada 16, Chave fixa 14, Chave estrela 17|cromo-vanádio, fosfatizada, cromada, isolada 1000 V\
|6 mm, 8 mm, 10 mm, 13 mm, 17 mm, 19 mm, 24 mm, 32 mm
Ferramentas manuais|un|Martelo unha 34, Formão 27, Serrote 41|cabo de madeira, cabo de fibra, emborrachado, profissional\
|10 pol, 12 pol, 14 pol, 16 pol, 18 pol, 20 pol, 22 pol, 24 pol
Máquinas e acessórios|un|Broca para aço 6, Broca para concreto 8, Broca para madeira 5|comum, longa, titânio, cobalto\
|3 mm, 4 mm, 5 mm, 6 mm, 8 mm, 10 mm, 12 mm, 14 mm
Máquinas e acessórios|un|Serra mármore 318, Furadeira 249, Esmerilhadeira 287|127 V, 220 V, 127 V com maleta, 220 V com maleta\
|450 W, 550 W, 650 W, 750 W, 850 W, 1000 W, 1200 W, 1400 W
Tintas|un|Tinta acrílica fosca 31, Esmalte sintético 38, Tinta para piso 35|branco neve, areia, cinza urbano, azul serenidade\
|225 ml, 450 ml, 900 ml, 2,5 L, 3,2 L, 3,6 L, 15 L, 18 L
Tintas|un|Verniz marítimo 36, Massa corrida 19, Fundo preparador 24|incolor, natural, mogno, imbuia\
|225 ml, 450 ml, 900 ml, 2,5 L, 3,2 L, 3,6 L, 15 L, 18 L
Acessórios para pintura|un|Rolo de lã 14, Rolo de espuma 7, Trincha 6|econômico, anti-respingo, profissional, premium\
|5 cm, 9 cm, 10 cm, 15 cm, 18 cm, 20 cm, 23 cm, 25 cm
Acessórios para pintura|un|Fita crepe 5, Lona plástica 9, Espátula 8|uso geral, reforçada, automotiva, extra\
|12 mm, 16 mm, 18 mm, 24 mm, 32 mm, 38 mm, 48 mm, 72 mm
Adesivos e vedantes|un|Silicone acético 15, Selante PU 24, Espuma expansiva 22|incolor, branco, cinza, preto\
|50 g, 85 g, 150 g, 230 g, 280 g, 310 g, 400 g, 500 g
Adesivos e vedantes|un|Cola branca 5, Cola de contato 14, Adesivo para PVC 6|comum, secagem rápida, extraforte, profissional\
|40 g, 75 g, 100 g, 175 g, 250 g, 500 g, 850 g, 1 kg
Fios e cabos|rl|Cabo flexível 750 V 98, Cabo rígido 92, Cabo 1 kV 121|preto, azul, verde, vermelho\
|1,5 mm², 2,5 mm², 4 mm², 6 mm², 10 mm², 16 mm², 25 mm², 35 mm²
Fios e cabos|rl|Cabo PP 2 vias 136, Cabo PP 3 vias 178, Cabo paralelo 84|preto, branco, cinza, cristal\
|0,75 mm², 1 mm², 1,5 mm², 2,5 mm², 4 mm², 6 mm², 10 mm², 16 mm²
Proteção elétrica|un|Disjuntor monopolar 11, Disjuntor bipolar 38, Disjuntor tripolar 52|curva B, curva C, curva D, 10 kA\
|6 A, 10 A, 16 A, 20 A, 25 A, 32 A, 40 A, 50 A
Proteção elétrica|un|Dispositivo DR 104, Protetor contra surtos 58, Contator 79|bipolar, tetrapolar, 127 V, 220 V\
|16 A, 20 A, 25 A, 32 A, 40 A, 45 A, 63 A, 80 A
Tomadas e interruptores|un|Tomada 10 A 8, Tomada 20 A 10, Interruptor simples 7|branco, marfim, cinza, preto\
|2 postos, 3 postos, 4x2, 4x2 com LED, 4x4, 4x4 dupla, sobrepor, sobrepor dupla
Tomadas e interruptores|un|Placa cega 4, Suporte 3, Módulo USB 42|branco, marfim, grafite, preto fosco\
|1 posto, 2 postos, 3 postos, 4 postos, 6 postos, 4x2, 4x4, redondo
Iluminação|un|Lâmpada LED bulbo 7, Lâmpada LED tubular 14, Lâmpada LED dicroica 9|2700 K, 3000 K, 4000 K, 6500 K\
|4,5 W, 7 W, 9 W, 12 W, 15 W, 20 W, 30 W, 40 W
Iluminação|un|Painel LED de embutir 17, Painel LED de sobrepor 21, Refletor LED 29|3000 K, 4000 K, 6500 K, RGB\
|6 W, 12 W, 18 W, 24 W, 30 W, 36 W, 50 W, 100 W
Tubos|br|Tubo soldável 16, Tubo para esgoto 19, Eletroduto 11|marrom, branco, reforçado, antichama\
|20 mm, 25 mm, 32 mm, 40 mm, 50 mm, 75 mm, 100 mm, 150 mm
Tubos|m|Mangueira cristal 3, Mangueira trançada 5, Tubo corrugado 2|leve, médio, reforçado, atóxico\
|1/4 pol, 3/8 pol, 1/2 pol, 5/8 pol, 3/4 pol, 1 pol, 1.1/4 pol, 1.1/2 pol
Conexões|un|Joelho 90° 2, Tê 3, Luva 2|soldável, roscável, esgoto, com bucha de latão\
|20 mm, 25 mm, 32 mm, 40 mm, 50 mm, 60 mm, 75 mm, 100 mm
Conexões|un|Registro de esfera 18, Adaptador com flange 11, União 9|PVC, latão, compacto, com borboleta\
|20 mm, 25 mm, 32 mm, 40 mm, 50 mm, 60 mm, 75 mm, 85 mm
Metais e louças|un|Torneira de cozinha 59, Torneira de jardim 19, Registro de pressão 37|cromada, preta, branca, escovada\
|1/2 pol, 3/4 pol, bica alta, bica baixa, bica móvel, com filtro, de mesa, de parede
Metais e louças|un|Sifão 9, Válvula de escoamento 12, Engate flexível 6|branco, cromado, preto, inox\
|30 cm, 40 cm, 50 cm, 60 cm, 7/8 pol, 1 pol, 1.1/4 pol, 1.1/2 pol
Abrasivos|un|Lixa d'água 2, Lixa ferro 3, Lixa massa 2|folha, disco, rolo 5 m, pluma\
|grão 36, grão 60, grão 80, grão 100, grão 120, grão 150, grão 220, grão 400
Abrasivos|un|Disco de corte 6, Disco de desbaste 9, Disco flap 11|metal, inox, concreto, multiuso\
|4.1/2 pol, 5 pol, 7 pol, 9 pol, 10 pol, 12 pol, 14 pol, 16 pol
Segurança|par|Luva nitrílica 9, Luva de raspa 13, Luva tricotada 5|leve, pigmentada, reforçada, cano longo\
|PP, P, M, G, GG, XG, 7, 8
Segurança|par|Botina de segurança 79, Bota de PVC 44, Sapato de segurança 86|elástico, cadarço, bico de aço, bico composto\
|36, 37, 38, 39, 40, 41, 42, 43
Jardim|un|Enxada 36, Pá 31, Rastelo 22|cabo curto, cabo longo, sem cabo, forjado\
|20 cm, 22 cm, 24 cm, 26 cm, 28 cm, 30 cm, 32 cm, 35 cm
Jardim|un|Mangueira de jardim 39, Pulverizador 52, Tesoura de poda 29|leve, reforçado, profissional, com acessórios\
|nº 1, nº 2, nº 3, nº 4, nº 5, nº 6, nº 8, nº 10
Argamassas|sc|Argamassa ACI 13, Argamassa ACII 23, Argamassa ACIII 34|cinza, branca, piso sobre piso, grandes formatos\
|1 kg, 2 kg, 5 kg, 10 kg, 15 kg, 20 kg, 25 kg, 30 kg
Argamassas|un|Rejunte flexível 6, Rejunte acrílico 18, Gesso 4|branco, cinza platina, bege, preto grafite\
|500 g, 1 kg, 2 kg, 3 kg, 5 kg, 10 kg, 15 kg, 20 kg
Impermeabilização|un|Manta líquida 68, Impermeabilizante acrílico 54, Emulsão asfáltica 41|branco, cinza, concreto, preto\
|900 ml, 3,6 L, 4 kg, 8 kg, 12 kg, 15 kg, 18 kg, 20 kg
Impermeabilização|rl|Fita aluminizada 14, Manta asfáltica 118, Véu de poliéster 31|aluminizada, ardósia, terracota, polietileno\
|5 cm, 10 cm, 15 cm, 20 cm, 30 cm, 45 cm, 60 cm, 1 m
Cadeados e cofres|un|Cadeado de latão 16, Cadeado de haste longa 22, Cadeado tetra 34|simples, em par, com segredo, marítimo\
|20 mm, 25 mm, 30 mm, 35 mm, 40 mm, 45 mm, 50 mm, 60 mm
Cadeados e cofres|m|Corrente soldada 6, Cabo de aço 4, Cordoalha 5|zincada, galvanizada, plastificada, inox\
|2 mm, 3 mm, 4 mm, 5 mm, 6 mm, 8 mm, 10 mm, 13 mm
Escadas e movimentação|un|Escada de alumínio 129, Escada de fibra 264, Escada articulada 219\
|dobrável, extensível, tesoura, plataforma\
|3 degraus, 4 degraus, 5 degraus, 6 degraus, 7 degraus, 8 degraus, 10 degraus, 12 degraus
Escadas e movimentação|un|Rodízio fixo 12, Rodízio giratório 15, Rodízio com freio 18|nylon, borracha, poliuretano, gel\
|35 mm, 50 mm, 60 mm, 75 mm, 100 mm, 125 mm, 150 mm, 200 mm
"""


@define
class Good:
    """A product before its sales are known; `price` is the basic price and `lowest` the floor, both in cents."""

    code: str
    name: str
    family: str
    brand: str
    unit: str
    price: int
    lowest: int
    stock: int
    launched: date

    def price_by(self, factor: int) -> int:
        """The price in cents by a list with that factor."""
        return round_price(self.price * factor / 1000)


def round_price(cents: float) -> int:
    """Prices end in 9 below ten reais, and in 90 above."""
    step, end = (10, 9) if cents < 1000 else (100, 90)
    return max(step, int(cents / step) * step) - step + end


def _read(table: str) -> dict[str, list[tuple[str, str, int, int, str, int, str]]]:
    """By family: unit, kind, price in cents, finish's place and name, size's place and name, in all combinations."""
    families: dict[str, list[tuple[str, str, int, int, str, int, str]]] = {}
    for line in table.strip().splitlines():
        family, unit, kinds, finishes, sizes = line.split("|")
        named = [(kind.rpartition(" ")[0], int(kind.rpartition(" ")[2]) * 100) for kind in kinds.split(", ")]
        for (kind, price), finish, size in combinations(named, enumerate(finishes.split(", ")), enumerate(_sizes(sizes))):
            families.setdefault(family, []).append((unit, kind, price, *finish, *size))
    return families


def _sizes(text: str) -> list[str]:
    return text.split(", ")


_FAMILIES = _read(_TABLE)
FAMILIES = tuple(_FAMILIES)
PRODUCTS_MAX = sum(map(len, _FAMILIES.values())) * BRANDS_EACH


def make_goods(count: int, chance: random.Random, today: date) -> list[Good]:
    """That many products, spread over all families; `chance` decides which and how much of each is there."""
    if not 1 <= count <= PRODUCTS_MAX:
        raise ValueError(f"the catalogue has {PRODUCTS_MAX} products: ask for 1 to {PRODUCTS_MAX}, not {count}")
    goods: list[Good] = []
    for n, family in enumerate(FAMILIES):
        share = count // len(FAMILIES) + (n < count % len(FAMILIES))
        goods += _shelf(n, family, share, chance, today)
    return goods


def _shelf(n: int, family: str, count: int, chance: random.Random, today: date) -> Iterator[Good]:
    """The products of one family, in the order of their names' parts."""
    articles = list(combinations(_FAMILIES[family], range(BRANDS_EACH)))
    wholesale = min(factor for _, _, factor in PRICE_LISTS)
    for place, at in enumerate(sorted(chance.sample(range(len(articles)), min(count, len(articles)))), 1):
        (unit, kind, base, finish_at, finish, size_at, size), brand_at = articles[at]
        brand = BRANDS[(n + brand_at) % len(BRANDS)]
        price = round_price(base * (1 + size_at / 5) * FINISH_SHARES[finish_at] * BRAND_SHARES[brand_at] / 10_000)
        floor = int(round_price(price * wholesale / 1000) * chance.uniform(*LOWEST))
        age = chance.randrange(5, 360) if chance.random() < LAUNCHED else chance.randrange(370, DAYS_OLD_MAX)
        stock = 0 if chance.random() < OUT_OF_STOCK else int(chance.lognormvariate(5.2, 1.0)) + 1
        yield Good(
            code=f"{10 + n}{place:04}", name=f"{kind} {finish} {size} {brand}", family=family, brand=brand, unit=unit,
            price=price, lowest=floor, stock=stock, launched=today - timedelta(days=age),
        )  # fmt: skip
