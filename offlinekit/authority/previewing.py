"""What an answer will weigh, without making it: for previews, before anybody decides.

What fits a message is made and measured. What would travel as a file is sampled: stretches of records are written to such a
file and compressed by the same code, so that a sample errs by what it does not see and by nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec
from attrs import frozen

from offlinekit.compress import compress
from offlinekit.nodes import Value
from offlinekit.protocol import messages as m
from offlinekit.schema import CollectionInfo
from offlinekit.store.port import Snapshot
from offlinekit.store.sqlite.bulk import packed_rows
from offlinekit.store.sqlite.held_size import held_size
from offlinekit.view import View, pack_view

__all__ = ["Sizes", "inline_bytes"]

STRETCHES = 20
ROWS_SENT = 20_000  # records that are compressed to learn what more of them would weigh
ROWS_HELD = 2_000  # records that are indexed to learn what more of them would take on a device's disk
STRETCH_BYTES = 256 << 10


def inline_bytes(parts: Mapping[str, m.Part]) -> dict[str, int]:
    """What each collection weighs in a compressed message; shares of the whole, for they are compressed together."""
    raw = {c: len(msgspec.msgpack.encode(part)) for c, part in parts.items()}
    whole, total = len(compress(msgspec.msgpack.encode(list(parts.values())))), sum(raw.values())
    return {c: min(size, -(-whole * size // total)) for c, size in raw.items()}


@frozen
class Sizes:
    """Estimates of one snapshot."""

    snapshot: Snapshot

    def sent(self, info: CollectionInfo, fields: Sequence[str], put: View, drop: View) -> int:
        """Bytes of records in a compressed file, and of the ordinals to drop."""
        rows = list(self._sample(info.name, fields, put, ROWS_SENT))
        size = sum(map(len, packed_rows(info, fields, rows))) * len(put) // len(rows) if rows else 0
        return size + len(compress(pack_view(drop)))

    def held(self, info: CollectionInfo, view: View) -> int:
        """Bytes on a device's disk, with its indexes and full-text search."""
        rows = list(self._sample(info.name, info.replicated, view, ROWS_HELD))
        return held_size(info, rows) * len(view) // len(rows) if rows else 0

    def _sample(self, collection: str, fields: Sequence[str], view: View, count: int) -> Iterator[Sequence[Value]]:
        """Records from stretches all over the view; neighbours are alike, and a compressor sees that."""
        length = -(-min(count, len(view)) // STRETCHES)
        for n in range(STRETCHES):
            start, end = len(view) * n // STRETCHES, len(view) * (n + 1) // STRETCHES
            size = 0
            for row in self.snapshot.rows(collection, fields, View(view[start : min(end, start + length)])):
                yield row
                size += len(msgspec.msgpack.encode(list(row)))
                if size > STRETCH_BYTES:
                    break
