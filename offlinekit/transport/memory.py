"""A transport inside one process, for tests and demos: calls the authority, and has a plug to pull."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from offlinekit.exceptions import AuthenticationRequired, Offline, ProtocolError, RecordNotFound

__all__ = ["Memory", "Serves"]


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

    async def exchange(self, request: bytes) -> bytes:
        """Sends a request and returns the answer."""
        return self.authority.handle(request, *self._identity())

    async def fetch(self, name: str, offset: int) -> bytes:
        """A part of a file."""
        identity, _ = self._identity()
        try:
            return self.authority.fetch(name, offset, identity)
        except RecordNotFound as error:
            raise ProtocolError("the file has expired; ask again") from error

    async def close(self) -> None:
        """Nothing to release."""
