"""Deterministic simulation: devices and head office on real SQLite, without an event loop, under every fault by a seed."""

from offlinekit.testing.simulation.checkers import ViolationError
from offlinekit.testing.simulation.world import FAULTS, KINDS, Settings, World

__all__ = ["FAULTS", "KINDS", "Settings", "ViolationError", "World"]
