"""A portal and its head office on real sockets, and a visitor with a cookie: for tests of pages without a browser."""

from __future__ import annotations

import asyncio
import contextlib
import html
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import aiohttp
from aiohttp import web
from attrs import define, field

from offlinekit import Authority, Replica
from offlinekit.testing.pair import MovableClock
from offlinekit_portal import office
from offlinekit_portal.web import app, desk
from tests.portal.trading import PASSWORD, office_from

NOON = 1_795_532_400.0  # of 24 November 2026 in São Paulo
PATIENCE_S = 20.0


@define(repr=False)
class Answer:
    """What a page said."""

    status: int
    html: str
    url: str

    @property
    def text(self) -> str:
        """Its words."""
        bare = re.sub(r"<(script|style)\b.*?</\1>|<[^>]+>", " ", self.html, flags=re.S)
        return re.sub(r"\s+", " ", html.unescape(bare))

    def ticked(self, name: str) -> list[str]:
        """The values of the boxes of that name that are ticked."""
        boxes = re.findall(r"<input\b[^>]*>", self.html)
        ticked = [b for b in boxes if f'name="{name}"' in b and re.search(r"\bchecked\b", b)]
        return re.findall(r'value="([^"]*)"', "".join(ticked))

    def rows(self) -> dict[str, bool]:
        """The records of a list, and whether they are taken."""
        found = re.findall(r'name="row" value="([^"]*)">.*?<input class="check"[^>]*?( checked)?\s+aria-label', self.html, re.S)
        return {key: bool(checked) for key, checked in found}


@define
class Scene:
    """A representative at the portal."""

    authority: Authority
    data: Path
    office_app: Callable[[], web.Application]
    clock: MovableClock
    client: aiohttp.ClientSession
    plug: str | None = None
    desk: desk.Desk = field(init=False)
    url: str = ""
    _office: web.AppRunner | None = None
    _portal: web.AppRunner | None = None
    _office_port: int = 0

    @property
    def replica(self) -> Replica:
        return self.desk.replica

    # -- processes

    async def open_office(self) -> None:
        """The head office answers."""
        self._office = web.AppRunner(self.office_app(), shutdown_timeout=0.1)
        await self._office.setup()
        await web.TCPSite(self._office, "127.0.0.1", self._office_port).start()
        self._office_port = self._office.addresses[0][1]

    async def close_office(self) -> None:
        """Nobody listens there."""
        assert self._office is not None
        await end(self._office)
        self._office = None

    async def cut(self) -> None:
        """The head office is away, and the portal has noticed, its sync as well."""
        await self.close_office()
        link = self.desk._link
        if link is not None:
            link.sync_now()
        await until(lambda: not self.desk.connected and (link is None or link.status.state == "offline"))

    async def mend(self) -> None:
        """It is back, and the portal has noticed."""
        await self.open_office()
        await until(lambda: self.desk.connected)

    async def start(self) -> None:
        """Starts the portal, with whoever was signed in."""
        self.desk = desk.Desk(f"http://127.0.0.1:{self._office_port}", self.data, self.plug)
        self._portal = web.AppRunner(app.create(self.desk), shutdown_timeout=0.1)
        await self._portal.setup()
        port = int(self.url.rsplit(":", 1)[1]) if self.url else 0
        await web.TCPSite(self._portal, "127.0.0.1", port).start()
        self.url = f"http://127.0.0.1:{self._portal.addresses[0][1]}"
        self._set_clock()
        if self._office is not None:
            await until(lambda: self.desk.connected)

    async def stop(self) -> None:
        """Ends the portal."""
        if self._portal is not None:
            await end(self._portal)
            self._portal = None

    async def restart(self) -> None:
        """As when the program is started anew."""
        await self.stop()
        await self.start()

    def _set_clock(self) -> None:
        if self.desk.session is not None:
            self.replica.store.clock = self.clock

    # -- visiting

    async def sign_in(self, user: str = "marina") -> None:
        answer = await self.post("/entrar", ("user", user), ("password", PASSWORD), htmx=False)
        assert answer.url.endswith("/inicio"), answer.text[:400]
        self._set_clock()

    async def get(self, path: str, *, htmx: bool = False) -> Answer:
        async with self.client.get(self.url + path, headers={"HX-Request": "true"} if htmx else {}) as got:
            return Answer(got.status, await got.text(), got.url.path)

    async def post(self, path: str, *values: tuple[str, str], htmx: bool = True) -> Answer:
        headers = {"HX-Request": "true"} if htmx else {}
        async with self.client.post(self.url + path, data=list(values), headers=headers) as got:
            return Answer(got.status, await got.text(), got.headers.get("HX-Redirect", got.url.path))

    async def change(self, schema: str, do: str, *values: tuple[str, str], step: str = "registros") -> Answer:
        """A change in the configurator."""
        return await self.post(f"/offline/configurar/{schema}/{step}", ("do", do), *values)

    async def save(self) -> Answer:
        """Saves what was chosen, and waits until it is here when the head office answers."""
        answer = await self.post("/offline/salvar", htmx=False)
        if self.desk.connected and answer.url == "/offline/baixando":
            await until(self.desk.pulled)
        return answer


async def end(runner: web.AppRunner) -> None:
    """Ends a server. It stops listening first: Python 3.11 loses a connection that it takes while the server closes."""
    with contextlib.suppress(NotImplementedError):  # as on Windows
        for site in runner.sites:
            for listening in site._server.sockets:  # type: ignore[union-attr]
                asyncio.get_running_loop().remove_reader(listening.fileno())
        for _ in range(10):  # rounds of the loop, in which it takes up what had come
            await asyncio.to_thread(int)
    await runner.cleanup()


async def until(condition: Callable[[], bool]) -> None:
    """Until it holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not await asyncio.to_thread(condition):
            pass  # each look is a query in a thread of its own


Act: TypeAlias = "Callable[[Scene], Awaitable[None]]"


@asynccontextmanager
async def scene(template: Path, folder: Path, plug: str | None = None) -> AsyncIterator[Scene]:
    """A scene with nobody signed in."""
    clock = MovableClock(NOON)
    with office_from(template, folder, clock) as authority:
        tokens = office.tokens_of(folder)
        (folder / "portal").mkdir()
        jar = aiohttp.CookieJar(unsafe=True)  # which takes cookies of an address
        async with aiohttp.ClientSession(cookie_jar=jar, headers={"Accept-Language": "en"}) as client:
            made = Scene(authority, folder / "portal", lambda: office.create(authority, tokens), clock, client, plug)
            await made.open_office()
            await made.start()
            try:
                yield made
            finally:
                await made.stop()
                if made._office is not None:
                    await made.close_office()


def play(template: Path, folder: Path, act: Act, plug: str | None = None) -> None:
    """Plays a scene with Marina signed in."""

    async def whole() -> None:
        async with scene(template, folder, plug) as made:
            await made.sign_in()
            await act(made)

    asyncio.run(whole())


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def keys(count: int, first: int = 1) -> Sequence[tuple[str, str]]:
    """So many ticks of records that may not be there."""
    return [("key", f"{n:06}-01") for n in range(first, first + count)]
