"""Customers: found by name, code or tax id, filtered, page by page; finances only as the head office tells them."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

import pytest

from offlinekit import desc
from offlinekit_portal.contract import Address, Contact, Customer
from tests.portal.selling import amount, buyer, written
from tests.portal.visiting import Answer, Scene

pytestmark = pytest.mark.slow  # a head office, a portal and a sync for each
Act = Callable[[Scene], Awaitable[None]]
Run = Callable[[Act], None]


def listed(answer: Answer) -> list[str]:
    """The codes in the list, in its order."""
    return re.findall(r'<a class="name" href="/clientes/([^"]+)">', answer.html)


def test_a_customer_is_found_by_name_code_and_tax_id(selling: Run) -> None:
    async def act(scene: Scene) -> None:
        customer = buyer(scene)
        everything = scene.replica.select(Customer).count()
        assert f"{everything} on this device" in (await scene.get("/clientes")).text
        digits = customer.tax_id.split("/")[0]
        for text in (customer.name, customer.code, customer.code[:6], digits, customer.city):
            assert customer.code in listed(await scene.get(f"/clientes?q={text}")), text
        assert len(listed(await scene.get(f"/clientes?q={customer.name[:2]}"))) == min(50, everything)  # not searched for yet
        nothing = await scene.get("/clientes?q=zzzzz", htmx=True)
        assert f"Nothing fits among the {everything} customers of this device." in nothing.text
        for text in ("%22", "*", "a+AND", "NEAR(", "%00%00%00"):
            assert (await scene.get(f"/clientes?q={text}")).status == 200

    selling(act)


def test_filters_are_chips_that_come_off_one_by_one(selling: Run) -> None:
    async def act(scene: Scene) -> None:
        customer = buyer(scene)
        path = f"/clientes?cidade={customer.city}&segmento={customer.segment}"
        shown = await scene.get(path)
        fitting = (Customer.city == customer.city) & (Customer.segment == customer.segment)
        assert set(listed(shown)) == {c.code for c in scene.replica.select(Customer).where(fitting).all()}
        assert "Clear filters" in shown.text
        without = re.search(rf'href="([^"]+)" aria-label="Remove the filter Segment: {re.escape(customer.segment)}"', shown.html)
        assert without
        one = await scene.get(without[1].replace("&amp;", "&"))
        assert set(listed(one)) == {c.code for c in scene.replica.select(Customer).where(Customer.city == customer.city).all()}
        assert "Clear filters" not in one.text
        never = {c.code for c in scene.replica.select(Customer).where(Customer.last_order.is_null()).all()}
        assert set(listed(await scene.get("/clientes?compra=never"))) == never
        recent = [c.code for c in scene.replica.select(Customer).order_by(desc(Customer.last_order)).limit(50).all()]
        assert listed(await scene.get("/clientes?ordem=recent")) == recent

    selling(act)


def test_table_or_cards_is_remembered(selling: Run) -> None:
    async def act(scene: Scene) -> None:
        assert 'class="grid custs table"' in (await scene.get("/clientes")).html
        assert 'class="grid custs cards"' in (await scene.get("/clientes?ver=cards")).html
        assert 'class="grid custs cards"' in (await scene.get("/clientes")).html
        assert 'class="grid custs cards"' in (await scene.get("/clientes?ver=nonsense")).html

    selling(act)


def test_finances_come_from_the_head_office_or_not_at_all(selling: Run) -> None:
    async def act(scene: Scene) -> None:
        customer = buyer(scene)
        known = scene.authority.get(Customer, customer.code)
        assert known is not None
        told = await scene.get(f"/clientes/financeiro?c={customer.code}&c=999999-99", htmx=True)
        assert f'hx-target="#fin-{customer.code}"' in told.html
        assert amount(known.credit_left) in told.text
        assert told.html.count("<hx-partial") == 2
        one = await scene.get(f"/clientes/{customer.code}/financeiro", htmx=True)
        assert amount(known.credit_limit) in one.text
        for path in ("/clientes", f"/clientes/{customer.code}"):
            assert amount(known.credit_limit) not in (await scene.get(path)).text
        await scene.cut()
        assert "only with a connection" in (await scene.get("/clientes")).text
        for path in (f"/clientes/financeiro?c={customer.code}", f"/clientes/{customer.code}/financeiro"):
            offline = await scene.get(path, htmx=True)
            assert offline.status == 200
            assert "only with a connection" in offline.text
            assert "R$" not in offline.text

    selling(act)


def test_a_customer_s_page_shows_what_is_held_and_why(selling: Run) -> None:
    async def act(scene: Scene) -> None:
        customer = buyer(scene)
        entry = await written(scene, customer)
        shown = (await scene.get(f"/clientes/{customer.code}")).text
        address = scene.replica.select(Address).where(Address.customer == customer.code).first()
        contact = scene.replica.select(Contact).where(Contact.customer == customer.code).first()
        assert address is not None
        assert contact is not None
        for text in (customer.name, customer.tax_id, address.street, contact.name, "OFF-0001", "the filter “My portfolio”"):
            assert text in shown, text
        assert entry.items
        assert (await scene.get("/clientes/999999-99")).status == 404
        assert "That customer is not on this device." in (await scene.get("/pedidos/novo?cliente=999999-99")).text

    selling(act)
