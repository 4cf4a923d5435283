"""What the fleet replicates: a catalogue that all devices share, customers of one's own, and orders of these."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from benchmarks.catalogue import Product
from benchmarks.data import CUSTOMER, PRODUCT, customer, products
from offlinekit import (
    Authority,
    Collection,
    Field,
    Include,
    Offer,
    Quick,
    Schema,
    SQLiteStore,
    claim,
    everything,
    field,
    new_id,
    param,
)

__all__ = ["CUSTOMERS_EACH", "FILTER", "OFFER", "SCHEMA", "authority_of", "make"]

CUSTOMERS_EACH = 30
ORDERS_EACH = 2  # for each customer


class Customer(Collection, indexes=[("rep",)]):
    """Belongs to one representative."""

    code: Field[str] = field(key=True)
    name: Field[str]
    city: Field[str]
    phone: Field[str]
    rep: Field[int]


class Order(Collection, writable=True, name="orders"):
    """What devices write, for customers of theirs."""

    id: Field[UUID] = field(key=True, default_factory=new_id)
    customer: Field[str] = field(ref=Customer, index=True)
    placed: Field[datetime] = field(default_factory=lambda: datetime.now(UTC))
    note: Field[str] = field(default="")


class Line(Collection, writable=True):
    """One of an order's lines."""

    id: Field[UUID] = field(key=True, default_factory=new_id)
    order: Field[UUID] = field(ref=Order, index=True)
    product: Field[str]
    quantity: Field[int]


FILTER = "product"  # the collection whose filter all devices share
SCHEMA = Schema(Product, Customer, Order, Line, intents=["order"])
OFFER = Offer(
    Quick("active", Product, Product.active == True),  # noqa: E712
    Quick("mine", Customer, everything),
    Quick("in_city", Customer, Customer.city == param("city")),
    Include("orders", Customer, Order.customer, Line.order),
)


def authority_of(path: str, files: str | None = None) -> Authority:
    """The authority over a file."""
    scopes = {
        Product: everything, Customer: Customer.rep == claim("rep"), Order: Order.customer.within(everything),
        Line: Line.order.within(everything),
    }  # fmt: skip
    authority = Authority(SQLiteStore(path), SCHEMA, offer=OFFER, scopes=scopes, files=files)
    authority.allow("order", writes={Order: "insert", Line: "insert"})
    return authority


def make(path: str, rows: int, devices: int) -> None:
    """Fills a new file, as any program may that writes the authority's tables."""
    authority = authority_of(path)
    with authority.transaction() as tx:

        def insert(table: str, fields: tuple[str, ...], records: object) -> None:
            columns = ",".join(f'"{name}"' for name in fields)
            tx.connection.executemany(f"INSERT INTO {table}({columns}) VALUES({','.join('?' * len(fields))})", records)

        numbers = range(devices * CUSTOMERS_EACH)
        insert("product", PRODUCT, products(rows))
        insert("customer", (*CUSTOMER, "rep"), ((*customer(n), n % devices) for n in numbers))
        at = "2026-11-24 08:00:00.000000"
        orders = [(str(UUID(int=2 * n + k)), customer(n)[0], at, "") for n in numbers for k in range(ORDERS_EACH)]
        insert("orders", ("id", "customer", "placed", "note"), orders)
        lines = ((str(UUID(int=n)), order[0], f"P{n % rows:07}", 1 + n % 9) for n, order in enumerate(orders))
        insert("line", ("id", "order", "product", "quantity"), lines)
    authority.close()
