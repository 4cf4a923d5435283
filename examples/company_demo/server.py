"""The demo's head office: generates a company, serves it over HTTP, and decides about orders. Run with a folder and a port."""

import random
import sys
from decimal import Decimal

from aiohttp import web

from contract import Customer, Order, Product, offer, schema, scopes
from offlinekit import Authority, Changes, Context, Reject, SQLiteStore
from offlinekit_adapters.aiohttp_server import sync_routes

CITIES = ("Campinas", "Recife", "São Paulo", "Curitiba", "Belém", "Uberlândia", "Joinville", "Natal", "Goiânia", "Maringá")
KINDS = ("Padaria", "Mercado", "Ferragens", "Farmácia", "Livraria", "Ótica", "Papelaria", "Casa de Tintas", "Agropecuária")
SAINTS = ("São Bento", "Santa Rita", "Boa Vista", "Três Irmãos", "do Porto", "Ipê", "Horizonte", "Conceição", "Aurora")
GOODS = {
    "fixings": ("Parafuso sextavado", "Porca", "Arruela lisa", "Bucha de nylon"),
    "tools": ("Chave de fenda", "Alicate universal", "Martelo", "Trena"),
    "paint": ("Tinta acrílica", "Verniz", "Massa corrida", "Rolo de lã"),
    "electric": ("Cabo flexível", "Disjuntor", "Tomada", "Lâmpada LED"),
}
FINISH = ("zincado", "inox", "preto", "branco fosco", "amarelo", "reforçado")


def generate(authority: Authority, products: int, customers: int) -> None:
    """A company from a fixed seed: the same every time."""
    chance = random.Random(20261124)
    goods = [(group, name) for group, names in GOODS.items() for name in names]
    authority.load(
        Product(sku=f"{n:06}", name=f"{name} {chance.choice(FINISH)} {chance.randrange(2, 120)} mm", group=group,
                price=Decimal(chance.randrange(150, 90_000)) / 100)
        for n, (group, name) in ((n, goods[n % len(goods)]) for n in range(products))
    )  # fmt: skip
    authority.load(
        Customer(code=f"{n:06}-01", name=f"{chance.choice(KINDS)} {chance.choice(SAINTS)} {n}", city=chance.choice(CITIES),
                 rep=f"rep-{n % 20:02}", credit=Decimal(chance.randrange(500, 9000)))
        for n in range(customers)
    )  # fmt: skip


def main(folder: str, port: int, products: int, customers: int) -> None:
    """Opens or creates the company and serves it on the loopback interface."""
    authority = Authority(SQLiteStore(f"{folder}/hq.db"), schema, offer=offer, scopes=scopes, files=f"{folder}/files")
    if authority.select(Product).count() == 0:
        generate(authority, products, customers)

    @authority.intent("place_order", writes={Order: "insert"})
    def place_order(changes: Changes, ctx: Context) -> None:
        for order in changes.inserted(Order):
            customer = ctx.get(Customer, order.customer)
            if customer is None or order.total > customer.credit:
                left = customer.credit if customer else 0
                raise Reject("credit", f"credit left is {left}", fields=[Order.total])
            order.number = 4001 + ctx.select(Order).count()

    def who(request: web.Request) -> tuple[str, dict[str, str]] | None:
        return ("rep-07", {"rep": "rep-07"}) if request.headers.get("Authorization") == "Bearer demo" else None

    app = web.Application()
    app.add_routes(sync_routes(authority, authenticate=who))
    web.run_app(app, host="127.0.0.1", port=port, print=None)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
