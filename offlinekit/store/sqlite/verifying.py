"""Verification: what a replica's records are like, for the authority to compare, and what follows from what was mended.

What counts is what stands in the tables; the stored view only adds what should: whatever another program did is found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import apsw
from attrs import Factory, field, frozen

from offlinekit.clock import at
from offlinekit.contents import range_mark, record_marks
from offlinekit.expr.sql import quote
from offlinekit.nodes import Value
from offlinekit.schema import CollectionInfo
from offlinekit.store.sqlite import overlay
from offlinekit.store.sqlite.applying import view_held
from offlinekit.store.sqlite.replica_ddl import base_table, search_table
from offlinekit.store.sqlite.replica_files import owned, place_of
from offlinekit.store.sqlite.replica_store import ReplicaStore
from offlinekit.view import View

__all__ = ["RANGES_MAX", "Contents", "Verified", "contents_held", "finish_verification", "verified", "want_verification"]

RANGES_MAX = 32_768  # of one collection; of one with more, everything is fetched again


@frozen
class Contents:
    """The records of a collection: their ordinals and those that should be there, the marks of their ranges, and of records."""

    view: View = Factory(View)
    ranges: dict[int, bytes] = Factory(dict)
    records: dict[int, dict[int, bytes]] = Factory(dict)


@frozen
class Verified:
    """A finished verification: when by the device's clock, and by collection the records that were fetched and dropped again."""

    when: datetime
    fetched: Mapping[str, int] = field(factory=dict)
    dropped: Mapping[str, int] = field(factory=dict)

    @property
    def sound(self) -> bool:
        """Whether nothing was amiss."""
        return not any(self.fetched.values()) and not any(self.dropped.values())


def want_verification(store: ReplicaStore) -> None:
    """Makes the next pull compare everything with the authority, also after a restart."""
    with store.write(0):
        store.set_meta("verify", store.random(8))


def verified(store: ReplicaStore) -> Verified | None:
    """The last finished verification."""
    found = store.meta("verified", store.reader())
    return None if found is None else Verified(at(found[0]), *found[1:])


def contents_held(store: ReplicaStore, asked: Mapping[str, Iterable[int]]) -> dict[str, Contents]:
    """The contents of collections, all of one moment, with the marks of the records in the ranges asked for."""
    db, found = store.reader(), dict[str, Contents]()
    with db:
        for name, ranges in asked.items():
            found[name] = _contents(db, store.schema.info(name), set(ranges), view_held(store, db, name))
    return found


def _contents(db: apsw.Connection, info: CollectionInfo, asked: set[int], view: View) -> Contents:
    found = Contents(view, records={number: {} for number in asked})  # of ranges, too, of which no record is left
    for number, records in record_marks(_bases(db, info)):
        found.view.update(records)
        if len(found.ranges) < RANGES_MAX:
            found.ranges[number] = range_mark(records)
        if number in asked:
            found.records[number] = records
    return found


def _bases(db: apsw.Connection, info: CollectionInfo) -> Iterator[Sequence[Value]]:
    """(ordinal, field, …) of the records as the authority sent them, by ordinal."""
    columns = ",".join(map(quote, ("_ordinal", *info.replicated)))
    table = f"{place_of(info.name)}.{quote(info.name)}" if info.own_file else quote(info.name)
    sql = f"SELECT {columns} FROM {table} WHERE _ordinal>0"
    if info.writable:
        base = base_table(info.name)
        sql += f" AND _ordinal NOT IN (SELECT _ordinal FROM {base}) UNION ALL SELECT {columns} FROM {base} WHERE _present"
    return iter(db.execute(f"{sql} ORDER BY 1"))


def finish_verification(store: ReplicaStore, mark: bytes, fetched: Mapping[str, int], dropped: Mapping[str, int]) -> None:
    """After a verified answer was applied: shows pending changes anew, makes search indexes anew, and notes the result.

    A verification that was asked for meanwhile stays to be done. Repeated when it was interrupted.
    """
    moved = [store.schema.info(n) for n in sorted({n for n, c in (*fetched.items(), *dropped.items()) if c})]
    for info in moved:
        if info.own_file and info.search:
            with owned(store.reader(), store.path, info.name) as (_, own):
                _index_anew(own, info)
    with store.write() as db:
        for info in store.schema.replicated:
            if info.writable:
                overlay.rebuild_all(db, store.schema, ((info.name, key) for key in overlay.touched_keys(db, info.name)))
        for info in moved:
            if info.search and not info.own_file:
                _index_anew(db, info)
        store.set_meta("verified", _result(store.clock.now(), fetched, dropped))
        if store.meta("verify") == mark:
            db.execute("DELETE FROM ok_meta WHERE name='verify'")


def _index_anew(db: apsw.Connection, info: CollectionInfo) -> None:
    db.execute(f"INSERT INTO {search_table(info.name)}({search_table(info.name)}) VALUES('rebuild')")


def _result(now: float, *counts: Mapping[str, int]) -> list[Any]:
    return [now, *({n: c for n, c in by.items() if c} for by in counts)]
