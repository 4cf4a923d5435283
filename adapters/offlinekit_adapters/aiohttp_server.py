"""offlinekit as routes of an aiohttp application."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from offlinekit.authority import Authority
from offlinekit.exceptions import RecordNotFound
from offlinekit.protocol.codec import CONTENT_TYPE, WIRE_MAX

try:
    from aiohttp import web
except ImportError as error:  # pragma: no cover
    raise ImportError('offlinekit_adapters.aiohttp_server needs aiohttp: pip install "offlinekit[aiohttp]"') from error

__all__ = ["sync_routes"]

Verified = tuple[str, Mapping[str, Any]] | None
Authenticate = Callable[[web.Request], Verified | Awaitable[Verified]]


def sync_routes(authority: Authority, *, authenticate: Authenticate, path: str = "/sync", threads: int = 4) -> list[web.RouteDef]:
    """Routes for `app.add_routes`. `authenticate(request)` returns (identity, claims), or None for 401.

    The authority works in `threads` threads, so that the event loop is never blocked.
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
        body = bytearray()
        async for part in request.content.iter_any():
            body += part
            if len(body) > WIRE_MAX:
                raise web.HTTPRequestEntityTooLarge(WIRE_MAX, len(body))
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(pool, authority.handle, bytes(body), identity, claims)
        return web.Response(body=answer, content_type=CONTENT_TYPE)

    async def fetch(request: web.Request) -> web.Response:
        identity, _ = await verified(request)
        offset = request.query.get("offset", "0")
        try:
            loop = asyncio.get_running_loop()
            part = await loop.run_in_executor(
                pool, authority.fetch, request.match_info["name"], int(offset) if offset.isdecimal() else -1, identity
            )
        except RecordNotFound:
            return web.Response(status=404, content_type=CONTENT_TYPE)
        return web.Response(body=part, content_type=CONTENT_TYPE)

    return [web.post(path + "/exchange", exchange), web.get(path + "/files/{name}", fetch)]
