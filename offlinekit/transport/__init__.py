"""The transport port: bytes to the authority and back."""

from offlinekit.transport.memory import Memory
from offlinekit.transport.port import Arrived, Transport

__all__ = ["Arrived", "Memory", "Transport"]
