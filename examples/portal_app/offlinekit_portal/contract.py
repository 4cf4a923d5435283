"""What head office and portal share: the company's records, who may see what, and what a representative can take along."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from enum import Enum
from uuid import UUID

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
    new_id,
    param,
    today,
)
from offlinekit_portal.goods import BRANDS, FAMILIES
from offlinekit_portal.people import SEGMENTS
from offlinekit_portal.places import PRICE_LISTS

STATES = ("AC", "AL", "AM", "AP", "BA", "CE", "DF", "ES", "GO", "MA", "MG", "MS", "MT", "PA", "PB", "PE", "PI", "PR", "RJ", "RN",
          "RO", "RR", "RS", "SC", "SE", "SP", "TO")  # fmt: skip
YEAR_DAYS = 365
SILENT_DAYS = 90


def _(text: str) -> str:
    """Marks a text for translation; the pages translate it."""
    return text


class Representative(Collection):
    """Who sells. A device holds its own representative alone."""

    code: Field[str] = field(key=True)
    name: Field[str]
    email: Field[str]
    region: Field[str]
    state: Field[str] = field(default="")  # where most of the customers are


class PaymentTerm(Collection):
    """How a customer pays: days after the invoice, such as 28/42."""

    code: Field[str] = field(key=True)
    name: Field[str]
    days: Field[int] = field(ge=0)


class PriceList(Collection):
    """A price list, made for a region and a channel."""

    code: Field[str] = field(key=True)
    name: Field[str]


class Customer(Collection, indexes=[("state", "city")]):
    """A customer, by code and store. What it owes and may still buy for never leaves the head office."""

    code: Field[str] = field(key=True)
    name: Field[str] = field(search=True)
    trade_name: Field[str] = field(search=True)
    tax_id: Field[str] = field(search=True)
    segment: Field[str]
    city: Field[str] = field(search=True)
    state: Field[str]
    phone: Field[str]
    email: Field[str]
    rep: Field[str] = field(ref=Representative)
    price_list: Field[str] = field(ref=PriceList)
    term: Field[str] = field(ref=PaymentTerm)
    blocked: Field[bool] = field(default=False)
    last_order: Field[date | None] = field(default=None, index=True)
    last_total: Field[Decimal | None] = field(scale=2, default=None)
    credit_limit: Field[Decimal] = field(scale=2, online_only=True, default=Decimal(0))
    credit_left: Field[Decimal] = field(scale=2, online_only=True, default=Decimal(0))
    overdue: Field[Decimal] = field(scale=2, online_only=True, default=Decimal(0))


class Address(Collection):
    """Where a customer is billed, and where goods go."""

    customer: Field[str] = field(key=True, ref=Customer)
    line: Field[int] = field(key=True, ge=1)
    kind: Field[str]
    street: Field[str]
    district: Field[str]
    city: Field[str]
    state: Field[str]
    postal_code: Field[str]


class Contact(Collection):
    """A person at a customer's."""

    customer: Field[str] = field(key=True, ref=Customer)
    line: Field[int] = field(key=True, ge=1)
    name: Field[str]
    role: Field[str]
    phone: Field[str]
    email: Field[str]


class ProspectStatus(Enum):
    """How far a prospect has come."""

    NEW = "new"
    CONTACTED = "contacted"
    NEGOTIATING = "negotiating"
    PAUSED = "paused"


STATUSES = {
    ProspectStatus.NEW: _("New"),
    ProspectStatus.CONTACTED: _("Contacted"),
    ProspectStatus.NEGOTIATING: _("Negotiating"),
    ProspectStatus.PAUSED: _("Paused"),
}


class Prospect(Collection):
    """Somebody who may become a customer."""

    code: Field[str] = field(key=True)
    name: Field[str] = field(search=True)
    tax_id: Field[str] = field(search=True)
    segment: Field[str]
    city: Field[str] = field(search=True)
    state: Field[str]
    phone: Field[str]
    email: Field[str]
    rep: Field[str] = field(ref=Representative)
    status: Field[ProspectStatus]
    since: Field[date]


