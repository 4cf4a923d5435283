"""HTTP keeps the contract of transports against both servers, and trusts nothing that answers; sockets are real throughout."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import subprocess
import sys
import threading
from typing import Any

import pytest

from offlinekit.exceptions import (
    AuthenticationRequired,
    NotTheAuthority,
    Offline,
    OfflinekitError,
    ProtocolError,
    TooLarge,
    TransportError,
)
from offlinekit.protocol.codec import WIRE_MAX
from offlinekit.testing import ScriptedAuthority, TransportContract
from offlinekit.testing.transports import CORE, FILE, raises
from offlinekit.transport.port import PART_MAX
from offlinekit_adapters.http import HTTP, RETRY_AFTER_S_MAX
from tests.adapters.serving import (
    CANNED,
    HTML,
    OURS,
    SECRET,
    SERVERS,
    Serving,
    answer,
    current_user_later,
    front,
    on_aiohttp,
    on_asgi,
    on_starlette,
    wired,
)


class _Contract(TransportContract):
    faults = frozenset((*CANNED, "unauthenticated", "gone", "slow", "endless", "oversized"))
    serving: Serving

    def meet(self, authority: ScriptedAuthority, *, patience_s: float) -> Any:
        return wired(type(self).serving, authority, patience_s=patience_s)


class TestAgainstAiohttp(_Contract):
    serving = staticmethod(on_aiohttp)


class TestAgainstASGI(_Contract):
    serving = staticmethod(on_asgi)


class TestAgainstStarlette(_Contract):
    serving = staticmethod(on_starlette)
    faults = CORE  # the others are the front's, whatever stands behind it


# -- what else may answer

EMPTY = "Content-Length: 0\r\n\r\n"
DATES = "Date: Tue, 24 Nov 2026 10:00:00 GMT\r\nRetry-After: Tue, 24 Nov 2026 10:00:30 GMT\r\n"


@pytest.mark.parametrize(
    ("canned", "error", "says"),
    [
        (answer("200 OK", "Content-Type: text/plain\r\n", b"OK1\0"), NotTheAuthority, "200 text/plain"),
        (answer("200 OK", body=b"OK1\0"), NotTheAuthority, "captive portal"),
        (answer("200 OK", OURS + "Content-Encoding: gzip\r\n", b"\x1f\x8b"), NotTheAuthority, "200"),
        (answer("204 No Content", OURS), NotTheAuthority, "204"),
        (answer("307 Temporary Redirect", "Location: /api/sync/\r\n" + OURS), NotTheAuthority, "307"),
        (answer("403 Forbidden", OURS), NotTheAuthority, "403"),
        (answer("404 Not Found", "Content-Type: text/html\r\n", HTML), NotTheAuthority, "wrong address"),
        (answer("407 Proxy Authentication Required"), NotTheAuthority, "407"),
        (answer("500 Internal Server Error", OURS), NotTheAuthority, "500"),
        (answer("511 Network Authentication Required", "", HTML), NotTheAuthority, "511"),
        (b"220 mail.example ESMTP\r\n\r\n", NotTheAuthority, "not the authority"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", Offline, "did not answer"),
        (b"", Offline, "did not answer"),
        (f"HTTP/1.1 200 OK\r\n{OURS}Content-Length: {WIRE_MAX + 1}\r\n\r\n".encode(), TooLarge, "bytes"),
    ],
)  # fmt: skip
def test_answer_of_somebody_else_is_refused(canned: bytes, error: type[OfflinekitError], says: str):
    for fetching in (False, True):
        told = met(canned, error, fetching=fetching)
        assert says in str(told)


def met(canned: bytes, error: type[OfflinekitError], *, fetching: bool = False) -> Any:
    """The error that a transport raises when this answers, though it has the patience of a minute."""
    with front(canned) as there:
        there.fault = None if canned else "gone"
        transport = HTTP(f"http://127.0.0.1:{there.port}")

        async def use() -> Any:
            try:
                return await raises(error, transport.fetch(FILE, 0) if fetching else transport.exchange(b"hello"))
            finally:
                await transport.close()

        told = asyncio.run(use())
    assert type(told) is error
    return told


def test_file_that_the_authority_does_not_know_is_no_fault_of_the_line():
    assert str(met(answer("404 Not Found", OURS), ProtocolError, fetching=True)) == "the file has expired; ask again"
    met(answer("404 Not Found", OURS), NotTheAuthority)


@pytest.mark.parametrize(
    ("status", "headers", "wait_s"),
    [
        ("429 Too Many Requests", "Retry-After: 120\r\n", 120.0),
        ("503 Service Unavailable", DATES, 30.0),
        ("503 Service Unavailable", "Retry-After: Tue, 24 Nov 1998 10:00:00 GMT\r\n", 0.0),
        ("503 Service Unavailable", "Retry-After: " + "9" * 400 + "\r\n", RETRY_AFTER_S_MAX),
        ("503 Service Unavailable", "Retry-After: Tue, 24 Nov 9998 10:00:00 GMT\r\n", RETRY_AFTER_S_MAX),
        ("503 Service Unavailable", "Retry-After: \u00b2\r\n", None),
        ("503 Service Unavailable", "Retry-After: -1\r\n", None),
        ("503 Service Unavailable", "", None),
    ],
)
def test_patience_asked_for_is_told_and_bounded(status: str, headers: str, wait_s: float | None):
    assert met(answer(status, headers), TransportError).retry_after_s == wait_s


def test_endless_answer_is_read_no_further_than_the_limit():
    with front(b"") as there:
        there.fault = "endless"
        transport = HTTP(f"http://127.0.0.1:{there.port}")

        async def use() -> None:
            await raises(TooLarge, transport.fetch(FILE, 0))
            await transport.close()

        asyncio.run(use())
        assert PART_MAX < there.sent < WIRE_MAX, "what lies in the buffers of two sockets is more than a chunk and far from 8 MB"


def test_request_over_the_limit_is_not_even_begun():
    with front(CANNED["portal"]) as there:
        transport = HTTP(f"http://127.0.0.1:{there.port}")
        asyncio.run(raises(TooLarge, transport.exchange(bytes(WIRE_MAX + 1))))
        assert there.requests == []


def test_plain_answer_to_a_secure_request_is_not_the_authority():
    with front(CANNED["portal"]) as there:
        there.blurts = True
        transport = HTTP(f"https://127.0.0.1:{there.port}")

        async def use() -> None:
            await raises(NotTheAuthority, transport.exchange(b"hello"))
            await transport.close()

        asyncio.run(use())


# -- credentials and addresses


def test_token_is_asked_for_before_each_request_and_never_told(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    tokens = iter([f"{SECRET}-{n}\n" for n in range(4)])

    async def later() -> str:
        return next(tokens)

    with front(b"") as there:
        there.fault = "portal"

        async def use() -> None:
            for bearer in (lambda: next(tokens), later):
                transport = HTTP(f"http://127.0.0.1:{there.port}", bearer=bearer, headers={"X-Device": "7"})
                for _ in range(2):
                    error = await raises(NotTheAuthority, transport.exchange(b"hello"))
                    assert SECRET not in f"{error!r} {error.__cause__!r} {transport!r}"
                await transport.close()

        asyncio.run(use(), debug=True)
        sent = [re.search(rb"Authorization: Bearer (\S+)\r\n", request) for request in there.requests]
        assert [s and s[1].decode() for s in sent] == [f"{SECRET}-{n}" for n in range(4)]
        assert all(b"X-Device: 7\r\n" in r and b"Accept-Encoding: identity\r\n" in r for r in there.requests)
    assert SECRET not in caplog.text


@pytest.mark.parametrize("token", ["", " \n", "two\r\nlines", "caf\u00e9", "nul\0"])
def test_token_that_no_header_can_hold_asks_for_another(token: str):
    with front(CANNED["portal"]) as there:
        transport = HTTP(f"http://127.0.0.1:{there.port}", bearer=token)
        told = asyncio.run(raises(AuthenticationRequired, transport.exchange(b"hello")))
        assert not token.strip() or token not in str(told)
        assert there.requests == []


@pytest.mark.parametrize("url", ["authority", "ftp://a/sync", "http://", "http://a/s?x=1", "http://me:word@a/sync"])
def test_address_that_cannot_be_one_is_refused_at_once(url: str):
    with pytest.raises(ValueError, match="http") as told:
        HTTP(url)
    assert "word" not in str(told.value)


@pytest.mark.parametrize("module", ["http", "aiohttp_server"])
def test_missing_aiohttp_is_named_with_the_command_that_installs_it(module: str):
    program = f"import sys; sys.modules['aiohttp'] = None\nimport offlinekit_adapters.{module}"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert 'pip install "offlinekit[aiohttp]"' in run.stderr.splitlines()[-1]


def test_asgi_adapter_imports_no_framework():
    program = "import sys, offlinekit_adapters.asgi; print({'aiohttp', 'starlette', 'uvicorn'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.strip() == "set()"


# -- the servers


def talk(port: int, request: bytes) -> bytes:
    """Sends bytes to a server as they are, and returns the head of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as line:
        line.sendall(request)
        return line.makefile("rb").readline()


