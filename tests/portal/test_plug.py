"""The plug harms a real HTTP exchange on real sockets in each of its ways, counts what passes, and is switched over HTTP."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from attrs import define

from offlinekit_portal.plug import Mode, Plug, PlugControl, PlugUnreachable, create

BODY = bytes(range(256)) * 800  # about 200 kB
PATIENCE_S = 20


@define
class Scene:
    """A server, the plug before it, and its switch."""

    plug: Plug
    control: PlugControl
    control_url: str
    asked: asyncio.Queue[str]

    def url(self, path: str = "/body") -> str:
        return f"http://127.0.0.1:{self.plug.port}{path}"


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[int]:
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    asked: asyncio.Queue[str] = asyncio.Queue()

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        asked.put_nowait(request.path)
        return web.Response(body=BODY if request.path == "/body" else b"short")

    app = web.Application()
    app.router.add_route("*", "/{any}", answer)
    async with serving(app) as target:
        plug = Plug(target)
        await plug.open()
        try:
            async with serving(create(plug)) as control:
                url = f"http://127.0.0.1:{control}"
                yield Scene(plug, PlugControl(url), url, asked)
        finally:
            await plug.close()


def play(act: Callable[[Scene, aiohttp.ClientSession], Awaitable[None]]) -> None:
    """Runs a scene with one client that keeps its connections open."""

    async def whole() -> None:
        async with asyncio.timeout(PATIENCE_S), scene() as made, aiohttp.ClientSession() as client:
            await act(made, client)

    asyncio.run(whole())


async def body(client: aiohttp.ClientSession, url: str, **options: Any) -> bytes:
    async with client.get(url, **options) as answer:
        return await answer.read()


def test_through_passes_every_byte_and_counts_both_ways() -> None:
    async def act(made: Scene, client: aiohttp.ClientSession) -> None:
        assert await body(client, made.url()) == BODY
        async with client.post(made.url("/post"), data=BODY) as answer:
            assert await answer.read() == b"short"
        state = await made.control.state()
        assert state.mode == Mode("through")
        assert len(BODY) < state.up < len(BODY) + 2000
        assert len(BODY) < state.down < len(BODY) + 2000
        assert (state.open, state.cuts, state.target, state.port) == (1, 0, made.plug.target, made.plug.port)

    play(act)


def test_refuse_resets_what_is_open_and_listens_no_more_until_the_plug_is_back() -> None:
    async def act(made: Scene, client: aiohttp.ClientSession) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", made.plug.port)
        writer.write(b"GET /short HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readuntil(b"short")).startswith(b"HTTP/1.1 200")
        assert (await made.control.switch("refuse")).mode.kind == "refuse"
        with pytest.raises(ConnectionResetError):
            await reader.read()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", made.plug.port)
        writer.close()
        port = made.plug.port
        await made.control.switch("through")
        assert made.plug.port == port
        assert await body(client, made.url()) == BODY

    play(act)


@pytest.mark.slow
def test_black_hole_takes_connections_and_answers_nothing() -> None:
    async def act(made: Scene, client: aiohttp.ClientSession) -> None:
        assert await body(client, made.url("/short")) == b"short"  # its connection stays open
        await made.control.switch("black_hole")
        before = made.plug.state
        for _ in range(2):  # on the open connection, then on a new one
            with pytest.raises(TimeoutError):
                await body(client, made.url("/swallowed"), timeout=aiohttp.ClientTimeout(total=0.2))
        after = made.plug.state
        assert (after.up, after.down) == (before.up, before.down)
        assert made.asked.qsize() == 1, "the request reached the server"
        reader, writer = await asyncio.open_connection("127.0.0.1", made.plug.port)
        writer.write(b"GET /swallowed HTTP/1.1\r\nHost: x\r\n\r\n")
        await writer.drain()
        await made.control.switch("through")
        with pytest.raises(ConnectionResetError):  # its bytes are lost: it cannot go on
            await reader.read()
        writer.close()
        assert await body(client, made.url()) == BODY

    play(act)


@pytest.mark.slow
def test_black_hole_swallows_an_answer_on_its_way() -> None:
    async def act(made: Scene, client: aiohttp.ClientSession) -> None:
        await made.control.switch(Mode("slow", bytes_per_s=len(BODY), latency_s=0))
        async with client.get(made.url()) as answer:
            await answer.content.readexactly(100)
            await made.control.switch("black_hole")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await answer.read()

    play(act)


@pytest.mark.slow
def test_slow_keeps_to_its_bytes_a_second_and_its_delay() -> None:
    async def act(made: Scene, client: aiohttp.ClientSession) -> None:
        await made.control.switch(Mode("slow", bytes_per_s=4 * len(BODY), latency_s=0.1))
        clock = asyncio.get_running_loop().time
        started = clock()
        assert await body(client, made.url()) == BODY
        took = clock() - started
        assert took >= 0.25 + 2 * 0.1, "a quarter of a second to carry it, and a delay each way"

    play(act)


@pytest.mark.slow
def test_a_slow_line_is_shared_by_its_connections() -> None:
    async def act(made: Scene, client: aiohttp.ClientSession) -> None:
        await made.control.switch(Mode("slow", bytes_per_s=4 * len(BODY), latency_s=0))
        clock = asyncio.get_running_loop().time
        started = clock()
        first, second = await asyncio.gather(body(client, made.url()), body(client, made.url()))
        assert first == second == BODY
        assert clock() - started >= 0.5

    play(act)


def test_a_slow_line_that_becomes_fast_makes_nobody_wait_for_what_was_slow() -> None:
    async def act(made: Scene, client: aiohttp.ClientSession) -> None:
        await made.control.switch(Mode("slow", bytes_per_s=100, latency_s=60))
        asked = asyncio.create_task(body(client, made.url()))
        while not made.plug.state.open:
            await asyncio.sleep(0)
        await made.control.switch("through")
        async with asyncio.timeout(PATIENCE_S / 2):
            assert await asked == BODY

    play(act)


@pytest.mark.parametrize("after", [0, 1, 1000, len(BODY) - 1])
def test_cut_breaks_the_next_answer_after_so_many_bytes_and_lets_the_one_after_pass(after: int) -> None:
    async def act(made: Scene, client: aiohttp.ClientSession) -> None:
        await made.control.switch(Mode("cut", after=after))
        async with client.get(made.url()) as answer:
            assert answer.status == 200
            assert await answer.content.readexactly(after) == BODY[:after]
            with pytest.raises(aiohttp.ClientError):
                await answer.content.readexactly(1)
        assert await made.asked.get() == "/body", "the server had done its work"
        state = await made.control.state()
        assert (state.mode.kind, state.cuts) == ("through", 1)
        assert await body(client, made.url()) == BODY

    play(act)


def test_cut_leaves_shorter_answers_alone_and_can_go_on_for_ever() -> None:
    async def act(made: Scene, client: aiohttp.ClientSession) -> None:
        await made.control.switch(Mode("cut", after=5, repeat=True))
        for n in (1, 2):
            assert await body(client, made.url("/short")) == b"short"
            with pytest.raises(aiohttp.ClientError):
                await body(client, made.url())
            assert made.plug.state.cuts == n
        assert made.plug.mode.kind == "cut"

    play(act)


def test_a_server_that_is_gone_is_a_reset_connection() -> None:
    async def whole() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            plug = Plug(taken.getsockname()[1])
        await plug.open()
        reader, writer = await asyncio.open_connection("127.0.0.1", plug.port)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        await plug.close()

    asyncio.run(whole())


# -- the switch


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b'{"kind": "sideways"}', 400),
        (b'{"kind": "slow", "bytes_per_s": 0}', 400),
        (b'{"kind": "cut", "after": -1}', 400),
        (b'{"kind": "through", "typo": 1}', 400),
        (b"[" * 10_000, 413),
        (b"", 400),
    ],
)
def test_the_switch_refuses_what_is_no_mode(said: bytes, status: int) -> None:
    async def act(made: Scene, client: aiohttp.ClientSession) -> None:
        async with client.post(f"{made.control_url}/mode", data=said) as answer:
            assert answer.status == status, await answer.text()
        assert made.plug.mode == Mode()

    play(act)


@pytest.mark.parametrize("headers", [{"Origin": "http://a.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Host": "a.example"}])
def test_the_switch_takes_nothing_from_web_pages(headers: dict[str, str]) -> None:
    async def act(made: Scene, client: aiohttp.ClientSession) -> None:
        async with client.post(f"{made.control_url}/mode", data=b'{"kind": "refuse"}', headers=headers) as answer:
            assert answer.status in (403, 421)
        assert made.plug.mode == Mode()

    play(act)


def test_a_port_that_somebody_else_took_is_said() -> None:
    async def act(made: Scene, client: aiohttp.ClientSession) -> None:
        await made.control.switch("refuse")
        with socket.socket() as other:
            other.bind(("127.0.0.1", made.plug.port))
            other.listen()
            with pytest.raises(PlugUnreachable, match="cannot be had again"):
                await made.control.switch("through")
        assert made.plug.mode.kind == "refuse"

    play(act)


def test_a_switch_that_is_not_there_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(PlugUnreachable, match="does not answer"):
        asyncio.run(PlugControl(url).state())
    with pytest.raises(ValueError, match="sideways"):
        asyncio.run(PlugControl(url).switch("sideways"))  # type: ignore[arg-type]