class Product(Collection, own_file=True, indexes=[("group", "name")]):
    """The catalogue. The lowest price at which a product may be sold is for the head office to know."""

    code: Field[str] = field(key=True, search=True)
    name: Field[str] = field(search=True)
    group: Field[str]
    brand: Field[str]
    unit: Field[str]
    stock: Field[int]
    curve: Field[str]  # A, B or C: its share of what is sold
    launched: Field[date]
    lowest: Field[Decimal] = field(scale=2, online_only=True, default=Decimal(0))


class Price(Collection, own_file=True):
    """What a product costs by a price list."""

    product: Field[str] = field(key=True, ref=Product)
    price_list: Field[str] = field(key=True, ref=PriceList)
    price: Field[Decimal] = field(scale=2, ge=0)


class Order(Collection, writable=True, name="orders"):
    """An order. `local_number` is the device's, given at once; `number` is the head office's, given on arrival."""

    id: Field[UUID] = field(key=True, default_factory=new_id)
    customer: Field[str] = field(ref=Customer, index=True)
    price_list: Field[str] = field(ref=PriceList)
    term: Field[str] = field(ref=PaymentTerm)
    placed: Field[date] = field(index=True)
    delivery: Field[date | None] = field(default=None)
    note: Field[str] = field(default="", max_length=500)
    local_number: Field[str] = field(default="", max_length=20)
    total: Field[Decimal] = field(scale=2, ge=0)
    number: Field[int | None] = field(default=None)


class OrderItem(Collection, writable=True, indexes=[("product",)]):
    """A line of an order: the price is that of the list; the discount is in percent of it."""

    order: Field[UUID] = field(key=True, ref=Order)
    line: Field[int] = field(key=True, ge=1)
    product: Field[str] = field(ref=Product)
    quantity: Field[int] = field(ge=1, le=99_999)
    price: Field[Decimal] = field(scale=2, ge=0)
    discount: Field[Decimal] = field(scale=2, ge=0, le=100, default=Decimal(0))
    total: Field[Decimal] = field(scale=2, ge=0)


class Draft(Collection, device_only=True):
    """An order being written; it lives on this device alone until it is saved to be sent."""

    id: Field[UUID] = field(key=True, default_factory=new_id)
    customer: Field[str]
    local_number: Field[str]
    delivery: Field[date | None] = field(default=None)
    note: Field[str] = field(default="")
    saved_at: Field[float]
    corrects: Field[UUID | None] = field(default=None)  # the refused mutation that this draft corrects


class DraftItem(Collection, device_only=True):
    """A line of a draft."""

    draft: Field[UUID] = field(key=True, ref=Draft)
    line: Field[int] = field(key=True)
    product: Field[str]
    quantity: Field[int]
    price: Field[Decimal] = field(scale=2)
    discount: Field[Decimal] = field(scale=2, default=Decimal(0))


class Setting(Collection, device_only=True):
    """What this device remembers: language, last local number, half-made selections."""

    name: Field[str] = field(key=True)
    value: Field[str]


schema = Schema(
    Representative, PaymentTerm, PriceList, Customer, Address, Contact, Prospect, Product, Price, Order, OrderItem,
    Draft, DraftItem, Setting, intents=["place_order"], version=1,
)  # fmt: skip

mine = Customer.rep == claim("rep")
scopes = {
    Representative: Representative.code == claim("rep"),
    PaymentTerm: everything,
    PriceList: PriceList.code.is_in(claim("price_lists")),
    Customer: mine,
    Address: Address.customer.within(mine),
    Contact: Contact.customer.within(mine),
    Prospect: Prospect.rep == claim("rep"),
    Product: everything,
    Price: Price.price_list.is_in(claim("price_lists")),
    Order: Order.customer.within(mine),
    OrderItem: OrderItem.order.within(Order.customer.within(mine)),
}

