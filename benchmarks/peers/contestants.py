"""Who takes part, what each is, and what it does not do."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec

from apsw import sqlite_extra
from attrs import frozen

from benchmarks.peers.install import HERE, Missing, kinto, node

__all__ = ["CONTESTANTS", "Contestant", "Started"]

Started = tuple[list[str], dict[str, str]]  # a command, and what its environment has besides


def _python(module: str, interpreter: str = sys.executable) -> Started:
    return [interpreter, "-m", f"benchmarks.peers.{module}"], {}


def _node(program: str) -> Started:
    return ["node", "--expose-gc", "--max-old-space-size=8192", str(HERE / f"{program}.js")], {"NODE_PATH": str(node())}


def _kinto_server() -> Started:
    return _python("kinto_server", str(kinto()))


def _rsync_device() -> Started:
    if not find_spec("apsw.sqlite_extra") or sqlite_extra.has("sqlite3_rsync") != "executable":
        raise Missing("this apsw has no sqlite3_rsync")
    return _python("rsync_device")


@frozen
class Contestant:
    """One of them. `ours`, `durable` and `http` say with whom it may be compared."""

    key: str
    title: str
    what: str  # for the table: what ran
    left_out: str  # for the table: work of this run that it did not do
    not_offered: str  # for the table: what else it is not made for
    server: Callable[[], Started]
    device: Callable[[], Started]
    ours: bool = False
    baseline: bool = False
    durable: bool = True
    http: bool = True
    pushes: bool = True
    before: int = 0  # devices that load the same before the one that is measured

    @property
    def peer(self) -> bool:
        """Whether it is somebody else's work that can stand in for ours."""
        return self.durable and self.http and not self.ours and not self.baseline


FULL = "two secondary indexes, full-text search, and 1 % as many customers besides"
CONTESTANTS = (
    Contestant(
        "naive", "naive loop", f"aiohttp and SQLite, JSON pages of 10,000; {FULL}", "–", "deletions, filters, conflicts",
        lambda: _python("naive_server"), lambda: _python("naive_device"), baseline=True,
    ),
    Contestant(
        "offlinekit_cold", "offlinekit, first request", f"SQLite on both sides; {FULL}", "–", "–",
        lambda: _python("ours_server"), lambda: _python("ours_device"), ours=True,
    ),
    Contestant(
        "offlinekit", "offlinekit, prepared", "the same, after two other devices loaded the same", "–", "–",
        lambda: _python("ours_server"), lambda: _python("ours_device"), ours=True, before=2,
    ),
    Contestant(
        "kinto", "Kinto", "on PostgreSQL; the device is ours, with the naive loop's tables, indexes and search; orders as "
        "records with their lines inside, 25 a request", "customers, an outbox",
        "a filtered pull that learns of deletions; a store for devices in Python", _kinto_server, lambda: _python("kinto_device"),
    ),
    Contestant(
        "pouchdb", "PouchDB",
        "from express-pouchdb, LevelDB on both sides, 1,000 documents a batch; orders with their lines inside",
        "full-text search, secondary indexes, customers", "another filter without starting again; eviction of what leaves it",
        lambda: _node("pouchdb_server"), lambda: _node("pouchdb_device"),
    ),
    Contestant(
        "rxdb", "RxDB", "HTTP replication into memory storage with two secondary indexes, 5,000 documents a request; the server "
        "is ours, and in memory; orders with their lines inside", "durable storage on either side, full-text search, customers",
        "another filter without starting again; eviction, unless the server sends deletions",
        lambda: _node("rxdb_server"), lambda: _node("rxdb_device"), durable=False,
    ),
    Contestant(
        "rsync", "sqlite3_rsync", "the naive loop's whole file between two processes, indexes and search inside",
        "HTTP, customers, pushes", "filters; writes on the device",
        lambda: _python("rsync_server"), _rsync_device, http=False, pushes=False,
    ),
)  # fmt: skip
