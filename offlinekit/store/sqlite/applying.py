"""Applying an answer: records, view, cursor and token of a group move in one transaction, overlays are replayed.

The main file's group is applied on the replica's writing connection; a collection with a file of its own is a group of its own
and is applied on a connection to that file, so that it makes no local transaction wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import apsw
from attrs import frozen

from offlinekit.changes import GroupDelta, PartDelta, encode_key
from offlinekit.exceptions import ProtocolError, StoreTooNew
from offlinekit.expr.sql import quote
from offlinekit.nodes import Value
from offlinekit.schema import CollectionInfo
from offlinekit.store.pieces import Piece
from offlinekit.store.sqlite import overlay
from offlinekit.store.sqlite.bulk import piece_rows
from offlinekit.store.sqlite.generations import Build
from offlinekit.store.sqlite.groups import Group, tokens_of
from offlinekit.store.sqlite.replica_ddl import base_table
from offlinekit.store.sqlite.replica_files import current, file_of, owned, place_of
from offlinekit.store.sqlite.replica_store import APPLYING, ReplicaStore
from offlinekit.store.sqlite.searching import together
from offlinekit.view import View, digest, pack_view, unpack_view

__all__ = ["Applied", "apply_answer", "begin_build", "holds", "is_load", "view_held"]

TOLD_EVERY = 1000  # records
Told: TypeAlias = Callable[[str, int], object]  # a collection, and how many records of it are written
PiecesOf: TypeAlias = Callable[[str], Iterable[Piece]]


@frozen
class Applied:
    """What an applied answer did, by collection: records put, dropped."""

    put: dict[str, int]
    drop: dict[str, int]


def view_held(store: ReplicaStore, db: apsw.Connection, collection: str) -> View:
    """The ordinals that the replica holds as the authority knows them."""
    return _view(db, place_of(collection) if store.schema.info(collection).own_file else "main", collection)


def holds(store: ReplicaStore, db: apsw.Connection, collection: str) -> bool:
    """Whether that is any."""
    place = place_of(collection) if store.schema.info(collection).own_file else "main"
    return bool(db.execute(f"SELECT length(view) FROM {place}.ok_state WHERE collection=?", (collection,)).get)


def _view(db: apsw.Connection, place: str, collection: str) -> View:
    return unpack_view(db.execute(f"SELECT view FROM {place}.ok_state WHERE collection=?", (collection,)).get or b"")


def is_load(store: ReplicaStore, held: View, part: PartDelta) -> bool:
    """Whether building the next generation of a collection's own file is faster than changing so many records in place."""
    moved = part.in_file + len(part.drop)
    return part.image or (part.in_file > 0 and not held) or (moved >= store.load_least and 4 * moved > len(held))


def begin_build(store: ReplicaStore, name: str, image: str | None = None) -> Build:
    """Begins the next generation of a collection's own file, or makes it of an image that was unpacked there."""
    with store.locked() as db:
        return Build(store.path, store.schema.info(name), store.schema.version, current(db)[name] + 1, image)


def apply_answer(
    store: ReplicaStore, asked: Iterable[Group], groups: Iterable[GroupDelta], pieces: PiecesOf | None = None, *,
    builds: Mapping[str, Build] | None = None, settled: Iterable[bytes] = (), also: Mapping[str, Any] | None = None,
    witness: bytes = b"", still: Callable[[], bool] = lambda: True, told: Told = lambda collection, written: None,
) -> Applied | None:  # fmt: skip
    """Applies an answer group by group, each in one transaction; None when the stored state is no longer the requested one.

    `asked` are the groups as the request named them, `pieces` reads the answer's file, of which `builds` hold the loads already;
    they are closed by whoever began them. `settled` are the accepted mutations whose overlays go, `also` small values that
    are stored with the main group, `still` a last look inside its transaction; `told` hears now and then what is written.
    `witness` is the one that the request named: the main group's cursor takes its place, unless a push was answered since, whose
    cursor may be the newer one.
    Raises ProtocolError, with the group unchanged, when the answer does not lead to the view that it promises.
    """
    tokens, builds = {g.collections: g.tokens for g in asked}, builds or {}
    applied = Applied({}, {})
    try:
        for delta in sorted(groups, key=lambda g: not store.schema.info(min(g.collections)).own_file):
            group = tuple(sorted(delta.collections))
            before = tokens.get(group)
            if before is None:
                raise ProtocolError(f"the answer is about other collections than asked for: {', '.join(group)}")
            if not store.schema.info(group[0]).own_file:
                done = _apply_main(store, group, before, delta, pieces, settled, also or {}, witness, still, told, applied)
            elif not still():
                return None
            elif group[0] in builds:
                done = _next_generation(store, group[0], b"".join(before), delta, pieces, builds[group[0]], told, applied)
            else:
                done = _apply_own_file(store, group[0], b"".join(before), delta, pieces, told, applied)
            if not done:
                return None
    except apsw.ConstraintError as error:
        raise ProtocolError(f"the authority's answer does not fit the schema: {error}") from error
    return applied


