"""offlinekit as routes of an aiohttp application."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from offlinekit.exceptions import RecordNotFound
from offlinekit.protocol.codec import CONTENT_TYPE, WIRE_MAX
from offlinekit.transport.memory import Serves

try:
    from aiohttp import web
except ImportError as error:
    raise ImportError('offlinekit_adapters.aiohttp_server needs aiohttp: pip install "offlinekit[aiohttp]"') from error

__all__ = ["Authenticate", "sync_routes"]

Verified = tuple[str, Mapping[str, Any]] | None
Authenticate = Callable[[web.Request], Verified | Awaitable[Verified]]


def sync_routes(authority: Serves, *, authenticate: Authenticate, path: str = "/sync", threads: int = 4) -> list[web.RouteDef]:
    """Routes for `app.add_routes`. `authenticate(request)` returns (identity, claims), or None for 401.

    The authority works in `threads` threads, so that the event loop is never blocked; an `authenticate` that has to wait
    is async.
    """
    pool = ThreadPoolExecutor(threads, "offlinekit-authority")

    async def verified(request: web.Request) -> tuple[str, Mapping[str, Any]]:
        found = authenticate(request)
        who = await found if inspect.isawaitable(found) else found
        if who is None:
            raise web.HTTPUnauthorized(text="sign in again")
        return who

    async def exchange(request: web.Request) -> web.Response:
        identity, claims = await verified(request)
        body, size = bytearray(), request.content_length or 0
        try:
            while size <= WIRE_MAX and (part := await request.content.readany()):
                body += part
                size = max(size, len(body))
        except ConnectionError:
            raise web.HTTPBadRequest from None  # nobody is there to be answered
        if size > WIRE_MAX:
            raise web.HTTPRequestEntityTooLarge(WIRE_MAX, size)
        answer = await asyncio.get_running_loop().run_in_executor(pool, authority.handle, bytes(body), identity, claims)
        return web.Response(body=answer, content_type=CONTENT_TYPE)

    async def fetch(request: web.Request) -> web.Response:
        identity, _ = await verified(request)
        name, offset = request.match_info["name"], request.query.get("offset", "0")
        at = int(offset) if offset.isdecimal() and len(offset) < 19 else -1  # which no file has
        try:
            part = await asyncio.get_running_loop().run_in_executor(pool, authority.fetch, name, at, identity)
        except RecordNotFound:
            return web.Response(status=404, content_type=CONTENT_TYPE)
        return web.Response(body=part, content_type=CONTENT_TYPE)

    return [web.post(path + "/exchange", exchange), web.get(path + "/files/{name}", fetch)]
