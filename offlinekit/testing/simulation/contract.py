"""What the simulated company declares: collections, scopes, offer, intents and the rules of its hooks.

Everything that a bug could mix up is dense here: scopes that hang on other scopes, nullable fields under negations, records that
several devices change, keys of two fields, a collection in a file of its own, fields that never replicate.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

from offlinekit.authority import Authority, Changes, Context
from offlinekit.conflict import MergeFields, Policy
from offlinekit.exceptions import Reject
from offlinekit.nodes import Filter, claim, everything, param, today
from offlinekit.offer import Advanced, Always, Include, Offer, Quick
from offlinekit.schema import Collection, Field, Schema, field
from offlinekit.selection import Choice, Selection

__all__ = [
    "CONFLICTS", "EFFECTS", "INTENTS", "NARROW", "OFFER", "OLD", "SCHEMA", "SCOPES", "Chosen", "condition", "declare", "plain",
    "selection_of",
]  # fmt: skip


class City(Collection):
    """Small, and partly held by everybody."""

    code: Field[str] = field(key=True)
    region: Field[str | None]
    tag: Field[str]


class Customer(Collection, writable=True):
    """Bounded by a claim, and by a field that does not replicate."""

    code: Field[str] = field(key=True)
    name: Field[str] = field(search=True)
    city: Field[str | None] = field(ref=City)
    rep: Field[str]
    orders: Field[int] = field(default=0)
    tag: Field[str] = field(default="")
    since: Field[date | None] = field(default=None)
    blocked: Field[int] = field(online_only=True, default=0)
    memo: Field[str] = field(online_only=True, default="")


class Order(Collection, writable=True, priority=1):
    """Bounded by its customer; conflicts are refused."""

    id: Field[str] = field(key=True)
    customer: Field[str] = field(ref=Customer)
    day: Field[date] = field(index=True)
    note: Field[str | None] = field(default=None)
    qty: Field[int] = field(default=1)
    number: Field[int | None] = field(default=None)
    tag: Field[str] = field(default="")
    extra: Field[str] = field(default="none")


class Product(Collection, own_file=True):
    """Stands in a file of its own."""

    sku: Field[str] = field(key=True)
    name: Field[str] = field(search=True)
    grp: Field[str | None]
    price: Field[int] = field(default=0)
    tag: Field[str] = field(default="")
    cost: Field[int] = field(online_only=True, default=0)


class Line(Collection, writable=True, priority=2):
    """Has a key of two fields, is bounded by its order; in conflicts the authority's version wins."""

    order: Field[str] = field(key=True, ref=Order)
    line: Field[int] = field(key=True)
    product: Field[str | None] = field(ref=Product)
    qty: Field[int] = field(default=1)
    tag: Field[str] = field(default="")


class Draft(Collection, device_only=True):
    """Never leaves the device."""

    id: Field[int] = field(key=True)
    text: Field[str]


class _OldCustomer(Collection, name="customer", writable=True):
    """As an earlier version of the program declares it."""

    code: Field[str] = field(key=True)
    name: Field[str] = field(search=True)
    city: Field[str | None] = field(ref=City)
    rep: Field[str]
    orders: Field[int] = field(default=0)
    tag: Field[str] = field(default="")


class _OldOrder(Collection, name="order", writable=True, priority=1):
    """Likewise."""

    id: Field[str] = field(key=True)
    customer: Field[str] = field(ref="customer")
    day: Field[date] = field(index=True)
    note: Field[str | None] = field(default=None)
    qty: Field[int] = field(default=1)
    number: Field[int | None] = field(default=None)
    tag: Field[str] = field(default="")


INTENTS = ("sell", "visit", "limited", "unknown")
SCHEMA = Schema(City, Customer, Order, Product, Line, Draft, intents=INTENTS, version=2)
OLD = Schema(City, _OldCustomer, _OldOrder, Product, Line, Draft, intents=INTENTS, version=1)
SCOPES: dict[type[Collection], Filter] = {
    City: everything,
    Customer: (Customer.rep == claim("rep")) & (Customer.blocked == 0),
    Order: Order.customer.within(everything),
    Line: Line.order.within(everything),
    Product: ~Product.grp.is_in(claim("hide")),
}
# What another version of the service declares.
NARROW: dict[type[Collection], Filter] = {**SCOPES, City: ~City.region.is_null()}
CONFLICTS: dict[type[Collection], Policy] = {Line: "authority_wins", Customer: MergeFields({"tag"})}
OFFER = Offer(
    Quick("mine", Customer, everything),
    Quick("in_city", Customer, Customer.city == param("city")),
    Quick("in_region", Customer, Customer.city.within(City.region == param("region"))),
    Quick("has_open", Customer, Order.customer.some(Order.note == "open")),
    Quick("any", Order, everything),
    Quick("recent", Order, Order.day.between(today(-3), today())),
    Quick("big", Order, Order.qty >= claim("big")),
    Quick("regional", Order, Order.customer.within(Customer.city.within(City.region == param("region")))),
    Quick("without", Order, ~Line.order.some(Line.qty >= 2)),
    Quick("lines", Line, everything),
    Quick("group", Product, Product.grp.is_in(param("groups"))),
    Quick("like", Product, Product.name.contains(param("text"))),
    Include("orders", Customer, Order.customer, (Line.order, Line.qty >= 2)),
    Include("owner", Order, Order.customer, Customer.city),
    Include("goods", Order, Line.order, Line.product),
    Include("siblings", Order, Order.customer, (Order.customer, Order.day >= today(-3))),
    advanced=[
        Customer.city, Customer.name, Order.note, Order.qty, Order.day, Line.qty, Product.grp,
        Advanced(Product.price, operators=("<", ">=")),
    ],
    always=[Always(City, City.region == claim("region"), include=[Include("residents", City, (Customer.city, everything))])],
)  # fmt: skip

