"""How far an answer is on its way to a replica: records and bytes, of each collection and in all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

from attrs import field, frozen

__all__ = ["CollectionProgress", "Expected", "Phase", "Progress"]

Phase: TypeAlias = Literal["downloading", "applying"]


@frozen
class CollectionProgress:
    """One collection of an answer: of `records_total` records `records` are here, of `bytes_total` bytes on the wire `bytes`.

    While they are `downloading`, the records are an estimate by the bytes; `applying` counts those written.
    """

    records: int = 0
    records_total: int = 0
    bytes: int = 0
    bytes_total: int = 0


@frozen
class Progress:
    """An answer on its way. What it brings is `downloading`, then `applying`, which is visible at once and as a whole.

    `done` of `total` bytes are here, as they come over the wire; a total of 0 is not known yet. `collections` are those of
    which records come, by name; it is empty until the answer says so.
    """

    phase: Phase
    done: int = 0
    total: int = 0
    collections: Mapping[str, CollectionProgress] = field(factory=dict, hash=False)

    @property
    def records(self) -> int:
        """Records that are here, or with `applying` those written."""
        return sum(c.records for c in self.collections.values())

    @property
    def records_total(self) -> int:
        """Records that the answer brings."""
        return sum(c.records_total for c in self.collections.values())

    @property
    def complete(self) -> bool:
        """Whether the phase is at its end."""
        return self.done == self.total and self.records == self.records_total


@frozen
class Expected:
    """What an answer brings: records and bytes by collection, in the order in which they come."""

    records: Mapping[str, int]
    bytes: Mapping[str, int]

    @classmethod
    def of(cls, records: Mapping[str, int], weights: Iterable[tuple[str, int]], size: int) -> Expected:
        """Of an answer of `size` bytes, shared out by weights."""
        found = dict(weights)
        whole, before, sizes = sum(found.values()), 0, {}
        for name, weight in found.items():
            sizes[name] = size * (before + weight) // whole - size * before // whole
            before += weight
        return cls({name: records[name] for name in found}, sizes)

    def applying(self, written: Mapping[str, int]) -> Progress:
        """All bytes are here, and so many records of each collection are written."""
        parts = {n: CollectionProgress(written.get(n, 0), self.records[n], b, b) for n, b in self.bytes.items()}
        size = sum(self.bytes.values())
        return Progress("applying", size, size, parts)