def _apply_main(store: ReplicaStore, group: tuple[str, ...], before: tuple[bytes, ...], delta: GroupDelta,
                pieces: PiecesOf | None, settled: Iterable[bytes], also: Mapping[str, Any], witness: bytes,
                still: Callable[[], bool], told: Told, applied: Applied) -> bool:  # fmt: skip
    with store.write(APPLYING) as db:
        if tokens_of(db, group) != before or not still():
            return False
        dirty: list[tuple[str, bytes]] = []
        for name, part in delta.collections.items():
            _apply_part(db, "main", store.schema.info(name), part, _rows(store, name, part, pieces), dirty, told, applied)
        dirty += store.outbox.settle(settled)
        overlay.rebuild_all(db, store.schema, dirty)
        for name in group:
            db.execute("INSERT OR REPLACE INTO ok_loaded VALUES(?,?,?)", (name, delta.token, delta.cursor))
        for key, value in also.items():
            store.set_meta(key, value)
        if (store.meta("witness") or b"") == witness:
            store.set_meta("witness", delta.cursor)
    return True


def _rows(store: ReplicaStore, name: str, part: PartDelta, pieces: PiecesOf | None) -> Iterator[Sequence[Value]]:
    yield from part.put
    if part.in_file:
        if pieces is None:
            raise ProtocolError("the answer names a file that was not fetched")
        for piece in pieces(name):
            yield from piece_rows(store.schema.info(name), piece)


def _apply_part(db: apsw.Connection, place: str, info: CollectionInfo, part: PartDelta, rows: Iterable[Sequence[Value]],
                dirty: list[tuple[str, bytes]], told: Told, applied: Applied) -> None:  # fmt: skip
    """Drops, added fields and puts of one collection."""
    table = quote(info.name)
    view = _view(db, place, info.name)
    touched = overlay.touched_keys(db, info.name) if info.writable else set()
    if info.writable:
        dirty += [(info.name, k) for k in overlay.evict(db, info, part.drop)]
    keep = _touched_ordinals(db, info, touched)
    db.executemany(f"DELETE FROM {table} WHERE _ordinal=?", ((o,) for o in part.drop))  # touched ones are dirty, and shown anew
    if part.added_fields:
        _add_fields(db, info, part, dirty)
    put, count = View(), len(part.added)
    columns, marks = ",".join(map(quote, ("_ordinal", *info.replicated))), ",".join("?" * (len(info.replicated) + 1))
    positions = [info.replicated.index(k) + 1 for k in info.key]
    filled = db.execute(f"SELECT 1 FROM {table} LIMIT 1").get is not None
    in_place = _InPlace(db, info, positions)

    def plain() -> Iterator[Sequence[Value]]:
        nonlocal count
        for row in rows:
            if len(row) != len(info.replicated) + 1 or type(row[0]) is not int or not 0 < row[0] < 2**32:
                raise ProtocolError(f"a record of '{info.name}' has the wrong number of fields or no ordinal")
            put.add(row[0])
            if (count := count + 1) % TOLD_EVERY == 0:
                told(info.name, count)
            key = encode_key([row[p] for p in positions]) if touched else b""
            if touched and (key in touched or row[0] in keep):
                dirty.extend((info.name, k) for k in overlay.evict(db, info, [row[0]]))
            if key in touched:
                db.execute(f"DELETE FROM {table} WHERE _ordinal=?", (row[0],))  # another history gave it to another record
                overlay.place_base(db, info, row[0], dict(zip(info.replicated, row[1:], strict=True)))
                dirty.append((info.name, key))
            elif not (filled and in_place.put(row)):
                yield tuple(row)

    db.executemany(f"INSERT OR REPLACE INTO {table}({columns}) VALUES({marks})", plain())
    told(info.name, count)
    held = (view | put) - part.drop
    if digest(held) != part.digest:
        raise ProtocolError(f"the answer does not lead to the view of '{info.name}' that it promises; it was not applied")
    db.execute("INSERT OR REPLACE INTO ok_state VALUES(?,?,?)", (info.name, pack_view(held), part.digest))
    applied.put[info.name], applied.drop[info.name] = len(put), len(part.drop)


class _InPlace:
    """Changes of records that are held: only in the fields that differ, so that indexes over others are left as they are."""

    def __init__(self, db: apsw.Connection, info: CollectionInfo, positions: Sequence[int]) -> None:
        self._db, self._info, self._positions = db, info, positions
        self._table, self._updates = quote(info.name), dict[tuple[int, ...], str]()
        self._select = f"SELECT {','.join(map(quote, ('_ordinal', *info.replicated)))} FROM {self._table} WHERE _ordinal=?"

    def put(self, row: Sequence[Value]) -> bool:
        """Whether the record is written; if not, it is new, or has another key, or what is there cannot be read."""
        try:
            old = next(iter(self._db.execute(self._select, (row[0],))), None)
        except UnicodeDecodeError:
            return False
        if old is None or any(old[p] != row[p] for p in self._positions):
            return False
        # Minus zero equals zero, and is another value: so real numbers are always written.
        differ = tuple(n for n, (a, b) in enumerate(zip(old, row, strict=True)) if a != b or (n and type(b) is float))
        if differ:
            sql = self._updates.get(differ)
            if sql is None:
                sets = ",".join(f"{quote(self._info.replicated[n - 1])}=?" for n in differ)
                sql = self._updates[differ] = f"UPDATE {self._table} SET {sets} WHERE _ordinal=?"
            self._db.execute(sql, (*(row[n] for n in differ), row[0]))
        return True


