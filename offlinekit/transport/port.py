"""What a transport does; `offlinekit.testing.TransportContract` checks every implementation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

__all__ = ["PART_MAX", "WIRE_MAX", "Arrived", "Transport"]

WIRE_MAX = 8 << 20  # bytes of a message, in either direction
PART_MAX = 1 << 20  # bytes of one part of a file
Arrived: TypeAlias = Callable[[int, int], object]  # bytes that are here, and how many there will be; 0 if nobody knows


class Transport(Protocol):
    """Carries bytes to one authority and back; two verbs.

    Both raise `Offline` when the authority cannot be reached or does not answer in time, `AuthenticationRequired` on 401,
    `NotTheAuthority` when somebody else answers, `TooLarge` over WIRE_MAX and PART_MAX, and another `TransportError` with
    `retry_after_s` when the authority asks for patience. After an error nothing is known about what the authority did.
    They may be called again after any error, and from one task at a time. What comes back is told to `arrived` piece by piece
    as it comes in, in the caller's thread and in its order, the last time with all of it.
    """

    async def exchange(self, request: bytes, arrived: Arrived | None = None) -> bytes:
        """Sends a request and returns the answer."""
        ...

    async def fetch(self, name: str, offset: int, arrived: Arrived | None = None) -> bytes:
        """Up to PART_MAX bytes of a file that an answer named, from an offset."""
        ...

    async def close(self) -> None:
        """Releases connections; a closed transport may be used again and then connects anew."""
        ...
