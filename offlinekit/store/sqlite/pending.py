"""Which records have changes without an answer, and under which ordinals the authority knows them."""

from __future__ import annotations

from collections.abc import Iterator

import apsw
from attrs import frozen

from offlinekit.changes import Key, decode_key
from offlinekit.expr.sql import quote
from offlinekit.schema import CollectionInfo, Schema
from offlinekit.store.sqlite.replica_ddl import base_table

__all__ = ["Unanswered", "unanswered"]


@frozen
class Unanswered:
    """A record that a pending or parked mutation changes; its ordinal is 0 unless the authority's version is held."""

    mutation: bytes
    intent: str
    collection: str
    key: Key
    op: str
    ordinal: int


def unanswered(db: apsw.Connection, schema: Schema) -> Iterator[Unanswered]:
    """The records of the outbox, in the order of their mutations."""
    sql = (
        "SELECT m.id,m.intent,c.collection,c.key,c.op FROM ok_mutation m JOIN ok_change c ON c.mutation=m.seq"
        " WHERE m.state IN ('pending','parked') ORDER BY m.seq"
    )
    for id_, intent, collection, key, op in db.execute(sql):
        info, stored = schema.info(collection), decode_key(key)
        yield Unanswered(id_, intent, collection, stored, op, _ordinal(db, info, stored))


def _ordinal(db: apsw.Connection, info: CollectionInfo, key: Key) -> int:
    """Of the base under an overlay, else of the record itself, as when a parked change was taken out of view."""
    where = " AND ".join(f"{quote(k)}=?" for k in info.key)
    base = next(iter(db.execute(f"SELECT _present,_ordinal FROM {base_table(info.name)} WHERE {where}", key)), None)
    if base is not None:
        return int(base[1]) if base[0] else 0
    shown = db.execute(f"SELECT _ordinal FROM {quote(info.name)} WHERE {where} AND _ordinal>0", key).get
    return 0 if shown is None else int(shown)
