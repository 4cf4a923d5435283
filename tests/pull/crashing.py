"""How a device's process ends while it applies an answer."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import apsw

from tests.pull.world import Dev


class CrashError(Exception):
    """The device's process ends here."""


@contextmanager
def crashing(dev: Dev, rng: random.Random) -> Iterator[None]:
    """The device's process ends at its next commit, or when it opens a collection's own file."""
    where = rng.choice(["commit", "file", "file"])

    def at_commit() -> bool:
        raise CrashError

    def at_open(db: apsw.Connection) -> None:
        name = db.filename
        if name.startswith(f"{dev.path}.") and "incoming" not in name:
            raise CrashError

    if where == "commit":
        dev.store.db.set_commit_hook(at_commit)
    else:
        apsw.connection_hooks.append(at_open)
    try:
        yield
    finally:
        if where == "commit":
            dev.store.db.set_commit_hook(None)
        else:
            apsw.connection_hooks.remove(at_open)