def head(verb: str, path: str, headers: str = "") -> bytes:
    """The head of a request by the user."""
    return f"{verb} {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {SECRET}\r\n{headers}\r\n".encode()


@pytest.mark.parametrize("serving", SERVERS)
def test_login_may_wait_and_what_is_not_served_is_not_found(serving: Serving):
    far = ScriptedAuthority()
    with wired(serving, far, login=current_user_later) as wire:
        asyncio.run(_used(wire.transport))
        port, path = wire.front.backend, wire.path
        for verb, place in [("GET", "/exchange"), ("POST", "/other"), ("POST", f"/files/{FILE}"), ("GET", "/files/a/b")]:
            assert talk(port, head(verb, path + place, EMPTY[:-2])).split()[1] in (b"404", b"405"), (verb, place)
        for offset in ("-1", "x", "9" * 5000, "1" * 30):
            assert talk(port, head("GET", f"{path}/files/{FILE}?offset={offset}")).split()[1] == b"404"
        assert talk(port, head("GET", f"{path}/files/{FILE}").replace(b"Bearer", b"Basic")).split()[1] == b"401"


async def _used(transport: HTTP) -> None:
    assert await transport.exchange(b"hello") == b"answer to hello"
    await transport.close()


@pytest.mark.parametrize("serving", SERVERS)
def test_request_over_the_limit_never_reaches_the_authority(serving: Serving):
    far = ScriptedAuthority()
    with wired(serving, far) as wire:
        chunks = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
        request = head("POST", f"{wire.path}/exchange", "Transfer-Encoding: chunked\r\n") + chunks * 8 + b"1\r\n"
        assert talk(wire.front.backend, request + b"x").split()[1] == b"413"
        asyncio.run(_used(wire.transport))
    assert [body for body, *_ in far.asked] == [b"hello"]


