"""How the head office decides about orders: it reckons itself, refuses what may not be, and gives the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from offlinekit import Authority, Changes, Context
from offlinekit.clock import at
from offlinekit_portal.company import ZONE
from offlinekit_portal.contract import Customer, Order, OrderItem, PaymentTerm, Price, Product
from offlinekit_portal.refusals import refuse
from offlinekit_portal.totals import line_total, most_discount, net_price

__all__ = ["declare", "number_from"]

_COUNTER = "CREATE TABLE portal_counter(name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT"
_NEXT = "UPDATE portal_counter SET value=value+1 WHERE name='order' RETURNING value"


def number_from(last: int, connection: Any) -> None:
    """Creates the counter, in the transaction of the connection: the next order gets the number after `last`."""
    connection.execute(_COUNTER)
    connection.execute("INSERT INTO portal_counter VALUES('order', ?)", (last,))


def declare(authority: Authority) -> None:
    """Declares what devices may do."""

    @authority.intent("place_order", writes={Order: "insert", OrderItem: "insert"})
    def place_order(changes: Changes, ctx: Context) -> None:
        orders, items = changes.inserted(Order), changes.inserted(OrderItem)
        if not orders or {item.order for item in items} - {order.id for order in orders}:
            raise refuse("empty", "an order comes whole: lines without their order are not taken", [OrderItem.order])
        for order in orders:
            place(order, [item for item in items if item.order == order.id], ctx)


def place(order: Order, items: Sequence[OrderItem], ctx: Context) -> None:
    """Decides about one order, and books it; what the device reckoned is replaced."""
    customer = _customer(order, ctx)
    products = _check_lines(order, items, ctx)
    for item in items:
        item.total = line_total(item.price, item.discount, item.quantity)
    order.total = sum((item.total for item in items), Decimal(0))
    if order.total > customer.credit_left:
        raise refuse("credit", f"the order comes to {order.total:.2f}, and the credit left is {customer.credit_left:.2f}",
                     [Order.total], total=order.total, left=customer.credit_left)  # fmt: skip
    order.placed = min(order.placed, _today(ctx))  # a device's clock may be ahead
    order.number = ctx.connection.execute(_NEXT).get
    newest = customer.last_order is None or order.placed >= customer.last_order
    last = {"last_order": order.placed, "last_total": order.total} if newest else {}
    ctx.update(customer, credit_left=customer.credit_left - order.total, **last)
    sold = dict.fromkeys(products, 0)
    for item in items:
        sold[item.product] += item.quantity
    for code, quantity in sold.items():
        ctx.update(products[code], stock=max(0, products[code].stock - quantity))


def _customer(order: Order, ctx: Context) -> Customer:
    """The customer, who must be the representative's own; what is wrong with somebody else's is nobody's to hear."""
    customer = ctx.get(Customer, order.customer)
    if customer is None or customer.rep != ctx.claims.get("rep"):
        raise refuse("customer", "there is no such customer, or it is not yours", [Order.customer])
    if customer.blocked:
        raise refuse("blocked", f"customer {customer.code} is blocked", [Order.customer], customer=customer.code)
    if order.price_list != customer.price_list:
        raise refuse("list", f"customer {customer.code} buys by price list {customer.price_list}, not {order.price_list}",
                     [Order.price_list], sent=order.price_list, now=customer.price_list)  # fmt: skip
    if ctx.get(PaymentTerm, order.term) is None:
        raise refuse("term", f"there is no payment term {order.term}", [Order.term], sent=order.term)
    return customer


def _check_lines(order: Order, items: Sequence[OrderItem], ctx: Context) -> dict[str, Product]:
    """The products sold, by code, after every line's price and discount were looked at."""
    if not items:
        raise refuse("empty", "an order has at least one line", [OrderItem.line])
    products: dict[str, Product] = {}
    wrong: list[tuple[OrderItem, Decimal]] = []
    low: list[OrderItem] = []
    for item in sorted(items, key=lambda item: item.line):
        product, price = ctx.get(Product, item.product), ctx.get(Price, (item.product, order.price_list))
        if product is None or price is None:
            raise refuse("unknown", f"line {item.line}: product {item.product} is not sold by this list", [OrderItem.product],
                         line=item.line, product=item.product)  # fmt: skip
        products[product.code] = product
        if item.price != price.price:
            wrong.append((item, price.price))
        elif net_price(item.price, item.discount) < product.lowest:
            low.append(item)
    if wrong:
        item, now = wrong[0]
        name = products[item.product].name
        raise refuse("price", f"{name} costs {now:.2f} now, not {item.price:.2f}", [OrderItem.price], line=item.line,
                     product=item.product, name=name, sent=item.price, now=now, more=len(wrong) - 1)  # fmt: skip
    if low:
        item, product = low[0], products[low[0].product]
        most = most_discount(item.price, product.lowest)
        raise refuse("discount", f"{product.name} is sold with a discount of at most {most:.2f} %, not {item.discount:.2f} %",
                     [OrderItem.discount], line=item.line, product=product.code, name=product.name, sent=item.discount,
                     most=most, lowest=product.lowest, more=len(low) - 1)  # fmt: skip
    return products


def _today(ctx: Context) -> date:
    return at(ctx.now).astimezone(ZoneInfo(ZONE)).date()
