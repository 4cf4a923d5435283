"""What a transport does; `offlinekit.testing.TransportContract` checks every implementation."""

from __future__ import annotations

from typing import Protocol

__all__ = ["PART_MAX", "WIRE_MAX", "Transport"]

WIRE_MAX = 8 << 20  # bytes of a message, in either direction
PART_MAX = 1 << 20  # bytes of one part of a file


class Transport(Protocol):
    """Carries bytes to one authority and back; two verbs.

    Both raise `Offline` when the authority cannot be reached or does not answer in time, `AuthenticationRequired` on 401,
    `NotTheAuthority` when somebody else answers, `TooLarge` over WIRE_MAX and PART_MAX, and another `TransportError` with
    `retry_after_s` when the authority asks for patience. After an error nothing is known about what the authority did.
    They may be called again after any error, and from one task at a time.
    """

    async def exchange(self, request: bytes) -> bytes:
        """Sends a request and returns the answer."""
        ...

    async def fetch(self, name: str, offset: int) -> bytes:
        """Up to PART_MAX bytes of a file that an answer named, from an offset."""
        ...

    async def close(self) -> None:
        """Releases connections; a closed transport may be used again and then connects anew."""
        ...
