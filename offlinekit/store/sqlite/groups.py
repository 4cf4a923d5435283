"""Groups: which collections share a cursor, and which of them the next pull asks for.

A first load brings collections by their priority, each time in one transaction, and so comes a collection that a new schema adds.
What was loaded is asked for as one group; where its parts came apart, with the token of each, and the answer brings them to one
again. So each collection of the main file keeps the token and cursor of the last answer about it (`ok_loaded`). A collection
with a file of its own is a group alone, whose token is in that file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import apsw
from attrs import frozen

from offlinekit.store.sqlite.replica_files import place_of
from offlinekit.store.sqlite.replica_store import ReplicaStore

__all__ = ["Group", "asked_for", "cursors", "groups_of", "tokens_of"]


@frozen
class Group:
    """Collections that an answer brings in one transaction; their tokens, none as long as they were never loaded."""

    collections: tuple[str, ...]
    tokens: tuple[bytes, ...]
    priority: int = 0


def _loaded(store: ReplicaStore, db: apsw.Connection) -> dict[str, tuple[bytes, bytes]]:
    """Token and cursor of each collection that was loaded."""
    found = {str(c): (t, at) for c, t, at in db.execute("SELECT collection,token,cursor FROM main.ok_loaded")}
    for info in store.schema.replicated:
        if info.own_file:
            token, cursor = next(iter(db.execute(f"SELECT token,cursor FROM {place_of(info.name)}.ok_group")))
            if token:
                found[info.name] = (token, cursor)
    return found


def tokens_of(db: apsw.Connection, collections: Iterable[str]) -> tuple[bytes, ...]:
    """The tokens of collections of the main file."""
    known = dict(db.execute("SELECT collection,token FROM main.ok_loaded"))
    return tuple(sorted({known[c] for c in collections if c in known}))


def groups_of(store: ReplicaStore, db: apsw.Connection) -> list[Group]:
    """All groups: of the main file what is loaded, and for each priority what is not; and each file of its own."""
    loaded = _loaded(store, db)
    main: dict[int | None, list[str]] = {}
    alone = []
    for info in store.schema.replicated:
        name = info.name
        if info.own_file:
            alone.append(Group((name,), (loaded[name][0],) if name in loaded else (), info.priority))
        else:
            main.setdefault(None if name in loaded else info.priority, []).append(name)
    together = [Group(tuple(sorted(names)), tokens_of(db, names), priority or 0) for priority, names in main.items()]
    return together + alone


def asked_for(groups: Sequence[Group], *, load: bool) -> list[Group]:
    """What is loaded; or, to `load` and where nothing is, the first by priority of what is not."""
    loaded, waiting = [g for g in groups if g.tokens], [g for g in groups if not g.tokens]
    if not waiting or (loaded and not load):
        return loaded
    first = min(g.priority for g in waiting)
    return [g for g in waiting if g.priority == first]


def cursors(store: ReplicaStore, db: apsw.Connection) -> list[bytes]:
    """The cursor of each collection, empty where it was never loaded."""
    loaded = _loaded(store, db)
    return [loaded[c.name][1] if c.name in loaded else b"" for c in store.schema.replicated]
