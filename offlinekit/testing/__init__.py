"""For testing one's own app, store or transport: the contract suites of both ports, and an in-process pair in `pair`."""

from offlinekit.testing.stores import StoreContract
from offlinekit.testing.transports import Line, ScriptedAuthority, TransportContract

__all__ = ["Line", "ScriptedAuthority", "StoreContract", "TransportContract"]
