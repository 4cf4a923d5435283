"""An authority's store in one SQLite file: the application's own tables, side tables, epochs, marks and receipts.

Versions are epoch numbers. To publish a cursor, the epoch is closed in a write transaction and given a random mark, and the
read snapshot is opened while that transaction still holds the lock: the snapshot then holds exactly the closed epochs.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import apsw
import msgspec

from offlinekit.changes import Key
from offlinekit.clock import Clock, SystemClock
from offlinekit.exceptions import ConstraintViolated, NotTracked, StateError, StoreError
from offlinekit.expr.sql import quote
from offlinekit.ids import RandomBytes
from offlinekit.nodes import Filter, Value
from offlinekit.query import Query
from offlinekit.schema import CollectionInfo, Schema
from offlinekit.selection import Step
from offlinekit.store.port import Device, Receipt, Scopes, Snapshot
from offlinekit.store.sqlite.connection import check_open, code_of, connect, mapped, savepoint, write_transaction
from offlinekit.store.sqlite.published import Connections, Publisher
from offlinekit.store.sqlite.reading import Fits, Reader, durable_position
from offlinekit.store.sqlite.statements import Statements
from offlinekit.store.sqlite.tracking import META, Tracking, create_table_sql, side_table
from offlinekit.view import View, view_of

__all__ = ["SQLiteStore"]

_MARK = 8
_CURSORS = 4


def _cursor(mark: bytes, epoch: int) -> bytes:
    return mark + epoch.to_bytes(8, "big")


def _epoch(cursor: bytes) -> int:
    return int.from_bytes(cursor[_MARK:], "big")


def _published(db: apsw.Connection, cursor: bytes) -> bool:
    sql = "SELECT 1 FROM ok_mark WHERE epoch=? AND mark=?"
    if len(cursor) != _MARK + 8 or _epoch(cursor) >= 2**63:  # more than SQLite can hold: nobody published it
        return False
    return db.execute(sql, (_epoch(cursor), cursor[:_MARK])).get is not None


class SQLiteStore:
    """Opens (or creates) the file; give it to an `Authority`. Several processes may use one file."""

    def __init__(self, path: str | os.PathLike[str], *, clock: Clock | None = None,
                 random: RandomBytes = secrets.token_bytes) -> None:  # fmt: skip
        self.path = os.fspath(path)
        self.clock, self.random = clock or SystemClock(), random
        self._writer = connect(self.path)
        self._lock = threading.RLock()
        self._idle: list[apsw.Connection] = []
        self._pool = threading.Lock()
        self._closed = False
        self._publisher = Publisher(self.clock, Connections(self._borrow, self._give_back, self._open))
        self._schema: Schema | None = None
        self._tracking: dict[str, Tracking] = {}
        self._seen_schema = -1
        self._fit: dict[str, str] = {}
        self._collations: dict[tuple[str, str], str] = {}
        self._of_records: dict[str, Statements] = {}
        self._of_places: dict[str, Statements] = {}
        self._unfit: dict[str, list[tuple[bytes, View]]] = {}
        with self._lock, write_transaction(self._writer, self.path):
            for statement in META.split(";"):
                self._writer.execute(statement)
            if not self._writer.execute("SELECT 1 FROM pragma_table_info('ok_receipt') WHERE name='kept'").get:
                self._writer.execute("ALTER TABLE ok_receipt ADD COLUMN kept BLOB")  # the file is of an earlier build
            self._writer.execute("INSERT OR IGNORE INTO ok_meta VALUES('secret', ?)", (self.random(32),))
        self.secret: bytes = self._writer.execute("SELECT value FROM ok_meta WHERE name='secret'").get

    @property
    def schema(self) -> Schema:
        """The schema that the store is bound to."""
        if self._schema is None:
            raise StateError("the store is not bound to a schema yet: give it to an Authority first")
        return self._schema

    def now(self) -> float:
        """Seconds since 1970."""
        return self.clock.now()

    def bind(self, schema: Schema) -> None:
        """Creates missing tables; installs tracking where there was none; refuses nothing that `reconcile` can repair."""
        self._schema = schema
        self._tracking = {info.name: Tracking(info) for info in schema.replicated}
        with self._lock, write_transaction(self._writer, self.path):
            db = self._writer
            live = self._triggers(db)
            for name, tracking in self._tracking.items():
                if not tracking.columns(db):
                    db.execute(create_table_sql(tracking.info))
                if missing := tracking.missing(db):
                    raise StoreError(f"{self.path}: table '{name}' lacks {', '.join(missing)}; add the columns first")
                new = not db.execute("SELECT 1 FROM sqlite_schema WHERE name=?", (f"ok_side_{name}",)).get
                if new or tracking.divides_otherwise(db, live):
                    tracking.install(db)
                for index in tracking.info.indexes:
                    columns = ",".join(map(quote, index))
                    db.execute(
                        f"CREATE INDEX IF NOT EXISTS {quote('ok_index_' + '.'.join((name, *index)))} ON {quote(name)}({columns})"
                    )
        self._seen_schema = -1

    # -- tracking

    def _triggers(self, db: apsw.Connection) -> dict[str, str]:
        return dict(db.execute("SELECT name,sql FROM sqlite_schema WHERE type='trigger'"))

    def _check(self, db: apsw.Connection) -> None:
        version = db.pragma("schema_version")
        if version == self._seen_schema:
            return
        live = self._triggers(db)
        bad = {name: why for name, t in self._tracking.items() if (why := t.why_untracked(db, live))}
        if bad:
            raise NotTracked(sorted(bad), "; ".join(f"{name}: {why}" for name, why in sorted(bad.items())))
        self._fit = {name: t.fit_sql(db, "{alias}") for name, t in self._tracking.items()}
        self._collations = {place: coll for t in self._tracking.values() for place, coll in t.collations(db).items()}
        for info in self.schema.replicated:
            indexes = [self._collations.get((info.name, k)) for k in info.key]
            self._of_records[info.name] = Statements(info.name, list(info.fields), info.key, indexes)
            self._of_places[info.name] = Statements(f"ok_side_{info.name}", ("ordinal", "version"), info.key, indexes)
        self._unfit.clear()
        self._seen_schema = version

    def untracked(self) -> dict[str, str]:
        """The collections whose changes may go unseen, each with the reason."""
        with self._lock:
            live = self._triggers(self._writer)
            return {n: why for n, t in self._tracking.items() if (why := t.why_untracked(self._writer, live))}

    def reconcile(self) -> dict[str, int]:
        """Repairs tracking: ordinals for new records, every record touched; returns the records by repaired collection."""
        repaired = {}
        broken = self.untracked()
        with self._lock, write_transaction(self._writer, self.path):
            for name in broken:
                tracking = self._tracking[name]
                tracking.install(self._writer)
                repaired[name] = tracking.touch_all(self._writer)
        self._seen_schema = -1
        return repaired

    # -- transactions

    def _borrow(self) -> apsw.Connection:
        with self._pool:
            if self._idle:
                return self._idle.pop()
        return connect(self.path)

    def _give_back(self, db: apsw.Connection) -> None:
        if not db.get_autocommit():
            db.execute("ROLLBACK")
        with self._pool:
            if not self._closed:
                self._idle.append(db)
                return
        db.close()

    @contextmanager
    def _reader(self) -> Iterator[apsw.Connection]:
        db = self._borrow()
        try:
            yield db
        finally:
            self._give_back(db)

    @contextmanager
    def snapshot(self, *, age_s: float = 0.0, enough: Callable[[Snapshot], bool] | None = None) -> Iterator[SQLiteSnapshot]:
        """A read transaction at a published cursor: with an age, one that the process shares."""
        with mapped(self.path):
            if age_s <= 0:
                with self._reader() as db:
                    yield SQLiteSnapshot(self, db, self._open([db]))
            else:

                def suits(db: apsw.Connection, cursor: bytes) -> bool:
                    return enough is None or enough(SQLiteSnapshot(self, db, cursor))

                with self._publisher.take(age_s, suits) as (db, cursor):
                    yield SQLiteSnapshot(self, db, cursor)

    def _open(self, connections: Sequence[apsw.Connection]) -> bytes:
        """Opens read transactions at the newest cursor, which is returned: on the first connection, and on others if it can."""
        first = connections[0]
        first.execute("BEGIN")
        self._check(first)
        cursor = self._current(first)
        if cursor is None:
            first.execute("ROLLBACK")
            with self._lock, write_transaction(self._writer, self.path):
                cursor = self._close_epoch(self._writer, self.now())
                for db in connections:
                    db.execute("BEGIN")
                    self._check(db)  # also opens the snapshot, while nobody else can commit
                    db.execute("SELECT epoch FROM ok_now").get  # noqa: B018
            return cursor
        for db in connections[1:]:
            db.execute("BEGIN")
            self._check(db)
            if self._current(db) != cursor:  # somebody has committed meanwhile
                db.execute("ROLLBACK")
        return cursor

    def _current(self, db: apsw.Connection) -> bytes | None:
        """The newest published cursor if nothing was touched after it."""
        epoch = db.execute("SELECT epoch FROM ok_now").get
        mark = db.execute("SELECT mark FROM ok_mark WHERE epoch=?", (epoch - 1,)).get
        if mark is None or any(
            db.execute(f"SELECT 1 FROM {side_table(c)} WHERE version>=? LIMIT 1", (epoch,)).get for c in self._tracking
        ):
            return None
        return _cursor(mark, epoch - 1)

    def _close_epoch(self, db: apsw.Connection, now: float) -> bytes:
        epoch, mark = db.execute("SELECT epoch FROM ok_now").get, self.random(_MARK)
        db.execute("UPDATE ok_now SET epoch=epoch+1")
        db.execute("INSERT INTO ok_mark(epoch,mark,at) VALUES(?,?,?)", (epoch, mark, now))
        return _cursor(mark, epoch)

    @contextmanager
    def unit(self) -> Iterator[SQLiteUnit]:
        """A write transaction on the store's one writing connection."""
        with self._lock:
            if not self._writer.get_autocommit():
                raise StateError("a write transaction is open in this thread already; use its own methods")
            try:
                with write_transaction(self._writer, self.path):
                    self._check(self._writer)
                    yield SQLiteUnit(self, self._writer)
            except apsw.ConstraintError as error:
                raise ConstraintViolated(str(error), code_of(error)) from error

    def fits(self, snapshot: SQLiteSnapshot, collection: str) -> View:
        """The ordinals that do not fit, kept from snapshot to snapshot and moved forward by what was touched."""
        condition = self._fit[collection]
        if not condition:
            return View()
        known = self._unfit.get(collection, [])  # at a few cursors: other threads may read from an older snapshot
        cursor, before = next((k for k in reversed(known) if snapshot.honoured(k[0])), (b"", View()))
        if cursor == snapshot.cursor:
            return before
        sql = (
            f"SELECT s.ordinal FROM {side_table(collection)} s JOIN {quote(collection)} t ON "
            f"{Reader(snapshot.db, self.schema, {}, self._collations).joined(self.schema.info(collection), 's', 't')}"
            f" WHERE ({condition.replace('{alias}', 't')}) IS NOT TRUE{' AND s.version>?' if cursor else ''}"
        )
        view = view_of(r[0] for r in snapshot.db.execute(sql, (_epoch(cursor),) if cursor else ()))
        if cursor:
            view |= before - snapshot.touched(collection, cursor)
        self._unfit[collection] = [*known, (snapshot.cursor, view)][-_CURSORS:]
        return view

    def count_failure(self, id_: bytes, message: str) -> int:
        """Counts in a transaction of its own."""
        with self._lock, write_transaction(self._writer, self.path):
            self._writer.execute(
                "INSERT INTO ok_failure VALUES(?,1,?) ON CONFLICT DO UPDATE SET count=count+1, message=excluded.message",
                (id_, message),
            )
            return int(self._writer.execute("SELECT count FROM ok_failure WHERE id=?", (id_,)).get)

    def note_device(self, device: bytes, identity: str, seen: float, report: bytes) -> None:
        """Stores when a device was seen and what it reported."""
        with self._lock, write_transaction(self._writer, self.path):
            self._writer.execute(
                "INSERT INTO ok_device(device,identity,turn,previous,request,seen,report) VALUES(?,?,x'',x'',x'',?,?)"
                " ON CONFLICT DO UPDATE SET seen=excluded.seen,report=excluded.report WHERE identity=excluded.identity",
                (device, identity, seen, report),
            )

    def projection(self, hash_: bytes) -> Mapping[str, Sequence[str]] | None:
        """The field lists under a hash."""
        with self._reader() as db:
            found = db.execute("SELECT fields FROM ok_projection WHERE hash=?", (hash_,)).get
        return None if found is None else msgspec.msgpack.decode(found, type=dict[str, list[str]])

    def save_projection(self, hash_: bytes, fields: Mapping[str, Sequence[str]]) -> None:
        """Stores field lists under their hash."""
        with self._lock, write_transaction(self._writer, self.path):
            self._writer.execute("INSERT OR IGNORE INTO ok_projection VALUES(?,?)", (hash_, msgspec.msgpack.encode(fields)))

    def close(self) -> None:
        """Closes every connection; those in use when their users have ended."""
        self._publisher.close()
        with self._lock, self._pool:
            self._closed = True
            for db in (self._writer, *self._idle):
                db.close()
            self._idle.clear()


