"""Home, settings, signing out, the demo's network switch, help, and the line that lets go of what waits."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from offlinekit import Offline
from offlinekit_portal.contract import Customer, Order, Setting
from offlinekit_portal.plug import Plug, create
from offlinekit_portal.web.line import Line
from tests.portal.selling import take_mine
from tests.portal.trading import TODAY
from tests.portal.visiting import Act, Scene, scene, until


def place(scene: Scene, total: str) -> None:
    """An order that the head office refuses, for it has no lines; until it is asked, it waits."""
    customer = scene.replica.select(Customer).first()
    assert customer is not None
    with scene.replica.transaction("place_order") as tx:
        tx.insert(Order(customer=customer.code, price_list=customer.price_list, term=customer.term, placed=TODAY,
                        local_number="OFF-0001", total=Decimal(total)))  # fmt: skip


def test_home_counts_what_waits_and_what_came_back(at_the_portal: Callable[[Act], None]) -> None:
    async def act(scene: Scene) -> None:
        await take_mine(scene)
        quiet = await scene.get("/inicio")
        assert re.search(r"To send 0 R\$.0\.00 Issues 0 nothing to correct Sent today 0", quiet.text)
        assert "Visit the next customer" in quiet.text
        assert "25 customers · 2 prospects · 420 products" in quiet.text
        await scene.cut()
        place(scene, "1234.50")
        waiting = await scene.get("/inicio")
        assert re.search(r"To send 1 R\$.1,234\.50", waiting.text)
        assert "OFF-0001" in waiting.text
        assert "sent by itself when the connection is back" in waiting.text
        leaving = await scene.get("/sair")
        assert "1 order is not at the head office yet" in leaving.text
        assert "signing in again needs one" in leaving.text
        await scene.mend()
        await until(lambda: bool(scene.replica.rejections()))
        refused = await scene.get("/inicio")
        assert re.search(r"To send 0 .*Issues 1 R\$.1,234\.50", refused.text)
        assert "Correct it, and it is sent again" in refused.text

    at_the_portal(act)


def test_the_chart_says_in_words_what_it_shows(at_the_portal: Callable[[Act], None]) -> None:
    async def act(scene: Scene) -> None:
        await take_mine(scene)
        sold = [order for order in scene.replica.select(Order) if 0 <= (scene.desk.today() - order.placed).days < 7]
        best = max(sold, key=lambda order: order.placed)
        total = sum((order.total for order in sold if order.placed == best.placed), Decimal(0))
        said = re.search(r'class="week"[^>]*aria-label="([^"]*)"', (await scene.get("/inicio")).html)
        assert said is not None
        assert len(said[1].split(";")) == 7
        assert f"{total:,.2f}" in said[1]

    at_the_portal(act)


def test_settings_say_who_and_what_is_on_the_device(at_the_portal: Callable[[Act], None]) -> None:
    async def act(scene: Scene) -> None:
        empty = await scene.get("/ajustes")
        assert "Representative R01" in empty.text
        await take_mine(scene)
        shown = await scene.get("/ajustes")
        assert "Marina Duarte" in shown.text
        assert re.search(r"Products 420 Prices of my lists 840", shown.text)
        assert "Sign-in valid until" in shown.text
        scene.clock.move(days=1)
        locked = await scene.get("/ajustes")
        assert locked.status == 200
        assert "Customers locked" in locked.text

    at_the_portal(act)


def test_signing_out_keeps_the_package_for_the_next_time(at_the_portal: Callable[[Act], None]) -> None:
    async def act(scene: Scene) -> None:
        await take_mine(scene)
        assert "Everything is sent" in (await scene.get("/sair")).text
        await scene.post("/sair", htmx=False)
        assert (await scene.get("/inicio")).url == "/entrar"
        await scene.sign_in()
        assert scene.desk.held()["customer"] == 25

    at_the_portal(act)


@pytest.mark.parametrize("language", ["pt_BR", "es", "en"])
def test_help_and_more_are_there_in_every_language(at_the_portal: Callable[[Act], None], language: str) -> None:
    async def act(scene: Scene) -> None:
        await scene.get(f"/idioma/{language}")
        for path in ("/ajuda/offline", "/mais", "/offline", "/offline/configurar/clientes/avancado", "/ajustes"):
            page = await scene.get(path)
            assert page.status == 200
            assert f'lang="{language.replace("_", "-")}"' in page.html

    at_the_portal(act)


def test_there_is_no_network_switch_outside_the_demo(at_the_portal: Callable[[Act], None]) -> None:
    async def act(scene: Scene) -> None:
        assert (await scene.get("/dev/rede")).status == 404
        assert (await scene.post("/dev/rede", ("kind", "refuse"))).status == 404
        assert "/dev/rede" not in (await scene.get("/inicio")).html

    at_the_portal(act)


def test_the_plug_is_pulled_and_plugged_in_from_the_page(company: Path, tmp_path: Path) -> None:
    from aiohttp import web

    async def act() -> None:
        async with scene(company, tmp_path) as made:
            plug = Plug(made._office_port, 0)
            await plug.open()
            switch = web.AppRunner(create(plug), shutdown_timeout=0.1)
            await switch.setup()
            await web.TCPSite(switch, "127.0.0.1", 0).start()
            made.desk.plug_control = f"http://127.0.0.1:{switch.addresses[0][1]}"
            try:
                await made.sign_in()
                assert re.search(r"Connected Everything passes\. now", (await made.get("/dev/rede")).text)
                for kind, label in (
                    ("refuse", "Plug pulled"),
                    ("black_hole", "Black hole"),
                    ("slow", "Slow line"),
                    ("cut", "Cut"),
                ):
                    switched = await made.post("/dev/rede", ("kind", kind), htmx=False)
                    assert plug.state.mode.kind == kind
                    assert label in switched.text
                assert (await made.post("/dev/rede", ("kind", "explode"), htmx=False)).status == 422
                assert plug.state.mode.kind == "cut"
            finally:
                await switch.cleanup()
                await plug.close()
            gone = await made.get("/dev/rede")
            assert gone.status == 200
            assert "does not answer" in gone.text

    asyncio.run(act())


def test_the_line_lets_go_of_what_waits_when_nobody_answers_any_more() -> None:
    async def answer() -> str:
        return "here"

    async def never() -> str:
        await asyncio.Event().wait()
        raise AssertionError

    async def act() -> None:
        line = Line()
        with pytest.raises(Offline, match="does not answer"):
            await line.hold(answer())
        line.set(True)
        assert await line.hold(answer()) == "here"
        waiting = asyncio.create_task(line.hold(never()))
        await asyncio.sleep(0)
        await asyncio.to_thread(line.set, False)
        with pytest.raises(Offline, match="stopped answering"):
            await waiting
        line.set(True)
        cancelled = asyncio.create_task(line.hold(never()))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert not line._waiting

    asyncio.run(act())


def test_a_broken_half_made_choice_is_forgotten(at_the_portal: Callable[[Act], None]) -> None:
    async def act(scene: Scene) -> None:
        scene.desk.remember("choosing", "bm90IGEgc2VsZWN0aW9u")
        assert (await scene.get("/offline/configurar/clientes/rapido")).status == 200
        kept = scene.replica.get(Setting, "choosing")
        assert kept is not None
        assert kept.value == ""

    at_the_portal(act)
