"""The transport port: bytes to the authority and back."""

from offlinekit.transport.memory import Memory
from offlinekit.transport.port import Transport

__all__ = ["Memory", "Transport"]
