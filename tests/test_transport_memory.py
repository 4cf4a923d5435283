"""The transport inside one process keeps the contract of transports, as far as it has a line that can break."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from offlinekit.testing import ScriptedAuthority, TransportContract
from offlinekit.testing.transports import CLAIMS, CORE, IDENTITY, Fault
from offlinekit.transport import Memory


class Plug:
    """A memory transport whose plug is pulled, and whose user may be signed out."""

    def __init__(self, authority: ScriptedAuthority) -> None:
        self.transport = Memory(authority, lambda: (IDENTITY, CLAIMS) if self.signed_in else None)
        self.signed_in = True

    def fail(self, fault: Fault) -> None:
        """Signs out or pulls the plug."""
        self.signed_in, self.transport.plugged = fault != "unauthenticated", fault != "gone"

    def repair(self) -> None:
        """Signs in and plugs in."""
        self.signed_in = self.transport.plugged = True


class TestMemory(TransportContract):
    faults = CORE

    @contextmanager
    def meet(self, authority: ScriptedAuthority, *, patience_s: float) -> Iterator[Plug]:
        yield Plug(authority)
