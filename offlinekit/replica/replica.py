"""The replica: open, read, write, choose, sync."""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any, TypeVar, cast
from uuid import UUID

import apsw
import tzlocal

from offlinekit.changes import Change, Mutation
from offlinekit.clock import Clock, at
from offlinekit.configurator.configuration import Configuration
from offlinekit.exceptions import SelectionExpired, StateError
from offlinekit.expr import Allowed, Bounds, Compiler, resolve
from offlinekit.expr.sql import quote
from offlinekit.ids import RandomBytes, uuid7
from offlinekit.nodes import Value
from offlinekit.offer import Offer
from offlinekit.query import Page, Query, Select, check_query
from offlinekit.recording import DeviceRecording, Mask
from offlinekit.recording.lines import LIMIT
from offlinekit.replica.choosing import ReplicaDesk
from offlinekit.replica.link import AsyncLink, Link, refuse_loop
from offlinekit.replica.mutations import MutationHandle, Rejection
from offlinekit.replica.remote import Remote
from offlinekit.replica.transaction import Owner, Transaction
from offlinekit.replica.why import Reason, reasons
from offlinekit.schema import Collection, CollectionInfo, Schema
from offlinekit.selection import Selection
from offlinekit.store.recorder import Recorder
from offlinekit.store.sqlite import overlay
from offlinekit.store.sqlite.connection import mapped
from offlinekit.store.sqlite.replica_ddl import before_table
from offlinekit.store.sqlite.replica_store import ReplicaStore
from offlinekit.store.sqlite.verifying import Verified, verified, want_verification
from offlinekit.sync import Driver
from offlinekit.transport.port import Transport
from offlinekit.watch import Watchers, live

__all__ = ["Reason", "Replica"]

C = TypeVar("C", bound=Collection)


