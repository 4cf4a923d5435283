"""The line between portal and head office: a TCP proxy with a plug that can be pulled in five ways, and a switch for it.

through     everything passes
refuse      nobody listens, and open connections are reset: the line is down
black_hole  connections are taken and what comes is swallowed; no answer ever: the worst kind of "connected"
slow        so many bytes a second in each direction for all connections together, and a delay before each burst
cut         the connection is reset in the middle of the next answer whose body is longer than `after` bytes

The switch is a small HTTP service of its own, on this machine only; `PlugControl` is its client.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

import aiohttp
import msgspec
from aiohttp import web
from attrs import Factory, define
from msgspec import Meta

__all__ = ["Kind", "Mode", "Plug", "PlugControl", "PlugUnreachable", "State", "arguments", "create", "main"]

Kind = Literal["through", "refuse", "black_hole", "slow", "cut"]
HOST = "127.0.0.1"
READ_BYTES = 1 << 16
TICKS_PER_S = 20  # how smoothly a slow line flows
BODY_MAX = 4096
CONTROL_TIMEOUT_S = 5
_END_OF_HEAD = b"\r\n\r\n"


class Mode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the line is; the other fields count for the kinds that need them."""

    kind: Kind = "through"
    bytes_per_s: Annotated[int, Meta(ge=100)] = 32_000  # slow
    latency_s: Annotated[float, Meta(ge=0, le=60)] = 0.4  # slow
    after: Annotated[int, Meta(ge=0)] = 1_000  # cut
    repeat: bool = False  # cut: every such answer, not the next one alone


class State(msgspec.Struct, frozen=True):
    """What the switch tells: the mode, what has passed so far, and how often an answer was cut."""

    mode: Mode
    port: int
    target: int
    up: int
    down: int
    open: int
    cuts: int


class PlugUnreachable(Exception):
    """The switch did not answer, or refused with a `status` of HTTP."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@define
class _Answer:
    """How far the answer on a connection has come; a new one begins with every request."""

    tail: bytes = b""
    body: int = -1  # bytes of the body so far; -1: still in the head

    def take(self, data: bytes) -> None:
        """Counts what comes from the office."""
        if self.body >= 0:
            self.body += len(data)
            return
        self.tail += data
        end = self.tail.find(_END_OF_HEAD)
        if end >= 0:
            self.body = len(self.tail) - end - len(_END_OF_HEAD)
            self.tail = b""
        else:
            self.tail = self.tail[-len(_END_OF_HEAD) :]


@define(eq=False)
class _Connection:
    """One client's connection, and the office's end of it."""

    client: asyncio.StreamWriter
    task: asyncio.Task[None]
    office: asyncio.StreamWriter | None = None
    answer: _Answer = Factory(_Answer)
    swallowed: bool = False

    def reset(self) -> None:
        """Breaks it off: both ends see a reset, as when a line is cut."""
        for writer in (self.client, self.office):
            if writer is not None and not writer.transport.is_closing():
                with contextlib.suppress(OSError):
                    end: Any = writer.get_extra_info("socket")
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()


class Plug:
    """The proxy to a port of this machine; use it inside one event loop."""

    def __init__(self, target: int, port: int = 0) -> None:
        self.target, self.port, self.mode = target, port, Mode()
        self.up = self.down = self.cuts = 0
        self._server: asyncio.Server | None = None
        self._open: set[_Connection] = set()
        self._changed = asyncio.Event()
        self._free = {"up": 0.0, "down": 0.0}  # when a slow line can take the next bytes

    async def open(self) -> None:
        """Listens; on the same port as before."""
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, HOST, self.port, limit=READ_BYTES)
            self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Ends all connections and stops listening."""
        self._stop_listening()
        tasks = [connection.task for connection in self._open]
        for connection in list(self._open):
            connection.reset()
            connection.task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def switch(self, mode: Mode) -> None:
        """Changes the mode; it holds for open connections as well. Raises OSError when the port is somebody else's by now."""
        if mode.kind == "refuse":
            self._stop_listening()
        else:
            await self.open()
        before, self.mode = self.mode, mode
        self._changed.set()
        self._changed = asyncio.Event()
        for connection in list(self._open):
            lost = before.kind == "black_hole" and mode.kind != "black_hole" and connection.swallowed
            if mode.kind == "refuse" or lost:  # who lost bytes cannot go on
                connection.reset()

    @property
    def state(self) -> State:
        """How things are."""
        return State(self.mode, self.port, self.target, self.up, self.down, len(self._open), self.cuts)

    # -- connections

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connection = _Connection(writer, task)
        self._open.add(connection)
        try:
            with contextlib.suppress(OSError):
                await self._carry(reader, connection)
        except asyncio.CancelledError:
            pass  # by close()
        finally:
            self._open.discard(connection)
            connection.reset()

    async def _carry(self, reader: asyncio.StreamReader, connection: _Connection) -> None:
        while self.mode.kind == "black_hole":
            connection.swallowed = True
            if not await reader.read(READ_BYTES):
                return
        answers, connection.office = await asyncio.open_connection(HOST, self.target, limit=READ_BYTES)
        for writer in (connection.client, connection.office):
            writer.transport.set_write_buffer_limits(0)  # so that drain() means sent
        pumps = [
            asyncio.create_task(self._pump(reader, connection.office, connection, "up")),
            asyncio.create_task(self._pump(answers, connection.client, connection, "down")),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        for writer in (connection.client, connection.office):
            writer.close()  # after a proper end, what is written still arrives

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, connection: _Connection,
                    way: Literal["up", "down"]) -> None:  # fmt: skip
        quiet_since = -1e9
        while data := await source.read(self._portion()):
            if self.mode.kind == "slow":
                await self._slow_down(len(data), way, quiet_since)
            if self.mode.kind == "black_hole":
                connection.swallowed = True
                continue
            if way == "up":
                connection.answer = _Answer()
            else:
                connection.answer.take(data)
                if self.mode.kind == "cut" and connection.answer.body > self.mode.after:
                    await self._cut(data, sink, connection)
                    return
            sink.write(data)
            await sink.drain()
            self._count(len(data), way)
            quiet_since = asyncio.get_running_loop().time()

    def _portion(self) -> int:
        return max(1, self.mode.bytes_per_s // TICKS_PER_S) if self.mode.kind == "slow" else READ_BYTES

    def _count(self, size: int, way: Literal["up", "down"]) -> None:
        if way == "up":
            self.up += size
        else:
            self.down += size

    async def _slow_down(self, size: int, way: str, quiet_since: float) -> None:
        """Waits until the line has carried the bytes, or the mode changes."""
        now, mode, changed = asyncio.get_running_loop().time(), self.mode, self._changed
        burst = now - quiet_since > mode.latency_s
        start = max(now + (mode.latency_s if burst else 0.0), self._free[way])
        self._free[way] = start + size / mode.bytes_per_s
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._free[way] - now):
                await changed.wait()
        if self._changed is not changed:
            self._free = {"up": 0.0, "down": 0.0}

    async def _cut(self, data: bytes, sink: asyncio.StreamWriter, connection: _Connection) -> None:
        """Passes the body up to its `after` bytes, and resets the connection."""
        rest = data[: max(0, len(data) - (connection.answer.body - self.mode.after))]
        if rest:
            sink.write(rest)
            await sink.drain()
            self._count(len(rest), "down")
        self.cuts += 1
        if not self.mode.repeat:
            self.mode = Mode()
        connection.reset()


