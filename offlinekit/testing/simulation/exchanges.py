"""Exchanges under way, and what is on its way for them."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from attrs import frozen, mutable

from offlinekit.exchange import Effect, Steps
from offlinekit.protocol import messages as m
from offlinekit.testing.simulation.contract import Chosen
from offlinekit.testing.simulation.device import Device
from offlinekit.testing.simulation.oracle import Place

__all__ = ["Case", "Exchange", "Packet", "brief"]


@mutable(eq=False)
class Exchange:
    """One exchange under way."""

    n: int
    dev: Device
    kind: str
    load: bool  # a pull asks for what is not loaded yet
    steps: Steps
    effect: Effect | None = None
    sequence: int = 0
    chosen: Chosen | None = None
    zone: str = "UTC"
    selection: bytes = b""
    created: tuple[Place, ...] = ()
    bounds: tuple[float, ...] = ()
    held: Mapping[str, set[int]] | None = None
    given: bytes = b""
    file: str = ""  # the name of the one that is fetched
    over: bool = False
    since: int = 0  # the newest version of the records of which the device had seen anything when it asked
    wanted: Any = None  # the collection and condition of a query, the candidate of a preview
    base: Mapping[str, set[Any]] | None = None  # what the device held when it asked for a preview
    sent: frozenset[bytes] = frozenset()  # the mutations of a push
    waits: int = 0  # packets of its present effect that are on their way


@frozen
class Packet:
    """A request on its way, or an answer on its way back."""

    due: int
    exchange: Exchange
    sequence: int
    effect: Effect
    answer: bytes | Exception | None = None


class Case:
    """A mutation on the wire, with what its device showed before it."""

    def __init__(self, wire: m.WireMutation, seen: Mapping[Place, Any]) -> None:
        self.id, self.intent, self.after, self.changes, self.seen = wire.id, wire.intent, wire.after, wire.changes, seen


def brief(data: bytes) -> str:
    """Bytes for the trace."""
    return blake2b(data, digest_size=4).hexdigest()
