"""Identifiers: time-ordered UUIDs (version 7 of RFC 9562) and random marks."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from uuid import UUID

__all__ = ["RandomBytes", "new_id", "uuid7"]

RandomBytes = Callable[[int], bytes]


def uuid7(milliseconds: int, random: bytes) -> UUID:
    """The UUID of a time in milliseconds since 1970 and ten random bytes."""
    value = (milliseconds & (2**48 - 1)) << 80 | int.from_bytes(random[:10], "big")
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(0b11 << 62) | 0b10 << 62
    return UUID(int=value)


def new_id() -> UUID:
    """A new time-ordered UUID: use it as `field(key=True, default_factory=new_id)`."""
    return uuid7(time.time_ns() // 1_000_000, secrets.token_bytes(10))
