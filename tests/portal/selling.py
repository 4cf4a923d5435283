"""A representative who sells: steps that the tests of orders, customers and issues share."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from decimal import Decimal
from uuid import UUID

from attrs import define

from offlinekit_portal.contract import Customer, DraftItem, Order, Price, Product
from tests.portal.visiting import Answer, Scene, until


async def take_mine(scene: Scene) -> None:
    """Everything that is hers."""
    await scene.post("/offline/sugestao", htmx=False)
    await until(scene.desk.pulled)


def buyer(scene: Scene, skip: int = 0) -> Customer:
    """A customer who may buy, and has bought."""
    found = scene.replica.select(Customer).where(Customer.blocked == False, ~Customer.last_order.is_null())  # noqa: E712
    return found.order_by(Customer.code).all()[skip]


def goods(scene: Scene, customer: Customer, count: int = 2) -> Sequence[Price]:
    """Prices of the customer's list, cheap products first."""
    return scene.replica.select(Price).where(Price.price_list == customer.price_list).order_by(Price.price).limit(count).all()


@define
class Entry:
    """Order entry, as the page drives it."""

    scene: Scene
    id: UUID

    @property
    def path(self) -> str:
        return f"/pedidos/rascunho/{self.id}"

    @property
    def items(self) -> list[DraftItem]:
        return self.scene.replica.select(DraftItem).where(DraftItem.draft == self.id).order_by(DraftItem.line).all()

    async def page(self) -> Answer:
        return await self.scene.get(self.path)

    async def add(self, product: str, quantity: str = "1", discount: str = "0") -> Answer:
        """Adds a product, then types its quantity and discount."""
        added = await self.scene.post(f"{self.path}/linhas", ("product", product))
        line = next((i.line for i in self.items if i.product == product), 0)
        return await self.keep((f"q{line}", quantity), (f"d{line}", discount)) if line else added

    async def keep(self, *values: tuple[str, str]) -> Answer:
        return await self.scene.post(f"{self.path}/guardar", *values)

    async def save(self, *values: tuple[str, str]) -> Answer:
        return await self.scene.post(f"{self.path}/salvar", *values)

    async def found(self, text: str) -> Answer:
        return await self.scene.get(f"{self.path}/produtos?q={text}", htmx=True)


async def begin(scene: Scene, customer: Customer) -> Entry:
    """A new order."""
    answer = await scene.get(f"/pedidos/novo?cliente={customer.code}")
    found = re.fullmatch(r"/pedidos/rascunho/([0-9a-f-]{36})", answer.url)
    assert found, answer.text[:300]
    return Entry(scene, UUID(found[1]))


async def written(scene: Scene, customer: Customer, quantity: str = "2") -> Entry:
    """A new order with two lines."""
    entry = await begin(scene, customer)
    for price in goods(scene, customer):
        await entry.add(price.product, quantity)
    return entry


async def refused(scene: Scene, customer: Customer) -> UUID:
    """An order far over the customer's credit, and its refusal."""
    entry = await begin(scene, customer)
    dear = scene.replica.select(Price).where(Price.price_list == customer.price_list).all()
    await entry.add(max(dear, key=lambda p: p.price).product, "99999")
    assert (await entry.save()).status == 200
    await until(lambda: bool(scene.replica.rejections()))
    return scene.replica.rejections()[-1].id


def booked(scene: Scene, order: UUID) -> Order | None:
    """An order as the head office has it."""
    return scene.authority.get(Order, order)


async def answered(scene: Scene) -> None:
    """Until nothing is to send."""
    await until(lambda: not scene.replica.pending())


async def rename(scene: Scene, record: Customer | Product, name: str) -> None:
    """Gives a record another name at the head office, and pulls."""
    with scene.authority.transaction() as tx:
        tx.update(record, name=name)
    await asyncio.to_thread(scene.desk.link.wait_synced, 20)


def amount(value: Decimal) -> str:
    """As an English reader sees it, in a page's words."""
    return f"R$ {value:,.2f}"
