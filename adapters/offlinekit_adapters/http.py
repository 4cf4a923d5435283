"""A transport over HTTP, on aiohttp's client: POST for an exchange, GET for a part of a file."""

from __future__ import annotations

import asyncio
import inspect
import io
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from offlinekit.exceptions import (
    AuthenticationRequired,
    NotTheAuthority,
    Offline,
    ProtocolError,
    TooLarge,
    TransportError,
)
from offlinekit.protocol.codec import CONTENT_TYPE, WIRE_MAX
from offlinekit.transport import Arrived
from offlinekit.transport.port import PART_MAX

try:
    import aiohttp
except ImportError as error:
    raise ImportError('offlinekit_adapters.http needs aiohttp: pip install "offlinekit[aiohttp]"') from error

__all__ = ["HTTP", "RETRY_AFTER_S_MAX", "Bearer"]

Bearer = str | Callable[[], str | Awaitable[str]]
RETRY_AFTER_S_MAX = 3600.0  # nobody who answers can silence a device for longer
_NAME = re.compile(r"[0-9A-Za-z_-]{1,100}")


class HTTP:
    """The transport to `url`, where the authority's routes are mounted.

    `bearer` is a token, or a function that returns (or awaits) one and is called before each request; it should not wait
    unless it is async. `headers` are sent with every request.

    Time-outs are in seconds: `connect` until a connection stands, `answer` for a whole exchange, `read` for a silence while
    a part of a file is read.
    """

    def __init__(self, url: str, *, bearer: Bearer | None = None, headers: Mapping[str, str] | None = None,
                 connect: float = 10.0, answer: float = 60.0, read: float = 30.0) -> None:  # fmt: skip
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or "@" in parts.netloc:
            raise ValueError("the address of the authority is http(s)://host/path; credentials belong in bearer=")
        self.url = url.rstrip("/")
        self._bearer, self._headers = bearer, dict(headers or {})
        self._exchange = aiohttp.ClientTimeout(total=answer, connect=connect)
        self._fetch = aiohttp.ClientTimeout(total=None, connect=connect, sock_read=read)
        self._opened: AsyncGenerator[aiohttp.ClientSession, None] | None = None
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def exchange(self, request: bytes, arrived: Arrived | None = None) -> bytes:
        """Sends a request and returns the answer."""
        if len(request) > WIRE_MAX:
            raise TooLarge(f"a message of {len(request)} bytes is over the limit of {WIRE_MAX}")
        return await self._call("POST", f"{self.url}/exchange", request, WIRE_MAX, self._exchange, arrived)

    async def fetch(self, name: str, offset: int, arrived: Arrived | None = None) -> bytes:
        """A part of a file."""
        if not _NAME.fullmatch(name):
            raise ProtocolError("that is no name of a file")
        url = f"{self.url}/files/{name}?offset={int(offset)}"
        return await self._call("GET", url, None, PART_MAX, self._fetch, arrived)

    async def close(self) -> None:
        """Closes the connections."""
        opened, self._opened, self._session = self._opened, None, None
        if opened is not None and self._loop is asyncio.get_running_loop():
            await opened.aclose()  # of another loop: that loop closes it, now that nobody holds it

    async def _call(self, verb: str, url: str, body: bytes | None, limit: int, timeout: aiohttp.ClientTimeout,
                    arrived: Arrived | None) -> bytes:  # fmt: skip
        headers = self._headers | {"Accept": CONTENT_TYPE, "Accept-Encoding": "identity"} | await self._credentials()
        data = None
        if body is not None:
            headers["Content-Type"], data = CONTENT_TYPE, io.BytesIO(body)  # which aiohttp sends in pieces
        try:
            session = await self._open()
            async with session.request(verb, url, data=data, headers=headers, allow_redirects=False, timeout=timeout) as response:
                _check(response, verb)
                return await _read(response, limit, arrived)
        except (aiohttp.ClientSSLError, aiohttp.ClientResponseError) as error:
            raise NotTheAuthority(f"{self.url}: what answered is not the authority: {_said(error)}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Offline(f"{self.url} did not answer: {_said(error)}") from error

    async def _credentials(self) -> dict[str, str]:
        if self._bearer is None:
            return {}
        given = self._bearer() if callable(self._bearer) else self._bearer
        token = (await given if inspect.isawaitable(given) else given).strip()  # a file ends with a new line
        if not token or not token.isascii() or not token.isprintable():
            raise AuthenticationRequired("the bearer token is empty or holds what no header can; sign in again")
        return {"Authorization": f"Bearer {token}"}

    async def _open(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._session.closed or self._loop is not loop:
            self._loop, self._opened = loop, _opened()
            self._session = await anext(self._opened)
        return self._session


async def _opened() -> AsyncGenerator[aiohttp.ClientSession, None]:
    """A session as a generator, because event loops close the generators that were begun on them when they end."""
    async with aiohttp.ClientSession(auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session


def _said(error: BaseException) -> str:
    return f"{type(error).__name__} {error}".rstrip()


def _check(response: aiohttp.ClientResponse, verb: str) -> None:
    status = response.status
    if status == 401:
        raise AuthenticationRequired("the authority wants fresh credentials; sign in again")
    if status == 413:
        raise TooLarge("the authority refuses a request of this size")
    if status in (429, 503):
        raise TransportError("the authority asks for patience", retry_after_s=_retry_after(response.headers))
    ours = response.content_type == CONTENT_TYPE and response.headers.get("Content-Encoding", "identity") == "identity"
    if status == 404 and verb == "GET" and ours:
        raise ProtocolError("the file has expired; ask again")
    if status != 200 or not ours:
        raise NotTheAuthority(f"{response.url.origin()} answered {status} {response.content_type}, which is not the authority"
                              " (a captive portal, or a wrong address?)")  # fmt: skip


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds of a Retry-After header, which holds them or a date."""
    after = headers.get("Retry-After", "").strip()
    if after.isascii() and after.isdecimal():
        return min(float(after), RETRY_AFTER_S_MAX)
    try:
        now = parsedate_to_datetime(headers["Date"]).timestamp() if "Date" in headers else time.time()
        return min(max(parsedate_to_datetime(after).timestamp() - now, 0.0), RETRY_AFTER_S_MAX)
    except (ValueError, OverflowError):
        return None


async def _read(response: aiohttp.ClientResponse, limit: int, arrived: Arrived | None) -> bytes:
    """The body, never more than the limit, whatever Content-Length says."""
    parts, whole = [], response.content_length or 0
    size = whole
    if size <= limit:
        size = 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > limit:
                break
            parts.append(part)
            if arrived is not None:
                arrived(size, whole)
    if size > limit:
        raise TooLarge(f"an answer of more than {limit} bytes was cut off")
    return b"".join(parts)