Condition = tuple[Any, ...]
Chosen = dict[str, dict[str, Any]]  # collection -> quick: {name: params}, where: Condition, picks, unpicks, includes


def condition(collection: str, c: Condition) -> Filter:
    """A plain condition as a filter."""
    if c[0] == "not":
        return ~condition(collection, c[1])
    if c[0] in ("and", "or"):
        one, two = condition(collection, c[1]), condition(collection, c[2])
        return one & two if c[0] == "and" else one | two
    f = SCHEMA.info(collection).fields[c[1]]
    value: Any = c[2] if len(c) > 2 else None
    if f.kind.name == "date" and value is not None:
        value = date.fromisoformat(value)
    made: dict[str, Callable[[], Filter]] = {
        "=": lambda: f == value,
        "<": lambda: f < value,
        ">=": lambda: f >= value,
        "null": f.is_null,
        "in": lambda: f.is_in(value),
        "starts": lambda: f.starts_with(value),
    }
    return made[c[0]]()


def selection_of(chosen: Chosen, identity: str, zone: str, until: float | None) -> Selection:
    """Plain choices as a selection."""
    choices = tuple(
        Choice(
            name,
            tuple((q, tuple(params.items())) for q, params in c.get("quick", {}).items()),
            condition(name, c["where"]) if c.get("where") else None,
            tuple(c.get("picks", ())),
            tuple(c.get("unpicks", ())),
            tuple(c.get("includes", ())),
        )
        for name, c in chosen.items()
    )
    return Selection("s", identity, 0.0, until, zone, choices)


# What the hook does by an order's note; the oracle's court knows the same rules from its own words.
EFFECTS = "CREATE TABLE IF NOT EXISTS effect(n INTEGER PRIMARY KEY AUTOINCREMENT, tag TEXT NOT NULL)"
QTY_MAX = 50
HICCUPS = 2


def declare(authority: Authority, attempts: dict[str, int]) -> None:
    """Declares the intents; `attempts` counts by tag how often a hook was asked to hiccup, also over restarts."""

    def hook(changes: Changes, ctx: Context) -> None:
        orders = [*changes.inserted(Order), *(u.record for u in changes.updated(Order))]
        lines = [*changes.inserted(Line), *(u.record for u in changes.updated(Line))]
        customers = [*changes.inserted(Customer), *(u.record for u in changes.updated(Customer))]
        for tag in (*(o.tag for o in orders), *(n.tag for n in lines), *(c.tag for c in customers)):
            ctx.connection.execute("INSERT INTO effect(tag) VALUES(?)", (tag,))
        for order in orders:
            if order.note == "refuse":
                raise Reject("refused", "as asked", fields=["note"])
            if order.note == "fail":
                raise RuntimeError("as asked")
            if order.note == "hiccup":
                attempts[order.tag] = attempts.get(order.tag, 0) + 1
                if attempts[order.tag] <= HICCUPS:
                    raise RuntimeError("for now")
            if order.qty > QTY_MAX:
                order.qty = QTY_MAX
        for order in changes.inserted(Order):
            if order.note == "number":
                order.number = len(order.id)
            ctx.connection.execute("UPDATE customer SET orders=orders+1 WHERE code=?", (order.customer,))
        for line in changes.inserted(Line):
            if ctx.get(Order, line.order) is None:
                ctx.flush()
                if ctx.get(Order, line.order) is None:
                    raise Reject("no_order", "the order of the line is not here")

    every = ("insert", "update", "delete")
    writes: Mapping[str, Any] = {
        "sell": {Order: every, Line: every, Customer: ("insert", "update")},
        "visit": {Customer: {"update": ["name", "city", "rep", "tag"]}},
        "limited": {Order: {"update": ["qty", "tag"]}},
    }
    for name, what in writes.items():
        authority.intent(name, writes=what)(hook)


def plain(chosen: Chosen) -> str:
    """A selection for the trace."""
    return json.dumps(chosen, sort_keys=True)
