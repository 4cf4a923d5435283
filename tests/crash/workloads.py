"""What is going on when the power fails: short pieces of work, each on top of what was there before and is safe.

Each names the side whose power fails. The other goes on with what it has, as its files are at that moment.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import apsw
from attrs import frozen

from offlinekit.testing.crash import read_files, write_files
from tests.crash.world import GROWN, World, marks_of

__all__ = ["WORKLOADS", "Workload", "checkpoints"]


@frozen
class Workload:
    """`before` leaves the world in which `run` is cut; `pages`: how long SQLite's log grows before it is copied back."""

    name: str
    side: str
    before: Callable[[World], None]
    run: Callable[[World], None]
    pages: int = 1000

    def __str__(self) -> str:
        return f"{self.side}, {self.name}"

    @property
    def faults(self) -> tuple[str, ...]:
        """Which disks it is to outlive. A sync that fails while the log is copied back is one that SQLite passes over."""
        return ("full", "io", "sync") if self.pages == 1000 else ("full", "io")


@contextmanager
def checkpoints(pages: int) -> Iterator[None]:
    """Connections opened in the block copy their log back after so many pages."""

    def hook(db: apsw.Connection) -> None:
        db.wal_autocheckpoint(pages)

    apsw.connection_hooks.append(hook)
    try:
        yield
    finally:
        apsw.connection_hooks.remove(hook)


# -- what was there before


def nothing(world: World) -> None:
    """Neither side has a file."""


def head_only(world: World) -> None:
    """An authority with some records."""
    with world.head.transaction() as tx:
        for n in range(8):
            tx.connection.execute("INSERT INTO customer VALUES(?,?,?)", (f"c{n}", ("north", "south")[n % 2], f"part {n}"))
            tx.connection.execute("INSERT INTO part(sku,name) VALUES(?,?)", (f"p{n}", f"part {n}"))
            tx.connection.execute("INSERT INTO \"order\"(id,mark,urgent) VALUES(?,'',0)", (f"h{n}",))


def synced(world: World) -> None:
    """A device that holds them."""
    head_only(world)
    world.choose("north")
    world.settle()


def unsent(world: World) -> None:
    """Changes that wait: of two orders, of one that will be refused, and of one that waits for that."""
    synced(world)
    world.sell("a", "o1", "o2")
    world.sell("b", "o3", note="refuse", fate="rejected")
    world.change("c", "o3", fate="parked")
    world.change("d", "o1", "h1")


def refused(world: World) -> None:
    """Refusals, each with what the user may do about it, and what waits for one of them."""
    synced(world)
    for n, mark in enumerate("abcd"):
        world.sell(mark, f"o{n}", f"q{n}", note="refuse", fate="rejected")
    world.change("w", "o1", fate="parked")
    world.settle()
    world.sell("e", "o8")


def restored(world: World) -> None:
    """Changes that were accepted, and an authority that was restored from a copy of before."""
    unsent(world)
    world.close()
    head = os.path.join(world.folder, "head")
    copy = read_files(head)
    world.settle()
    world.close_head()
    world.history = "new_history"
    write_files(copy, head)
    with suppress(FileNotFoundError):
        os.remove(os.path.join(head, "head.db-wal"))


def damaged(world: World) -> None:
    """Records were changed behind the library's back, and the user has asked to verify what is held."""
    synced(world)
    world.replica.want_verification()
    world.close_replica()
    device = os.path.join(world.folder, "device")
    for name, statement in (
        ("replica.db", "UPDATE customer SET name='?' WHERE code='c2'"),
        ("replica.db.part.1", "DELETE FROM part"),
    ):
        db = apsw.Connection(os.path.join(device, name))
        db.execute("UPDATE ok_gate SET mode=2")
        db.execute(statement)
        db.execute("UPDATE ok_gate SET mode=0")
        db.close()


# -- what is going on


def writing(world: World) -> None:
    """Local transactions, and the end of the program, when SQLite copies its log back."""
    world.sell("x", "o8", "o9")
    world.draft("d1")
    world.change("y", "o8", "h2")
    world.close_replica()


