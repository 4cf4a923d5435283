"""A transport inside one process, for tests and demos: calls the authority, and has a plug to pull."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from offlinekit.exceptions import AuthenticationRequired, Offline, ProtocolError, RecordNotFound, TooLarge
from offlinekit.transport.port import PART_MAX, WIRE_MAX, Arrived

__all__ = ["Memory", "Serves"]

_PIECE = 1 << 16  # bytes in which what comes back is told of, as a socket would give it


class Serves(Protocol):
    """The part of an authority that transports call."""

    def handle(self, request: bytes, identity: str, claims: Mapping[str, Any]) -> bytes:
        """Answers a request."""
        ...

    def fetch(self, name: str, offset: int, identity: str) -> bytes:
        """A part of a file."""
        ...


class Memory:
    """`authenticate()` returns (identity, claims) as a server's login would, or None for 401. `plugged=False` cuts it."""

    def __init__(self, authority: Serves, authenticate: Callable[[], tuple[str, Mapping[str, Any]] | None]) -> None:
        self.authority, self.authenticate = authority, authenticate
        self.plugged = True

    def _identity(self) -> tuple[str, Mapping[str, Any]]:
        if not self.plugged:
            raise Offline("the plug is pulled")
        found = self.authenticate()
        if found is None:
            raise AuthenticationRequired("sign in again")
        return found

    async def exchange(self, request: bytes, arrived: Arrived | None = None) -> bytes:
        """Sends a request and returns the answer."""
        identity, claims = self._identity()
        answer = self.authority.handle(_bounded(request, WIRE_MAX), identity, claims)
        return _told(_bounded(answer, WIRE_MAX), arrived)

    async def fetch(self, name: str, offset: int, arrived: Arrived | None = None) -> bytes:
        """A part of a file."""
        identity, _ = self._identity()
        try:
            return _told(_bounded(self.authority.fetch(name, offset, identity), PART_MAX), arrived)
        except RecordNotFound as error:
            raise ProtocolError("the file has expired; ask again") from error

    async def close(self) -> None:
        """Nothing to release."""


def _bounded(data: bytes, maximum: int) -> bytes:
    """The bytes, if a real line would carry them: what passes in a test must not fail in the field."""
    if len(data) > maximum:
        raise TooLarge(f"{len(data)} bytes are over the limit of {maximum}")
    return data


def _told(data: bytes, arrived: Arrived | None) -> bytes:
    """The bytes, told of in pieces."""
    if arrived is not None:
        for here in range(_PIECE, len(data) + _PIECE, _PIECE):
            arrived(min(here, len(data)), len(data))
    return data
