"""A local transaction: typed writes, raw SQL, reads that see both; durable when the block ends.

A transaction belongs to the thread and task that opened it. Use elsewhere, nesting, or an `await` inside raises StateError: two
threads on one connection would lose the second's writes when the first rolls back, silently.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast

import apsw

from offlinekit.changes import Mutation
from offlinekit.exceptions import ConstraintViolated, InvalidValue, RecordNotFound, StateError
from offlinekit.expr.sql import quote
from offlinekit.nodes import Value
from offlinekit.query import Select
from offlinekit.schema import Collection, CollectionInfo
from offlinekit.store.sqlite.connection import check_open, mapped
from offlinekit.store.sqlite.replica_store import APPLYING, CAPTURING, DEVICE_ONLY
from offlinekit.store.sqlite.statements import Statements

if TYPE_CHECKING:  # pragma: no cover
    from offlinekit.replica.mutations import MutationHandle  # layer-exempt: the type of what made it
    from offlinekit.replica.replica import Replica  # layer-exempt: the type of what made it

__all__ = ["Owner", "Transaction"]

C = TypeVar("C", bound=Collection)
_ELSEWHERE = "a transaction belongs to the thread and task that opened it; open one there, or pass the values across"


class Owner:
    """The thread and task that something belongs to."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.task = _task()

    def here(self) -> bool:
        """Whether the caller runs in the same thread and task."""
        return self.thread == threading.get_ident() and self.task is _task()


def _task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


