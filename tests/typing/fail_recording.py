"""Masks that are none, and fields by name, are refused."""

from __future__ import annotations

from offlinekit import Authority, Replica
from offlinekit.testing.replay import replay


def wrong(replica: Replica, authority: Authority) -> None:
    replica.record("a.jsonl", mask="texts")  # error
    replica.record("a.jsonl", mask=["name"])  # error
    authority.record("a.jsonl", limit="1 MB")  # error
    replay("a.jsonl")  # error
