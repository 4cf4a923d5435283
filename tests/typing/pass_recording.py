"""Recordings know their masks and limits, and end a `with` block."""

from __future__ import annotations

from offlinekit import Authority, Collection, Field, Replica, Schema, field
from offlinekit.testing.replay import Replayed, replay


class Customer(Collection):
    code: Field[str] = field(key=True)
    name: Field[str]


def everything(replica: Replica, authority: Authority) -> Replayed:
    with replica.record("a.jsonl", mask=[Customer.name], limit=1 << 20) as recording:
        over: bool = recording.over
    replica.record("b.jsonl", mask="text").stop()
    with authority.record("c.jsonl") as requests:
        path: str = requests.path
    done = replay("a.jsonl", Schema(Customer))
    complete: bool = done.complete
    assert over or complete or path
    return done
