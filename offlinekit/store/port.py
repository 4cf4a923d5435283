"""The ports of an authority's store, with the guarantees that every implementation gives (`offlinekit.testing` checks them).

A **cursor** is opaque bytes: a point of the store's history together with the random mark that tells this history from another
one, such as the time before a backup was restored. A **position** is an integer that grows with the commits of one history.
All values are storage values (`kinds.py`). Every method is synchronous and may be called from any thread of a bounded pool;
a snapshot is used by one thread at a time, a unit by the one that opened it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from attrs import frozen

from offlinekit.changes import Key
from offlinekit.nodes import Filter, Value
from offlinekit.query import Query
from offlinekit.schema import CollectionInfo, Schema
from offlinekit.selection import Step
from offlinekit.view import View

__all__ = ["AuthorityStore", "Device", "Receipt", "Scopes", "Snapshot", "Unit"]

Scopes = Mapping[str, Filter]


@frozen
class Receipt:
    """The durable answer to a mutation; `body` holds the details that the device is shown, `kept` what outlives them."""

    id: bytes
    identity: str
    outcome: str
    position: int
    code: str = ""
    body: bytes = b""
    kept: bytes = b""


@frozen
class Device:
    """What is known of a device: whose it is, the turn that it may use next, and the request that used the turn before."""

    identity: str
    turn: bytes
    previous: bytes
    request: bytes
    revoked: bool = False
    confirmed_until: float = 0.0


class Snapshot(Protocol):
    """One consistent read view of the whole store at `cursor`: it holds exactly what was committed before it."""

    cursor: bytes

    def honoured(self, cursor: bytes) -> bool:
        """Whether the cursor was published in this very history."""
        ...

    def any_touched(self, collections: Iterable[str], cursor: bytes) -> bool:
        """Whether a record of these was written or deleted after the cursor."""
        ...

    def touched(self, collection: str, cursor: bytes) -> View:
        """The ordinals written or deleted after the cursor, and perhaps more."""
        ...

    def changed(self, collection: str, cursor: bytes) -> View:
        """Those of `touched` of which more was written than `online_only` fields; inserted and replaced ones among them."""
        ...

    def evaluate(self, collection: str, where: Filter, scopes: Scopes, only: View | None = None) -> View:
        """The ordinals of the records in scope that pass the filter, each relation step bounded by its scope."""
        ...

    def ordinals(self, collection: str, keys: Iterable[Key]) -> View:
        """The ordinals of keys; unknown keys are left out."""
        ...

    def step(self, step: Step, origin: View, scopes: Scopes) -> View:
        """The ordinals in scope that the step reaches from the origin's; backward, of vanished ones too, by their keys."""
        ...

    def rows(self, collection: str, fields: Sequence[str], view: View) -> Iterator[Sequence[Value]]:
        """(ordinal, field, …) of each record of the view, in the order of ordinals."""
        ...

    def pieces(self, collection: str, fields: Sequence[str], view: View) -> Iterator[tuple[str, bytes]]:
        """The same records as pieces that travel (`store/pieces.py`), each with the collection's name; memory is that of a piece.

        They may be taken by another thread than the one that asked for them, as long as no other uses the snapshot.
        """
        ...

    def query(self, query: Query, fields: Sequence[str], scopes: Scopes) -> tuple[list[Sequence[Value]], int | None]:
        """The rows of a checked query within the scope, and the total if it was asked for."""
        ...

    def receipts(self, ids: Iterable[bytes]) -> set[bytes]:
        """Those of the mutations whose receipts this snapshot holds."""
        ...

    def unfit(self, collection: str) -> View:
        """The ordinals of records that the declared schema cannot hold; they are left out of everything."""
        ...

    def device(self, device: bytes) -> Device | None:
        """What is known of a device."""
        ...

    def durable_position(self, before: float) -> int:
        """The newest position published before that time (seconds since 1970)."""
        ...


