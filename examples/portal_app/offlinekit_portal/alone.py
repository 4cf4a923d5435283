"""One process to a data folder: a second one would hand out the same numbers, or sync the same device twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

__all__ = ["Taken", "alone"]

LOCK_FILE = "in-use.lock"


class Taken(Exception):
    """Another process works in the folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"another process works in {folder}: stop it first, or give this one a folder of its own with --data")
        self.folder = folder


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Holds the folder for this process; raises Taken at once when another one does.

    The lock is SQLite's, on a file of its own: it works on every system, and ends with the process however that ends.
    """
    lock = apsw.Connection(str(folder / LOCK_FILE))
    try:
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except apsw.BusyError:
            raise Taken(folder) from None
        yield
    finally:
        lock.close()
