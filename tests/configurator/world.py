"""What the configurator's tests share: a schema with every kind of thing to choose, its offer, and a loaded pair."""

from __future__ import annotations

import enum
import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from offlinekit import (
    Advanced,
    Always,
    Collection,
    Field,
    Include,
    Offer,
    Quick,
    QuickParam,
    Schema,
    claim,
    everything,
    field,
    param,
    today,
)
from offlinekit.testing.pair import Pair, linked_pair

ZONE = "America/Sao_Paulo"
CITIES = ("Campinas", "Recife", "Natal", "São Bento")


class Rank(enum.Enum):
    """How large a customer is."""

    SMALL = "small"
    LARGE = "large"


class Region(Collection):
    """Held by everybody."""

    code: Field[str] = field(key=True)
    name: Field[str]


class Customer(Collection, writable=True):
    """Bounded by the rep, and chosen in every way."""

    code: Field[str] = field(key=True)
    name: Field[str] = field(search=True)
    city: Field[str | None]
    region: Field[str | None] = field(ref=Region, default=None)
    rep: Field[str]
    since: Field[date] = field(default=date(2020, 1, 1))
    seen: Field[datetime | None] = field(default=None)
    limit: Field[Decimal] = field(scale=2, default=Decimal(0))
    rank: Field[Rank] = field(default=Rank.SMALL)
    visits: Field[int] = field(default=0)
    memo: Field[str] = field(online_only=True, default="")


class Order(Collection, writable=True):
    """Reached from customers."""

    id: Field[str] = field(key=True)
    customer: Field[str] = field(ref=Customer, index=True)
    day: Field[date]
    open: Field[bool] = field(default=True)


class Item(Collection, writable=True):
    """Has a key of two fields, and leads on to products."""

    order: Field[str] = field(key=True, ref=Order)
    line: Field[int] = field(key=True)
    product: Field[str] = field(ref="product")


class Product(Collection, own_file=True):
    """Stands in a file of its own."""

    sku: Field[str] = field(key=True)
    name: Field[str] = field(search=True)
    grp: Field[str]
    price: Field[Decimal] = field(scale=2, default=Decimal(1))


class Draft(Collection, device_only=True):
    """Never leaves the device."""

    id: Field[int] = field(key=True)


SCHEMA = Schema(Region, Customer, Order, Item, Product, Draft, intents=["sell"])
OFFER = Offer(
    Quick("mine", Customer, everything, "My customers", explanation="everybody in my portfolio"),
    Quick("in_city", Customer, Customer.city == param("city"), "In a city",
          params=[QuickParam("city", "City", choices=[*CITIES[:3], ("São Bento", "S. Bento")])]),
    Quick("any_city", Customer, Customer.city.is_in(param("cities"))),
    Quick("limit", Customer, Customer.limit >= param("least")),
    Quick("seen", Customer, Customer.seen >= param("at")),
    Quick("ranked", Customer, Customer.rank == param("rank")),
    Quick("buying", Customer, Order.customer.some((Order.open == True) & (Order.day >= today(-30)))),  # noqa: E712
    Quick("recent", Order, Order.day >= today(-7), "Of this week"),
    Quick("group", Product, Product.grp == param("grp")),
    Quick("all", Product, everything),
    Include("orders", Customer, (Order.customer, Order.open == True), label="Their open orders"),  # noqa: E712
    Include("bought", Customer, Order.customer, Item.order, Item.product, explanation="what they bought"),
    Include("items", Order, Item.order),
    advanced=[
        Advanced(Customer.city, label="City", choices=CITIES),
        Customer.name,
        Customer.visits,
        Customer.since,
        Advanced(Customer.limit, operators=["<", ">="], label="Credit limit"),
        Customer.rank,
        Order.open,
        Product.grp,
    ],
    always=[Always(Region, everything, label="All regions")],
)  # fmt: skip
SCOPES = {
    Region: everything,
    Customer: Customer.rep == claim("rep"),
    Order: Order.customer.within(everything),
    Item: Item.order.within(everything),
    Product: Product.grp != "secret",
}
ALL = ["insert", "update", "delete"]


def load(pair: Pair, customers: int = 90, products: int = 40, seed: int = 1) -> None:
    """Fills the authority: two thirds of the customers are this rep's, one product in ten is secret."""
    r, now = random.Random(seed), pair.clock.now()
    day = datetime.fromtimestamp(now, UTC).date()
    rows: list[Collection] = [Region(code=c, name=c.upper()) for c in "ns"]
    rows += [Product(sku=f"p{n:05}", name=f"Parafuso {r.randrange(1000)} mm", grp="secret" if n % 10 == 9 else f"g{n % 3}",
                     price=Decimal(r.randrange(1, 9999)) / 100) for n in range(products)]  # fmt: skip
    rows += [Customer(code=f"c{n:04}", name=f"{r.choice(['Casa', 'Bar', 'Mercado'])} {r.randrange(10**6)}",
                      city=r.choice([*CITIES, None]), region=r.choice(["n", "s", None]), rep="me" if n % 3 else "you",
                      since=day - timedelta(days=r.randrange(900)), limit=Decimal(r.randrange(10_000)) / 100,
                      seen=datetime.fromtimestamp(now - r.randrange(10**6), UTC), visits=r.randrange(9),
                      rank=r.choice(list(Rank)), memo=f"HUSH{n}") for n in range(customers)]  # fmt: skip
    for n in range(customers * 2):
        rows.append(Order(id=f"o{n:05}", customer=f"c{r.randrange(customers):04}", day=day - timedelta(days=r.randrange(60)),
                          open=r.random() < 0.6))  # fmt: skip
        rows += [Item(order=f"o{n:05}", line=line, product=f"p{r.randrange(products):05}") for line in range(r.randrange(3))]
    pair.authority.load(rows)


@contextmanager
def opened(*, customers: int = 90, products: int = 40, seed: int = 1, offer: Offer = OFFER, **options: Any) -> Iterator[Pair]:
    """A pair with a loaded authority, whose replica has chosen nothing yet."""
    claims = {"rep": "me"}
    with linked_pair(SCHEMA, offer=offer, scopes=SCOPES, identity="me", claims=claims, zone=ZONE, **options) as pair:
        pair.authority.allow("sell", writes={Customer: ALL, Order: ALL, Item: ALL})
        load(pair, customers, products, seed)
        yield pair
