"""How a device's process ends while it applies an answer, or fetches its file."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import apsw

from offlinekit.exchange import Fetch
from tests.pull.pulling import Pulling
from tests.pull.world import Dev

if TYPE_CHECKING:
    from tests.pull.walk import Walk


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


def broken_off(walk: Walk, dev: Dev) -> None:
    """The line breaks while a file is fetched, and perhaps the program ends; the next pull goes on with it."""
    pull = Pulling(walk, dev)
    while pull.effect is not None and not isinstance(pull.effect, Fetch):
        if not pull.give(pull.ask()):
            return
    pull.steps.close()
    if walk.rng.random() < 0.6:
        dev.reopen()
    if walk.rng.random() < 0.8:
        walk.plain(dev)