def pushing(world: World) -> None:
    """Pushes and their receipts, and one more transaction."""
    world.push()
    world.sell("x", "o9")
    world.push()
    world.push()


def pulling(world: World) -> None:
    """An answer with records to put, to change and to drop, below a change that waits."""
    world.write("w1", "UPDATE customer SET name='part x' WHERE code='c2'", "DELETE FROM customer WHERE code='c0'",
                "UPDATE customer SET city='north' WHERE code='c1'", "DELETE FROM part WHERE sku='p0'",
                'DELETE FROM "order" WHERE id=\'h3\'')  # fmt: skip
    world.pull()
    world.settle()


def loading(world: World) -> None:
    """An answer in a file, for the main file and for a collection that has one of its own."""
    world.write("w1", *(f"INSERT INTO part(sku,name) VALUES('n{n}','part {n}')" for n in range(9)),
                *(f"INSERT INTO customer VALUES('n{n}','north','part {n}')" for n in range(9)))  # fmt: skip
    world.pull()


def choosing(world: World) -> None:
    """Another selection, and what it brings and takes."""
    world.choose("south")
    world.pull()
    world.choose()
    world.pull()


def meeting(world: World) -> None:
    """Whatever a sync has to do."""
    world.settle()


def upgrading(world: World) -> None:
    """A newer program opens the file, and pulls."""
    world.close_replica()
    world.schema = GROWN
    world.pull()
    world.settle()


def resolving(world: World) -> None:
    """Refusals are corrected, sent again, and discarded; a change that was not sent is withdrawn."""

    def correct() -> None:
        with world.rejected("a").edit() as tx:
            for id_ in ("o0", "q0"):
                tx.update(world.order(id=id_), mark="aa", note=None)

    def resend() -> None:
        with world.rejected("b").edit() as tx:
            for id_ in ("o1", "q1"):
                tx.update(world.order(id=id_), mark="bb", note=None)

    world.does(world.expected.but("a", aa=("done", 2)), correct)
    world.does(world.expected.but("b", bb=("done", 2), w=("done", 1)), resend)
    world.does(world.expected.but("c"), lambda: world.rejected("c").discard())
    world.does(world.expected, lambda: world.rejected("d").resend())
    world.does(world.expected.but("e"), lambda: next(h for h in world.replica.pending() if "e" in marks_of(h)).withdraw())
    world.push()


def first_load(world: World) -> None:
    """A device's first program: its file is made, a selection saved, and everything pulled."""
    world.choose("north")
    world.settle()


def head_writing(world: World) -> None:
    """Another program's writes, with the triggers that watch them, and pulls of what they did."""
    world.write("w1", "UPDATE customer SET name='part y' WHERE code='c2'")
    world.pull()
    world.write("w2", "INSERT OR REPLACE INTO customer VALUES('c1','north','part z')", "DELETE FROM part WHERE sku='p1'")
    world.pull()


def head_opening(world: World) -> None:
    """An authority that makes its file, and is opened again."""
    world.write("w1")
    world.close_head()
    world.write("w2")


WORKLOADS = [
    Workload("transaction", "device", synced, writing),
    Workload("transaction with checkpoints", "device", synced, writing, pages=6),
    Workload("push and receipt", "device", unsent, pushing),
    Workload("push and receipt with checkpoints", "device", unsent, pushing, pages=12),
    Workload("pull", "device", unsent, pulling),
    Workload("bulk file", "device", synced, loading),
    Workload("selection change", "device", synced, choosing),
    Workload("schema upgrade", "device", unsent, upgrading),
    Workload("resolving a rejection", "device", refused, resolving),
    Workload("authority restored", "device", restored, meeting),
    Workload("verification", "device", damaged, meeting),
    Workload("first load", "device", head_only, first_load),
    Workload("push handled", "head", unsent, pushing),
    Workload("push handled with checkpoints", "head", unsent, pushing, pages=12),
    Workload("writes by others and pulls", "head", synced, head_writing),
    Workload("bulk file made", "head", synced, loading),
    Workload("authority opened", "head", nothing, head_opening),
]
