"""Between messages and the values that stores and sessions use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from offlinekit.changes import GroupDelta, Mutation, Outcome, PartDelta, RecordOutcome, State
from offlinekit.exceptions import ProtocolError
from offlinekit.protocol import messages as m
from offlinekit.view import unpack_view

__all__ = ["group_delta", "outcome_of", "wire_mutation"]

_OUTCOMES = ("accepted", "transformed", "rejected", "parked")


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
        raise ProtocolError(f"unknown outcome {receipt.outcome!r:.40} of a mutation")
    records = tuple(RecordOutcome(r.collection, tuple(r.key), r.ordinal, r.values, r.gone) for r in receipt.records)
    return Outcome(receipt.id, cast(State, receipt.outcome), receipt.position, receipt.code, receipt.message,
                   tuple(receipt.fields), records)  # fmt: skip


def group_delta(group: m.Group) -> GroupDelta:
    """A group of an answer."""
    parts: Mapping[str, PartDelta] = {
        name: PartDelta(p.digest, p.put, unpack_view(p.drop), tuple(p.added.fields) if p.added else (),
                        p.added.rows if p.added else (), p.in_file)
        for name, p in group.collections.items()
    }  # fmt: skip
    return GroupDelta(parts, group.token, group.cursor)