class Unit(Protocol):
    """One write transaction: atomic, serialisable, durable when it has committed. Writes raise ConstraintViolated."""

    connection: Any
    position: int

    def honoured(self, cursor: bytes) -> bool:
        """As of a snapshot."""
        ...

    def savepoint(self) -> AbstractContextManager[None]:
        """What is done inside is undone when an exception leaves it."""
        ...

    def get(self, info: CollectionInfo, key: Key) -> dict[str, Value] | None:
        """The record, whatever its scope."""
        ...

    def in_scope(self, info: CollectionInfo, key: Key, scopes: Scopes) -> bool:
        """Whether the record exists, fits the schema and lies in the scope."""
        ...

    def place(self, info: CollectionInfo, key: Key) -> tuple[int, int] | None:
        """(ordinal, version) of a key, the version being comparable with positions."""
        ...

    def insert(self, info: CollectionInfo, values: Mapping[str, Value]) -> None:
        """Inserts a record."""
        ...

    def update(self, info: CollectionInfo, key: Key, values: Mapping[str, Value]) -> None:
        """Changes fields of a record."""
        ...

    def delete(self, info: CollectionInfo, key: Key) -> None:
        """Deletes a record."""
        ...

    def query(self, query: Query, fields: Sequence[str], scopes: Scopes | None) -> tuple[list[Sequence[Value]], int | None]:
        """As of a snapshot, with this transaction's own writes; without scopes: everything."""
        ...

    def begin_receipt(self, id_: bytes, identity: str) -> Receipt | None:
        """Claims a mutation id; the stored receipt if it was claimed before, waiting for a transaction that has it."""
        ...

    def complete_receipt(self, receipt: Receipt) -> None:
        """Fills in the claimed receipt."""
        ...

    def receipt(self, id_: bytes) -> Receipt | None:
        """A stored receipt."""
        ...

    def compact_receipts(self, before: float, limit: int) -> int:
        """Drops the bodies of up to `limit` receipts whose positions were published before that time; returns of how many."""
        ...

    def device(self, device: bytes) -> Device | None:
        """What is known of a device."""
        ...

    def save_device(self, device: bytes, known: Device, seen: float) -> None:
        """Stores it."""
        ...

    def publish(self, now: float) -> bytes:
        """A cursor for what this transaction leaves behind, to be given out after the commit."""
        ...


class AuthorityStore(Protocol):
    """The system of record behind an authority."""

    secret: bytes

    def bind(self, schema: Schema) -> None:
        """Creates missing tables and tracking; called once, before anything else."""
        ...

    def now(self) -> float:
        """The store's clock, seconds since 1970."""
        ...

    def snapshot(
        self, *, age_s: float = 0.0, enough: Callable[[Snapshot], bool] | None = None
    ) -> AbstractContextManager[Snapshot]:
        """A snapshot at a published cursor. Raises NotTracked when the changes of a collection may go unseen.

        It holds everything that was committed before the call, unless an age is given: then it may be one that others use
        too and that is younger than `age_s`, provided that it is `enough`.
        """
        ...

    def unit(self) -> AbstractContextManager[Unit]:
        """A write transaction: committed when the block ends, rolled back by an exception."""
        ...

    def count_failure(self, id_: bytes, message: str) -> int:
        """Counts an unexpected error of a mutation in a transaction of its own; returns how many there were."""
        ...

    def note_device(self, device: bytes, identity: str, seen: float, report: bytes) -> None:
        """For the operator's insight: when a device was last seen and what it reported."""
        ...

    def projection(self, hash_: bytes) -> Mapping[str, Sequence[str]] | None:
        """The field lists that a device declared under this hash."""
        ...

    def save_projection(self, hash_: bytes, fields: Mapping[str, Sequence[str]]) -> None:
        """Stores them."""
        ...

    def close(self) -> None:
        """Releases everything."""
        ...
