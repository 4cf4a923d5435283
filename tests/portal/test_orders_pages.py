"""Order entry and orders: kept at every change, saved in one transaction, never called sent before the receipt is here."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path

import pytest

from offlinekit_portal import drafts
from offlinekit_portal.contract import Draft, DraftItem, Order, OrderItem, Price, Product, offer, schema
from tests.portal.selling import amount, answered, begin, booked, buyer, goods, rename, written
from tests.portal.visiting import Scene

pytestmark = pytest.mark.slow  # a head office, a portal and a sync for each
Act = Callable[[Scene], Awaitable[None]]
Run = Callable[[Act], None]
KILLED = """
import os, signal, sys
from uuid import UUID
from offlinekit import Replica
from offlinekit_portal import drafts
from offlinekit_portal.contract import offer, schema
replica = Replica.open(sys.argv[1], schema, offer=offer, identity="marina")
drafts.keep(replica, UUID(sys.argv[2]), {1: {"quantity": 77}}, note="by hand")
os.kill(os.getpid(), signal.SIGKILL)
"""


# -- drafts


def test_a_draft_survives_a_kill(selling: Run) -> None:
    async def act(scene: Scene) -> None:
        entry = await written(scene, buyer(scene))
        path = next(scene.data.glob("*.db"))
        await scene.stop()
        killed = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", KILLED, str(path), str(entry.id)])
        assert killed.returncode < 0
        await scene.start()
        shown = await entry.page()
        assert 'value="77"' in shown.html
        assert "by hand" in shown.text
        assert "Draft saved on this device" in shown.text

    selling(act)


def test_local_numbers_are_never_given_twice(selling: Run) -> None:
    async def act(scene: Scene) -> None:
        first = await written(scene, buyer(scene))
        assert "OFF-0001" in (await first.page()).text
        await scene.post(f"{first.path}/apagar")
        assert scene.replica.get(Draft, first.id) is None
        assert not first.items
        await scene.restart()
        second = await written(scene, buyer(scene))
        assert "OFF-0002" in (await second.page()).text
        await second.save()
        assert "OFF-0003" in (await (await begin(scene, buyer(scene))).page()).text

    selling(act)


def test_an_empty_draft_is_taken_up_again(selling: Run) -> None:
    async def act(scene: Scene) -> None:
        one, other = await begin(scene, buyer(scene)), await begin(scene, buyer(scene))
        assert one.id == other.id
        assert (await begin(scene, buyer(scene, 1))).id != one.id

    selling(act)


def test_what_does_not_fit_is_said_at_the_field_and_keeps_the_rest(selling: Run) -> None:
    async def act(scene: Scene) -> None:
        entry = await written(scene, buyer(scene))
        for text in ("0", "x", "1,5", "-3", "100000", "1.5"):
            said = await entry.keep(("q1", text), ("q2", "9"))
            assert said.status == 422
            assert "Enter a whole quantity from 1 to 99,999." in said.text
            assert 'aria-describedby="q1-err"' in said.html
            assert f'name="q1" inputmode="numeric" autocomplete="off" maxlength="7" value="{text}"' in said.html
        assert [i.quantity for i in entry.items] == [2, 9]
        for text in ("101", "-1", "1,234", "ten"):
            assert (await entry.keep(("d1", text))).status == 422
        assert (await entry.keep(("d1", "2,5 %"), ("q2", "1.200"))).status == 200
        assert entry.items[0].discount == Decimal("2.5")
        assert entry.items[1].quantity == 1200
        await entry.keep(("at", "1"), ("more", "-1"), ("q1", "2"))
        assert entry.items[0].quantity == 1
        await entry.keep(("at", "1"), ("more", "-1"), ("q1", "1"))
        assert entry.items[0].quantity == 1

    selling(act)


def test_saving_takes_what_is_typed_or_says_all_that_is_wrong(selling: Run) -> None:
    async def act(scene: Scene) -> None:
        empty = await begin(scene, buyer(scene))
        said = await empty.save(("delivery", "2020-01-01"))
        assert said.status == 422
        assert "2 things to correct before saving" in said.text
        assert re.findall(r'href="#(\w+)"', said.html) == ["psearch", "delivery"]
        assert "autofocus" in said.html
        entry = await written(scene, buyer(scene, 1))
        assert (await entry.save(("q1", "none"))).status == 422
        assert not scene.replica.pending()
        saved = await entry.save(("q1", "7"), ("note", "by truck"), ("delivery", "2026-12-24"))
        assert saved.url == f"/pedidos/{entry.id}"
        await answered(scene)
        order = booked(scene, entry.id)
        assert order is not None
        assert (order.note, str(order.delivery)) == ("by truck", "2026-12-24")
        items = scene.authority.select(OrderItem).where(OrderItem.order == entry.id).order_by(OrderItem.line).all()
        assert [i.quantity for i in items] == [7, 2]

    selling(act)


def test_saving_is_one_transaction(selling: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(scene: Scene) -> None:
        entry = await written(scene, buyer(scene))
        with monkeypatch.context() as patched:

            def fail(tx: object, draft: object) -> None:
                raise RuntimeError("the power fails")

            patched.setattr(drafts, "_drop", fail)
            assert (await entry.save()).status == 500
        assert scene.replica.get(Draft, entry.id) is not None
        assert len(entry.items) == 2
        assert scene.replica.get(Order, entry.id) is None
        assert not scene.replica.pending()
        await entry.save()
        assert scene.replica.get(Draft, entry.id) is None
        assert not entry.items
        again = await entry.save()
        assert again.url == f"/pedidos/{entry.id}"
        await answered(scene)
        assert scene.authority.select(Order).where(Order.local_number == "OFF-0001").count() == 1

    selling(act)


# -- products


def test_the_search_shows_only_products_with_a_price_for_the_customer(selling: Run) -> None:
    async def act(scene: Scene) -> None:
        customer = buyer(scene)
        product = scene.replica.get(Product, goods(scene, customer)[0].product)
        assert product is not None
        entry = await begin(scene, customer)
        found = await entry.found(product.code)
        assert f'data-code="{product.code}"' in found.html
        with scene.authority.transaction() as tx:
            price = tx.get(Price, (product.code, customer.price_list))
            assert price is not None
            tx.delete(price)
        await asyncio.to_thread(scene.desk.link.wait_synced, 20)
        found = await entry.found(product.code)
        assert f'data-code="{product.code}"' not in found.html
        assert "Nothing found with a price for this customer, among the 420 products of this device." in found.text
        refused = await scene.post(f"{entry.path}/linhas", ("product", product.code))
        assert refused.status == 422
        assert "no price for the customer" in refused.text

    selling(act)


def test_digits_find_codes_first_and_words_their_beginnings(selling: Run) -> None:
    async def act(scene: Scene) -> None:
        entry = await begin(scene, buyer(scene))
        product = scene.replica.select(Product).order_by(Product.code).all()[100]
        codes = re.findall(r'role="option"[^>]*data-code="([^"]+)"', (await entry.found(product.code[:4])).html)
        assert codes
        assert all(code.startswith(product.code[:4]) for code in codes[:3])
        word = product.name.split()[0]
        assert f"<mark>{word[:3]}</mark>{word[3:]}" in (await entry.found(word[:3].lower())).html
        for text in ('"', "*", "a AND", "%27", "(", "NEAR(", "%00"):
            assert (await entry.found(text)).status == 200

    selling(act)


def test_names_are_escaped_wherever_they_are_shown(selling: Run) -> None:
    async def act(scene: Scene) -> None:
        customer, hostile = buyer(scene), '<img src=x onerror="alert(1)"> & Sons'
        product = scene.replica.get(Product, goods(scene, customer)[0].product)
        assert product is not None
        await rename(scene, product, f"Zebra {hostile}")
        await rename(scene, customer, hostile)
        entry = await written(scene, customer)
        pages = [await entry.page(), await entry.found("zebra"), await entry.found("img"), await entry.keep(("q1", "3"))]
        await entry.save(("note", hostile))
        paths = ("/pedidos", f"/pedidos/{entry.id}", "/clientes", f"/clientes/{customer.code}", "/sincronia")
        pages += [await scene.get(path) for path in (*paths, "/pedidos?q=%3Cimg%3E", "/clientes?q=%3Cimg+src%3E")]
        for page in pages:
            assert "<img" not in page.html, page.url

    selling(act)


# -- orders


def test_an_order_is_called_sent_when_its_receipt_is_here(selling: Run) -> None:
    async def act(scene: Scene) -> None:
        await scene.cut()
        entry = await written(scene, buyer(scene))
        shown = await entry.page()
        assert "only with a connection" in shown.text
        saved = await entry.save()
        page = await scene.get(saved.url)
        assert "Saved on this device. It is sent by itself" in page.text
        assert "To send" in page.text
        assert "The head office has this order" not in page.text
        listed = await scene.get("/pedidos?estado=pending")
        assert "OFF-0001" in listed.text
        assert "OFF-0001" not in (await scene.get("/pedidos?estado=sent")).text
        await scene.mend()
        await answered(scene)
        order = booked(scene, entry.id)
        assert order is not None
        page = await scene.get(saved.url, htmx=True)
        assert f"The head office has this order and gave it the number {order.number}." in page.text
        for text in ("OFF-0001", str(order.number)):
            assert f'id="doc-{entry.id}"' in (await scene.get(f"/pedidos?q={text}")).html
        assert "OFF-0001" not in (await scene.get("/pedidos?estado=pending")).text

    selling(act)


def test_the_list_holds_drafts_and_the_history_page_by_page(selling: Run) -> None:
    async def act(scene: Scene) -> None:
        entry = await written(scene, buyer(scene))
        total = scene.replica.select(Order).count() + 1
        first = await scene.get("/pedidos")
        assert f"1–50 of {total}" in first.text
        assert first.html.index("OFF-0001") < first.html.index("Sent</span>")
        last = await scene.get(f"/pedidos?de={(total - 1) // 50 * 50}")
        assert f"{(total - 1) // 50 * 50 + 1}–{total} of {total}" in last.text
        assert (await scene.get("/pedidos?de=9999999")).status == 200
        drafts_only = await scene.get("/pedidos?estado=draft", htmx=True)
        assert drafts_only.html.count('id="doc-') == 1
        assert "<html" not in drafts_only.html
        assert (await scene.get(f"/pedidos/{entry.id}")).url == entry.path
        assert (await scene.get("/pedidos/nonsense")).status == 404
        assert (await scene.get("/pedidos/00000000-0000-7000-8000-000000000000")).status == 404

    selling(act)


def test_an_order_that_is_not_sent_may_be_changed_or_withdrawn(selling: Run) -> None:
    async def act(scene: Scene) -> None:
        await asyncio.to_thread(scene.desk.link.stop)  # nothing was tried, so nothing may have arrived
        entry = await written(scene, buyer(scene))
        await entry.save()
        assert "Change the order" in (await scene.get(f"/pedidos/{entry.id}")).text
        reopened = await scene.post(f"/pedidos/{entry.id}/alterar", htmx=False)
        assert reopened.url == entry.path
        assert not scene.replica.pending()
        assert "OFF-0001" in reopened.text
        assert "OFF-0001" in (await scene.get("/pedidos?estado=draft")).text
        await entry.save(("q1", "5"))
        (pending,) = scene.replica.pending()
        assert any(c.after.get("quantity") == 5 for c in pending.changes)
        withdrawn = await scene.post(f"/pedidos/{entry.id}/retirar", htmx=False)
        assert "The order was withdrawn; it is not sent." in withdrawn.text
        assert scene.replica.get(Order, entry.id) is None

    selling(act)


def test_a_draft_whose_order_left_meanwhile_does_not_make_a_second_one(selling: Run) -> None:
    async def act(scene: Scene) -> None:
        entry = await written(scene, buyer(scene))
        await entry.save()
        mutation = scene.replica.pending()[0].id if scene.replica.pending() else None
        await answered(scene)
        order = booked(scene, entry.id)
        assert order is not None
        with scene.replica.transaction() as tx:  # as when the program ended between reopening and taking back
            tx.insert(Draft(id=entry.id, customer=order.customer, local_number="OFF-0001", saved_at=0.0, corrects=mutation))
            tx.insert(
                DraftItem(draft=entry.id, line=1, product=goods(scene, buyer(scene))[0].product, quantity=9, price=Decimal(1))
            )
        said = await entry.save()
        assert said.url == f"/pedidos/{entry.id}"
        assert scene.replica.get(Draft, entry.id) is None
        await answered(scene)
        assert booked(scene, entry.id) == order

    selling(act)


def test_repeating_the_last_order_takes_todays_prices(selling: Run) -> None:
    async def act(scene: Scene) -> None:
        customer = buyer(scene)
        last = drafts.last_order(scene.replica, customer.code)
        assert last is not None
        bought = {i.product: i.quantity for i in scene.replica.select(OrderItem).where(OrderItem.order == last.id).all()}
        entry = await begin(scene, customer)
        said = await scene.post(f"{entry.path}/repetir")
        assert "from the last order" in said.text
        assert {i.product: i.quantity for i in entry.items} == bought
        again = await scene.post(f"{entry.path}/repetir")
        assert "0 lines added" in again.text
        item = entry.items[0]
        with scene.authority.transaction() as tx:
            price = tx.get(Price, (item.product, customer.price_list))
            assert price is not None
            tx.update(price, price=price.price + 1)
        await asyncio.to_thread(scene.desk.link.wait_synced, 20)
        shown = await entry.page()
        assert f"list price now {amount(item.price + 1)}" in shown.text
        assert "1 price updated." in (await scene.post(f"{entry.path}/precos")).text
        assert entry.items[0].price == item.price + 1

    selling(act)


def test_while_the_selection_has_expired_drafts_stay_and_nothing_new_begins(selling: Run) -> None:
    async def act(scene: Scene) -> None:
        entry = await written(scene, buyer(scene))
        await scene.cut()
        scene.clock.move(days=1)
        for path in ("/clientes", "/clientes/000001-01", "/pedidos/novo?cliente=000001-01"):
            locked = await scene.get(path)
            assert locked.status == 409
            assert "The selection for this device has expired" in locked.text
        shown = await entry.page()
        assert shown.status == 200
        assert entry.items[0].product in shown.text
        assert "Renew it to add products" in (await entry.found("par")).text
        said = await entry.save()
        assert said.status == 422
        assert "Renew it to save; the draft stays here." in said.text
        assert (await entry.keep(("q1", "8"))).status == 200
        assert entry.items[0].quantity == 8
        assert (await scene.get("/pedidos")).status == 200
        assert (await scene.get("/sincronia")).status == 200
        assert (await scene.get("/pendencias")).status == 200

    selling(act)


def test_limits_are_told_when_the_head_office_answers(selling: Run) -> None:
    async def act(scene: Scene) -> None:
        customer = buyer(scene)
        entry = await written(scene, customer)
        known = scene.authority.get(type(customer), customer.code)
        assert known is not None
        assert amount(known.credit_left) in (await scene.get(f"{entry.path}/limite", htmx=True)).text
        await entry.keep(("q1", "99999"), ("q2", "99999"))
        assert "the order is over it" in (await scene.get(f"{entry.path}/limite", htmx=True)).text
        await scene.cut()
        assert "only with a connection" in (await scene.get(f"{entry.path}/limite", htmx=True)).text

    selling(act)


def test_the_search_takes_less_than_twenty_milliseconds_among_twenty_thousand_products(tmp_path: Path) -> None:
    from datetime import date
    from time import perf_counter

    from offlinekit.testing.pair import linked_pair
    from offlinekit_portal.contract import Customer, PaymentTerm, PriceList, Representative, scopes

    claims = {"rep": "R01", "price_lists": ["T10"]}
    with linked_pair(schema, offer=offer, scopes=scopes, claims=claims) as pair:
        customer = Customer(code="1", name="A", trade_name="A", tax_id="1", segment="S", city="C", state="SP", phone="", email="",
                            rep="R01", price_list="T10", term="1")  # fmt: skip
        pair.authority.load([Representative(code="R01", name="R", email="", region=""), PaymentTerm(code="1", name="1", days=1),
                             PriceList(code="T10", name="T10"), customer])  # fmt: skip
        kinds = ("Parafuso sextavado", "Cabo flexível", "Disjuntor bipolar", "Lâmpada LED", "Tinta acrílica")
        pair.authority.load(
            Product(code=f"{n:06}", name=f"{kinds[n % 5]} M{n % 40} L{n}", group="G", brand="B", unit="un", stock=n % 9,
                    curve="A", launched=date(2026, 1, 1)) for n in range(20_000)
        )  # fmt: skip
        pair.authority.load(Price(product=f"{n:06}", price_list="T10", price=Decimal(n)) for n in range(20_000))
        pair.replica.configure().quick("my_customers").quick("catalogue").include("prices").save()
        pair.sync()
        for text in ("p", "par", "parafuso m1", "0012", "lampada l12", "nothing"):
            assert len(drafts.search(pair.replica, customer, text)) == (0 if text == "nothing" else 12)
            took = []
            for _ in range(5):
                began = perf_counter()
                drafts.search(pair.replica, customer, text)
                took.append(perf_counter() - began)
            assert min(took) < 0.020, text


def test_quantities_and_discounts_are_read_as_people_write_them() -> None:
    assert [drafts.quantity_of(t) for t in ("1", "1.200", "12 000", "99999")] == [1, 1200, 12_000, 99_999]
    assert [drafts.quantity_of(t) for t in ("", "0", "1,2", "1.2", "1e3", "²", "999999", "1.2000")] == [None] * 8
    assert [drafts.discount_of(t) for t in ("", "0", "5", "2,5", "2.50 %", "100")] == [
        Decimal(t) for t in ("0", "0", "5", "2.5", "2.50", "100")
    ]
    assert [drafts.discount_of(t) for t in ("-1", "100,01", "1,234", "x", "1..2", "NaN")] == [None] * 6
