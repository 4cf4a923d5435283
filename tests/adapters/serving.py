"""Both servers on real sockets, and a front before them that passes whole messages on, or does harm."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, contextmanager, suppress
from typing import Any, TypeVar

import uvicorn
from aiohttp import web
from starlette.applications import Starlette
from starlette.routing import Mount

from offlinekit.testing.transports import CLAIMS, IDENTITY, RETRY_AFTER_S, Fault
from offlinekit.transport.memory import Serves
from offlinekit_adapters.aiohttp_server import sync_routes
from offlinekit_adapters.asgi import sync_app
from offlinekit_adapters.http import HTTP

T = TypeVar("T")
SECRET = "secret-of-rep-17"
OURS = "Content-Type: application/vnd.offlinekit\r\n"
HTML = "<html>Welcome to the Grand Hotel</html>"
Login = Callable[[Any], Any]
Serving = Callable[[Serves, Login, int], AbstractAsyncContextManager[tuple[int, str]]]


def answer(status: str, headers: str = "", body: str | bytes = b"") -> bytes:
    """The bytes of a response of this length."""
    body = body.encode() if isinstance(body, str) else body
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


CANNED: dict[Fault, bytes] = {
    "cut": f"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n{OURS}\r\n".encode() + bytes(500),
    "portal": answer("200 OK", "Content-Type: text/html\r\n", HTML),
    "redirect": answer("302 Found", "Location: /elsewhere/exchange\r\n" + OURS),
    "busy": answer("503 Service Unavailable", f"Retry-After: {RETRY_AFTER_S:.0f}\r\n"),
    "refused": answer("413 Content Too Large"),
}


class House:
    """An event loop in a thread of its own, so that servers outlive the loops of the tests."""

    def __enter__(self) -> House:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._empty())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs it there and returns its result."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    async def _empty(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def read_message(reader: asyncio.StreamReader) -> bytes:
    """One request or response with its Content-Length; nothing when the peer is gone."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        return head + await reader.readexactly(int(length[1]) if length else 0)
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


class Front:
    """Listens on a port of its own; every request is passed on, answered with `canned` bytes, or harmed."""

    def __init__(self, backend: int = 0) -> None:
        self.backend, self.port = backend, 0
        self.fault: Fault | None = None
        self.canned, self.blurts = b"", False
        self.requests: list[bytes] = []
        self.sent = 0
        self.clients: set[asyncio.Task[None]] = set()
        self.repaired = asyncio.Event()

    async def open(self) -> None:
        """Listens, on the same port as before."""
        self.server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, limit=1 << 16)
        self.port = self.server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Hangs up on everybody."""
        self.server.close()
        for task in list(self.clients):
            task.cancel()
        await asyncio.gather(*self.clients, return_exceptions=True)

    async def become(self, fault: Fault | None) -> None:
        """Does this harm from now on, or none."""
        if "gone" in (fault, self.fault) and fault != self.fault:
            self.server.close() if fault == "gone" else await self.open()
        self.fault = fault
        if fault is None:
            self.repaired.set()
            self.repaired = asyncio.Event()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self.clients.add(task)
        task.add_done_callback(self.clients.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError), closing(writer):
            if self.blurts:  # without waiting for a request
                writer.write(self.canned)
                await writer.drain()
            while request := await read_message(reader):
                self.requests.append(request)
                if self.canned or self.fault not in (None, "unauthenticated"):
                    await self._harm(writer)
                    if self.fault in CANNED and self.fault != "cut":
                        continue
                    break
                their_reader, their_writer = await asyncio.open_connection("127.0.0.1", self.backend)
                their_writer.write(request)
                writer.write(await read_message(their_reader))
                their_writer.close()
                await writer.drain()

    async def _harm(self, writer: asyncio.StreamWriter) -> None:
        if self.fault == "gone":
            writer.transport.abort()
        elif self.fault == "slow":
            await self.repaired.wait()
        elif self.fault == "endless":
            writer.write(f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{OURS}\r\n".encode())
            while True:  # until the other side has had enough
                writer.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
                await writer.drain()
                self.sent += 0x10000
        else:
            writer.write(self.canned or CANNED[self.fault or "portal"])
            await writer.drain()


@contextmanager
def front(canned: bytes) -> Iterator[Front]:
    """A front with nothing behind it."""
    with House() as house:
        made = house.run(_made())
        made.canned = canned
        yield made
        house.run(made.close())


async def _made(backend: int = 0) -> Front:
    made = Front(backend)
    await made.open()
    return made


# -- the servers; each yields its port and the path where it is found


@asynccontextmanager
async def on_aiohttp(authority: Serves, login: Login, threads: int) -> AsyncIterator[tuple[int, str]]:
    """Routes of an aiohttp application."""
    app = web.Application()
    app.add_routes(sync_routes(authority, authenticate=login, path="/api/sync", threads=threads))
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1], "/api/sync"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _on_uvicorn(app: Any) -> AsyncIterator[int]:
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1, ws="none"))
    running = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        await running


@asynccontextmanager
async def on_asgi(authority: Serves, login: Login, threads: int) -> AsyncIterator[tuple[int, str]]:
    """An ASGI application by itself."""
    async with _on_uvicorn(sync_app(authority, authenticate=login, threads=threads)) as port:
        yield port, ""


@asynccontextmanager
async def on_starlette(authority: Serves, login: Login, threads: int) -> AsyncIterator[tuple[int, str]]:
    """An ASGI application that is mounted, twice, so that it has a root path."""
    inner = Starlette(routes=[Mount("/sync", sync_app(authority, authenticate=login, threads=threads))])
    async with _on_uvicorn(Starlette(routes=[Mount("/api", inner)])) as port:
        yield port, "/api/sync"


SERVERS: list[Serving] = [on_aiohttp, on_asgi, on_starlette]


class Wire:
    """An HTTP transport, a front, and a server behind it."""

    def __init__(self, house: House, front_: Front, path: str, patience_s: float) -> None:
        self.house, self.front, self.path = house, front_, path
        self.transport = HTTP(f"http://127.0.0.1:{front_.port}{path}", bearer=self._token, connect=patience_s,
                              answer=patience_s, read=patience_s)  # fmt: skip

    def _token(self) -> str:
        return "somebody else" if self.front.fault == "unauthenticated" else SECRET

    def fail(self, fault: Fault) -> None:
        self.house.run(self.front.become(fault))

    def repair(self) -> None:
        self.house.run(self.front.become(None))


def current_user(request: Any) -> tuple[str, Mapping[str, Any]] | None:
    """A login that works on both servers."""
    return (IDENTITY, CLAIMS) if request.headers.get("Authorization") == f"Bearer {SECRET}" else None


async def current_user_later(request: Any) -> tuple[str, Mapping[str, Any]] | None:
    """The same for those who have to wait."""
    await asyncio.sleep(0)
    return current_user(request)


@contextmanager
def wired(serving: Serving, authority: Serves, *, login: Login = current_user, threads: int = 4,
          patience_s: float = 30.0) -> Iterator[Wire]:  # fmt: skip
    """Server, front and transport."""
    with House() as house:
        server = serving(authority, login, threads)
        port, path = house.run(server.__aenter__())
        made = house.run(_made(port))
        wire = Wire(house, made, path, patience_s)
        try:
            yield wire
        finally:
            house.run(made.close())
            house.run(server.__aexit__(None, None, None))
