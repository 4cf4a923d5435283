"""Tokens: what a group's views and cursor are the answer to, signed by the authority.

The MAC covers cursor, the time that bounds were cut at, selection, projection, and for each collection the hash of its resolved
filter and the digest of its view. Only a token that verifies vouches for a view; a view without one is used for one answer
and enters no cache.
"""

from __future__ import annotations

import hmac
from typing import Any

import msgspec
from attrs import frozen

__all__ = ["Token", "open_token", "seal"]

_MAC = 16


@frozen
class Token:
    """The content of a token; `parts` maps collections to (hash of the resolved filter, digest of the view)."""

    cursor: bytes
    time: float
    selection: bytes
    projection: bytes
    parts: dict[str, tuple[bytes, bytes]]


_Plain = tuple[bytes, float, bytes, bytes, dict[str, tuple[bytes, bytes]]]
_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(_Plain)


def seal(token: Token, secret: bytes) -> bytes:
    """The token as signed bytes."""
    plain = (token.cursor, token.time, token.selection, token.projection, dict(sorted(token.parts.items())))
    data = msgspec.msgpack.encode(plain)
    return data + hmac.digest(secret, data, "sha256")[:_MAC]


def open_token(data: bytes, secret: bytes) -> Token | None:
    """The content of bytes that this authority signed; None for any others."""
    content, mac = data[:-_MAC], data[-_MAC:]
    if len(mac) < _MAC or not hmac.compare_digest(hmac.digest(secret, content, "sha256")[:_MAC], mac):
        return None
    try:
        return Token(*_decoder.decode(content))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