class SQLiteSnapshot:
    """A read transaction at `cursor`; see `store.port.Snapshot`."""

    def __init__(self, store: SQLiteStore, db: apsw.Connection, cursor: bytes) -> None:
        self.store, self.db, self.cursor = store, db, cursor
        self._unfit: dict[str, View] = {}

    def _read(self) -> Reader:
        return Reader(self.db, self.store.schema, Fits(self.unfit, self.store._fit), self.store._collations)

    def unfit(self, collection: str) -> View:
        """Ordinals of records that the schema cannot hold."""
        if collection not in self._unfit:
            self._unfit[collection] = self.store.fits(self, collection)
        return self._unfit[collection]

    def honoured(self, cursor: bytes) -> bool:
        """Whether the cursor is of this history."""
        return cursor == self.cursor or _published(self.db, cursor)

    def any_touched(self, collections: Iterable[str], cursor: bytes) -> bool:
        """Whether anything was touched after the cursor."""
        after = (_epoch(cursor),)
        return any(self.db.execute(f"SELECT 1 FROM {side_table(c)} WHERE version>? LIMIT 1", after).get for c in collections)

    def touched(self, collection: str, cursor: bytes) -> View:
        """What was touched after the cursor."""
        sql = f"SELECT ordinal FROM {side_table(collection)} WHERE version>?"
        return view_of(row[0] for row in self.db.execute(sql, (_epoch(cursor),)))

    def changed(self, collection: str, cursor: bytes) -> View:
        """What devices can see a change of."""
        return view_of(row[0] for row in self.db.execute(self.store._tracking[collection].changed_sql(), (_epoch(cursor),)))

    def evaluate(self, collection: str, where: Filter, scopes: Scopes, only: View | None = None) -> View:
        """The ordinals in scope that pass."""
        return self._read().evaluate(collection, where, scopes, only)

    def ordinals(self, collection: str, keys: Iterable[Key]) -> View:
        """The ordinals of keys."""
        return self._read().ordinals(collection, keys)

    def step(self, step: Step, origin: View, scopes: Scopes) -> View:
        """The ordinals that a step reaches."""
        return self._read().step(step, origin, scopes)

    def rows(self, collection: str, fields: Sequence[str], view: View) -> Iterator[Sequence[Value]]:
        """The records of a view."""
        return self._read().rows(collection, fields, view)

    def pieces(self, collection: str, fields: Sequence[str], view: View) -> Iterator[tuple[str, bytes]]:
        """The records of a view as pieces."""
        return ((collection, piece) for piece in self._read().pieces(collection, fields, view))

    def query(self, query: Query, fields: Sequence[str], scopes: Scopes) -> tuple[list[Sequence[Value]], int | None]:
        """The rows of a query within the scope."""
        return self._read().query(query, fields, scopes)

    def receipts(self, ids: Iterable[bytes]) -> set[bytes]:
        """Those ids that have receipts here."""
        return {i for i in ids if self.db.execute("SELECT 1 FROM ok_receipt WHERE id=?", (i,)).get}

    def device(self, device: bytes) -> Device | None:
        """What is known of a device."""
        return _device(self.db, device)

    def durable_position(self, before: float) -> int:
        """The newest position published before that time."""
        return durable_position(self.db, before)


