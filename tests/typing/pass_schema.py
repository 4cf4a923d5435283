"""Records have the types that their declarations say, filters compose, and constructors know their keywords."""

from __future__ import annotations

import enum
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from offlinekit.conflict import MergeFields
from offlinekit.ids import new_id
from offlinekit.nodes import Filter, claim, everything, hour, param, today
from offlinekit.schema import Collection, Field, Schema, field


class Status(enum.Enum):
    OPEN = "open"


class Address(msgspec.Struct):
    street: str


class Customer(Collection, indexes=[("city", "name")]):
    code: Field[str] = field(key=True)
    name: Field[str] = field(search=True)
    city: Field[str]
    credit: Field[Decimal] = field(scale=2, online_only=True, default=Decimal(0))
    since: Field[date | None] = field(default=None)
    home: Field[Address | None] = field(default=None)
    parent: Field[str | None] = field(ref="customer", default=None)


class Order(Collection, name="sales_order", writable=True):
    id: Field[UUID] = field(key=True, default_factory=new_id)
    customer: Field[str] = field(ref=Customer)
    total: Field[Decimal] = field(scale=2, ge=0)
    number: Field[int | None] = field(default=None)
    placed: Field[datetime | None] = field(default=None)
    status: Field[Status] = field(default=Status.OPEN)
    urgent: Field[bool] = field(default=False)
    photo: Field[bytes | None] = field(default=None)


schema = Schema(Customer, Order, intents=["place_order"], version=1)

# -- records

customer = Customer(code="a", name="Ana", city="Rio", home=Address("x"))
order = Order(customer="a", total=Decimal("1.50"), placed=datetime.now(UTC), status=Status.OPEN)
order_with_all = Order(
    id=new_id(), customer="a", total=Decimal(1), number=1, placed=None, status=Status.OPEN, urgent=True, photo=b""
)

code: str = customer.code
name: str = customer.name
credit: Decimal = customer.credit
since: date | None = customer.since
street: str = customer.home.street if customer.home else ""
order_id: UUID = order.id
total: Decimal = order.total + order_with_all.total
number: int | None = order.number
placed: datetime | None = order.placed
status: Status = order.status
urgent: bool = order.urgent
photo: bytes | None = order.photo
shouted: str = customer.name.upper()
same: bool = customer == customer

# -- fields and filters

city: Field[str] = Customer.city
optional: Field[int | None] = Order.number

exact: Filter = Customer.city == "Rio"
other: Filter = Customer.city != "Rio"
of_member: Filter = Order.status == Status.OPEN
of_claim: Filter = Customer.code == claim("rep")
of_param: Filter = Order.number == param("number")
of_optional: Filter = Order.number == 5
amount: Filter = Order.total > Decimal("1.5")
ranged: Filter = Order.total.between(Decimal(1), Decimal(2))
dated: Filter = (Customer.since >= today(-30)) & (Customer.since <= date(2024, 1, 1))
timed: Filter = Order.placed < hour(-1)
one_of: Filter = Customer.city.is_in(["Rio", "Ubá"])
one_of_set: Filter = Order.number.is_in({1, 2})
one_of_claim: Filter = Customer.city.is_in(claim("cities"))
one_of_mixed: Filter = Customer.city.is_in(["Rio", claim("city")])
empty: Filter = Customer.since.is_null()
folded: Filter = Customer.name.contains("ana") | Customer.name.starts_with(param("q"))
through: Filter = Order.customer.within(Customer.city == "Rio")
some: Filter = Order.customer.some(Order.total > Decimal(5))
composed: Filter = (exact & ~other | (through & everything)) & ~(amount | ranged)
merging: tuple[MergeFields, ...] = (MergeFields(), MergeFields(["name"]), MergeFields({"name"}))