class Replica:
    """A device's copy in one SQLite file, for one identity. May be used from every thread and task; `open` makes one."""

    def __init__(self, store: ReplicaStore, offer: Offer, zone: str) -> None:
        self.store, self.schema, self.offer, self.zone = store, store.schema, offer, zone
        self.identity = store.identity
        self.remote = Remote(self)
        self.watchers = Watchers()
        self._driver: Driver | None = None
        self._link: Link | AsyncLink | None = None
        self._transaction: Transaction | None = None
        self._writer: Owner | None = None
        self._changed: set[str] = set()
        self._answered = threading.Condition()
        store.db.set_update_hook(self._noticed)

    @classmethod
    def open(cls, path: str | os.PathLike[str], schema: Schema, *, offer: Offer | None = None, identity: str,
             zone: str | None = None, clock: Clock | None = None,
             random: RandomBytes = secrets.token_bytes) -> Replica:  # fmt: skip
        """Opens the file, or creates it. `zone` is where the user's days begin (default: this machine's).

        Raises StoreTooNew, IdentityMismatch, StoreCorrupt or SchemaError, with the file untouched.
        """
        offer = offer or Offer()
        offer.check(schema)
        store = ReplicaStore(path, schema, identity, clock=clock, random=random)
        return cls(store, offer, zone or tzlocal.get_localzone_name() or "UTC")

    def close(self) -> None:
        """Stops the sync and closes the file."""
        if isinstance(self._link, Link):
            self._link.stop()
        if self.store.recorder is not None:
            self.store.recorder.stop()
        self.store.close()

    def __enter__(self) -> Replica:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def now(self) -> float:
        """Seconds since 1970 by this device's clock, corrected by the offset at the last answer."""
        return self.store.clock.now() + float(self.store.meta("offset", self.reader()))

    def new_id(self) -> UUID:
        """A time-ordered id."""
        return uuid7(int(self.store.clock.now() * 1000), self.store.random(10))

    # -- reading

    def reader(self) -> apsw.Connection:
        """The connection to read through: inside one's own transaction the writing one, so that its writes are seen."""
        if self._writer is not None and self._writer.here() and not self.store.db.get_autocommit():
            return self.store.db
        return self.store.reader()

    def get(self, collection: type[C], key: Any) -> C | None:
        """The record with that key, or None."""
        info, db = self.schema.info(collection), self.reader()
        found = self.store.get(info, info.store_key(key), db)
        extra = self._expired_condition(info, db)
        if found is None and extra is None:
            return None
        if extra is not None:
            sql = f"SELECT 1 FROM {quote(info.name)} r WHERE r._ordinal=? AND {extra}"
            if found is None or db.execute(sql, (found[0],)).get is None:
                raise self._expired(info.name)
        assert found is not None
        return cast(C, info.record(found[1]))

    def select(self, collection: type[C]) -> Select[C]:
        """A typed query over what is held: `.where(…).search(…).order_by(…).limit(…).all()`."""
        return Select(collection, self.run_query)

    def run_query(self, query: Query) -> Page[Any]:
        """Runs a query over what is held."""
        info, db = check_query(query, self.schema, Allowed("a local query")), self.reader()
        extra = self._expired_condition(info, db) or ""
        if extra == "0":
            raise self._expired(info.name)
        rows, total = self.store.select(query, db, extra)
        names = list(info.fields) if info.device_only else list(info.replicated)
        page: Page[Any] = Page(info.record(dict(zip(names, row, strict=True))) for row in rows)
        page.total = total
        if query.limit is not None and len(rows) == query.limit and rows:
            last = dict(zip(names, rows[-1], strict=True))
            page.next = tuple(last[n] for n, _ in query.order) + tuple(last[k] for k in info.key)
        return page

    def sql(self, statement: str, bindings: Sequence[Value] | Mapping[str, Value] = ()) -> list[tuple[Value, ...]]:
        """One SELECT over the replica's tables, in storage values; table and field names are those of the schema."""
        return self.raw(self.reader(), statement, bindings, write=False)

    def raw(self, db: apsw.Connection, statement: str, bindings: Sequence[Value] | Mapping[str, Value], *,
            write: bool) -> list[tuple[Value, ...]]:  # fmt: skip
        """One statement of the application; after the selection's end over device-only tables alone."""
        return self.store.raw(db, statement, bindings, write=write, expired=self.valid_until if self.expired else None)

    def _expired_condition(self, info: CollectionInfo, db: apsw.Connection) -> str | None:
        """None while the selection is valid; then the condition over `r` that a record may still be read, "0" for none."""
        if info.device_only or not self.expired:
            return None
        parts = []
        if info.writable and db is self.store.db:  # inside a correction: what it writes, and what it corrects
            same = " AND ".join(f"b.{quote(k)}=r.{quote(k)}" for k in info.key)
            parts.append(f"EXISTS(SELECT 1 FROM {before_table(info.name)} b WHERE {same})")
        if db.execute(f"SELECT 1 FROM {quote(info.name)} WHERE _ordinal<0 LIMIT 1").get:
            parts.append("r._ordinal<0")
        if db.execute("SELECT 1 FROM ok_created WHERE collection=? LIMIT 1", (info.name,)).get:
            parts.append(f"r._ordinal IN (SELECT ordinal FROM ok_created WHERE collection='{info.name}')")
        claims = self.store.meta("claims", db) or {}
        for item in self.offer.always:
            if item.collection == info.name:
                compiler = Compiler(self.schema)
                where = resolve(item.where, self.schema, claims=claims, params={}, bounds=Bounds(self.now(), self.zone))
                head, *rest = compiler.condition(where, "r").split("?")  # values are bound, so that no other ? stands in it
                values = map(apsw.format_sql_value, compiler.bindings)
                parts.append(head + "".join(value + part for value, part in zip(values, rest, strict=True)))
        return f"({' OR '.join(parts)})" if parts else "0"

    # -- writing

    def transaction(self, intent: str | None = None) -> Transaction:
        """A local transaction: `with replica.transaction("place_order") as tx`. Without an intent: device-only collections."""
        if intent is not None:
            self.schema.intent(intent)
            if self.expired:
                raise self._expired("what a new document needs")
        return Transaction(self, intent)

    def claim_writer(self, transaction: Transaction) -> None:
        """Waits for the writer; refuses a second transaction of the same thread."""
        if self._writer is not None and self._writer.thread == threading.get_ident():
            raise StateError("a transaction is open in this thread already; transactions do not nest")
        self.store.lock.acquire()
        self._transaction, self._writer = transaction, Owner()
        self._changed = set()

    def release_writer(self, transaction: Transaction) -> set[str]:
        """Lets the next one write; returns the collections that were written."""
        changed, self._changed = self._changed, set()
        self._transaction = self._writer = None
        self.store.lock.release()
        return changed

    def committed(self, changed: set[str], *, sent: bool) -> None:
        """Tells watchers and the driver of a commit."""
        self.tell(changed)
        if sent and self._driver is not None:
            self._driver.wake()

    def _noticed(self, _kind: int, _database: str, table: str, _rowid: int) -> None:
        if table in self.schema.collections:
            self._changed.add(table)

    # -- mutations

    def mutation(self, id_: UUID) -> MutationHandle:
        """A mutation of this replica by its id."""
        return MutationHandle(self, id_)

    def pending(self) -> list[MutationHandle]:
        """The mutations without an answer, oldest first."""
        return [MutationHandle(self, UUID(bytes=r["id"])) for r in self.mutation_rows("state='pending'")]

    def parked(self) -> list[MutationHandle]:
        """The mutations that wait for a refused one, oldest first."""
        return [MutationHandle(self, UUID(bytes=r["id"])) for r in self.mutation_rows("state='parked'")]

    def rejections(self) -> list[Rejection]:
        """The refused mutations that the user has not resolved, oldest first."""
        return [Rejection(self, row) for row in self.mutation_rows("state='rejected'")]

    def mutation_rows(self, where: str, bindings: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Mutations as plain data."""
        names = ("id", "intent", "state", "sent", "created", "code", "message", "fields")
        sql = f"SELECT {','.join(names)} FROM ok_mutation WHERE {where} ORDER BY seq"
        with mapped(self.store.path):
            return [dict(zip(names, row, strict=True)) for row in self.reader().execute(sql, tuple(bindings))]

    def changes_of(self, id_: bytes) -> list[Change]:
        """What a mutation does."""
        with self.store.lock:
            seq = self.store.outbox.seq_of(id_)
            return [] if seq is None else self.store.outbox.changes(seq)

    def waiting_for(self, id_: bytes) -> list[UUID]:
        """The mutations that wait for one."""
        with self.store.lock:
            seqs = self.store.outbox.dependents(id_)
            return [self.store.outbox.mutation(seq).id for seq in seqs]

    def resolve(self, id_: bytes, code: str) -> None:
        """Gives a mutation up; what waits for it is refused with the code."""
        with self._writing(lambda recorder: recorder.resolved(id_, code)) as db:
            if self.store.recorder is not None:
                self.store.recorder.touching(id_)
            overlay.rebuild_all(db, self.schema, self.store.outbox.discard(id_, code))

    def correction(self, id_: bytes) -> Transaction:
        """A transaction that starts from a mutation's changes and replaces it."""
        outbox = self.store.outbox
        with self.store.lock:
            seq = outbox.check_resolvable(id_)
            intent = next(iter(self.store.db.execute("SELECT intent FROM ok_mutation WHERE seq=?", (seq,))))[0]

        def before() -> None:
            if outbox.check_resolvable(id_) != seq:
                raise StateError("the mutation was resolved meanwhile")
            self.store.gate(2)
            later = outbox.dependents(id_)  # unsent ones still lie over it: they follow the correction, not the other way round
            dirty = [place for n in (seq, *later) for place in overlay.untouch(self.store.db, n)]
            overlay.rebuild_all(self.store.db, self.schema, dirty)
            if self.store.recorder is not None:
                self.store.recorder.touching(id_)
            self.store.gate(1)
            outbox.replay(seq)

        def after(new: Mutation | None) -> None:
            if new is None:
                raise StateError(
                    "the correction changes nothing, so the refusal stays; discard() it if it is not wanted any more"
                )
            overlay.rebuild_all(self.store.db, self.schema, outbox.replace(id_, new))

        return Transaction(self, intent, replaces=id_, before=before, after=after)

    @contextmanager
    def _writing(self, told: Callable[[Recorder], None]) -> Iterator[apsw.Connection]:
        """A write transaction, of which a recorder is told once it is committed."""
        if self._writer is not None and self._writer.thread == threading.get_ident():
            raise StateError("not inside a transaction; end it first")
        with self.store.lock:
            self._changed = set()
            with self.store.write() as db:
                yield db
            if self.store.recorder is not None:
                told(self.store.recorder)
            changed, self._changed = self._changed, set()
        self.tell(changed)

    # -- choosing

    @property
    def selection(self) -> Selection:
        """The saved selection, also where this program's offer no longer holds all of it; see `selection_problem`."""
        data = self.store.meta("selection", self.reader())
        return Selection() if data is None else Selection.decode(data, self.schema, None)

    @property
    def selection_problem(self) -> str:
        """What this program's offer no longer holds of the saved selection, so that the user must choose anew; else empty."""
        return self.selection.problem(self.schema, self.offer)

    @property
    def valid_until(self) -> datetime | None:
        """Until when what is held may be read; None: without end.

        What was pulled decides: a selection that is saved and not pulled yet neither unlocks nor locks anything.
        """
        data = self._held_selection()
        until = None if data is None else Selection.until_of(data)
        return None if until is None else at(until)

    @property
    def held_selection(self) -> Selection:
        """The selection that was pulled last: what is held answers to it, also while a newer one waits for the next pull."""
        data = self._held_selection()
        return Selection() if data is None else Selection.decode(data, self.schema, None)

    def _held_selection(self) -> bytes | None:
        db = self.reader()
        data: bytes | None = self.store.meta("selected", db) or self.store.meta("selection", db)
        return data

    @property
    def expired(self) -> bool:
        """Whether the selection is over, by this device's clock as corrected by the last answer."""
        until = self.valid_until
        return until is not None and self.now() >= until.timestamp()

    def _expired(self, what: str) -> SelectionExpired:
        return SelectionExpired(what, self.valid_until or at(0))

    def configure(self, start: Selection | bytes | None = None) -> Configuration:
        """Starts a new selection, or goes on with one that was kept (`configuration.selection`, or its `encode()`)."""
        if isinstance(start, bytes):
            start = Selection.decode(start, self.schema, None)
        return Configuration(ReplicaDesk(self), start)

    def renew_selection(self) -> Selection:
        """Saves the same choices once more, valid anew: "repeat yesterday's"; offline too, for the next pull."""
        return self.configure().renew().save()

    def save_selection(self, selection: Selection) -> None:
        """Makes a selection active from the next pull on; `configure()` makes selections."""
        data = selection.encode()
        with self._writing(lambda recorder: recorder.selected(data)):
            self.store.set_meta("selection", data)
        if self._driver is not None:
            self._driver.wake()

    def why(self, record: Collection) -> list[Reason]:
        """Every quick filter, condition, pick, include, offer or own creation that holds a record; empty: nothing does."""
        return reasons(self, record)

    # -- verifying

    def verify(self, timeout: float | None = None) -> Verified:
        """Compares everything held with the authority, mends what differs, and tells what that was; needs a running sync.

        Another program or a dying disk may have damaged the file; what crosses the wire grows with the damage alone. Raises
        NotSynced when it could not be done in time: it is then part of the next pull that goes through.
        """
        if self._link is None or isinstance(self._link, AsyncLink):
            raise StateError("verify() needs a sync that runs: replica.start_sync(…); with keep_synced await link.verify()")
        return self._link.verify(timeout)

    def want_verification(self) -> None:
        """Makes the next pull verify, without waiting for it; it is remembered in the file."""
        with self.store.lock:
            want_verification(self.store)
            if self.store.recorder is not None:
                self.store.recorder.wanted()
        if self._driver is not None:
            self._driver.wake()

    @property
    def verified(self) -> Verified | None:
        """The last verification that was finished, or None."""
        return verified(self.store)

    # -- recording

    def record(self, path: str | os.PathLike[str], *, mask: Mask = None, limit: int = LIMIT) -> DeviceRecording:
        """Writes down what happens from now on, in a file of at most `limit` bytes, until `stop()` or the end of a `with` block.

        It starts with everything that is held. `mask`: "text", or fields, whose values are replaced by pseudonyms. What this
        program records, `offlinekit.testing.replay` plays over a new replica. Raises StateError when a recording runs already,
        FileExistsError, and SchemaError for fields that cannot be masked.
        """
        return DeviceRecording(self.store, path, mask=mask, limit=limit)

    # -- syncing

    def _make_driver(self, transport: Transport, every: float) -> Driver:
        if self._driver is not None:
            raise StateError("a sync runs already; stop it first")
        self._driver = Driver(self.store, transport, every=every, tell=self.tell, problem=lambda: self.selection_problem)
        return self._driver

    def start_sync(self, transport: Transport, *, every: float = 30.0) -> Link:
        """Syncs in a thread of its own: at once, after every commit or save, and every so many seconds."""
        self._link = link = Link(self, self._make_driver(transport, every))
        return link

    @asynccontextmanager
    async def keep_synced(self, transport: Transport, *, every: float = 30.0) -> AsyncIterator[AsyncLink]:
        """The same on the caller's event loop: `async with replica.keep_synced(transport) as link`."""
        driver = self._make_driver(transport, every)
        driver.loop = asyncio.get_running_loop()
        self._link = link = AsyncLink(self, driver)
        task = asyncio.create_task(driver.run())
        try:
            yield link
        finally:
            driver.stop()
            await task
            self.unlink(driver)

    def unlink(self, driver: Driver) -> None:
        """Forgets a driver that has ended."""
        if self._driver is driver:
            self._driver = self._link = None

    @property
    def driver(self) -> Driver | None:
        """The running driver, if there is one."""
        return self._driver

    @property
    def link(self) -> Link | AsyncLink | None:
        """The running sync, if there is one."""
        return self._link

    def refuse_loop(self, instead: str) -> None:
        """Raises StateError on a running event loop."""
        refuse_loop(instead)

    # -- being told

    def tell(self, changed: set[str]) -> None:
        """Tells watchers of changed collections, and whoever waits for an answer."""
        self.watchers.tell(changed)
        with self._answered:
            self._answered.notify_all()

    def wait_until(self, condition: Callable[[], bool], timeout: float | None) -> bool:
        """Blocks until the condition holds, looked at after every change; whether it does."""
        with self._answered:
            return self._answered.wait_for(condition, timeout)

    def on_change(self, callback: Callable[[frozenset[str]], object], *collections: type[Collection]) -> Callable[[], None]:
        """Calls back with the names of changed collections, in the thread that made the change; returns what ends it."""
        return self.watchers.add(callback, [self.schema.info(c).name for c in collections])

    def watch(self, select: Select[C]) -> AsyncGenerator[Page[C], None]:
        """The records of a query now, and again whenever they change: `async for page in replica.watch(…)`."""
        return live(self.watchers, select)