offer = Offer(
    Quick("my_customers", Customer, mine, _("My portfolio"), explanation=_("Every customer that is yours")),
    Quick("active", Customer, Customer.blocked == False, _("Not blocked"),  # noqa: E712
          explanation=_("Leaves out customers whose orders are blocked")),
    Quick("buying", Customer, Customer.last_order >= today(-YEAR_DAYS), _("Bought in 12 months"),
          explanation=_("Customers with an order in the last twelve months")),
    Quick("silent", Customer, (Customer.last_order < today(-SILENT_DAYS)) | Customer.last_order.is_null(),
          _("Silent for 90 days"), explanation=_("Customers without an order in the last ninety days, or ever")),
    Quick("customers_of_state", Customer, Customer.state == param("state"), _("Of one state"),
          explanation=_("Customers of the state that you name"), params=[QuickParam("state", _("State"), choices=STATES)]),
    Quick("my_prospects", Prospect, Prospect.rep == claim("rep"), _("All my prospects"),
          explanation=_("Every prospect that is yours")),
    Quick("open_prospects", Prospect, Prospect.status != ProspectStatus.PAUSED, _("Being worked on"),
          explanation=_("Leaves out prospects that are paused")),
    Quick("recent_prospects", Prospect, Prospect.since >= today(-SILENT_DAYS), _("New in 90 days"),
          explanation=_("Prospects entered in the last ninety days")),
    Quick("catalogue", Product, Product.code != "", _("Whole catalogue"), explanation=_("Every product that is sold")),
    Quick("in_stock", Product, Product.stock > 0, _("In stock"), explanation=_("Leaves out products that have run out")),
    Quick("best_sellers", Product, Product.curve == "A", _("Best sellers"),
          explanation=_("The products that make most of the sales")),
    Quick("launches", Product, Product.launched >= today(-YEAR_DAYS), _("Launches of the year"),
          explanation=_("Products launched in the last twelve months")),
    Quick("bought_by_mine", Product, OrderItem.product.some(OrderItem.order.within(Order.customer.within(mine))),
          _("Bought by my customers"), explanation=_("Products in at least one order of your customers")),
    Include("contacts", Customer, Contact.customer, label=_("Contacts")),
    Include("addresses", Customer, Address.customer, label=_("Addresses")),
    Include("history", Customer, (Order.customer, Order.placed >= today(-YEAR_DAYS)), OrderItem.order,
            label=_("Orders of 12 months")),
    Include("prices", Product, Price.product, label=_("Prices of my lists")),
    advanced=[
        Advanced(Customer.name, operators=("contains", "starts_with"), label=_("Name")),
        Advanced(Customer.city, operators=("=", "in", "contains"), label=_("City")),
        Advanced(Customer.state, operators=("=", "in"), label=_("State"), choices=STATES),
        Advanced(Customer.segment, operators=("=", "in"), label=_("Segment"), choices=SEGMENTS),
        Advanced(Customer.last_order, operators=("<", ">=", "null"), label=_("Last order")),
        Advanced(Customer.price_list, operators=("=", "in"), label=_("Price list"),
                 choices=[(code, f"{code} {name}") for code, name, share in PRICE_LISTS]),
        Advanced(Prospect.name, operators=("contains", "starts_with"), label=_("Name")),
        Advanced(Prospect.city, operators=("=", "in", "contains"), label=_("City")),
        Advanced(Prospect.segment, operators=("=", "in"), label=_("Segment"), choices=SEGMENTS),
        Advanced(Prospect.status, operators=("=", "in"), label=_("Status"), choices=STATUSES.items()),
        Advanced(Product.name, operators=("contains", "starts_with"), label=_("Name")),
        Advanced(Product.group, operators=("=", "in"), label=_("Group"), choices=FAMILIES),
        Advanced(Product.brand, operators=("=", "in"), label=_("Brand"), choices=sorted(BRANDS)),
        Advanced(Product.stock, operators=(">=", "<"), label=_("Stock")),
        Advanced(Product.curve, operators=("=", "in"), label=_("Sales curve"), choices=("A", "B", "C")),
    ],
    always=[Always(Representative), Always(PaymentTerm), Always(PriceList)],
)  # fmt: skip
