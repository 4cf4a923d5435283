"""What the demo's head office and device share: a company's collections, and what a representative may choose."""

from decimal import Decimal
from uuid import UUID

from offlinekit import Always, Collection, Field, Include, Offer, Quick, Schema, claim, everything, field, new_id, param


class Customer(Collection):
    """A customer of a representative."""

    code: Field[str] = field(key=True)
    name: Field[str] = field(search=True)
    city: Field[str] = field(index=True)
    rep: Field[str]
    credit: Field[Decimal] = field(scale=2, online_only=True, default=Decimal(0))


class Product(Collection, own_file=True):
    """The catalogue, in a file of its own."""

    sku: Field[str] = field(key=True)
    name: Field[str] = field(search=True)
    group: Field[str] = field(index=True)
    price: Field[Decimal] = field(scale=2)


class Order(Collection, writable=True, name="orders"):
    """An order; its number is given by the head office."""

    id: Field[UUID] = field(key=True, default_factory=new_id)
    customer: Field[str] = field(ref=Customer, index=True)
    product: Field[str] = field(ref=Product)
    quantity: Field[int] = field(ge=1)
    total: Field[Decimal] = field(scale=2)
    number: Field[int | None] = field(default=None)


schema = Schema(Customer, Product, Order, intents=["place_order"], version=1)
mine = Customer.rep == claim("rep")
scopes = {Customer: mine, Product: everything, Order: Order.customer.within(mine)}
offer = Offer(
    Quick("mine", Customer, mine, "My customers"),
    Quick("in_city", Customer, Customer.city == param("city"), "Customers of a city"),
    Include("orders", Customer, Order.customer, label="with their orders"),
    advanced=[Customer.city, Customer.name],
    always=[Always(Product)],
)
