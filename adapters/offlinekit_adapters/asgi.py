"""offlinekit as an ASGI application, to be mounted in Starlette, FastAPI or any other framework; imports none of them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs

from attrs import frozen

from offlinekit.authority import Authority
from offlinekit.exceptions import RecordNotFound
from offlinekit.protocol.codec import CONTENT_TYPE, WIRE_MAX

__all__ = ["Request", "sync_app"]

Message = MutableMapping[str, Any]
Verified = tuple[str, Mapping[str, Any]] | None


@frozen
class Request:
    """What `authenticate` is given: the headers, by lower-case name, and the ASGI scope."""

    headers: Mapping[str, str]
    scope: Mapping[str, Any]


def sync_app(
    authority: Authority, *, authenticate: Callable[[Request], Verified | Awaitable[Verified]], threads: int = 4
) -> Callable[..., Awaitable[None]]:
    """The application. `authenticate(request)` returns (identity, claims), or None for 401."""
    pool = ThreadPoolExecutor(threads, "offlinekit-authority")

    async def answer(scope: Mapping[str, Any], receive: Callable[[], Awaitable[Message]]) -> tuple[int, bytes]:
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        found = authenticate(Request(headers, scope))
        who = await found if inspect.isawaitable(found) else found
        if who is None:
            return 401, b""
        identity, claims = who
        loop = asyncio.get_running_loop()
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if scope["method"] == "GET" and path.startswith("/files/"):
            offset = parse_qs(scope["query_string"].decode("latin-1")).get("offset", ["0"])[0]
            at = int(offset) if offset.isdecimal() else -1
            try:
                return 200, await loop.run_in_executor(pool, authority.fetch, path[len("/files/") :], at, identity)
            except RecordNotFound:
                return 404, b""
        if scope["method"] != "POST" or path != "/exchange":
            return 404, b""
        body = bytearray()
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > WIRE_MAX:
                return 413, b""
            if message["type"] == "http.disconnect":
                return 400, b""
            more = message.get("more_body", False)
        return 200, await loop.run_in_executor(pool, authority.handle, bytes(body), identity, claims)

    async def app(
        scope: Mapping[str, Any], receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        status, body = await answer(scope, receive)
        headers = [(b"content-type", CONTENT_TYPE.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app
