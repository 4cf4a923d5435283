"""Base and overlay: what a replica shows of records with pending changes.

The first local touch of a record copies the authority's version to its base table. Visible = base with the changes of every
live mutation (`ok_touch`) replayed in order. A base is present, or evicted (`_present`=0: deleted, or out of the selection or
scope) and then kept while mutations touch the record, so that a pending update stays visible until it is settled.
All functions run inside the caller's transaction, with the gate open for applying.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import apsw
import msgspec

from offlinekit.changes import decode_key, encode_key
from offlinekit.expr.sql import quote
from offlinekit.nodes import Value
from offlinekit.schema import CollectionInfo, Schema
from offlinekit.store.sqlite.replica_ddl import base_table
from offlinekit.store.sqlite.statements import Statements

__all__ = ["evict", "keep_base", "place_base", "rebuild", "rebuild_all", "touch", "touched_keys", "untouch"]

_pack = msgspec.msgpack.encode
_values: msgspec.msgpack.Decoder[dict[str, Any]] = msgspec.msgpack.Decoder(dict[str, Any])


@lru_cache
def _shown(info: CollectionInfo) -> Statements:
    return Statements(info.name, ("_ordinal",), info.key)


@lru_cache
def _base(info: CollectionInfo) -> Statements:
    return Statements(f"ok_base_{info.name}", ("_present", "_ordinal", *info.replicated), info.key)


def _columns(info: CollectionInfo) -> str:
    return ",".join(map(quote, ("_ordinal", *info.replicated)))


def touched_keys(db: apsw.Connection, collection: str) -> set[bytes]:
    """The encoded keys of the records with live changes."""
    return {row[0] for row in db.execute("SELECT DISTINCT key FROM ok_touch WHERE collection=?", (collection,))}


def _is_touched(db: apsw.Connection, collection: str, key: bytes) -> bool:
    return db.execute("SELECT 1 FROM ok_touch WHERE collection=? AND key=? LIMIT 1", (collection, key)).get is not None


def keep_base(db: apsw.Connection, info: CollectionInfo, key: bytes) -> None:
    """Before a first touch: copies the visible record, which is the authority's, to the base table."""
    if not _is_touched(db, info.name, key):
        columns = _columns(info)
        db.execute(
            f"INSERT INTO {base_table(info.name)}(_present,{columns}) SELECT 1,{columns} FROM {quote(info.name)}"
            f" WHERE {_shown(info).where}",
            decode_key(key),
        )


def touch(db: apsw.Connection, collection: str, key: bytes, mutation: int, op: str, after: Mapping[str, Value]) -> None:
    """Lays a change over the record; `rebuild` shows it."""
    db.execute(
        "INSERT OR REPLACE INTO ok_touch(collection,key,mutation,op,after) VALUES(?,?,?,?,?)",
        (collection, key, mutation, op, _pack(dict(after))),
    )


def untouch(db: apsw.Connection, mutation: int) -> list[tuple[str, bytes]]:
    """Takes a mutation's changes away; returns the records to rebuild."""
    return list(db.execute("DELETE FROM ok_touch WHERE mutation=? RETURNING collection,key", (mutation,)))


def evict(db: apsw.Connection, info: CollectionInfo, ordinals: Iterable[int]) -> list[bytes]:
    """Marks the bases with these ordinals as evicted; returns the keys to rebuild."""
    base = base_table(info.name)
    keys = ",".join(map(quote, info.key))
    found = []
    for ordinal in ordinals:
        sql = f"UPDATE {base} SET _present=0, _moved=1 WHERE _ordinal=? AND _present RETURNING {keys}"
        found += [encode_key(row) for row in db.execute(sql, (ordinal,))]
    return found


def place_base(db: apsw.Connection, info: CollectionInfo, ordinal: int, values: Mapping[str, Value]) -> None:
    """Puts the authority's version of a touched record."""
    columns = ",".join(map(quote, values))
    marks = ",".join("?" * len(values))
    db.execute(
        f"INSERT OR REPLACE INTO {base_table(info.name)}(_present,_moved,_ordinal,{columns}) VALUES(1,1,?,{marks})",
        (ordinal, *values.values()),
    )


def rebuild_all(db: apsw.Connection, schema: Schema, dirty: Iterable[tuple[str, bytes]]) -> None:
    """Shows base ⊕ overlay for each (collection, key) once."""
    for collection, key in dict.fromkeys(dirty):
        rebuild(db, schema.info(collection), key)


def rebuild(db: apsw.Connection, info: CollectionInfo, key: bytes) -> None:
    """Shows base ⊕ overlay of one record, and forgets the base of a record that nothing touches any more."""
    bindings, shown = decode_key(key), _shown(info)
    base = next(iter(db.execute(_base(info).select, bindings)), None)
    live = list(db.execute("SELECT op,after FROM ok_touch WHERE collection=? AND key=? ORDER BY mutation", (info.name, key)))
    row: dict[str, Value] | None = None
    if base is not None and (base[0] or live):
        row = dict(zip(info.replicated, base[2:], strict=True))
    for op, after in live:
        if op == "insert":
            new = _values.decode(after)
            row = {n: new[n] if n in new else info.fields[n].initial() for n in info.replicated}
        elif op == "delete":
            row = None
        elif row is not None:
            row.update(_values.decode(after))
    was = db.execute(shown.select, bindings).get
    if was is not None:
        db.execute(shown.delete, bindings)
    if row is not None:
        if base is not None and base[0]:
            ordinal = base[1]
        elif was is not None and was < 0:
            ordinal = was
        else:
            ordinal = db.execute(f"SELECT min(0,coalesce(min(_ordinal),0))-1 FROM {quote(info.name)}").get
        db.execute(shown.replace("_ordinal", *row), (ordinal, *row.values()))
    if base is not None and not live:
        db.execute(_base(info).delete, bindings)
