# my existing service; offlinekit gets a route, and my tables stay mine
from aiohttp import web
from offlinekit import Authority, Changes, Context, Reject, SQLiteStore
from offlinekit_adapters.aiohttp_server import sync_routes
from contract import Customer, Order, mine, offer, schema

scopes = {Customer: mine, Order: Order.customer.within(mine)}
authority = Authority(SQLiteStore("hq.db"), schema, offer=offer, scopes=scopes)


@authority.intent("place_order", writes={Order: "insert"})
def place_order(changes: Changes, ctx: Context) -> None:
    for order in changes.inserted(Order):
        customer = ctx.get(Customer, order.customer)
        if customer is None or order.total > customer.credit:
            raise Reject("credit", f"credit left is {customer.credit if customer else 0}", fields=["total"])
        order.number = 1 + max((o.number or 0 for o in ctx.select(Order)), default=4000)


def current_user(request: web.Request) -> tuple[str, dict[str, str]] | None:
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return ("rep-17", {"rep": "rep-17"}) if (kind, token) == ("Bearer", "secret-of-rep-17") else None


if __name__ == "__main__":
    app = web.Application()
    app.add_routes(sync_routes(authority, authenticate=current_user))
    web.run_app(app, host="127.0.0.1", port=8000)
