"""What a replica holds, table by table and masked; and digests of what it shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any, TypeAlias

import msgspec

from offlinekit.changes import decode_key
from offlinekit.expr.sql import quote
from offlinekit.nodes import Value
from offlinekit.recording.masks import Masks
from offlinekit.schema import CollectionInfo
from offlinekit.store.sqlite.replica_ddl import base_table
from offlinekit.store.sqlite.replica_files import place_of
from offlinekit.store.sqlite.replica_store import ReplicaStore

__all__ = ["Table", "digests", "tables"]

Table: TypeAlias = tuple[str, str, list[str], Iterator[list[Any]]]  # file, table, columns, rows
# Ids of the device are made anew, and what depends on the declaration is made by opening the replica.
_META = (
    "offset", "selection", "selected", "claims", "witness", "flight", "level", "projections", "pulled", "verify", "forked",
)  # fmt: skip
_OWN = ("ok_mutation", "ok_change", "ok_touch", "ok_after", "ok_created", "ok_loaded", "ok_state")
_unpack = msgspec.msgpack.decode


def tables(store: ReplicaStore, masks: Masks) -> Iterator[Table]:
    """All tables, read in the caller's transaction: the collection whose own file it stands in, or "", name, columns, rows."""
    yield "", "ok_meta", ["name", "value"], _meta(store, masks)
    for name in _OWN:
        yield "", name, *_rows(store, "main", name, masks)
    for info in store.schema.replicated:
        place = place_of(info.name) if info.own_file else "main"
        file = info.name if info.own_file else ""
        for name in ("ok_group", "ok_state") if info.own_file else ():
            yield file, name, *_rows(store, place, name, masks)
        yield file, info.name, *_rows(store, place, info.name, masks, info)
        if info.writable:
            base = base_table(info.name).strip('"')
            yield file, base, *_rows(store, place, base, masks, info)


def _meta(store: ReplicaStore, masks: Masks) -> Iterator[list[Any]]:
    found = {str(n): _unpack(v) for n, v in store.db.execute("SELECT name,value FROM main.ok_meta")}
    for name in _META:
        if name in found:
            value = found[name]
            if name in ("selection", "selected"):
                value = masks.selection(value)
            elif name == "claims":
                value = masks.leaves(value)
            elif name == "witness":
                value = masks.opaque(value)
            elif name == "level":
                value = [masks.opaque(v) for v in value]
            yield [name, value]


def _rows(store: ReplicaStore, place: str, name: str, masks: Masks,
          info: CollectionInfo | None = None) -> tuple[list[str], Iterator[list[Any]]]:  # fmt: skip
    db = store.db
    columns = [str(n) for (n,) in db.execute("SELECT name FROM pragma_table_info(?,?)", (name, place.strip('"')))]
    sql = f"SELECT {','.join(map(quote, columns))} FROM {place}.{quote(name)}"
    return columns, (_masked(dict(zip(columns, row, strict=True)), masks, info) for row in db.execute(sql))


def _masked(row: dict[str, Any], masks: Masks, info: CollectionInfo | None) -> list[Any]:
    """A row of a collection's table, or of one of the library's own, whose packed values are written out."""
    if info is not None:
        return list(masks.values(info.name, row).values())
    for name in ("token", "cursor", "digest"):
        if name in row and "view" not in row:
            row[name] = masks.opaque(row[name])
    if "key" in row:
        row["key"] = masks.key(masks.schema.info(row["collection"]), decode_key(row["key"]))
    for name in ("before", "after"):
        if name in row:
            row[name] = masks.values(row["collection"], _unpack(row[name]))
    if "message" in row:
        row["message"] = masks.message(row["message"])
    return list(row.values())


def digests(store: ReplicaStore, masks: Masks | None = None) -> dict[str, list[Any]]:
    """For each replicated collection the number of records shown, and a digest in which their order does not matter."""
    found: dict[str, list[Any]] = {}
    for info in store.schema.replicated:
        place = place_of(info.name) if info.own_file else "main"
        total = count = 0
        for row in store.db.execute(f"SELECT {','.join(map(quote, info.replicated))} FROM {place}.{quote(info.name)}"):
            total += int.from_bytes(_hash(row if masks is None else _values(masks, info, row)))
            count += 1
        found[info.name] = [count, (total % (1 << 128)).to_bytes(16)]
    return found


def _values(masks: Masks, info: CollectionInfo, row: Sequence[Value]) -> list[Value]:
    return [masks.value(info.name, n, v) for n, v in zip(info.replicated, row, strict=True)]


def _hash(values: Sequence[Value]) -> bytes:
    return sha256(msgspec.msgpack.encode(list(values))).digest()[:16]
