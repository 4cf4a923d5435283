"""Bodies that are more than they seem: a request that unpacks without end is refused before it takes memory."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest

from offlinekit.testing.transports import ScriptedAuthority
from tests.adapters.serving import SERVERS, Serving, wired
from tests.adapters.test_http import head, talk

BOMB_BYTES = 64 << 20


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("serving", SERVERS, ids=lambda serving: serving.__name__)
def test_a_compressed_request_unpacks_no_further_than_the_limit(serving: Serving, encoding: str) -> None:
    squeeze = gzip.compress if encoding == "gzip" else zlib.compress
    bomb, far = squeeze(bytes(BOMB_BYTES)), ScriptedAuthority()
    with wired(serving, far) as wire:
        headers = f"Content-Encoding: {encoding}\r\nContent-Length: {len(bomb)}\r\n"
        tracemalloc.start()
        try:
            answer = talk(wire.front.backend, head("POST", f"{wire.path}/exchange", headers) + bomb)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 32 << 20
    assert BOMB_BYTES not in [len(body) for body, *_ in far.asked]
    assert answer.split()[1] in (b"200", b"400", b"413")
