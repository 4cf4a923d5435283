"""Changes, mutations and their outcomes as values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Literal, TypeAlias
from uuid import UUID

import msgspec
from attrs import field, frozen

from offlinekit.nodes import Value
from offlinekit.view import View

__all__ = [
    "Change",
    "GroupDelta",
    "Key",
    "Mutation",
    "Op",
    "Outcome",
    "PartDelta",
    "RecordOutcome",
    "State",
    "decode_key",
    "encode_key",
    "record_digest",
]

Key: TypeAlias = tuple[Value, ...]
Op: TypeAlias = Literal["insert", "update", "delete"]
State: TypeAlias = Literal["pending", "parked", "accepted", "transformed", "rejected"]

_pack = msgspec.msgpack.encode


def encode_key(key: Sequence[Value]) -> bytes:
    """A key as canonical bytes."""
    return _pack(list(key))


def decode_key(data: bytes) -> Key:
    """The inverse of `encode_key`."""
    return tuple(msgspec.msgpack.decode(data, type=list[Any]))


def record_digest(values: Iterable[Value]) -> bytes:
    """12 bytes of SHA-256 over the replicated fields of a record, in the order of the projection."""
    return sha256(_pack(list(values))).digest()[:12]


@frozen
class Change:
    """What one mutation does to one record.

    `before` holds the changed fields as they were shown before the mutation, `after` as it leaves them (an insertion: all
    fields; a deletion: none). `digest` is of the whole record before the mutation, empty for an insertion.
    """

    collection: str
    key: Key
    op: Op
    before: Mapping[str, Value] = field(factory=dict)
    after: Mapping[str, Value] = field(factory=dict)
    digest: bytes = b""


@frozen
class Mutation:
    """The changes of one local transaction, with its id and the intent it stands for.

    `projection` names the field lists over which the digests were taken.
    """

    id: UUID
    intent: str
    after: tuple[UUID, ...]
    changes: tuple[Change, ...]
    projection: bytes = b""


@frozen
class RecordOutcome:
    """A record after a mutation: its ordinal if it was inserted, its replicated fields if they differ from what was sent."""

    collection: str
    key: Key
    ordinal: int = 0
    values: Mapping[str, Value] | None = None
    gone: bool = False


@frozen
class Outcome:
    """The authority's answer to one mutation."""

    id: bytes
    state: State
    position: int = 0
    code: str = ""
    message: str = ""
    fields: tuple[str, ...] = ()
    records: tuple[RecordOutcome, ...] = ()


@frozen
class PartDelta:
    """The difference of one collection: rows of (ordinal, field, …), ordinals to drop, and what the view is afterwards.

    `image`: it is the difference to an image that comes with it; to what is held, `moved` records differ.
    """

    digest: bytes
    put: Sequence[Sequence[Value]] = ()
    drop: View = field(factory=View)
    added_fields: tuple[str, ...] = ()
    added: Sequence[Sequence[Value]] = ()
    in_file: int = 0
    image: bool = False
    moved: int = 0


@frozen
class GroupDelta:
    """The difference of a group of collections, applied in one transaction with its token and cursor."""

    collections: Mapping[str, PartDelta]
    token: bytes
    cursor: bytes
