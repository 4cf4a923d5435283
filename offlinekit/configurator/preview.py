"""What saving a selection would move, and what the device would hold afterwards."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

__all__ = ["Preview", "PreviewOf"]


@frozen
class PreviewOf:
    """One collection of a preview: records to fetch, to drop, held afterwards; an estimate of the bytes to fetch."""

    fetch: int = 0
    drop: int = 0
    hold: int = 0
    bytes: int = 0


@frozen
class Preview:
    """What saving a selection would move. `offline`: answered from held records, so `fetch` is not known."""

    collections: Mapping[str, PreviewOf]
    offline: bool = False

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
        """Bytes to fetch, estimated."""
        return sum(c.bytes for c in self.collections.values())
