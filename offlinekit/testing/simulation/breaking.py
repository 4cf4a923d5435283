"""How a process ends at any statement, and how a disk becomes full: faults of one file, by its path.

A crash is a statement that raises, after which no statement on that file is let through: nothing can be tidied up, and closing
the connections then loses what was not committed, as a killed process does. `after_commit` ends it when the commit is durable and
its call has not returned. A full disk lets read, and refuses every statement that writes until the block ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import apsw

__all__ = ["Breaker", "CrashError", "FullDisk"]

_UNLIMITED = 1 << 30
_WRITES = ("INSERT", "UPDATE", "DELETE", "REPLACE", "COMMIT", "CREATE", "ALTER", "DROP")
_VALUES = re.compile(r"\d+|'[^']*'")


class CrashError(BaseException):
    """The process ends here; no handler of errors may take it for one."""


class Breaker:
    """Ends the process that uses a file at the n-th statement from now on, or right after its next commit."""

    def __init__(self, path: str, statements: int, *, after_commit: bool = False) -> None:
        self.path, self.left, self.after_commit = path, statements, after_commit
        self.dead = False
        self.commits = 0
        self.point = ""  # the statement at which it ended

    def _mine(self, db: apsw.Connection) -> bool:
        return bool(db.filename) and db.filename.startswith(self.path)

    def _trace(self, _cursor: Any, sql: str, _bindings: Any) -> bool:
        self.left -= 1
        if self.dead or (self.left <= 0 and not self.after_commit):
            self.point, self.dead = self.point or _brief(sql), True
            raise CrashError
        return True

    def _committed(self, _db: apsw.Connection, _name: str, _pages: int) -> int:
        self.commits += 1
        if self.after_commit and not self.dead:
            self.point, self.dead = "after COMMIT", True
            raise CrashError
        self.left = _UNLIMITED  # a process that dies later is the business of another crash
        return int(apsw.SQLITE_OK)

    def _watch(self, db: apsw.Connection) -> None:
        if self._mine(db):
            db.exec_trace = self._trace
            if db.filename == self.path:
                db.set_wal_hook(self._committed)

    @contextmanager
    def armed(self) -> Iterator[Breaker]:
        """While the block runs; the CrashError comes out of it, and every connection of the file has to be closed then."""
        apsw.connection_hooks.append(self._watch)
        for db in apsw.connections():
            self._watch(db)
        try:
            yield self
        finally:
            apsw.connection_hooks.remove(self._watch)
            for db in apsw.connections():
                if self._mine(db):
                    db.exec_trace = None
                    if db.filename == self.path:
                        db.wal_autocheckpoint(1000)  # which takes the place of the hook


class FullDisk(Breaker):
    """From the n-th statement on, nothing can be written to a file; reading goes on, and so does undoing."""

    def _trace(self, cursor: Any, sql: str, _bindings: Any) -> bool:
        self.left -= 1
        verb = sql.split(None, 1)[0].upper()
        db = cursor if isinstance(cursor, apsw.Connection) else cursor.connection
        writes = verb in _WRITES and (verb != "COMMIT" or db.txn_state() == apsw.SQLITE_TXN_WRITE)
        if self.left <= 0 and writes:
            self.point, self.dead = self.point or _brief(sql), True
            raise apsw.FullError("database or disk is full")
        return True


def _brief(sql: str) -> str:
    """A statement without its values, as the name of a place in a program."""
    return " ".join(_VALUES.sub("?", sql).split())[:60]
