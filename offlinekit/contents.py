"""Contents: by which two copies of a collection find the records that differ without sending them.

A range is 256 ordinals. Both sides take a mark of every record, and of every range over the marks of its records; only where
those of a range differ are the records' own compared. What is sent grows with the ranges, by some 12 bytes for 256 records, and
with the damage.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import groupby

import msgspec

from offlinekit.nodes import Value
from offlinekit.view import View

__all__ = ["RANGE", "differing", "range_mark", "record_marks"]

RANGE = 256
_MARK = 8  # bytes: chance alone makes one of 2^64 damaged ranges look sound
_pack = msgspec.msgpack.encode


def record_marks(rows: Iterable[Sequence[Value]]) -> Iterator[tuple[int, dict[int, bytes]]]:
    """For each range the marks of its records by ordinal, of rows (ordinal, field, …) in the order of their ordinals."""
    for number, records in groupby(rows, lambda row: int(row[0]) // RANGE):  # type: ignore[arg-type]
        yield number, {int(row[0]): sha256(_pack(list(row))).digest()[:_MARK] for row in records}  # type: ignore[arg-type]


def range_mark(records: Mapping[int, bytes]) -> bytes:
    """The mark of a range, of the marks of its records in the order of their ordinals."""
    return sha256(b"".join(records.values())).digest()[:_MARK]


def differing(
    rows: Iterable[Sequence[Value]], ranges: Mapping[int, bytes], records: Mapping[int, Mapping[int, bytes]]
) -> tuple[View, list[int]]:
    """The ordinals of rows that the other side has otherwise, and the ranges of which only the whole is known to differ.

    `ranges` and `records` are the other side's marks; all rows of a range without records' marks count as differing.
    """
    found, unknown = View(), []
    for number, mine in record_marks(rows):
        if ranges.get(number) != range_mark(mine):
            if number not in records:
                unknown.append(number)
            known = records.get(number, {})
            found.update(ordinal for ordinal, mark in mine.items() if known.get(ordinal) != mark)
    return found, unknown
