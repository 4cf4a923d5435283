"""A transport over HTTP, on aiohttp's client: POST for an exchange, GET for a part of a file."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from urllib.parse import quote

from offlinekit.authority.files import CHUNK
from offlinekit.exceptions import (
    AuthenticationRequired,
    NotTheAuthority,
    Offline,
    ProtocolError,
    TooLarge,
    TransportError,
)
from offlinekit.protocol.codec import CONTENT_TYPE, WIRE_MAX

try:
    import aiohttp
except ImportError as error:  # pragma: no cover
    raise ImportError('offlinekit_adapters.http needs aiohttp: pip install "offlinekit[aiohttp]"') from error

__all__ = ["HTTP"]

Bearer = str | Callable[[], str | Awaitable[str]]


class HTTP:
    """The transport to `url`, where the authority's routes are mounted.

    `bearer` is a token, or a function that returns (or awaits) one and is called each time.

    Time-outs are in seconds: `connect` for the connection, `answer` for a whole exchange or part of a file.
    """

    def __init__(self, url: str, *, bearer: Bearer | None = None, connect: float = 10.0, answer: float = 60.0) -> None:
        self.url = url.rstrip("/")
        self._bearer = bearer
        self._timeout = aiohttp.ClientTimeout(total=answer, sock_connect=connect)
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def exchange(self, request: bytes) -> bytes:
        """Sends a request and returns the answer."""
        return await self._call("POST", f"{self.url}/exchange", request, WIRE_MAX)

    async def fetch(self, name: str, offset: int) -> bytes:
        """A part of a file."""
        return await self._call("GET", f"{self.url}/files/{quote(name, safe='')}?offset={int(offset)}", None, CHUNK)

    async def close(self) -> None:
        """Closes the connections."""
        session, self._session = self._session, None
        if session is not None and self._loop is asyncio.get_running_loop():
            await session.close()

    async def _call(self, verb: str, url: str, body: bytes | None, limit: int) -> bytes:
        headers = {"Content-Type": CONTENT_TYPE, "Accept": CONTENT_TYPE, "Accept-Encoding": "identity"}
        if self._bearer is not None:
            token = self._bearer() if callable(self._bearer) else self._bearer
            headers["Authorization"] = f"Bearer {await token if inspect.isawaitable(token) else token}"
        try:
            session = self._open()
            async with session.request(verb, url, data=body, headers=headers, allow_redirects=False) as response:
                self._check(response, verb)
                return await _read(response, limit)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Offline(f"{self.url} did not answer: {type(error).__name__} {error}".rstrip()) from error

    def _open(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._session.closed or self._loop is not loop:
            self._loop = loop
            self._session = aiohttp.ClientSession(timeout=self._timeout, auto_decompress=False)
        return self._session

    def _check(self, response: aiohttp.ClientResponse, verb: str) -> None:
        status = response.status
        if status == 401:
            raise AuthenticationRequired("the authority wants fresh credentials; sign in again")
        if status == 413:
            raise TooLarge("the authority refuses a request of this size")
        if status in (429, 503):
            after = response.headers.get("Retry-After", "")
            raise TransportError("the authority asks for patience", retry_after_s=float(after) if after.isdigit() else None)
        if status == 404 and verb == "GET" and response.content_type == CONTENT_TYPE:
            raise ProtocolError("the file has expired; ask again")
        if status != 200 or response.content_type != CONTENT_TYPE:
            raise NotTheAuthority(f"{self.url} answered {status} {response.content_type}, which is not the authority"
                                  " (a captive portal, or a wrong address?)")  # fmt: skip


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body, never more than the limit, whatever Content-Length says."""
    parts, size = [], 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > limit:
            raise TooLarge(f"an answer of more than {limit} bytes was cut off")
        parts.append(part)
    return b"".join(parts)