# -- the switch


@web.middleware
async def _guard(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
    """Programs of this machine only: a browser names the page that it speaks for, and the portal is no browser."""
    if request.host.partition(":")[0] not in (HOST, "localhost"):
        raise web.HTTPMisdirectedRequest(text="the switch answers at 127.0.0.1 only")
    if "Origin" in request.headers or request.headers.get("Sec-Fetch-Site", "none") != "none":
        raise web.HTTPForbidden(text="the switch takes nothing from web pages; use the portal's")
    return await handler(request)


def create(plug: Plug) -> web.Application:
    """The switch: `GET /state`, and `POST /mode` with a mode as JSON."""

    def told(status: int = 200) -> web.Response:
        return web.Response(status=status, body=msgspec.json.encode(plug.state), content_type="application/json")

    async def state(request: web.Request) -> web.Response:
        return told()

    async def mode(request: web.Request) -> web.Response:
        try:
            await plug.switch(msgspec.json.decode(await request.read(), type=Mode))
        except msgspec.MsgspecError as error:
            return web.Response(status=400, text=f"no mode: {error}")
        except OSError as error:
            return web.Response(status=409, text=f"port {plug.port} cannot be had again: {error}")
        return told()

    app = web.Application(middlewares=[_guard], client_max_size=BODY_MAX)
    app.add_routes([web.get("/state", state), web.post("/mode", mode)])
    return app


class PlugControl:
    """The switch as the portal uses it. Raises PlugUnreachable, and ValueError for no kind of mode."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    async def state(self) -> State:
        """How things are."""
        return await self._ask("GET", "/state", None)

    async def switch(self, mode: Mode | Kind) -> State:
        """Changes the mode, by name or with its numbers."""
        wanted = msgspec.convert({"kind": mode}, Mode) if isinstance(mode, str) else mode
        return await self._ask("POST", "/mode", msgspec.json.encode(wanted))

    async def _ask(self, verb: str, path: str, body: bytes | None) -> State:
        timeout = aiohttp.ClientTimeout(total=CONTROL_TIMEOUT_S)
        headers = {"Content-Type": "application/json"} if body else {}
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, headers=headers) as client,
                client.request(verb, self._url + path, data=body) as answer,
            ):
                said = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise PlugUnreachable(f"the plug's switch at {self._url} does not answer ({type(error).__name__})") from error
        if answer.status != 200:
            raise PlugUnreachable(f"the plug's switch refused ({answer.status}): {said.decode(errors='replace')[:200]}",
                                  answer.status)  # fmt: skip
        return msgspec.json.decode(said, type=State)


# -- the process


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of `plug`."""
    parser.add_argument("--target", type=int, required=True, help="port of the head office on this machine")
    parser.add_argument("--port", type=int, default=0, help="where the portal connects; 0: any free one")
    parser.add_argument("--control", type=int, default=0, metavar="PORT", help="where the switch is; 0: any free one")


async def _serve(target: int, port: int, control: int) -> None:
    plug = Plug(target, port)
    runner = web.AppRunner(create(plug), access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await plug.open()
        await web.TCPSite(runner, HOST, control).start()
        print(f"plug http://{HOST}:{plug.port}/ control http://{HOST}:{runner.addresses[0][1]}/", flush=True)
        await asyncio.Event().wait()
    finally:
        await plug.close()
        await runner.cleanup()


def main(options: Any) -> int:
    """Serves until interrupted."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(options.target, options.port, options.control))
    return 0
