"""A company from a fixed seed, the same on every run: names, cities, a price list, representatives and their past orders."""

import random
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from itertools import product as combinations
from uuid import UUID

from attrs import frozen

from contract import Customer, Order, OrderItem, PaymentTerm, Product
from offlinekit import Collection

ZONE = "America/Sao_Paulo"
SEED = 20_261_124
CENT = Decimal("0.01")
FIRST_NUMBER = 40_001

TERMS = (("AV", "À vista", 0), ("B28", "Boleto 28 dias", 28), ("B30-60", "Boleto 30/60 dias", 60), ("PIX", "Pix", 0))

# Cities of each representative's region, the largest market first.
REGIONS = (
    ("Ana Beatriz Nogueira", "SP", ("Campinas", "Jundiaí", "Sorocaba", "Piracicaba", "Limeira")),
    ("Carlos Eduardo Prado", "PR", ("Curitiba", "Londrina", "Maringá", "Ponta Grossa", "Cascavel")),
    ("Fernanda Albuquerque", "PE", ("Recife", "Olinda", "Caruaru", "Petrolina", "Garanhuns")),
    ("João Pedro Teixeira", "MG", ("Uberlândia", "Belo Horizonte", "Contagem", "Juiz de Fora", "Montes Claros")),
    ("Mariana Figueiredo", "SC", ("Joinville", "Blumenau", "Florianópolis", "Chapecó", "Criciúma")),
    ("Rafael Monteiro", "RS", ("Porto Alegre", "Caxias do Sul", "Pelotas", "Canoas", "Santa Maria")),
    ("Luciana Tavares", "BA", ("Salvador", "Feira de Santana", "Ilhéus", "Itabuna", "Vitória da Conquista")),
    ("Tiago Vasconcelos", "GO", ("Goiânia", "Anápolis", "Aparecida de Goiânia", "Rio Verde", "Catalão")),
    ("Priscila Magalhães", "CE", ("Fortaleza", "Juazeiro do Norte", "Sobral", "Caucaia", "Crato")),
    ("Gustavo Sampaio", "PA", ("Belém", "Ananindeua", "Santarém", "Marabá", "Castanhal")),
)
CITY_WEIGHTS = (4, 3, 1, 1, 1)

SEGMENTS = {
    "ferragens": ("Ferragens", "Casa das Ferragens", "Comercial de Ferragens", "Parafusos e Cia"),
    "construção": ("Materiais de Construção", "Depósito", "Constrular", "Casa do Construtor"),
    "tintas": ("Casa de Tintas", "Tintas", "Mundo das Cores"),
    "elétrica": ("Elétrica", "Casa da Luz", "Eletro Comercial"),
    "agropecuária": ("Agropecuária", "Casa do Campo", "Agro Comercial"),
}
FAMILIES = ("São Bento", "Santa Rita", "Irmãos Oliveira", "Boa Vista", "Três Irmãos", "Conceição", "Aurora",
            "Nossa Senhora das Graças", "Ipiranga", "Horizonte", "Bela Vista", "São João", "Primavera",
            "Dois Irmãos", "Santo Antônio", "Alvorada", "do Porto", "Araújo & Filhos", "Guimarães",
            "Família Souza", "Bandeirantes", "Esperança", "Progresso", "Estrela")  # fmt: skip
FORMS = ("Ltda", "ME", "EPP", "& Cia Ltda", "Ltda")
STREETS = ("Rua Barão de Jaguara", "Av. Brasil", "Rua XV de Novembro", "Av. Getúlio Vargas",
           "Rua Sete de Setembro", "Rua Tiradentes", "Av. São João", "Rua Marechal Deodoro",
           "Rua das Palmeiras", "Av. Independência", "Travessa do Comércio")  # fmt: skip

MAKERS = ("Andorinha", "Ferrobom", "Itaúna", "Sabiá", "Prumo", "Jequitibá", "Mestre João")
# Of each group: unit, nouns with a basic price, variants, sizes.
GROUPS: dict[str, tuple[str, dict[str, float], tuple[str, ...], tuple[str, ...]]] = {
    "fixação": ("cx", {"Parafuso sextavado": 18, "Parafuso para madeira": 12, "Porca travante": 9, "Arruela lisa": 6,
                       "Bucha de nylon": 8, "Barra roscada": 24},
                ("zincado", "inox", "galvanizado", "latonado", "preto", "bicromatizado"),
                ("M4", "M5", "M6", "M8", "M10", "M12", "M14", "M16", "M20", "M24")),
    "ferramentas": ("un", {"Chave de fenda": 14, "Alicate universal": 39, "Martelo unha": 44, "Chave combinada": 21, "Formão": 33,
                           "Serrote": 52},
                    ("reforçado", "cromo-vanádio", "isolado", "cabo de madeira", "emborrachado", "profissional"),
                    ("6 mm", "8 mm", "10 mm", "13 mm", "17 mm", "19 mm", "22 mm", "25 mm", "27 mm", "32 mm")),
    "tintas": ("lt", {"Tinta acrílica": 89, "Esmalte sintético": 64, "Verniz marítimo": 72, "Massa corrida": 48, "Selador": 55,
                      "Fundo preparador": 61},
               ("Branco Neve", "Areia", "Palha", "Cinza Urbano", "Azul Serenidade", "Vermelho Colonial"),
               ("225 ml", "450 ml", "900 ml", "1,8 L", "2,5 L", "3,2 L", "3,6 L", "5 L", "15 L", "18 L")),
    "elétrica": ("un", {"Cabo flexível": 38, "Disjuntor": 17, "Tomada dupla": 13, "Lâmpada LED": 11, "Interruptor": 9,
                        "Luminária": 58},
                 ("branco", "preto", "azul", "verde", "cinza", "vermelho"),
                 ("6 A", "10 A", "16 A", "20 A", "25 A", "32 A", "40 A", "50 A", "63 A", "70 A")),
    "hidráulica": ("un", {"Tubo soldável": 27, "Joelho 90°": 4, "Registro de esfera": 31, "Torneira": 49, "Sifão": 15, "Luva": 3},
                   ("PVC", "PPR", "CPVC", "cobre", "metal", "bronze"),
                   ("15 mm", "20 mm", "25 mm", "32 mm", "40 mm", "50 mm", "60 mm", "75 mm", "85 mm", "110 mm")),
    "abrasivos": ("pc", {"Lixa d'água": 3, "Lixa ferro": 4, "Disco de corte": 9, "Disco flap": 16, "Escova de aço": 19,
                   "Rebolo": 42},
                  ("fino", "médio", "grosso", "extrafino", "inox", "multiuso"),
                  ("grão 36", "grão 50", "grão 60", "grão 80", "grão 100",
                   "grão 120", "grão 150", "grão 180", "grão 220", "grão 400")),
    "segurança": ("pr", {"Luva nitrílica": 12, "Óculos de proteção": 14, "Botina": 98, "Capacete": 41, "Protetor auricular": 5,
                         "Máscara": 7},
                  ("CA 10", "CA 20", "CA 30", "CA 40", "CA 50", "CA 60"),
                  ("33", "34", "35", "36", "37", "38", "39", "40", "41", "42")),
    "jardim": ("un", {"Mangueira": 66, "Tesoura de poda": 45, "Enxada": 52, "Rastelo": 29, "Regador": 24, "Pulverizador": 88},
               ("leve", "reforçado", "flexível", "verde", "aço", "alumínio"),
               ("1 m", "2 m", "5 m", "10 m", "15 m", "20 m", "25 m", "30 m", "40 m", "50 m")),
}  # fmt: skip


