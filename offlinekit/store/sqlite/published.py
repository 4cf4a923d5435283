"""The snapshot that a process answers pulls from: read transactions on several connections, all at one published cursor.

A new cursor closes an epoch under the write lock, and what is kept by cursor is of use as long as the cursor stands. So a
snapshot is shared for a while:

1. A connection serves one thread at a time. A snapshot has as many of them as were ever wanted at once; whoever finds none free
   renews it, with one more.
2. SQLite cannot use the WAL anew from where a read transaction began, so nobody may hold one for ever: when no pull
   comes to renew a snapshot of age, a timer closes it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import apsw
from attrs import frozen, mutable

from offlinekit.clock import Clock

__all__ = ["Connections", "Publisher"]

Enough: TypeAlias = Callable[[apsw.Connection, bytes], bool]


@frozen
class Connections:
    """Where connections come from and go to, and how read transactions at one published cursor are opened on some of them."""

    borrow: Callable[[], apsw.Connection]
    give_back: Callable[[apsw.Connection], None]
    open: Callable[[list[apsw.Connection]], bytes]


@mutable(eq=False)
class _Shared:
    """A published snapshot, and its connections that nobody uses at the moment."""

    cursor: bytes
    taken: float
    free: list[apsw.Connection]
    retired: bool = False


class Publisher:
    """Shares one snapshot among the threads of a process, and renews it by need."""

    def __init__(self, clock: Clock, connections: Connections) -> None:
        self._clock, self._connections = clock, connections
        self._lock = threading.Lock()
        self._renewing = threading.Lock()
        self._shared: _Shared | None = None
        self._users = self._peak = 0
        self._timer: threading.Timer | None = None

    @contextmanager
    def take(self, age_s: float, enough: Enough) -> Iterator[tuple[apsw.Connection, bytes]]:
        """A connection at the cursor of a snapshot of less than that age, if it is `enough`; else of a new one."""
        with self._lock:
            self._users += 1
            self._peak = max(self._peak, self._users)
        try:
            found = self._suitable(age_s, enough)
            if found is None:
                with self._renewing:  # others may have renewed it while this one waited
                    found = self._suitable(age_s, enough) or self._renew(age_s)
            shared, db = found
            try:
                yield db, shared.cursor
            finally:
                self._leave(shared, db)
        finally:
            with self._lock:
                self._users -= 1

    def _suitable(self, age_s: float, enough: Enough) -> tuple[_Shared, apsw.Connection] | None:
        with self._lock:
            shared = self._shared
            if shared is None or not shared.free or not self._is_young(shared, age_s):
                return None
            db = shared.free.pop()
        good = False
        try:
            good = enough(db, shared.cursor)
        finally:
            if not good:
                self._leave(shared, db)
        return (shared, db) if good else None

    def _is_young(self, shared: _Shared, age_s: float) -> bool:
        return 0 <= self._clock.monotonic() - shared.taken < age_s

    def _leave(self, shared: _Shared, db: apsw.Connection) -> None:
        with self._lock:
            stands = not shared.retired and not db.get_autocommit()  # SQLite may have ended it, after an I/O error
            if stands:
                shared.free.append(db)
        if not stands:
            self._connections.give_back(db)

    def _renew(self, age_s: float) -> tuple[_Shared, apsw.Connection]:
        made = [self._connections.borrow() for _ in range(self._peak)]
        try:
            cursor = self._connections.open(made)
        except BaseException:
            for db in made:
                self._connections.give_back(db)
            raise
        mine, *others = made
        shared = _Shared(cursor, self._clock.monotonic(), [])
        for db in others:  # those that could not be opened at this cursor are in no transaction, and go back
            self._leave(shared, db)
        self._replace(shared)
        self._watch(age_s)
        return shared, mine

    def _replace(self, shared: _Shared | None) -> None:
        with self._lock:
            old, self._shared = self._shared, shared
            if old is None:
                return
            old.retired = True  # who uses it still gives its connection back at the end
            idle, old.free = old.free, []
        for db in idle:
            self._connections.give_back(db)

    def _watch(self, age_s: float) -> None:
        """Sees to it that the snapshot is closed when it has come of age and nobody has renewed it."""
        with self._lock:
            if self._timer is None:
                self._timer = threading.Timer(age_s, self._rang, (age_s,))
                self._timer.daemon = True
                self._timer.start()

    def _rang(self, age_s: float) -> None:
        with self._lock:
            self._timer = None
            young = self._shared is not None and self._is_young(self._shared, age_s)
        if young:
            self._watch(age_s)
        else:
            self._replace(None)

    def close(self) -> None:
        """Closes the snapshot; connections in use come back when their users have ended."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
        self._replace(None)
