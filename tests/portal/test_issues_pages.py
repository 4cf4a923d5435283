"""Sync and issues: what waits, what was refused and why in the reader's words, and every way on from there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal

import pytest

from offlinekit_portal.contract import Customer, Draft, Order, OrderItem, Price, Product
from tests.portal.selling import Entry, amount, answered, booked, buyer, goods, refused, written
from tests.portal.visiting import Scene, until

pytestmark = pytest.mark.slow  # a head office, a portal and a sync for each
Act = Callable[[Scene], Awaitable[None]]
Run = Callable[[Act], None]


def order_of(scene: Scene) -> Order:
    """The only order that was refused."""
    (rejection,) = scene.replica.rejections()
    return next(r for r in rejection.records if isinstance(r, Order))


def test_an_order_over_the_credit_is_explained_corrected_and_sent(selling: Run) -> None:
    async def act(scene: Scene) -> None:
        customer = buyer(scene)
        mutation = await refused(scene, customer)
        order = order_of(scene)
        known = scene.authority.get(Customer, customer.code)
        assert known is not None
        for path in ("/pendencias", f"/pendencias/{mutation}"):
            shown = (await scene.get(path)).text
            assert "The order is over the customer's credit." in shown
            assert (
                f"The order comes to {amount(order.total)}; the customer may still buy for {amount(known.credit_left)}." in shown
            )
        assert "code credit" in (await scene.get(f"/pendencias/{mutation}")).text
        assert (await scene.get(f"/pedidos/{order.id}")).url == f"/pendencias/{mutation}"
        assert f'href="/pendencias/{mutation}"' in (await scene.get("/pedidos?estado=rejected")).html

        opened = await scene.post(f"/pendencias/{mutation}/corrigir", htmx=False)
        entry = Entry(scene, order.id)
        assert opened.url == entry.path
        assert "Correct order OFF-0001" in opened.text
        assert "over the customer's credit" in opened.text
        assert "OFF-0001" not in (await scene.get("/pedidos?estado=draft")).text  # it is in the list once, as refused
        assert "Go on correcting" in (await scene.get(f"/pendencias/{mutation}")).text
        saved = await entry.save(("q1", "1"))
        assert saved.url == f"/pedidos/{order.id}"
        assert not scene.replica.rejections()
        await answered(scene)
        there = booked(scene, order.id)
        assert there is not None
        assert there.local_number == "OFF-0001"
        assert there.number
        assert scene.authority.select(Order).where(Order.local_number == "OFF-0001").count() == 1
        items = scene.authority.select(OrderItem).where(OrderItem.order == order.id).all()
        assert [i.quantity for i in items] == [1]
        assert "Nothing to correct" in (await scene.get("/pendencias")).text

    selling(act)


def test_a_correction_may_be_refused_again_and_dropped(selling: Run) -> None:
    async def act(scene: Scene) -> None:
        first = await refused(scene, buyer(scene))
        order = order_of(scene)
        await scene.post(f"/pendencias/{first}/corrigir")
        await Entry(scene, order.id).save(("q1", "99998"))
        await until(lambda: bool(scene.replica.rejections()))
        (second,) = scene.replica.rejections()
        assert second.id != first
        assert "That issue is resolved." in (await scene.post(f"/pendencias/{first}/corrigir", htmx=False)).text
        await scene.post(f"/pendencias/{second.id}/corrigir")
        dropped = await scene.post(f"/pedidos/rascunho/{order.id}/apagar", htmx=False)
        assert dropped.url == f"/pendencias/{second.id}"
        assert scene.replica.get(Draft, order.id) is None
        assert [r.id for r in scene.replica.rejections()] == [second.id]

    selling(act)


def test_a_refused_order_is_sent_again_unchanged_when_the_cause_is_gone(selling: Run) -> None:
    async def act(scene: Scene) -> None:
        customer = buyer(scene)
        mutation = await refused(scene, customer)
        order = order_of(scene)
        await scene.post(f"/pendencias/{mutation}/corrigir")  # a correction that was begun is given up
        with scene.authority.transaction() as tx:
            tx.update(customer, credit_left=Decimal(1_000_000_000))
        said = await scene.post(f"/pendencias/{mutation}/reenviar", htmx=False)
        assert said.url == f"/pedidos/{order.id}"
        assert "Order OFF-0001 is sent again, unchanged." in said.text
        assert scene.replica.get(Draft, order.id) is None
        await answered(scene)
        assert booked(scene, order.id) is not None

    selling(act)


def test_all_refused_orders_are_sent_again_at_once(selling: Run) -> None:
    async def act(scene: Scene) -> None:
        customers = [buyer(scene), buyer(scene, 1)]
        for customer in customers:
            await refused(scene, customer)
        await until(lambda: len(scene.replica.rejections()) == 2)
        with scene.authority.transaction() as tx:
            for customer in customers:
                tx.update(customer, credit_left=Decimal(1_000_000_000))
        assert "Send all again" in (await scene.get("/pendencias")).text
        said = await scene.post("/pendencias/reenviar", htmx=False)
        assert said.url == "/sincronia"
        assert "2 orders are sent again." in said.text
        await answered(scene)
        assert not scene.replica.rejections()
        assert scene.authority.select(Order).where(Order.local_number.starts_with("OFF-")).count() == 2

    selling(act)


def test_discarding_asks_first_and_then_leaves_nothing(selling: Run) -> None:
    async def act(scene: Scene) -> None:
        mutation = await refused(scene, buyer(scene))
        order = order_of(scene)
        shown = await scene.get(f"/pendencias/{mutation}")
        assert "it cannot be brought back" in shown.text
        assert "Discard for good" in shown.text
        await scene.post(f"/pendencias/{mutation}/corrigir")
        said = await scene.post(f"/pendencias/{mutation}/descartar", htmx=False)
        assert "Order OFF-0001 was discarded." in said.text
        assert not scene.replica.rejections()
        assert scene.replica.get(Draft, order.id) is None
        assert "That issue is resolved." in (await scene.get(f"/pendencias/{mutation}")).text
        assert (await scene.get("/pendencias/nonsense")).status == 404

    selling(act)


def test_prices_that_changed_and_discounts_that_are_too_high_are_told_with_both_values(selling: Run) -> None:
    async def act(scene: Scene) -> None:
        customer = buyer(scene)
        old, other = goods(scene, customer)
        await scene.cut()
        dear = await written(scene, customer)
        await dear.save()
        with scene.authority.transaction() as tx:
            tx.update(old, price=old.price + 1)
        await scene.mend()
        await until(lambda: bool(scene.replica.rejections()))
        (refusal,) = scene.replica.rejections()
        product = scene.replica.get(Product, old.product)
        assert product is not None
        shown = (await scene.get(f"/pendencias/{refusal.id}")).text
        assert f"{product.name} was sent at {amount(old.price)}; the price list says {amount(old.price + 1)} now." in shown
        await asyncio.to_thread(scene.desk.link.wait_synced, 20)
        opened = await scene.post(f"/pendencias/{refusal.id}/corrigir", htmx=False)
        assert "Take today's prices" in opened.text
        await scene.post(f"{dear.path}/precos")
        await dear.save()
        await answered(scene)
        assert booked(scene, dear.id) is not None
        cheap = await written(scene, customer)
        await cheap.save(("d2", "99"))
        await until(lambda: bool(scene.replica.rejections()))
        shown = (await scene.get(f"/pendencias/{scene.replica.rejections()[0].id}")).text
        assert "A discount is too high." in shown
        assert "was sent with 99 % off; at most" in shown
        assert other.product in shown

    selling(act)


def test_a_correction_follows_the_customer_to_another_price_list(selling: Run) -> None:
    async def act(scene: Scene) -> None:
        customer = buyer(scene)
        lists = {p.price_list for p in scene.replica.select(Price).limit(2_000).all()}
        other = next(iter(sorted(lists - {customer.price_list})))
        await scene.cut()
        entry = await written(scene, customer)
        await entry.save()
        with scene.authority.transaction() as tx:
            tx.update(customer, price_list=other)
        await scene.mend()
        await until(lambda: bool(scene.replica.rejections()))
        await asyncio.to_thread(scene.desk.link.wait_synced, 20)
        (refusal,) = scene.replica.rejections()
        assert "The customer buys by another price list now." in (await scene.get(f"/pendencias/{refusal.id}")).text
        await scene.post(f"/pendencias/{refusal.id}/corrigir")
        await scene.post(f"{entry.path}/precos")
        await entry.save()
        await answered(scene)
        order = booked(scene, entry.id)
        assert order is not None
        assert order.price_list == other

    selling(act)


def test_a_correction_may_be_saved_while_the_selection_has_expired(selling: Run) -> None:
    async def act(scene: Scene) -> None:
        mutation = await refused(scene, buyer(scene))
        order = order_of(scene)
        await scene.cut()
        scene.clock.move(days=1)
        shown = await scene.get(f"/pendencias/{mutation}")
        assert shown.status == 200
        assert order.customer in shown.text
        await scene.post(f"/pendencias/{mutation}/corrigir")
        entry = Entry(scene, order.id)
        assert (await entry.page()).status == 200
        assert (await entry.save(("q1", "1"))).url == f"/pedidos/{order.id}"
        assert (await scene.get(f"/pedidos/{order.id}")).status == 200
        assert "OFF-0001" in (await scene.get("/sincronia")).text

    selling(act)


def test_the_queue_names_what_waits_in_its_order(selling: Run) -> None:
    async def act(scene: Scene) -> None:
        assert "All is sent" in (await scene.get("/sincronia")).text
        await scene.cut()
        for n in range(2):
            await (await written(scene, buyer(scene, n))).save()
        shown = await scene.get("/sincronia", htmx=True)
        assert "<html" not in shown.html
        assert shown.html.index("OFF-0001") < shown.html.index("OFF-0002")
        assert "2 orders" in shown.text
        assert "as soon as the head office answers" in shown.text
        assert "There is no connection" in (await scene.post("/sincronia/agora")).text
        assert "2 to send" in (await scene.get("/sincronia")).text
        await scene.mend()
        await answered(scene)
        assert "Syncing now." in (await scene.post("/sincronia/agora")).text

    selling(act)


def test_an_unknown_code_has_a_title_of_ours_and_the_words_of_the_head_office_apart() -> None:
    from types import SimpleNamespace
    from typing import cast

    from offlinekit import Rejection
    from offlinekit_portal.refusals import CODES
    from offlinekit_portal.web import i18n, reasons

    token = i18n.current.set("en")
    try:

        def reason(code: str, message: str) -> reasons.Reason:
            return reasons.of(cast(Rejection, SimpleNamespace(code=code, message=message)))

        unknown = reason("volcano", "ash over the depot")
        assert (unknown.title, unknown.text, unknown.theirs) == ("The head office refused the order.", "", "ash over the depot")
        for code in (*CODES, "not_allowed", "invalid", "exists", "stale", "constraint", "internal", "dependency_discarded",
                     "dependency_withdrawn"):  # fmt: skip
            assert reason(code, "in other words").title != "The head office refused the order.", code
            assert "in other words" not in reason(code, "in other words").text, code
        assert reason("credit", 'over {"total":"no amount","left":"1"}').title == "The order is over the customer's credit."
    finally:
        i18n.current.reset(token)