@frozen
class Rep:
    """A representative and the region that is theirs."""

    code: str
    name: str
    state: str
    cities: tuple[str, ...]


def reps(customers: int) -> list[Rep]:
    """The representatives: enough that each has thirty customers, at most twenty."""
    count = max(2, min(20, customers // 30))
    return [Rep(f"R{n + 1:02}", *REGIONS[n % len(REGIONS)]) for n in range(count)]


class Company:
    """Generates the records; `today` is where its past ends."""

    def __init__(self, products: int, customers: int, today: date) -> None:
        self.today = today
        self._goods = list(self._make_products(products))
        self._clients = list(self._make_customers(customers))
        self._orders, self._items = self._make_orders()

    def parts(self) -> Iterator[tuple[str, list[Collection]]]:
        """The records by what they are called, in an order in which they may be loaded."""
        yield "payment terms", [PaymentTerm(code=code, name=name, days=days) for code, name, days in TERMS]
        yield "products", list(self._goods)
        yield "customers", list(self._clients)
        yield "past orders", list(self._orders)
        yield "order lines", list(self._items)

    def _make_products(self, count: int) -> Iterator[Product]:
        chance = random.Random(SEED)
        shelves = []
        for group, (unit, nouns, variants, sizes) in GROUPS.items():
            shelf = list(combinations(nouns.items(), variants, range(len(sizes)), MAKERS))
            chance.shuffle(shelf)
            shelves.append((group, unit, sizes, shelf))
        for n in range(count):
            group, unit, sizes, shelf = shelves[n % len(shelves)]
            turn, place = divmod(n // len(shelves), len(shelf))
            (noun, base), variant, size, maker = shelf[place]
            name = f"{noun} {variant} {sizes[size]} {maker}" + (f", embalagem {turn + 1}" if turn else "")
            price = Decimal(int(base * (1 + size * 0.35) * chance.uniform(0.8, 1.3))) + Decimal("0.90")
            lowest = (price * Decimal("0.85")).quantize(CENT)
            yield Product(sku=f"{100_000 + n}", name=name, group=group, unit=unit, price=price, lowest=lowest)

    def _make_customers(self, count: int) -> Iterator[Customer]:
        chance, people = random.Random(SEED + 1), reps(count)
        for n in range(count):
            rep = people[n % len(people)]
            segment = chance.choice(list(SEGMENTS))
            name = f"{chance.choice(SEGMENTS[segment])} {chance.choice(FAMILIES)} {chance.choice(FORMS)}"
            yield Customer(
                code=f"{n + 1:05}", name=name, segment=segment, address=f"{chance.choice(STREETS)}, {chance.randrange(10, 3000)}",
                city=chance.choices(rep.cities, CITY_WEIGHTS)[0], state=rep.state, rep=rep.code, term=chance.choice(TERMS)[0],
                credit=Decimal(chance.randrange(4_000, 40_000, 500)),
            )  # fmt: skip

    def _make_orders(self) -> tuple[list[Order], list[OrderItem]]:
        chance = random.Random(SEED + 2)
        days = sorted(
            ((chance.randrange(1, 400), client) for client in self._clients for _ in range(chance.randrange(0, 8))),
            key=lambda drawn: (-drawn[0], drawn[1].code),
        )
        orders, items = [], []
        for n, (ago, client) in enumerate(days):
            id_, total = UUID(int=chance.getrandbits(128), version=4), Decimal(0)
            for line in range(1, chance.randrange(2, 6)):
                good, quantity = chance.choice(self._goods), chance.randrange(1, 25)
                total += good.price * quantity
                items.append(OrderItem(order=id_, line=line, product=good.sku, quantity=quantity, price=good.price))
            placed, number = self.today - timedelta(days=ago), FIRST_NUMBER + n
            orders.append(Order(id=id_, customer=client.code, term=client.term, placed=placed, total=total, number=number))
        return orders, items
