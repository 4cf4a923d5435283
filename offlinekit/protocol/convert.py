"""Between messages and the values that stores and sessions use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from offlinekit.changes import GroupDelta, Mutation, Outcome, PartDelta, RecordOutcome, State
from offlinekit.exceptions import ProtocolError, shown
from offlinekit.protocol import messages as m
from offlinekit.view import unpack_view

__all__ = ["checked", "group_delta", "outcome_of", "wire_mutation"]

_OUTCOMES = ("accepted", "transformed", "rejected", "parked")


def checked(rows: Iterable[Sequence[Any]], width: int | None = None) -> None:
    """Raises ProtocolError unless every row holds storage values only, `width` of them if that is given."""
    for row in rows:
        if width is not None and len(row) != width:
            raise ProtocolError(f"a record of {len(row)} values stands where one of {width} is needed")
        for value in row:
            if not (
                value is None or isinstance(value, str | float | bytes) or (type(value) is int and -(2**63) <= value < 2**63)
            ):
                raise ProtocolError(f"{shown(value, 40)} is no value that a field can hold")


def wire_mutation(mutation: Mutation, projection: bytes) -> m.WireMutation:
    """A mutation as it is sent; the field lists are named only where they are not the request's."""
    changes = [
        m.WireChange(collection=c.collection, key=list(c.key), op=c.op, before=dict(c.before), after=dict(c.after),
                     digest=c.digest)
        for c in mutation.changes
    ]  # fmt: skip
    named = b"" if mutation.projection == projection else mutation.projection
    return m.WireMutation(id=mutation.id.bytes, intent=mutation.intent, changes=changes,
                          after=[i.bytes for i in mutation.after], projection=named)  # fmt: skip


def outcome_of(receipt: m.WireReceipt) -> Outcome:
    """The answer to a mutation; raises ProtocolError for an unknown outcome."""
    if receipt.outcome not in _OUTCOMES:
        raise ProtocolError(f"unknown outcome {shown(receipt.outcome, 40)} of a mutation")
    for r in receipt.records:
        checked((r.key, list((r.values or {}).values())))
    records = tuple(RecordOutcome(r.collection, tuple(r.key), r.ordinal, r.values, r.gone) for r in receipt.records)
    return Outcome(receipt.id, cast(State, receipt.outcome), receipt.position, receipt.code, receipt.message,
                   tuple(receipt.fields), records)  # fmt: skip


def group_delta(group: m.Group) -> GroupDelta:
    """A group of an answer; raises ProtocolError for bitmaps that are none and records that nobody can hold."""
    if not group.collections:
        raise ProtocolError("a group of an answer is about no collection")
    for p in group.collections.values():
        checked(p.put)
        if p.added:
            checked(p.added.rows, len(p.added.fields) + 1)
    parts: Mapping[str, PartDelta] = {
        name: PartDelta(p.digest, p.put, unpack_view(p.drop), tuple(p.added.fields) if p.added else (),
                        p.added.rows if p.added else (), p.in_file, p.image is not None, p.moved)
        for name, p in group.collections.items()
    }  # fmt: skip
    return GroupDelta(parts, group.token, group.cursor)