class Transaction:
    """Use as `with replica.transaction("place_order") as tx:`; afterwards `tx.mutation` is the mutation's handle."""

    def __init__(self, replica: Replica, intent: str | None, *, replaces: bytes | None = None,
                 before: Callable[[], None] | None = None,
                 after: Callable[[Mutation | None], None] | None = None) -> None:  # fmt: skip
        self._replica, self._store, self._intent = replica, replica.store, intent
        self._replaces, self._before, self._after = replaces, before, after
        self._owner: Owner | None = None
        self._open = self._awaited = False
        self._mutation: Mutation | None = None

    # -- the block

    def __enter__(self) -> Transaction:
        if self._owner is not None:
            raise StateError("a transaction is used once; open another with replica.transaction()")
        self._replica.claim_writer(self)
        try:
            self._owner = Owner()
            self._watch_for_await()
            self._store.begin(CAPTURING if self._intent is not None else DEVICE_ONLY)
            self._open = True
            if self._before is not None:
                with mapped(self._store.path):
                    self._before()
        except BaseException:
            self._finish(rollback=True)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._owner is None or self._owner.thread != threading.get_ident():
            raise StateError(_ELSEWHERE)
        try:
            if kind is None:
                self._check()
                self._commit()
        except BaseException:
            self._finish(rollback=True)
            raise
        changed = self._finish(rollback=kind is not None)
        if kind is None:
            self._replica.committed(changed, sent=self._mutation is not None)

    def _commit(self) -> None:
        with mapped(self._store.path):
            self._capture()
        self._store.commit()
        if self._store.recorder is not None and self._mutation is not None:
            self._store.recorder.committed(self._mutation, self._replaces)

    def _capture(self) -> None:
        if self._intent is not None:
            self._store.gate(APPLYING)
            self._mutation = self._store.outbox.capture(self._replica.new_id(), self._intent, self._replica.now())
            if self._after is not None:
                self._after(self._mutation)

    def _finish(self, *, rollback: bool) -> set[str]:
        self._open = False
        try:
            if rollback:
                self._store.rollback()
        finally:
            changed = self._replica.release_writer(self)
        return set() if rollback else changed

    def _watch_for_await(self) -> None:
        """When the event loop runs anything else while the transaction is open, somebody awaited inside it."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return

        def notice() -> None:
            self._awaited = self._awaited or self._open

        loop.call_soon(notice)

    def _check(self) -> None:
        if self._owner is None or not self._owner.here():
            raise StateError(_ELSEWHERE)
        if self._awaited:
            raise StateError("an await inside a transaction would let others in; collect what you need before it")
        if not self._open:
            raise StateError("the transaction is over")
        check_open(self._store.db)

    # -- reading

    def get(self, collection: type[C], key: Any) -> C | None:
        """The record with that key as this transaction sees it."""
        self._check()
        return self._replica.get(collection, key)

    def select(self, collection: type[C]) -> Select[C]:
        """A typed query that sees this transaction's writes."""
        self._check()
        return self._replica.select(collection)

    # -- writing

    def _info(self, record: Collection) -> CollectionInfo:
        self._check()
        info = self._replica.schema.info(record)
        if self._intent is None and not info.device_only:
            raise StateError(f"'{info.name}' is replicated: write it in replica.transaction('intent')")
        if not info.device_only and not info.writable:
            raise StateError(f"devices do not write '{info.name}'; declare it writable=True and give it an intent")
        return info

    def _execute(self, sql: str, bindings: Sequence[Value]) -> None:
        try:
            with mapped(self._store.path):
                self._store.db.execute(sql, tuple(bindings))
        except apsw.ConstraintError as error:
            raise _constraint(error) from error

    def insert(self, record: C) -> C:
        """Inserts a new record and returns it."""
        info = self._info(record)
        names = info.fields if info.device_only else info.replicated
        values = [record._stored[n] if n in record._stored else info.fields[n].initial() for n in names]
        try:
            self._execute(_insertion(info), values)
        except ConstraintViolated:
            if self._store.get(info, info.key_of(record), self._store.db) is None:
                raise
            raise ConstraintViolated(f"'{info.name}' has a record {info.load_key(info.key_of(record))!r} already") from None
        return record

    def update(self, record: C, **values: Any) -> C:
        """Changes fields of a record, by its key, and returns it as it is then."""
        info = self._info(record)
        stored = info.store(values)
        for name in stored:
            if name in info.key:
                raise InvalidValue(info.name, name, values[name], "a key never changes; delete and insert instead")
            if info.fields[name].online_only:
                raise InvalidValue(info.name, name, values[name], "it is online_only and not held here")
        key = info.key_of(record)
        found = self._store.get(info, key, self._store.db)
        if found is None:
            raise RecordNotFound(info.name, key)
        if stored:
            self._execute(_by_key(info).update(*stored), (*key, *stored.values()))
        return cast(C, info.record({**found[1], **stored}))

    def delete(self, record: Collection) -> None:
        """Deletes a record, by its key."""
        info = self._info(record)
        key = info.key_of(record)
        if self._store.get(info, key, self._store.db) is None:
            raise RecordNotFound(info.name, key)
        self._execute(_by_key(info).delete, key)

    def execute(self, sql: str, bindings: Sequence[Value] | Mapping[str, Value] = ()) -> list[tuple[Value, ...]]:
        """One SELECT, INSERT, UPDATE or DELETE of the application's, with storage values; returns all rows.

        What it writes is captured like typed writes. DDL, ATTACH, COMMIT and offlinekit's own tables are refused.
        """
        self._check()
        try:
            return self._replica.raw(self._store.db, sql, bindings, write=True)
        except apsw.ConstraintError as error:
            raise _constraint(error) from error

    @property
    def mutation(self) -> MutationHandle:
        """The mutation that this transaction became; raises StateError if it changed nothing that is replicated."""
        if self._mutation is None:
            raise StateError("the transaction is still open, or it changed nothing that is replicated")
        return self._replica.mutation(self._mutation.id)


@lru_cache
def _by_key(info: CollectionInfo) -> Statements:
    return Statements(info.name, info.key, info.key)


@lru_cache
def _insertion(info: CollectionInfo) -> str:
    """Inserts a record; one that the authority is to know of under the next local ordinal."""
    table, names = quote(info.name), list(info.fields if info.device_only else info.replicated)
    marks = ["?"] * len(names)
    if not info.device_only:
        names, marks = ["_ordinal", *names], [f"(SELECT min(0,coalesce(min(_ordinal),0))-1 FROM {table})", *marks]
    return f"INSERT INTO {table}({','.join(map(quote, names))}) VALUES({','.join(marks)})"


def _constraint(error: apsw.ConstraintError) -> Exception:
    message = str(error)
    if message.startswith("offlinekit: "):
        return StateError(message.removeprefix("offlinekit: "))
    return ConstraintViolated(message)
