"""Who may do what from where: other sites, other host names, other processes, closed pages, a line that swallows all."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from offlinekit_portal.alone import Taken, alone
from offlinekit_portal.plug import Mode, Plug
from offlinekit_portal.web import desk, live
from offlinekit_portal.web.views import customers, entry
from tests.portal.selling import begin, buyer, take_mine, written
from tests.portal.visiting import Act, Scene, scene, until

PATIENCE_S = 10.0  # much less than an exchange may take, and much more than a page


async def leads(made: Scene, path: str, **headers: str) -> str:
    """Where an address leads."""
    async with made.client.get(made.url + path, headers=headers, allow_redirects=False) as answer:
        assert answer.status == 303
        return answer.headers["Location"]


def test_choosing_a_language_leads_back_and_never_to_another_site(selling: Callable[[Act], None]) -> None:
    async def act(made: Scene) -> None:
        here = made.url
        assert await leads(made, "/idioma/es", Referer=f"{here}/clientes?q=casa&uf=SP") == "/clientes?q=casa&uf=SP"
        for came in ("", here, f"{here}/", "http://evil.example/clientes", "http://evil.example//evil.example", "nonsense",
                     f"http://evil.example@{here[7:]}x/"):  # fmt: skip
            assert await leads(made, "/idioma/es", Referer=came) == "/inicio", came
        for came in (f"{here}//evil.example", f"{here}/\\evil.example", f"{here}///evil.example"):
            assert await leads(made, "/idioma/es", Referer=came) == "/evil.example", came

    selling(act)


FOREIGN = {
    "another site": {"Origin": "http://evil.example"},
    "another port of this machine": {"Origin": "http://127.0.0.1:1"},
    "a sandboxed page": {"Origin": "null"},
    "a page of another site that names no origin": {"Sec-Fetch-Site": "cross-site"},
    "a page of another port that names no origin": {"Sec-Fetch-Site": "same-site"},
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_form_of_another_page_is_refused(selling: Callable[[Act], None], what: str) -> None:
    async def act(made: Scene) -> None:
        url = f"{made.url}/offline/descartar"
        async with made.client.post(url, headers=FOREIGN[what]) as answer:
            assert answer.status == 403
            assert "another site" in await answer.text()
        async with made.client.post(url, headers={"Origin": made.url, "Sec-Fetch-Site": "same-origin"}) as answer:
            assert answer.status == 200

    selling(act)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "192.168.0.7", "[::2]:80"])
def test_another_host_name_is_refused(selling: Callable[[Act], None], host: str) -> None:
    async def act(made: Scene) -> None:
        for path in ("/entrar", "/clientes", "/estado", "/static/portal.css"):
            async with made.client.get(made.url + path, headers={"Host": host}) as answer:
                assert answer.status == 421, path
                assert "Marina" not in await answer.text()

    selling(act)


def nobody(made: Scene) -> bool:
    """Tells the open pages that records have changed; whether there are none left."""
    assert made._portal is not None
    made.desk.tell("data")
    return not made._portal.app[live.OPEN]


def test_the_newest_page_is_always_kept_true(selling: Callable[[Act], None]) -> None:
    async def act(made: Scene) -> None:
        assert made._portal is not None
        opened: list[aiohttp.ClientResponse] = []
        try:
            for _ in range(live.STREAMS_MAX + 3):
                answer = await made.client.get(f"{made.url}/estado")
                assert answer.status == 200
                assert await answer.content.readline()
                opened.append(answer)
            async with asyncio.timeout(PATIENCE_S):
                for ended in opened[:3]:
                    await ended.content.read()  # to its end
            assert not opened[-1].content.at_eof()
            assert len(made._portal.app[live.OPEN]) == live.STREAMS_MAX
            for answer in opened:
                answer.close()
            await until(lambda: nobody(made))  # each word finds another stream without a reader
        finally:
            for answer in opened:
                answer.close()

    selling(act)


@pytest.mark.parametrize("program", ["office", "portal"])
def test_a_second_process_on_a_folder_says_so_and_ends(program: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "offlinekit_portal", program, "--data", str(tmp_path), "--port", "0"]
    with alone(tmp_path):
        second = subprocess.run(
            [*command, *(["--office", "http://127.0.0.1:1"] if program == "portal" else [])],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert second.returncode == 1
    assert second.stdout == ""
    assert second.stderr.startswith(f"{program}: another process works in {tmp_path}: stop it first")
    assert "Traceback" not in second.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["in-use.lock"]


def test_a_folder_is_free_again_when_its_process_has_ended(tmp_path: Path) -> None:
    with alone(tmp_path):
        with pytest.raises(Taken) as taken, alone(tmp_path):
            raise AssertionError
        assert taken.value.folder == tmp_path
    with alone(tmp_path):
        pass


def test_no_page_waits_for_a_line_that_swallows_everything(
    company: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "PROBE_S", 0.05)
    monkeypatch.setattr(customers, "REMOTE_S", 0.2)
    monkeypatch.setattr(entry, "REMOTE_S", 0.2)

    async def act() -> None:
        async with scene(company, tmp_path) as made:
            plug = Plug(made._office_port, 0)
            await plug.open()
            office_port, made._office_port = made._office_port, plug.port
            try:
                await made.restart()
                await made.sign_in()
                await take_mine(made)
                customer = buyer(made)
                order = await written(made, customer)
                await order.save()
                draft = await begin(made, customer)
                await until(lambda: not made.replica.pending())
                monkeypatch.setattr(desk, "PROBE_S", 3600.0)  # nobody has noticed yet
                await plug.switch(Mode("black_hole"))
                async with asyncio.timeout(PATIENCE_S):
                    await pages(made, customer.code, (draft.path, f"/pedidos/{order.id}"))
                    asked = await made.get(f"/clientes/{customer.code}/financeiro", htmx=True)
                assert made.desk.connected
                assert "no answer just now" in asked.text
            finally:
                await plug.switch(Mode("through"))
                made._office_port = office_port
                await made.stop()
                await plug.close()

    asyncio.run(act())


async def pages(made: Scene, customer: str, more: tuple[str, ...]) -> None:
    """Visits every page that a reader can open, with what each asks for by itself but the figures of the head office."""
    steps = [f"/offline/configurar/{r}/{s}" for r in ("clientes", "prospects", "produtos")
             for s in ("rapido", "avancado", "registros", "revisar")]  # fmt: skip
    for path in ("/entrar", "/inicio", "/clientes", f"/clientes/{customer}", "/pedidos", "/sincronia", "/pendencias", "/offline",
                 "/offline/baixando", "/ajustes", "/mais", "/ajuda/offline", "/sair", *steps, *more):  # fmt: skip
        answer = await made.get(path)
        assert answer.status == 200, path
        assert answer.url == path
    found = await made.get(f"{more[0]}/produtos?q=a", htmx=True)
    assert found.status == 200