class SQLiteUnit:
    """A write transaction; see `store.port.Unit`."""

    def __init__(self, store: SQLiteStore, db: apsw.Connection) -> None:
        self.store, self.connection = store, db
        self.position: int = db.execute("SELECT epoch FROM ok_now").get
        fits = {c: f for c, f in store._fit.items() if f}
        self._reader = Reader(db, store.schema, fits, store._collations)
        self._scopes: Scopes | None = None
        self._scoped: dict[str, tuple[str, list[Value]]] = {}  # of these scopes, by collection

    def _write(self, sql: str, bindings: Key) -> None:
        check_open(self.connection)
        try:
            self.connection.execute(sql, bindings)
        except apsw.ConstraintError as error:
            raise ConstraintViolated(str(error), code_of(error)) from error

    def honoured(self, cursor: bytes) -> bool:
        """Whether the cursor is of this history."""
        return _published(self.connection, cursor)

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undone by an exception; what the file and not the block causes is raised in our words."""
        with mapped(self.store.path), savepoint(self.connection):
            yield

    def get(self, info: CollectionInfo, key: Key) -> dict[str, Value] | None:
        """The record, whatever its scope."""
        try:
            row = next(iter(self.connection.execute(self.store._of_records[info.name].select, key)), None)
        except UnicodeDecodeError as error:
            raise StoreError(f"'{info.name}' {key!r} holds text that is not valid UTF-8; repair it with SQL") from error
        return None if row is None else dict(zip(info.fields, row, strict=True))

    def in_scope(self, info: CollectionInfo, key: Key, scopes: Scopes) -> bool:
        """Whether the record exists, fits and lies in the scope."""
        if scopes is not self._scopes:
            self._scopes, self._scoped = scopes, {}
        if info.name not in self._scoped:
            condition, bindings = self._reader.passing(info.name, scopes, "t")
            where = self.store._of_records[info.name].where
            self._scoped[info.name] = f"SELECT 1 FROM {quote(info.name)} t WHERE {where} AND {condition}", bindings
        sql, bindings = self._scoped[info.name]
        return self.connection.execute(sql, (*key, *bindings)).get is not None

    def place(self, info: CollectionInfo, key: Key) -> tuple[int, int] | None:
        """(ordinal, version) of a key."""
        return next(iter(self.connection.execute(self.store._of_places[info.name].select, key)), None)

    def insert(self, info: CollectionInfo, values: Mapping[str, Value]) -> None:
        """Inserts a record."""
        self._write(self.store._of_records[info.name].insert(*values), tuple(values.values()))

    def update(self, info: CollectionInfo, key: Key, values: Mapping[str, Value]) -> None:
        """Changes fields of a record."""
        if values:
            self._write(self.store._of_records[info.name].update(*values), (*key, *values.values()))

    def delete(self, info: CollectionInfo, key: Key) -> None:
        """Deletes a record."""
        self._write(self.store._of_records[info.name].delete, key)

    def query(self, query: Query, fields: Sequence[str], scopes: Scopes | None) -> tuple[list[Sequence[Value]], int | None]:
        """The rows of a query, with this transaction's own writes."""
        return self._reader.query(query, fields, scopes)

    def begin_receipt(self, id_: bytes, identity: str) -> Receipt | None:
        """Claims a mutation id, or returns the stored receipt."""
        found = self.receipt(id_)
        if found is None:
            sql = "INSERT INTO ok_receipt(id,identity,outcome,position,code) VALUES(?,?,'open',0,'')"
            self.connection.execute(sql, (id_, identity))
        return found

    def complete_receipt(self, receipt: Receipt) -> None:
        """Fills in the claimed receipt."""
        self.connection.execute(
            "UPDATE ok_receipt SET outcome=?,position=?,code=?,body=?,kept=? WHERE id=?",
            (receipt.outcome, receipt.position, receipt.code, receipt.body or None, receipt.kept or None, receipt.id),
        )

    def receipt(self, id_: bytes) -> Receipt | None:
        """A stored receipt."""
        sql = "SELECT id,identity,outcome,position,code,coalesce(body,x''),coalesce(kept,x'') FROM ok_receipt WHERE id=?"
        row = next(iter(self.connection.execute(sql, (id_,))), None)
        return None if row is None else Receipt(*row)

    def compact_receipts(self, before: float, limit: int) -> int:
        """Drops bodies of old receipts."""
        old = "SELECT id FROM ok_receipt WHERE body IS NOT NULL AND position<=? LIMIT ?"  # by the index ok_receipt_whole
        sql = f"UPDATE ok_receipt SET body=NULL WHERE id IN ({old})"
        self.connection.execute(sql, (durable_position(self.connection, before), limit))
        return int(self.connection.changes())

    def device(self, device: bytes) -> Device | None:
        """What is known of a device."""
        return _device(self.connection, device)

    def save_device(self, device: bytes, known: Device, seen: float) -> None:
        """Stores what is known of a device."""
        self.connection.execute(
            "INSERT INTO ok_device(device,identity,turn,previous,request,seen,revoked,confirmed) VALUES(?,?,?,?,?,?,?,?)"
            " ON CONFLICT DO UPDATE SET turn=excluded.turn,previous=excluded.previous,request=excluded.request,"
            "seen=excluded.seen,revoked=excluded.revoked,confirmed=excluded.confirmed",
            (device, known.identity, known.turn, known.previous, known.request, seen, known.revoked, known.confirmed_until),
        )

    def publish(self, now: float) -> bytes:
        """Closes the epoch."""
        return self.store._close_epoch(self.connection, now)


def _device(db: apsw.Connection, device: bytes) -> Device | None:
    sql = "SELECT identity,turn,previous,request,revoked,confirmed FROM ok_device WHERE device=?"
    row = next(iter(db.execute(sql, (device,))), None)
    return None if row is None else Device(row[0], row[1], row[2], row[3], bool(row[4]), row[5])
