"""The demo's head office: makes a company, serves it over HTTP, and decides about orders. Started by the demo, ends with it."""

import asyncio
import os
import sys
import time
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from aiohttp import web

from company import ZONE, Company
from contract import Customer, Order, OrderItem, Product, offer, schema, scopes
from offlinekit import Authority, Changes, Context, Reject, SQLiteStore, desc
from offlinekit_adapters.aiohttp_server import sync_routes


def tell(*words: object) -> None:
    """A line for whoever started the head office."""
    print(*words, sep="\t", flush=True)


def fill(authority: Authority, products: int, customers: int) -> None:
    """Makes the company."""
    for what, records in Company(products, customers, datetime.now(ZoneInfo(ZONE)).date()).parts():
        started = time.perf_counter()
        authority.load(records)
        tell("made", what, len(records), f"{time.perf_counter() - started:.3f}")


def check_prices(items: list[OrderItem], ctx: Context) -> Decimal:
    """Refuses lines below the lowest price; returns what the lines come to."""
    for item in items:
        product = ctx.get(Product, item.product)
        if product is None:
            raise Reject("unknown", f"there is no product {item.product}", fields=[OrderItem.product])
        if item.price < product.lowest:
            raise Reject("price", f"{product.name} costs at least {product.lowest:.2f}", fields=[OrderItem.price])
    return sum((item.price * item.quantity for item in items), Decimal(0))


def take_credit(code: str, amount: Decimal, ctx: Context) -> None:
    """Takes an amount from a customer's credit, or refuses."""
    customer = ctx.get(Customer, code)
    if customer is None or amount > customer.credit:
        raise Reject("credit", f"credit left is {customer.credit if customer else 0:.2f}", fields=[Order.total])
    ctx.update(customer, credit=customer.credit - amount)


def declare(authority: Authority) -> None:
    """The two things that a device may do."""

    @authority.intent("place_order", writes={Order: "insert", OrderItem: "insert"})
    def place_order(changes: Changes, ctx: Context) -> None:
        for order in changes.inserted(Order):
            order.total = check_prices([i for i in changes.inserted(OrderItem) if i.order == order.id], ctx)
            take_credit(order.customer, order.total, ctx)
            last = ctx.select(Order).order_by(desc(Order.number)).first()
            order.number = 1 + ((last.number if last else None) or 0)

    @authority.intent("add_line", writes={OrderItem: "insert"})
    def add_line(changes: Changes, ctx: Context) -> None:
        for item in changes.inserted(OrderItem):
            order = ctx.get(Order, item.order)
            if order is None:
                raise Reject("unknown", "there is no such order", fields=[OrderItem.order])
            more = check_prices([item], ctx)
            take_credit(order.customer, more, ctx)
            ctx.update(order, total=order.total + more)


async def serve(authority: Authority, token: str, rep: str) -> None:
    """Serves on a free port of the loopback interface until the standard input ends."""

    def who(request: web.Request) -> tuple[str, dict[str, str]] | None:
        return (rep, {"rep": rep}) if request.headers.get("Authorization") == f"Bearer {token}" else None

    app = web.Application()
    app.add_routes(sync_routes(authority, authenticate=who))
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    tell("ready", runner.addresses[0][1])
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


def main(folder: str, products: int, customers: int, rep: str) -> None:
    """Opens the company's database, fills and serves it."""
    authority = Authority(SQLiteStore(f"{folder}/office.db"), schema, offer=offer, scopes=scopes, files=f"{folder}/office_files")
    declare(authority)
    fill(authority, products, customers)
    asyncio.run(serve(authority, os.environ["OFFICE_TOKEN"], rep))
    authority.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
