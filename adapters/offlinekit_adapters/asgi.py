"""offlinekit as an ASGI application, to be mounted in Starlette, FastAPI or any other framework; imports none of them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs

from attrs import frozen

from offlinekit.exceptions import RecordNotFound
from offlinekit.protocol.codec import CONTENT_TYPE, WIRE_MAX
from offlinekit.transport.memory import Serves

__all__ = ["Application", "Authenticate", "Headers", "Request", "sync_app"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Verified = tuple[str, Mapping[str, Any]] | None


class Headers(Mapping[str, str]):
    """Headers by name, whose case does not matter; of several with one name the first, as aiohttp's requests do."""

    def __init__(self, raw: Any) -> None:
        self._all: dict[str, str] = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in reversed(list(raw))}

    def __getitem__(self, name: str) -> str:
        return self._all[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)


@frozen
class Request:
    """What `authenticate` is given: the headers, and the ASGI scope."""

    headers: Headers
    scope: Mapping[str, Any]


Authenticate = Callable[[Request], Verified | Awaitable[Verified]]
Application = Callable[[Mapping[str, Any], Receive, Send], Awaitable[None]]


def sync_app(authority: Serves, *, authenticate: Authenticate, threads: int = 4) -> Application:
    """The application. `authenticate(request)` returns (identity, claims), or None for 401; if it has to wait, it is async."""
    pool = ThreadPoolExecutor(threads, "offlinekit-authority")

    async def answer(scope: Mapping[str, Any], receive: Receive) -> tuple[int, bytes]:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        found = authenticate(Request(Headers(scope["headers"]), scope))
        who = await found if inspect.isawaitable(found) else found
        if who is None:
            return 401, b""
        loop = asyncio.get_running_loop()
        if scope["method"] == "GET" and path.startswith("/files/"):
            offset = parse_qs(scope["query_string"].decode("latin-1")).get("offset", ["0"])[0]
            at = int(offset) if offset.isdecimal() and len(offset) < 19 else -1  # which no file has
            try:
                return 200, await loop.run_in_executor(pool, authority.fetch, path.removeprefix("/files/"), at, who[0])
            except RecordNotFound:
                return 404, b""
        if scope["method"] != "POST" or path != "/exchange":
            return 404, b""
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return 0, b""  # nobody is there to be answered
            body += message.get("body", b"")
            if len(body) > WIRE_MAX:
                return 413, b""
            more = message.get("more_body", False)
        return 200, await loop.run_in_executor(pool, authority.handle, bytes(body), *who)

    async def app(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            status, body = await answer(scope, receive)
            if status:
                head = [(b"content-type", CONTENT_TYPE.encode()), (b"content-length", str(len(body)).encode())]
                await send({"type": "http.response.start", "status": status, "headers": head})
                await send({"type": "http.response.body", "body": body})
        elif scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await send({"type": "websocket.close"})

    return app
