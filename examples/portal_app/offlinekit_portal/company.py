"""A company from a fixed seed, the same on every run for one `today`: who sells, what, to whom, and a year of orders.

Money is counted in cents while the company is made; records get Decimals.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from functools import cached_property

from attrs import define

from offlinekit import Collection
from offlinekit_portal.contract import (
    Address,
    Contact,
    Customer,
    PaymentTerm,
    Price,
    PriceList,
    Product,
    Prospect,
    ProspectStatus,
    Representative,
)
from offlinekit_portal.goods import Good, make_goods
from offlinekit_portal.history import History, Past
from offlinekit_portal.people import SEGMENTS, Firm, address, email, make_firm, person, phone, role, tax_id
from offlinekit_portal.places import PRICE_LISTS, REPS, WHOLESALE, Rep, Town

__all__ = ["DOMAIN", "TERMS", "ZONE", "Company"]

SEED = 20_261_124
ZONE = "America/Sao_Paulo"
DOMAIN = "serra-azul.example"
TERMS = (
    ("001", "À vista", 0), ("002", "Pix na entrega", 0), ("010", "28 dias", 28), ("011", "28/42 dias", 42),
    ("012", "28/42/56 dias", 56), ("020", "30 dias", 30), ("021", "30/60 dias", 60), ("022", "30/60/90 dias", 90),
)  # fmt: skip
TERM_WEIGHTS = (2, 2, 6, 5, 4, 3, 3, 1)
TOWN_WEIGHTS = (5, 3, 2, 1, 1)
# How often a customer buys: share of the customers, orders a year, what a line comes to in reais, credit in thousands of reais.
SIZES = (
    (0.10, (18, 30), (250, 1400), (60, 180)),
    (0.32, (6, 13), (120, 600), (18, 70)),
    (0.44, (1, 5), (60, 320), (5, 25)),
    (0.14, (0, 0), (60, 320), (3, 12)),
)
UNPAID_DAYS = 45
BLOCKED, OVERDUE, WHOLESALERS, SECOND_STORE, SECOND_ADDRESS = 0.03, 0.12, 0.12, 0.06, 0.30
TIGHT = 6  # so many customers of the first representative have little credit left
TIGHT_CENTS = (4_000, 25_000)


@define
class Client:
    """A customer in the making."""

    code: str
    firm: Firm
    segment: str
    rep: Rep
    town: Town
    tax_id: str
    price_list: str
    term: str
    size: int
    blocked: bool


class Company:
    """Makes the records; `today` is where its past ends."""

    def __init__(self, today: date, *, products: int = 20_000, customers: int = 2_000, prospects: int = 200) -> None:
        if customers < len(REPS) or prospects < 0:
            raise ValueError(f"a company needs at least a customer for each of its {len(REPS)} representatives")
        self.today, self._customers, self._prospects = today, customers, prospects
        self._products = products

    def parts(self) -> Iterator[tuple[str, list[Collection]]]:
        """The records by what they are called, in an order in which they may be loaded."""
        yield (
            "representatives",
            [
                Representative(code=r.code, name=r.name, email=email(r.name, DOMAIN), region=r.region, state=r.towns[0].state)
                for r in REPS
            ],
        )
        yield "payment terms", [PaymentTerm(code=code, name=name, days=days) for code, name, days in TERMS]
        yield "price lists", [PriceList(code=code, name=name) for code, name, _ in PRICE_LISTS]
        yield "products", list(self._make_products())
        yield "prices", list(self._make_prices())
        yield "customers", list(self._make_customers())
        yield "addresses and contacts", list(self._make_addresses())
        yield "prospects", list(self._make_prospects())
        yield "past orders", self.history.orders()
        yield "order lines", self.history.items()

    # -- what is drawn first, because the rest follows from it

    def _chance(self, n: int) -> random.Random:
        """A source of chance for each part, so that one part may change and the others stay."""
        return random.Random(SEED + n)

    @cached_property
    def goods(self) -> list[Good]:
        """The catalogue."""
        return make_goods(self._products, self._chance(1), self.today)

    @cached_property
    def clients(self) -> list[Client]:
        """The customers; each representative has as many as the others, or one more."""
        chance, clients = self._chance(2), list[Client]()
        codes = list(range(1, self._customers + 1))
        chance.shuffle(codes)
        for n, rep in enumerate(REPS):
            left = self._customers // len(REPS) + (n < self._customers % len(REPS))
            while left:
                stores = 2 if left > 1 and chance.random() < SECOND_STORE else 1
                clients += self._make_firm(codes.pop(), stores, rep, chance)
                left -= stores
        return sorted(clients, key=lambda client: client.code)

    def _make_firm(self, code: int, stores: int, rep: Rep, chance: random.Random) -> Iterator[Client]:
        segment = chance.choice(list(SEGMENTS))
        firm, root = make_firm(segment, chance), chance.randrange(10_000_000, 100_000_000)
        size = chance.choices(range(len(SIZES)), [share for share, *_ in SIZES])[0]
        wholesale = WHOLESALE in rep.lists and (size == 0 or chance.random() < WHOLESALERS)
        price_list, term = WHOLESALE if wholesale else rep.lists[0], chance.choices(TERMS, TERM_WEIGHTS)[0][0]
        for store in range(1, stores + 1):
            town = chance.choices(rep.towns, TOWN_WEIGHTS)[0]
            yield Client(f"{code:06}-{store:02}", firm, segment, rep, town, tax_id(root, store, chance), price_list, term, size,
                         chance.random() < BLOCKED)  # fmt: skip

    @cached_property
    def history(self) -> History:
        """The past orders."""
        pasts = [
            Past(c.code, c.term, c.price_list, SEGMENTS[c.segment][1], SIZES[c.size][1], SIZES[c.size][2]) for c in self.clients
        ]
        return History(self.goods, pasts, self.today, self._chance(3))

    # -- records

    def _make_products(self) -> Iterator[Product]:
        curves = self.history.curves()
        for g in self.goods:
            yield Product(
                code=g.code, name=g.name, group=g.family, brand=g.brand, unit=g.unit, stock=g.stock, curve=curves[g.code],
                launched=g.launched, lowest=money(g.lowest),
            )  # fmt: skip

    def _make_prices(self) -> Iterator[Price]:
        for g in self.goods:
            for code, _, factor in PRICE_LISTS:
                yield Price(product=g.code, price_list=code, price=money(g.price_by(factor)))

    def _make_customers(self) -> Iterator[Customer]:
        chance, tight = self._chance(4), self.tight()
        for c in self.clients:
            last = self.history.last(c.code)
            limit = chance.randrange(*SIZES[c.size][3]) * 100_000
            owed = self.history.since(c.code, self.today - timedelta(days=UNPAID_DAYS))
            limit = max(limit, (owed // 100_000 + 1) * 100_000)
            left, late = limit - owed, chance.random() < OVERDUE
            if c.code in tight:
                left = chance.randrange(*TIGHT_CENTS)
            yield Customer(
                code=c.code, name=c.firm.name, trade_name=c.firm.trade_name, tax_id=c.tax_id, segment=c.segment, city=c.town.name,
                state=c.town.state, phone=phone(c.town, chance), email=email("compras", c.firm.domain), rep=c.rep.code,
                price_list=c.price_list, term=c.term, blocked=c.blocked, last_order=last[0] if last else None,
                last_total=money(last[1]) if last else None, credit_limit=money(limit), credit_left=money(left),
                overdue=money(chance.randrange(0, limit - left + 1) // 3 if late or c.blocked else 0),
            )  # fmt: skip

    def tight(self) -> set[str]:
        """Customers of the first representative who buy often and have hardly any credit left."""
        theirs = [c for c in self.clients if c.rep is REPS[0] and not c.blocked]
        return {c.code for c in sorted(theirs, key=lambda c: (c.size, c.code))[: min(TIGHT, len(theirs) // 2)]}

    def _make_addresses(self) -> Iterator[Address | Contact]:
        chance = self._chance(5)
        for c in self.clients:
            yield Address(customer=c.code, line=1, kind="billing", **address(c.town, chance))
            if chance.random() < SECOND_ADDRESS:
                yield Address(customer=c.code, line=2, kind="delivery", **address(c.town, chance, delivery=True))
            for line in range(1, chance.choices((2, 3, 4), (5, 4, 2))[0]):
                name = person(chance)
                yield Contact(customer=c.code, line=line, name=name, role=role(line, chance), phone=phone(c.town, chance),
                              email=email(name, c.firm.domain))  # fmt: skip

    def _make_prospects(self) -> Iterator[Prospect]:
        chance, states = self._chance(6), list(ProspectStatus)
        for n in range(self._prospects):
            rep, segment = REPS[n % len(REPS)], chance.choice(list(SEGMENTS))
            town, firm = chance.choices(rep.towns, TOWN_WEIGHTS)[0], make_firm(segment, chance)
            yield Prospect(
                code=f"P{n + 1:05}", name=firm.name, tax_id=tax_id(chance.randrange(10_000_000, 100_000_000), 1, chance),
                segment=segment, city=town.name, state=town.state, phone=phone(town, chance), email=email("contato", firm.domain),
                rep=rep.code, status=chance.choice(states), since=self.today - timedelta(days=chance.randrange(2, 300)),
            )  # fmt: skip


def money(cents: int) -> Decimal:
    """Cents as an amount."""
    return Decimal(cents).scaleb(-2)
