"""A replica's store: one SQLite file, a writing connection, and a reading connection for each thread.

Opening checks before it touches: an older program refuses a newer file, another identity's file and a damaged one unchanged.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import apsw
import msgspec

from offlinekit.clock import Clock, SystemClock
from offlinekit.exceptions import (
    IdentityMismatch,
    SchemaError,
    SelectionExpired,
    StateError,
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreTooNew,
)
from offlinekit.expr import Compiler
from offlinekit.expr.sql import quote
from offlinekit.ids import RandomBytes
from offlinekit.nodes import Value
from offlinekit.query import Query, query_sql
from offlinekit.schema import CollectionInfo, Schema, projection_digest
from offlinekit.store.recorder import Recorder
from offlinekit.store.sqlite.connection import check_open, connect, mapped, roll_back
from offlinekit.store.sqlite.generations import Build
from offlinekit.store.sqlite.outbox import Outbox
from offlinekit.store.sqlite.replica_ddl import FORMAT, META, STATE, check_additive, collection_sql, reshape, search_table
from offlinekit.store.sqlite.replica_files import LOOKS_MAX, current, discard, file_of, follow, owned, place_of, sweep
from offlinekit.view import View

__all__ = ["APPLYING", "CAPTURING", "DEVICE_ONLY", "ReplicaStore"]

CAPTURING, APPLYING, DEVICE_ONLY = 1, 2, 3
_READS = {
    apsw.SQLITE_SELECT, apsw.SQLITE_READ, apsw.SQLITE_FUNCTION, apsw.SQLITE_RECURSIVE,
}  # fmt: skip
_TOUCHES = {apsw.SQLITE_READ, apsw.SQLITE_INSERT, apsw.SQLITE_UPDATE, apsw.SQLITE_DELETE}
_SEARCH_PARTS = ("", "config", "content", "data", "docsize", "idx")  # a full-text index and the tables SQLite keeps it in
_DENIED = (
    "this statement is not allowed here: raw SQL may select, insert, update and delete the application's tables;"
    " BEGIN, COMMIT, ATTACH, PRAGMA, DDL and offlinekit's own tables are not its business"
)
_pack, _unpack = msgspec.msgpack.encode, msgspec.msgpack.decode
LOG_BYTES = 4 << 20
LOAD_LEAST = 1000  # records of an own file, below which an answer is always applied in place


class ReplicaStore:
    """Opens (or creates) a replica's file for one identity. Thread-safe."""

    def __init__(self, path: str | os.PathLike[str], schema: Schema, identity: str, *, clock: Clock | None = None,
                 random: RandomBytes = secrets.token_bytes) -> None:  # fmt: skip
        self.path, self.schema, self.identity = os.path.abspath(os.fspath(path)), schema, identity
        self.clock, self.random = clock or SystemClock(), random
        self.fields = schema.projection
        self.projection = projection_digest(self.fields)
        self.lock = threading.RLock()
        self.recorder: Recorder | None = None
        self.load_least = LOAD_LEAST
        self._readers_lock = threading.Lock()  # not the writer's: a thread's first read waits for no transaction
        self._local = threading.local()
        self._readers: list[tuple[threading.Thread, apsw.Connection]] = []
        self.closed = False
        self._examine()
        self.db = connect(self.path)
        self._attached: dict[str, int] = {}
        self._replaced: set[str] = set()
        try:
            self.db.pragma("recursive_triggers", "on")  # so that REPLACE fires delete triggers
            self.db.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
            self._migrate()
            with mapped(self.path):
                follow(self.db, self.path, self._attached)
                for info in self.schema:
                    if info.own_file and self.db.execute(f"PRAGMA {place_of(info.name)}.user_version").get < schema.version:
                        self._reshape_file(info)
        except BaseException:
            self.db.close()
            raise
        self.outbox = Outbox(self.db, schema, self.projection)

    # -- opening

    def _examine(self) -> None:
        """Refuses a file that is not for this program and person, before anything is written."""
        if not os.path.exists(self.path) or os.path.getsize(self.path) == 0:
            return
        roll_back(self.path)
        if os.path.getsize(self.path) == 0:
            return
        db = connect(self.path, readonly=True)
        try:
            with mapped(self.path):
                tables = {str(r[0]) for r in db.execute("SELECT name FROM sqlite_schema WHERE type='table'")}
                if "ok_meta" not in tables or "ok_gate" not in tables:
                    if tables:
                        raise StoreCorrupt(f"{self.path}: this database is no replica; give the replica a file of its own")
                    return
                meta = {str(n): _unpack(v) for n, v in db.execute("SELECT name,value FROM ok_meta")}
                if not meta:
                    return
                if meta["format"] > FORMAT:
                    raise StoreTooNew(meta["format"], FORMAT, "format")
                if meta["identity"] != self.identity:
                    raise IdentityMismatch(meta["identity"], self.identity)
                if meta["version"] > self.schema.version:
                    raise StoreTooNew(meta["version"], self.schema.version)
                self._check_triggers(db)
        finally:
            db.close()

    def _check_triggers(self, db: apsw.Connection) -> None:
        sql = "SELECT name,tbl_name FROM sqlite_schema WHERE type='trigger' AND name NOT LIKE 'ok\\_%' ESCAPE '\\'"
        for name, table in db.execute(sql):
            if table in self.schema.collections or str(table).startswith("ok_"):
                raise StoreError(f"{self.path}: trigger '{name}' on '{table}' is not ours and would fire on pulled records too;"
                                 " drop it and do its work in the application")  # fmt: skip

    def _migrate(self) -> None:
        with mapped(self.path):
            self.db.execute("BEGIN IMMEDIATE")
            try:
                for statement in (META + STATE).split(";"):
                    self.db.execute(statement)
                described = _pack(self.schema.describe(), order="sorted")
                stored = self.meta("schema")
                if stored is None:
                    self._create()
                elif stored != described:
                    self._upgrade(_unpack(stored))
                for info in self.schema:
                    if not info.own_file:
                        for statement in collection_sql(info):
                            self.db.execute(statement)
                self.set_meta("format", FORMAT)
                self.set_meta("version", self.schema.version)
                self.set_meta("schema", described)
                known = self.meta("projections") or {}
                known[self.projection] = self.fields
                self.set_meta("projections", known)
                self._create_files()
                arriving = {number for saved in self.meta("arriving") or () for number in saved["files"]}
                sweep(self.path, current(self.db), arriving)
                self.db.execute("COMMIT")
            except BaseException:
                if not self.db.get_autocommit():
                    self.db.execute("ROLLBACK")
                raise

    def _create(self) -> None:
        self.set_meta("identity", self.identity)
        self.set_meta("device", self.random(16))
        self.set_meta("turn", b"")
        self.set_meta("offset", 0.0)

    def _create_files(self) -> None:
        """An empty file for each collection that has a file of its own, and none yet."""
        known = current(self.db)
        for info in self.schema:
            generation = known.get(info.name, 0)
            path = file_of(self.path, info.name, generation)
            if not info.own_file or (info.name in known and os.path.exists(path)):
                continue
            if generation:
                raise StoreCorrupt(f"{path} is missing; restore it beside the replica")
            build = Build(self.path, info, self.schema.version, generation)
            try:
                build.seal(View(), b"", b"")
            finally:
                build.close()  # nobody sweeps it away before it is current, for this transaction holds the lock
            self.db.execute("INSERT OR REPLACE INTO ok_file VALUES(?,?)", (info.name, build.generation))

    def _upgrade(self, old: dict[str, Any]) -> None:
        """Additive changes: new collections are made as usual, tables that exist are brought to what is declared."""
        if self.schema.version == self.meta("version"):
            raise SchemaError("the schema changed and its version did not; raise Schema(..., version=...)")
        check_additive(old, self.schema)
        for info in self.schema:
            if info.name in old and not info.own_file:
                reshape(self.db, info)

    def _reshape_file(self, info: CollectionInfo) -> None:
        """Brings a collection's own file, which an older program made, to what is declared.

        In a transaction of its own and after the main file's, because locks are taken in this order; the file says itself
        whether it was done, so that a crash in between does no harm.
        """
        with owned(self.db, self.path, info.name) as (_, db):
            reshape(db, info)
            db.execute(f"PRAGMA user_version={self.schema.version}")

    def close(self) -> None:
        """Closes every connection; the replica's files may then be copied or deleted."""
        with self.lock, self._readers_lock:
            self.closed = True
            for _, db in self._readers:
                with suppress(apsw.Error):
                    db.close()
            self._readers.clear()
            self.db.close()
            self._delete_replaced()

    # -- generations of own files

    @property
    def generations(self) -> dict[str, int]:
        """The current generation of each collection with a file of its own."""
        return current(self.reader())

    @contextmanager
    def locked(self) -> Iterator[apsw.Connection]:
        """The write lock of the main file, to look or to act on files; what is written in the block is rolled back."""
        with self.lock:
            try:
                self.begin(0)
                yield self.db
            finally:
                self.rollback()

    def give_up(self, collection: str, generation: int) -> None:
        """Deletes a generation that did not become current; what resists is swept when the replica is opened."""
        with self.locked() as db:
            if current(db)[collection] != generation:
                discard(file_of(self.path, collection, generation))

    def replaced(self, collection: str, generation: int) -> None:
        """Deletes a generation that another one has replaced: now, or later when nobody has it open any more."""
        self._replaced.add(file_of(self.path, collection, generation))
        self.tidy()

    def checkpoint(self) -> None:
        """Copies the logs of own files back where they have grown: not when an answer is applied, while somebody waits for it."""
        for collection, generation in current(self.reader()).items():
            path = file_of(self.path, collection, generation)
            with suppress(FileNotFoundError):
                if os.path.getsize(path + "-wal") < LOG_BYTES:
                    continue
                db = connect(path, create=False)
                try:
                    with mapped(path):
                        db.execute("PRAGMA wal_checkpoint(passive)")
                finally:
                    db.close()

    def tidy(self) -> None:
        """Deletes what was in use when it was replaced."""
        if self._replaced:
            self.reader()  # so that neither this thread nor the writer holds on to it
            with self.lock, mapped(self.path):
                follow(self.db, self.path, self._attached)
            self._delete_replaced()

    def _delete_replaced(self) -> None:
        self._replaced = {path for path in self._replaced if not discard(path)}

    # -- small values

    def meta(self, name: str, db: apsw.Connection | None = None) -> Any:
        """A stored small value, or None."""
        found = (db or self.db).execute("SELECT value FROM ok_meta WHERE name=?", (name,)).get
        return None if found is None else _unpack(found)

    def set_meta(self, name: str, value: Any) -> None:
        """Stores a small value in the caller's transaction, or with None deletes it."""
        if value is None:
            self.db.execute("DELETE FROM ok_meta WHERE name=?", (name,))
        else:
            self.db.execute("INSERT OR REPLACE INTO ok_meta VALUES(?,?)", (name, _pack(value)))

    # -- transactions

    @contextmanager
    def write(self, mode: int = APPLYING) -> Iterator[apsw.Connection]:
        """A write transaction with the gate open; durable when it ends, rolled back by any exception."""
        with self.lock, mapped(self.path):
            try:
                self.begin(mode)
                yield self.db
                self.commit()
            except BaseException:
                self.rollback()
                raise

    def begin(self, mode: int) -> None:
        """Opens a write transaction; the caller holds the lock."""
        if self.closed:
            raise StateError("the replica is closed")
        with mapped(self.path):
            for _ in range(LOOKS_MAX):
                follow(self.db, self.path, self._attached)
                self.db.execute("BEGIN IMMEDIATE")
                try:
                    if current(self.db) == self._attached:  # and so it stays, because a flip needs this lock
                        self.gate(mode)
                        return
                except BaseException:
                    self.rollback()  # or no transaction could ever be opened here again
                    raise
                self.db.execute("ROLLBACK")
        raise StoreBusy(f"{self.path}: another program replaces files again and again; try again")

    def gate(self, mode: int) -> None:
        """What the triggers let pass for the rest of the transaction."""
        self.db.execute("UPDATE ok_gate SET mode=?", (mode,))

    def commit(self) -> None:
        """Closes the gate and commits."""
        with mapped(self.path):
            check_open(self.db)
            self.gate(0)
            self.db.execute("COMMIT")

    def rollback(self) -> None:
        """Undoes the transaction, if SQLite has not done so already."""
        if not self.closed and not self.db.get_autocommit():
            self.db.execute("ROLLBACK")

    def raw(
        self, db: apsw.Connection, sql: str, bindings: Sequence[Value] | Mapping[str, Value], *, write: bool,
        expired: datetime | None = None,
    ) -> list[Any]:  # fmt: skip
        """One statement of the application, held to what it may do; returns all rows.

        Once the selection has `expired` it may touch nothing that was replicated; raises SelectionExpired.
        """
        shut: list[str] = []

        def authorize(action: int, first: str | None, second: str | None, _db: str | None, trigger: str | None) -> int:
            # Whatever it is read through: a common table expression may bear the name of one of our triggers.
            if expired is not None and action in _TOUCHES and not self._is_device_only(first or ""):
                shut.append(first or "")
                return int(apsw.SQLITE_DENY)
            if action in _READS or (trigger or "").startswith("ok_"):
                return int(apsw.SQLITE_OK)
            if write and action in (apsw.SQLITE_INSERT, apsw.SQLITE_UPDATE, apsw.SQLITE_DELETE):
                if not self._may_write(first or ""):
                    return int(apsw.SQLITE_DENY)
                # For a deletion IGNORE means: row by row, so that whoever watches is told of each.
                return int(apsw.SQLITE_IGNORE if action == apsw.SQLITE_DELETE else apsw.SQLITE_OK)
            return int(apsw.SQLITE_OK if action == apsw.SQLITE_PRAGMA and first == "data_version" else apsw.SQLITE_DENY)

        db.authorizer = authorize
        try:
            with mapped(self.path):
                return list(db.execute(sql, bindings))
        except apsw.AuthError as error:
            if shut and expired is not None:
                raise SelectionExpired(shut[0], expired) from error
            raise StateError(_DENIED) from error
        finally:
            db.authorizer = None

    def _is_device_only(self, table: str) -> bool:
        """Whether a table holds nothing that was replicated: a device-only one, its full-text index, one of other programs."""
        table = table.lower()  # of a table without a column SQLite tells the name as the statement writes it
        kinds = {info.name.lower(): info.device_only for info in self.schema}
        if not table.startswith("ok_"):
            return kinds.get(table, True)
        index, part = table.removeprefix("ok_search_"), ""
        if index not in kinds:
            index, _, part = index.rpartition("_")
        return kinds.get(index, False) and part in _SEARCH_PARTS

    def _may_write(self, table: str) -> bool:
        """Whether raw SQL may write it: the application's tables, and what a full-text index keeps of itself."""
        if table.startswith("ok_search_"):  # its own statements come without the name of a trigger; defensive mode guards them
            return table.removeprefix("ok_search_") not in self.schema.collections
        return not table.startswith(("ok_", "sqlite_"))

    # -- reading

    def reader(self) -> apsw.Connection:
        """This thread's reading connection, attached to the current files; fetch it anew for each use."""
        if self.closed:
            raise StateError("the replica is closed")
        db: apsw.Connection | None = getattr(self._local, "db", None)
        if db is None:
            db = connect(self.path, readonly=True)
            db.pragma("query_only", "on")
            self._local.db, self._local.attached = db, {}
            with self._readers_lock:
                for thread, other in self._readers:
                    if not thread.is_alive():
                        other.close()
                self._readers = [(t, c) for t, c in self._readers if t.is_alive()]
                self._readers.append((threading.current_thread(), db))
        with mapped(self.path):
            follow(db, self.path, self._local.attached)
        return db

    def select(self, query: Query, db: apsw.Connection, extra: str = "") -> tuple[list[Sequence[Value]], int | None]:
        """The rows of a checked query, and the total if it was asked for; `extra` is a further condition over `r`."""
        info, compiler = self.schema.info(query.collection), Compiler(self.schema)
        names = list(info.fields) if info.device_only else list(info.replicated)

        def search(alias: str, words: list[str]) -> str:
            text = " ".join('"' + w.replace('"', '""') + '"*' for w in words)
            table = search_table(info.name)
            rowid = "rowid" if info.device_only else "_ordinal"
            if not words:
                return "1"
            return f"{alias}.{rowid} IN (SELECT rowid FROM {table} WHERE {table} MATCH {compiler.bind(text)})"

        sql, count, counted = query_sql(query, info, compiler, names, search=search, extra=(lambda _: extra) if extra else None)
        with mapped(self.path):
            total = db.execute(count, compiler.bindings[:counted]).get if query.total else None
            return list(db.execute(sql, compiler.bindings)), total

    def get(self, info: CollectionInfo, key: Sequence[Value], db: apsw.Connection) -> tuple[int, dict[str, Value]] | None:
        """The visible record under a key, with its ordinal (0 in device-only collections)."""
        names = list(info.fields) if info.device_only else list(info.replicated)
        ordinal = "0" if info.device_only else "_ordinal"
        where = " AND ".join(f"{quote(k)}=?" for k in info.key)
        sql = f"SELECT {ordinal},{','.join(map(quote, names))} FROM {quote(info.name)} WHERE {where}"
        with mapped(self.path):
            row = next(iter(db.execute(sql, tuple(key))), None)
        return None if row is None else (row[0], dict(zip(names, row[1:], strict=True)))
