"""Own filters, evaluated once in full and then moved forward by what was touched.

For each own filter within its scopes a process keeps what passed (M) at the last few cursors that it was asked for. At a later
one of the same history only a record that was touched, or whose filter or scope looks at one that was, can pass otherwise:

1. *Touched* are ordinals of records written or deleted since. False ones are harmless: each is looked up again.
2. A record that refers to an affected one (`within`) is found by the reference that it has now: had that changed, the record
   itself would be touched. What it refers to may have vanished; the side table has kept the key.
3. A record that others refer to (`some`) is found from these, but of a touched one nobody knows to which record it referred
   before: then the filter is evaluated in full. Of one that is merely affected, the reference is what it was.
4. Where looking at the affected ones would take longer than the full evaluation did, that is done again.

An M is used only where the asking snapshot honours its cursor: it is then of the same history and not newer. So threads that
answer from snapshots of different age may ask for the same filter in any order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from attrs import Factory, frozen, mutable

from offlinekit.authority.cache import Cache
from offlinekit.nodes import And, Filter, Not, Or, Some, Within, everything
from offlinekit.selection import Plan, Source, Step
from offlinekit.store.port import Scopes, Snapshot
from offlinekit.view import View, weight

__all__ = ["Evaluator"]

KEPT_BYTES = 64 << 20
CURSORS = 4  # at which an M is kept: a pull of another thread may be answered from a snapshot that was renewed since
LOOK_S = 4e-6  # to look one record up again, and to find out that it must be
LOOKED_MIN = 100  # so many are always looked up: that takes a few milliseconds at most


@mutable(eq=False)
class _Kept:
    """What is known of one filter: M at the last few cursors, the newest last, and what the last full evaluation took."""

    lock: threading.Lock = Factory(threading.Lock)
    known: list[tuple[bytes, View]] = Factory(list)
    seconds: float = 0.0

    def weigh(self) -> int:
        """About its bytes."""
        return 1000 + sum(weight(view) for _, view in self.known)


class Evaluator:
    """Answers which records pass an own filter within its scopes, at the cursor of a snapshot."""

    def __init__(self, now: Callable[[], float], count: Callable[[str, str], None]) -> None:
        self._now, self._count = now, count
        self._kept: Cache[bytes, _Kept] = Cache(KEPT_BYTES, _Kept.weigh)

    def clear(self) -> None:
        """Forgets everything."""
        self._kept.clear()

    def members(self, snapshot: Snapshot, plan: Plan, source: Source) -> View:
        """The records that pass the source's filter; shared, so not to be changed."""
        key = plan.own_hash(source)
        kept = self._kept.made(key, _Kept)
        with kept.lock:  # who wants the same, at this cursor or another, waits: it has less to do then
            for cursor, view in kept.known:
                if cursor == snapshot.cursor:
                    return view
            view = self._moved(kept, snapshot, plan.scopes, source)
            kept.known = [*kept.known, (snapshot.cursor, view)][-CURSORS:]
        self._kept.put(key, kept)
        return view

    def _moved(self, kept: _Kept, snapshot: Snapshot, scopes: Scopes, source: Source) -> View:
        for cursor, view in reversed(kept.known):
            if snapshot.honoured(cursor):
                most = max(LOOKED_MIN, int(kept.seconds / LOOK_S))
                again = _Affected(snapshot, scopes, cursor, most).by(source.collection, source.where)
                if again is None:
                    break
                if not again:
                    return view
                self._count("moved on", source.collection)
                return (view - again) | snapshot.evaluate(source.collection, source.where, scopes, again)
        self._count("evaluated", source.collection)
        began = self._now()
        view = snapshot.evaluate(source.collection, source.where, scopes)
        kept.seconds = self._now() - began
        return view


@frozen
class _Affected:
    """Which records may pass otherwise than at an earlier cursor; never less, perhaps more."""

    snapshot: Snapshot
    scopes: Scopes
    cursor: bytes
    most: int

    def by(self, collection: str, where: Filter) -> View | None:
        """Those of a collection, for a filter within the scopes; None when it must be evaluated in full."""
        found = self.snapshot.touched(collection, self.cursor)
        for relation in (*_relations(where), *_relations(self.scopes[collection])):
            beyond = relation.target if isinstance(relation, Within) else relation.source
            if isinstance(relation, Some) and self.snapshot.any_touched([beyond], self.cursor):
                return None
            reached = self.by(beyond, relation.part)
            if reached is None:
                return None
            owner = relation.collection if isinstance(relation, Within) else relation.source
            step = Step(collection, Source(beyond, everything), owner, relation.field, isinstance(relation, Some), everything)
            found |= self.snapshot.step(step, reached, dict.fromkeys(self.scopes, everything))
        return found if len(found) <= self.most else None


def _relations(node: Filter) -> Iterator[Within | Some]:
    """The steps that a filter takes from its own collection."""
    if isinstance(node, Within | Some):
        yield node
    elif isinstance(node, Not):
        yield from _relations(node.part)
    elif isinstance(node, And | Or):
        for part in node.parts:
            yield from _relations(part)
