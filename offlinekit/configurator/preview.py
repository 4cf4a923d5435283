"""What saving a selection would move, what it would leave behind, and whether a device has room for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from attrs import frozen

from offlinekit.schema import Collection, info_of

__all__ = ["Budget", "Preview", "PreviewOf", "Stranded"]


@frozen
class PreviewOf:
    """One collection of a preview: records to fetch, to drop, held afterwards; bytes to fetch, and then on disk, estimated."""

    fetch: int = 0
    drop: int = 0
    hold: int = 0
    bytes: int = 0
    disk_bytes: int = 0


@frozen
class Budget:
    """What a device has room for; None: it does not matter. `bytes` are of its disk."""

    records: int | None = None
    bytes: int | None = None


@frozen
class Stranded:
    """A mutation without an answer, with those of its records that would leave the selection, as (collection, key).

    Nothing of it is lost: it stays in the outbox and is sent, and its records stay visible until it is answered.
    """

    mutation: UUID
    intent: str
    records: tuple[tuple[str, Any], ...]


@frozen
class Preview:
    """What saving a selection would move, exactly, at the moment when the authority was asked.

    `offline`: answered from held records alone, so that `fetch` and its bytes are not known. `stranded`: what waits in the
    outbox on records that would leave.
    """

    collections: Mapping[str, PreviewOf]
    offline: bool = False
    stranded: tuple[Stranded, ...] = ()

    def of(self, collection: type[Collection]) -> PreviewOf:
        """The part of one collection."""
        return self.collections.get(info_of(collection).name, PreviewOf())

    @property
    def rows(self) -> int:
        """Records that the replica would hold by this selection."""
        return sum(c.hold for c in self.collections.values())

    @property
    def fetch(self) -> int:
        """Records to fetch."""
        return sum(c.fetch for c in self.collections.values())

    @property
    def drop(self) -> int:
        """Records to drop."""
        return sum(c.drop for c in self.collections.values())

    @property
    def fetch_bytes(self) -> int:
        """Bytes to fetch, compressed, estimated."""
        return sum(c.bytes for c in self.collections.values())

    @property
    def disk_bytes(self) -> int:
        """Bytes that all of it would take on the device's disk, indexes included, estimated. Loading needs three times that."""
        return sum(c.disk_bytes for c in self.collections.values())

    def fits(self, budget: Budget | int) -> bool:
        """Whether the device has room for it; a number is of bytes."""
        room = Budget(bytes=budget) if isinstance(budget, int) else budget
        return (room.records is None or self.rows <= room.records) and (room.bytes is None or self.disk_bytes <= room.bytes)
