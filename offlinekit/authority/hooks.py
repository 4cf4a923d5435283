"""What an intent's hook is given: the changes of a mutation, and a context to read and write with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, Literal, TypeAlias, TypeVar, cast

from attrs import frozen

from offlinekit.exceptions import SchemaError
from offlinekit.expr import Allowed
from offlinekit.query import Page, Query, Select, check_query
from offlinekit.schema import Collection, CollectionInfo, Schema, info_of
from offlinekit.store.port import Unit

__all__ = ["Changes", "Context", "Intent", "Transaction", "Updated", "Writes", "make_intent"]

C = TypeVar("C", bound=Collection)
Operation: TypeAlias = Literal["insert", "update", "delete"]
Writes: TypeAlias = Mapping[type[Collection], str | Iterable[str] | Mapping[str, Iterable[str] | None]]
Hook: TypeAlias = Callable[["Changes", "Context"], None]
_OPERATIONS = ("insert", "update", "delete")


@frozen
class Intent:
    """A declared business action: for each collection, the operations and the fields they may write (None: all)."""

    name: str
    writes: Mapping[str, Mapping[str, frozenset[str] | None]]
    hook: Hook | None = None


def make_intent(name: str, writes: Writes, hook: Hook | None, schema: Schema) -> Intent:
    """Checks a declaration such as `{Order: "insert", Customer: {"update": ["phone"]}}`."""
    made: dict[str, dict[str, frozenset[str] | None]] = {}
    for cls, declared in writes.items():
        info = schema.info(cls)
        if not info.writable:
            raise SchemaError(f"intent '{name}' writes '{info.name}', which is not declared writable=True")
        if isinstance(declared, str):
            declared = [declared]
        operations: Mapping[str, Iterable[str] | None]
        operations = declared if isinstance(declared, Mapping) else dict.fromkeys(declared, None)
        for operation, fields in operations.items():
            if operation not in _OPERATIONS:
                raise SchemaError(f"intent '{name}': unknown operation '{operation}'; known: {', '.join(_OPERATIONS)}")
            allowed = None if fields is None else frozenset(info.field(f).name for f in fields)
            made.setdefault(info.name, {})[operation] = allowed
    return Intent(name, made, hook)


@frozen
class Updated(Generic[C]):
    """A record that a mutation updates: as the authority has it, as it will be (assign to it), and the fields that differ."""

    before: C
    record: C
    fields: frozenset[str]


@frozen
class Edit:
    """One change on its way: what the authority has, and the record that will be written (None: deleted)."""

    info: CollectionInfo
    before: Collection | None
    record: Collection | None
    fields: frozenset[str]


class Changes:
    """What a mutation does. Records in it may be assigned to: that is how an authority gives numbers or corrects values."""

    def __init__(self, intent: str, edits: list[Edit]) -> None:
        self.intent, self._edits = intent, edits

    def _of(self, cls: type[Collection]) -> list[Edit]:
        return [e for e in self._edits if e.info is info_of(cls)]

    def inserted(self, cls: type[C]) -> list[C]:
        """The records that are inserted."""
        return [cast(C, e.record) for e in self._of(cls) if e.before is None and e.record is not None]

    def updated(self, cls: type[C]) -> list[Updated[C]]:
        """The records that are updated."""
        return [
            Updated(cast(C, e.before), cast(C, e.record), e.fields)
            for e in self._of(cls) if e.before is not None and e.record is not None
        ]  # fmt: skip

    def deleted(self, cls: type[C]) -> list[C]:
        """The records that are deleted, as the authority has them."""
        return [cast(C, e.before) for e in self._of(cls) if e.record is None]


class Transaction:
    """Typed reads and writes of the authority's own, in one transaction; no scope applies."""

    def __init__(self, unit: Unit, schema: Schema) -> None:
        self._unit, self._schema = unit, schema

    @property
    def connection(self) -> Any:
        """The database connection of the transaction: an apsw.Connection, or what the store lends (a psycopg connection)."""
        return self._unit.connection

    def get(self, cls: type[C], key: Any) -> C | None:
        """The record with that key, fields that are online_only included."""
        info = self._schema.info(cls)
        row = self._unit.get(info, info.store_key(key))
        return None if row is None else cast(C, info.record(row))

    def select(self, cls: type[C]) -> Select[C]:
        """A typed query."""

        def run(query: Query) -> Page[C]:
            info = check_query(query, self._schema, Allowed("a query", online_only=True))
            rows, total = self._unit.query(query, list(info.fields), None)
            page: Page[C] = Page(cast(C, info.record(dict(zip(info.fields, row, strict=True)))) for row in rows)
            page.total = total
            return page

        return Select(cls, run)

    def insert(self, record: C) -> C:
        """Inserts a record."""
        info = self._schema.info(record)
        self._unit.insert(info, record._stored)
        return record

    def update(self, record: C, **values: Any) -> C:
        """Changes fields of a record; returns it as it is then."""
        info = self._schema.info(record)
        stored = info.store(values)
        self._unit.update(info, info.key_of(record), stored)
        return cast(C, info.record({**record._stored, **stored}))

    def delete(self, record: Collection) -> None:
        """Deletes a record."""
        info = self._schema.info(record)
        self._unit.delete(info, info.key_of(record))


class Context(Transaction):
    """Who asks, and the transaction that the mutation is part of. A hook has no effect outside the database."""

    def __init__(
        self,
        unit: Unit,
        schema: Schema,
        identity: str,
        claims: Mapping[str, Any],
        now: float,
        flush: Callable[[], None],
    ):
        super().__init__(unit, schema)
        self.identity, self.claims, self.now, self._flush = identity, claims, now, flush

    def flush(self) -> None:
        """Writes the mutation's records now, so that the hook can write records that refer to them."""
        self._flush()
