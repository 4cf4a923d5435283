"""What records take on a device's disk: their table as replicas have it, with indexes and full-text search."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing

import apsw

from offlinekit.expr.sql import quote
from offlinekit.nodes import Value
from offlinekit.schema import CollectionInfo
from offlinekit.store.sqlite.replica_ddl import STATE, collection_sql, finish_sql, search_table

__all__ = ["held_size"]


def held_size(info: CollectionInfo, rows: Iterable[Sequence[Value]]) -> int:
    """Bytes by which (ordinal, field, …) let a replica's file grow."""
    return _pages(info, rows) - _pages(info, ())


def _pages(info: CollectionInfo, rows: Iterable[Sequence[Value]]) -> int:
    with closing(apsw.Connection(":memory:")) as db:
        for statement in (*STATE.split(";"), *collection_sql(info, indexes=False)):
            db.execute(statement)
        names = ("_ordinal", *info.replicated)
        into = f"INSERT INTO {quote(info.name)}({','.join(map(quote, names))}) VALUES({','.join('?' * len(names))})"
        db.execute("BEGIN")
        db.executemany(into, rows)
        for statement in finish_sql(info):
            db.execute(statement)
        if info.search:
            search = search_table(info.name)
            db.execute(f"INSERT INTO {search}({search}) VALUES('rebuild')")
        db.execute("COMMIT")
        return int(db.pragma("page_count")) * int(db.pragma("page_size"))