@pytest.mark.parametrize("serving", SERVERS)
def test_device_that_goes_away_in_the_middle_of_a_request_disturbs_nobody(serving: Serving, caplog: pytest.LogCaptureFixture):
    far = ScriptedAuthority()
    with wired(serving, far) as wire:
        for sent in (b"", b"half"):
            with socket.create_connection(("127.0.0.1", wire.front.backend)) as line:
                line.sendall(head("POST", f"{wire.path}/exchange", "Content-Length: 8\r\n") + sent)
        asyncio.run(_used(wire.transport))
    assert [body for body, *_ in far.asked] == [b"hello"]
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("serving", SERVERS)
def test_authority_works_in_so_many_threads_and_the_loop_goes_on(serving: Serving):
    """Two requests are held inside the authority, a third waits for a thread; meanwhile the loop still refuses a stranger."""
    far, free, inside = ScriptedAuthority(), threading.Event(), threading.Semaphore(0)
    running: list[int] = []

    def hold(request: bytes) -> bytes:
        running.append(1)
        inside.release()
        assert free.wait(30)
        most.append(len(running))
        running.pop()
        return request

    most: list[int] = []
    far.answer = hold
    with wired(serving, far, threads=2) as wire:

        async def use() -> None:
            transports = [HTTP(wire.transport.url, bearer=SECRET) for _ in range(3)]
            asking = [asyncio.create_task(t.exchange(b"hello")) for t in transports]
            for _ in range(2):
                assert await asyncio.to_thread(inside.acquire, timeout=30)
            stranger = HTTP(wire.transport.url, bearer="stranger")
            await raises(AuthenticationRequired, stranger.exchange(b"hello"))
            free.set()
            assert await asyncio.gather(*asking) == [b"hello"] * 3
            for transport in (*transports, stranger):
                await transport.close()

        asyncio.run(use())
    assert max(most) == 2
