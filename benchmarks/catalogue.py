"""What is replicated in the benchmarks: a catalogue in a file of its own, a small collection before it, and orders."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

from attrs import frozen

from benchmarks.data import GROUPS
from offlinekit import Always, Collection, Field, Offer, Quick, Schema, everything, field, new_id, param

__all__ = ["VARIANTS", "Customer", "Draft", "DraftLine", "Line", "Order", "Product", "Rows", "Variant", "group_names"]


class Product(Collection, own_file=True, priority=1):
    """The catalogue: two secondary indexes, and full-text search."""

    code: Field[str] = field(key=True)
    description: Field[str] = field(search=True)
    group: Field[str] = field(index=True)
    unit: Field[str]
    price: Field[Decimal] = field(scale=2)
    stock: Field[int]
    barcode: Field[str]
    brand: Field[str] = field(index=True)
    weight: Field[float]
    active: Field[bool]
    updated_at: Field[datetime]
    notes: Field[str]


class Rows(Collection, own_file=True, priority=1, name="product"):
    """The same records with their key alone."""

    code: Field[str] = field(key=True)
    description: Field[str]
    group: Field[str]
    unit: Field[str]
    price: Field[Decimal] = field(scale=2)
    stock: Field[int]
    barcode: Field[str]
    brand: Field[str]
    weight: Field[float]
    active: Field[bool]
    updated_at: Field[datetime]
    notes: Field[str]


class Customer(Collection):
    """A small collection, which comes first."""

    code: Field[str] = field(key=True)
    name: Field[str]
    city: Field[str]
    phone: Field[str]


class Order(Collection, writable=True, name="orders"):
    """What is written on devices."""

    id: Field[UUID] = field(key=True, default_factory=new_id)
    customer: Field[str]
    placed: Field[datetime] = field(default_factory=lambda: datetime.now(UTC))
    note: Field[str] = field(default="")


class Line(Collection, writable=True):
    """One of ten lines of an order."""

    id: Field[UUID] = field(key=True, default_factory=new_id)
    order: Field[UUID] = field(ref=Order, index=True)
    product: Field[str]
    quantity: Field[int]
    price: Field[Decimal] = field(scale=2)


class Draft(Collection, device_only=True):
    """As an order, and captured by nobody."""

    id: Field[UUID] = field(key=True, default_factory=new_id)
    customer: Field[str]
    placed: Field[datetime] = field(default_factory=lambda: datetime.now(UTC))
    note: Field[str] = field(default="")


class DraftLine(Collection, device_only=True):
    """As a line of an order, and captured by nobody."""

    id: Field[UUID] = field(key=True, default_factory=new_id)
    order: Field[UUID] = field(ref=Draft, index=True)
    product: Field[str]
    quantity: Field[int]
    price: Field[Decimal] = field(scale=2)


@frozen
class Variant:
    """A schema with its offer."""

    product: type[Product] | type[Rows]
    schema: Schema
    offer: Offer


def _variant(product: type[Product] | type[Rows]) -> Variant:
    schema = Schema(product, Customer, Order, Line, Draft, DraftLine, intents=["order"])
    offer = Offer(
        Quick("all", product, everything),
        Quick("groups", product, product.group.is_in(param("groups"))),
        always=[Always(Customer)],
    )
    return Variant(product, schema, offer)


VARIANTS = {"full": _variant(Product), "rows": _variant(Rows)}


def group_names(numbers: Iterable[int] = range(GROUPS)) -> list[str]:
    """Groups of products; each holds one in 200."""
    return [f"g{n:03}" for n in numbers]
