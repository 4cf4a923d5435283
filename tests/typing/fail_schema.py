"""Mistakes in records and filters that an editor must show; each marked line is one."""

from __future__ import annotations

from decimal import Decimal

from offlinekit.nodes import Filter
from offlinekit.schema import Collection, Field, Schema, field


class Customer(Collection):
    code: Field[str] = field(key=True)
    city: Field[str]


class Order(Collection, writable=True):
    id: Field[int] = field(key=True)
    customer: Field[str] = field(ref=Customer)
    total: Field[Decimal] = field(scale=2)
    number: Field[int | None] = field(default=None)


customer = Customer(code="a", city="Rio")
order = Order(id=1, customer="a", total=Decimal(1))

# -- types of what is read
total: str = order.total  # error
number: int = order.number  # error
city: str = Customer.city  # error
passes: bool = Customer.city == "Rio"  # error
order.total.upper()  # error

# -- names
Customer.cty == "Rio"  # error
Customer(code="a", city="Rio", cty="Rio")  # error
Customer(code="a")  # error
Customer("a", "Rio")  # error
customer.cty  # error
order.totl = Decimal(1)  # error
name: Field[str] = field(serach=True)  # error

# -- types of values
Customer(code=1, city="Rio")  # error
Order(id=1, customer="a", total=1.5)  # error
Order(id=1, customer="a", total="1.50")  # error
order.total = "1.50"  # error
order.id = None  # error

# -- types of what is compared
Customer.city < 5  # error
Order.total >= 1.5  # error
Order.total.between("1", "2")  # error
Customer.city.is_in([5])  # error
Customer.city.contains(5)  # error
equal: Filter = Customer.city == 5  # error
unequal: Filter = Order.total != "1"  # error
(Customer.city == 5) & (Customer.code == "a")  # error
Order.customer.within(Customer)  # error
Order.customer.within(Customer.city == 5)  # error

# -- filters
(Customer.city == "Rio") & True  # error
Customer.code & Customer.city  # error
Schema("customer")  # error
