"""What stands in a file that crosses the wire, read without the code that writes and applies it."""

from __future__ import annotations

from collections.abc import Iterator
from struct import unpack_from
from typing import Any

import apsw

from offlinekit.compress import decompress

__all__ = ["databases", "rows_in", "whole"]


def databases(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Each database in a file, with the name of its collection: small ones of some records, and images."""
    at, images = 0, dict[str, bytes]()
    while True:
        form, name, _, raw, packed = unpack_from(">BHIII", data, at + 16)
        start = at + 31 + name
        if form == 0:
            break
        collection, content = data[at + 31 : start].decode(), decompress(data[start : start + packed], raw)
        if form == 1:
            yield collection, content
        else:
            images[collection] = images.get(collection, b"") + content
        at = start + packed
    assert at + 31 == len(data), "a file goes on behind its end"
    yield from images.items()


def rows_in(data: bytes) -> dict[str, list[tuple[Any, ...]]]:
    """(ordinal, field, …) of the records in a file, by collection."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for collection, content in databases(data):
        db = apsw.Connection(":memory:")
        db.deserialize("main", content)
        found.setdefault(collection, []).extend(db.execute(f'SELECT * FROM "{collection}"'))
        db.close()
    return found


def whole(fetch: Any, name: str, identity: str) -> bytes:
    """All of a file that an authority serves."""
    data: bytes = b""
    while part := fetch(name, len(data), identity):
        data += part
    return data
