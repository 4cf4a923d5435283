"""What a sync reads from a replica's store and writes to it, each in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import apsw
from attrs import frozen

from offlinekit.changes import Mutation, Outcome
from offlinekit.selection import Selection
from offlinekit.store.sqlite import overlay
from offlinekit.store.sqlite.applying import holds, view_held
from offlinekit.store.sqlite.groups import Group, asked_for, cursors, groups_of
from offlinekit.store.sqlite.replica_files import owned
from offlinekit.store.sqlite.replica_store import ReplicaStore
from offlinekit.view import View, pack_view

__all__ = ["Held", "PushBatch", "held", "is_news", "new_device", "new_history", "next_push", "take_answers", "take_receipts"]

IMPLICIT_S = 30 * 86_400.0
UNNOTED_S, OFFSET_S = 60.0, 0.5  # how old the time of the last answer may be, and by how much the clock's offset may be wrong


@frozen
class Held:
    """What a pull starts from; `complete`: it asks for every collection; `verify`: and takes nothing held for granted."""

    device: bytes
    groups: tuple[Group, ...]
    complete: bool
    holding: frozenset[str]
    selection: bytes
    implicit: dict[str, bytes]
    witness: bytes
    awaited: tuple[bytes, ...]
    verify: bytes


@frozen
class PushBatch:
    """A committed push: the same one until it is answered."""

    device: bytes
    turn: bytes
    request: bytes
    witness: bytes
    mutations: tuple[Mutation, ...]


def selection_bytes(store: ReplicaStore, db: apsw.Connection) -> bytes:
    """The saved selection, or the empty one."""
    found: bytes | None = store.meta("selection", db)
    return Selection().encode() if found is None else found


def held(store: ReplicaStore, *, load: bool | None = False) -> Held:
    """Reads what a pull starts from, in one read transaction; to `load` what was never loaded; None: everything.

    Of the accepted mutations those are awaited whose overlays lie over nothing else, because the answer tells of nothing else.
    """
    with store.lock:
        store.begin(0)
        try:
            db = store.db
            known = groups_of(store, db)
            groups = known if load is None else asked_for(known, load=load)
            asked = {c for g in groups for c in g.collections}
            replicated = [c.name for c in store.schema.replicated]
            holding = frozenset(c for c in replicated if holds(store, db, c))
            now = store.clock.now() + store.meta("offset")
            implicit: dict[str, bytes] = {}
            for (collection,) in list(db.execute("SELECT DISTINCT collection FROM ok_created WHERE at>?", (now - IMPLICIT_S,))):
                sql = "SELECT ordinal FROM ok_created WHERE collection=? AND at>?"
                implicit[collection] = pack_view(View([r[0] for r in db.execute(sql, (collection, now - IMPLICIT_S))]))
            return Held(
                store.meta("device"), tuple(groups), len(asked) == len(replicated), holding,
                selection_bytes(store, db), implicit, store.meta("witness") or b"", _awaited(db, asked),
                b"" if load is None else store.meta("verify") or b"",
            )  # fmt: skip
        finally:
            store.rollback()


def _awaited(db: apsw.Connection, asked: set[str]) -> tuple[bytes, ...]:
    marks = ",".join("?" * len(asked))
    elsewhere = f"SELECT 1 FROM ok_touch WHERE mutation=seq AND collection NOT IN ({marks})"
    sql = (
        "SELECT id FROM ok_mutation WHERE state IN ('accepted','transformed') AND settled=0"
        f" AND NOT EXISTS({elsewhere}) ORDER BY seq LIMIT 1000"
    )
    return tuple(row[0] for row in db.execute(sql, tuple(asked)))


def views_held(store: ReplicaStore, collections: Iterable[str]) -> dict[str, bytes]:
    """The views of collections as bitmaps."""
    db = store.reader()
    return {c: pack_view(view_held(store, db, c)) for c in collections if c in store.schema.collections}


def field_lists(store: ReplicaStore, hashes: Sequence[bytes]) -> dict[bytes, dict[str, list[str]]]:
    """The field lists that this file has ever been used with, by their hashes."""
    known: dict[bytes, dict[str, list[str]]] = store.meta("projections", store.reader())
    return {h: known[h] for h in hashes if h in known}


def is_news(store: ReplicaStore, ids: Sequence[bytes], meta: dict[str, Any], durable: int, *, complete: bool) -> bool:
    """Whether anything would be stored that matters: a sync that finds nothing, again and again, writes nothing."""
    db = store.reader()
    pulled, offset = store.meta("pulled", db), store.meta("offset", db)
    forgets = "SELECT 1 FROM ok_mutation WHERE settled AND position<=? LIMIT 1"
    return (
        bool(ids)
        or pulled is None
        or not 0 <= meta["pulled"] - pulled < UNNOTED_S
        or abs(meta["offset"] - offset) > OFFSET_S
        or ("selected" in meta and store.meta("selected", db) != meta["selected"])
        or (complete and store.meta("level", db) != cursors(store, db))
        or db.execute(forgets, (durable,)).get is not None
    )


def take_receipts(store: ReplicaStore, ids: Iterable[bytes], meta: dict[str, Any], durable: int, *,
                  complete: bool = False) -> None:  # fmt: skip
    """Overlays of mutations that the device's records already hold go away; small values are stored.

    `complete`: every group stands where one answer left it, also those that it found unchanged.
    """
    with store.write() as db:
        overlay.rebuild_all(db, store.schema, store.outbox.settle(ids))
        store.outbox.forget_durable(durable)
        for name, value in meta.items():
            store.set_meta(name, value)
        if complete:
            store.set_meta("level", cursors(store, db))


def next_push(store: ReplicaStore) -> PushBatch | None:
    """The push in flight, or else the next one; turn, request id and contents are committed before they are sent."""
    with store.write() as db:
        flight = store.meta("flight")
        if flight is None:
            ids = store.outbox.choose()
            if not ids:
                return None
            flight = [store.random(16), ids]
            store.set_meta("flight", flight)
        request, ids = flight
        sql = "SELECT seq FROM ok_mutation WHERE id=? AND state='pending'"
        mutations = [store.outbox.mutation(seq) for i in ids for (seq,) in list(db.execute(sql, (i,)))]
        return PushBatch(store.meta("device"), store.meta("turn"), request, store.meta("witness") or b"", tuple(mutations))


def take_answers(store: ReplicaStore, request: bytes, turn: bytes, witness: bytes, outcomes: Sequence[Outcome],
                 now: float, durable: int) -> bool:  # fmt: skip
    """Takes in the answers to a push; False when it is not the one in flight."""
    with store.write() as db:
        flight = store.meta("flight")
        if flight is None or flight[0] != request:
            return False
        dirty: list[tuple[str, bytes]] = []
        for outcome in outcomes:
            dirty += store.outbox.answer(outcome, now)
        overlay.rebuild_all(db, store.schema, dirty)
        db.execute("DELETE FROM ok_meta WHERE name='flight'")
        store.set_meta("turn", turn)
        store.set_meta("witness", witness)
        store.set_meta("offset", now - store.clock.now())
        store.outbox.forget_durable(durable)
        return True


def new_device(store: ReplicaStore, now: float | None) -> None:
    """Another device id, so that a copy of this file and this one are told apart; `now` notes a fork for the user."""
    with store.write() as db:
        _new_device(store, db)
        if now is not None:
            store.set_meta("forked", now)


def _new_device(store: ReplicaStore, db: apsw.Connection) -> None:
    store.set_meta("device", store.random(16))
    store.set_meta("turn", b"")
    db.execute("DELETE FROM ok_meta WHERE name='flight'")


def new_history(store: ReplicaStore) -> int:
    """The authority's history is another: what was answered is unanswered again; the ordinary push does the rest.

    Returns how many mutations are back in the outbox. Records stay until the next pull, which verifies them all.
    """
    for info in store.schema.replicated:
        if info.own_file:
            with owned(store.reader(), store.path, info.name) as (_, own):
                own.execute("UPDATE ok_group SET token=x'', cursor=x''")
    with store.write() as db:
        dirty = store.outbox.unanswer()
        overlay.rebuild_all(db, store.schema, dirty)
        db.execute("DELETE FROM ok_loaded")
        db.execute("DELETE FROM ok_meta WHERE name='witness'")
        _new_device(store, db)
        count: int = db.execute("SELECT count(*) FROM ok_mutation WHERE state='pending'").get
        return count
