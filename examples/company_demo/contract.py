"""What the demo's head office and device share: a company's collections, who sees what, and what a representative may choose."""

from datetime import date
from decimal import Decimal
from uuid import UUID

from offlinekit import (
    Advanced,
    Always,
    Collection,
    Field,
    Include,
    Offer,
    Quick,
    Schema,
    claim,
    everything,
    field,
    new_id,
    param,
    today,
)

WINDOW_DAYS = 90


class PaymentTerm(Collection):
    """How a customer pays."""

    code: Field[str] = field(key=True)
    name: Field[str]
    days: Field[int] = field(ge=0)


class Customer(Collection):
    """A customer of a representative. Devices never hold the credit left: it is the head office's to know."""

    code: Field[str] = field(key=True)
    name: Field[str] = field(search=True)
    segment: Field[str]
    address: Field[str]
    city: Field[str] = field(index=True)
    state: Field[str]
    rep: Field[str]
    term: Field[str] = field(ref=PaymentTerm)
    credit: Field[Decimal] = field(scale=2, online_only=True, default=Decimal(0))


class Product(Collection, own_file=True, indexes=[("group", "price")]):
    """The catalogue with its price list, in a file of its own. Devices never hold the lowest price."""

    sku: Field[str] = field(key=True)
    name: Field[str] = field(search=True)
    group: Field[str]
    unit: Field[str]
    price: Field[Decimal] = field(scale=2, ge=0)
    lowest: Field[Decimal] = field(scale=2, online_only=True, default=Decimal(0))


class Order(Collection, writable=True, name="orders"):
    """An order; the head office gives it its number."""

    id: Field[UUID] = field(key=True, default_factory=new_id)
    customer: Field[str] = field(ref=Customer, index=True)
    term: Field[str] = field(ref=PaymentTerm)
    placed: Field[date] = field(index=True)
    total: Field[Decimal] = field(scale=2)
    number: Field[int | None] = field(default=None)


class OrderItem(Collection, writable=True, indexes=[("product",)]):
    """A line of an order."""

    order: Field[UUID] = field(key=True, ref=Order)
    line: Field[int] = field(key=True, ge=1)
    product: Field[str] = field(ref=Product)
    quantity: Field[int] = field(ge=1)
    price: Field[Decimal] = field(scale=2, ge=0)


schema = Schema(PaymentTerm, Customer, Product, Order, OrderItem, intents=["place_order", "add_line"], version=1)
mine = Customer.rep == claim("rep")
scopes = {
    PaymentTerm: everything,
    Customer: mine,
    Product: everything,
    Order: Order.customer.within(mine),
    OrderItem: OrderItem.order.within(Order.customer.within(mine)),
}
offer = Offer(
    Quick("mine", Customer, mine, "My customers"),
    Quick("buying", Customer, Order.customer.some(Order.placed >= today(-WINDOW_DAYS)), "who bought in the last 90 days"),
    Quick("segment", Customer, Customer.segment == param("segment"), "of one segment"),
    Include("orders", Customer, Order.customer, OrderItem.order, label="with all their orders"),
    Include("recent_orders", Customer, (Order.customer, Order.placed >= today(-WINDOW_DAYS)), OrderItem.order,
            label="with their orders of the last 90 days"),
    advanced=[Advanced(Customer.city, operators=("=", "in")), Customer.name, Customer.state],
    always=[Always(PaymentTerm), Always(Product)],
)  # fmt: skip