def _touched_ordinals(db: apsw.Connection, info: CollectionInfo, touched: set[bytes]) -> set[int]:
    """The positive ordinals under which touched records are shown: `rebuild` decides about these rows."""
    if not touched:
        return set()
    sql = f"SELECT _ordinal FROM {base_table(info.name)}"
    return {row[0] for row in db.execute(sql)}


def _add_fields(db: apsw.Connection, info: CollectionInfo, part: PartDelta, dirty: list[tuple[str, bytes]]) -> None:
    """Values of fields that the projection gained, for records held already."""
    unknown = [n for n in part.added_fields if n not in info.replicated]
    if unknown:
        raise ProtocolError(f"the answer adds unknown fields to '{info.name}': {', '.join(unknown)}")
    sets = ",".join(f"{quote(n)}=?" for n in part.added_fields)
    tables = [quote(info.name)] + ([base_table(info.name)] if info.writable else [])
    for table in tables:
        db.executemany(f"UPDATE {table} SET {sets} WHERE _ordinal=?", ((*row[1:], row[0]) for row in part.added))
    if info.writable:
        dirty += [(info.name, key) for key in sorted(overlay.touched_keys(db, info.name))]


def _apply_own_file(store: ReplicaStore, name: str, before: bytes, delta: GroupDelta, pieces: PiecesOf | None, told: Told,
                    applied: Applied) -> bool:  # fmt: skip
    """A small difference, in a transaction on the collection's own file."""
    with owned(store.reader(), store.path, name) as (_, db):
        if _token(db) != before:
            return False
        _apply_in_place(store, name, db, delta.collections[name], pieces, told, applied)
        db.execute("UPDATE ok_group SET token=?, cursor=?", (delta.token, delta.cursor))
    return True


def _apply_in_place(store: ReplicaStore, name: str, db: apsw.Connection, part: PartDelta, pieces: PiecesOf | None, told: Told,
                    applied: Applied) -> None:  # fmt: skip
    """Changes a collection's own file record by record, with its indexes and its search."""
    db.pragma("recursive_triggers", "on")
    db.execute("UPDATE ok_gate SET mode=?", (APPLYING,))
    info, held = store.schema.info(name), _view(db, "main", name)
    with together(db, info, held, part.drop, _rows(store, name, part, pieces)):
        _apply_part(db, "main", info, part, _rows(store, name, part, pieces), [], told, applied)
    db.execute("UPDATE ok_gate SET mode=0")


def _token(db: apsw.Connection) -> bytes:
    token: bytes = db.execute("SELECT token FROM ok_group").get
    return token


def _next_generation(store: ReplicaStore, name: str, before: bytes, delta: GroupDelta, pieces: PiecesOf | None, build: Build,
                     told: Told, applied: Applied) -> bool:  # fmt: skip
    """A load: the next generation was built beside the current one, and one row of the main file makes it current."""
    part = delta.collections[name]
    with owned(store.reader(), store.path, name) as (generation, db):
        if _token(db) != before:
            return False
        held = _view(db, "main", name)
    if build.image:
        came = len(_view(build.db, "main", name))
        _apply_in_place(store, name, build.db, part, pieces, lambda c, n: told(c, came + n), applied)
        view, put = _view(build.db, "main", name), part.moved
    else:
        put = build.finish(file_of(store.path, name, generation), held, part.drop, part.put)
        view = build.view()
        told(name, put)
        if digest(view) != part.digest:
            raise ProtocolError(f"the answer does not lead to the view of '{name}' that it promises; it was not applied")
    build.seal(view, delta.token, delta.cursor)
    flipped = _flip(store, before, generation, build, delta.token)
    if flipped:
        build.close()
        store.replaced(name, generation)
        applied.put[name], applied.drop[name] = put, len(held - view)
    return flipped


def _flip(store: ReplicaStore, before: bytes, generation: int, build: Build, token: bytes) -> bool:
    """Makes a build current if the state that it continues still stands; False when another answer was applied meanwhile."""
    name = build.info.name
    with owned(store.reader(), store.path, name) as (now, own):
        if now != generation or _token(own) != before:
            return False
        with store.write(0) as main:
            if store.meta("version") != store.schema.version:
                raise StoreTooNew(store.meta("version"), store.schema.version)  # and expects more of the file than this one has
            if not build.there(token):
                return False
            main.execute(
                "UPDATE ok_file SET generation=? WHERE collection=? AND generation=?", (build.generation, name, generation)
            )
            return bool(main.changes())
