"""The files of a replica: the main file, one file for each `own_file` collection, and files received from the authority.

A collection with a file of its own lives in `<main>.<collection>.<generation>`, with its own state row; one row of the main
file names the current generation, and numbers only rise. Nothing is told to other connections and processes: each looks at
that row before it uses the file (`follow`), and whoever writes locks first the own file, then the main file (`owned`), always
in this order. Nothing that somebody has open is deleted (`discard`). `generations.py` builds the next one.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw

from offlinekit.exceptions import StoreBusy, StoreError
from offlinekit.expr.sql import quote
from offlinekit.store.sqlite.connection import connect, write_transaction

__all__ = [
    "INCOMING",
    "LOOKS_MAX",
    "current",
    "discard",
    "file_of",
    "follow",
    "owned",
    "place_of",
    "readonly_uri",
    "reserve",
    "sweep",
]

INCOMING = "ok_incoming"  # takes the place of the collection in the names of files on their way in
LOOKS_MAX = 20  # how often a generation may be replaced between a look at its number and the opening of its file
_TAILS = ("-wal", "-shm", "-journal", ".zst", ".db")


def file_of(main: str, collection: str, generation: int) -> str:
    """The path of a generation of a collection's own file."""
    return f"{main}.{collection}.{generation}"


def place_of(collection: str) -> str:
    """The quoted name under which connections attach a collection's own file."""
    return quote(f"ok_file_{collection}")


def readonly_uri(path: str) -> str:
    """How a file is attached: never made when it is missing, and not locked by the transactions of the main file."""
    return Path(os.path.abspath(path)).as_uri() + "?mode=ro"


def current(db: apsw.Connection) -> dict[str, int]:
    """The current generations, as the main file names them."""
    return dict(db.execute("SELECT collection,generation FROM main.ok_file"))


def follow(db: apsw.Connection, main: str, attached: dict[str, int]) -> None:
    """Brings the attached files of a connection to the current generations; before each use, outside any transaction.

    A file that an unfinished statement reads stays attached until the next time, so that the statement sees one state.
    """
    for look in range(LOOKS_MAX):
        try:
            for collection, generation in current(db).items():
                if attached.get(collection) == generation:
                    continue
                if collection in attached:
                    if db.txn_state(f"ok_file_{collection}") != apsw.SQLITE_TXN_NONE:
                        continue
                    db.execute(f"DETACH {place_of(collection)}")
                    del attached[collection]
                path = readonly_uri(file_of(main, collection, generation))
                db.execute(f"ATTACH ? AS {place_of(collection)}", (path,))
                attached[collection] = generation
            return
        except apsw.CantOpenError:  # replaced and deleted since its number was read
            if look == LOOKS_MAX - 1:
                raise


@contextmanager
def owned(db: apsw.Connection, main: str, collection: str) -> Iterator[tuple[int, apsw.Connection]]:
    """A write transaction on the current generation of a collection, which stays the current one until it ends.

    That is so because a flip locks the generation that it replaces, too. `db` reads the main file, outside any transaction.
    """
    for _ in range(LOOKS_MAX):
        generation = current(db)[collection]
        path = file_of(main, collection, generation)
        try:
            own = connect(path, create=False)
        except StoreError:
            if current(db)[collection] == generation:
                raise
            continue  # replaced and deleted since its number was read
        try:
            own.execute("PRAGMA wal_autocheckpoint=0")  # see ReplicaStore.checkpoint
            with write_transaction(own, path):
                if current(db)[collection] == generation:
                    yield generation, own
                    return
        finally:
            own.close()
    raise StoreBusy(f"{main}: another program replaces the file of '{collection}' again and again; try again")


def reserve(main: str, collection: str, least: int) -> int:
    """The first number from `least` on that no file has; its empty file is made."""
    while True:
        try:
            open(file_of(main, collection, least), "xb").close()
            return least
        except FileExistsError:
            least += 1


def discard(path: str) -> bool:
    """Deletes a file with all that belongs to it if nobody has it open, in any process; whether it is gone.

    Deleting by name would take away the build of another process, which then makes a file current that is gone. A newer
    generation than the current one is discarded under the write lock of the main file, lest it become current meanwhile.
    What cannot be deleted now, also because the disk fails, is swept when the replica is opened.
    """
    try:
        with suppress(apsw.CantOpenError):  # only something that belonged to it is left
            db = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
            try:
                with suppress(apsw.NotADBError, apsw.CorruptError):  # a build that was killed
                    db.execute("PRAGMA main.locking_mode=exclusive")
                    db.execute("PRAGMA main.journal_mode=delete")  # leaving WAL mode needs the file alone
                    db.execute("BEGIN EXCLUSIVE")
            finally:
                db.close()
        for tail in (*_TAILS, ""):  # the file last, because its name is what a sweep looks for
            with suppress(FileNotFoundError):
                os.remove(path + tail)
    except (apsw.BusyError, apsw.LockedError, apsw.FullError, apsw.IOError, OSError):  # Windows deletes no open file
        return False
    return True


def sweep(main: str, generations: Mapping[str, int], arriving: Collection[int]) -> None:
    """Discards what crashes and deletions that were refused have left; under the write lock of the main file.

    Files on their way in stay under the numbers in `arriving`, for a download that goes on.
    """
    folder, name = os.path.split(os.path.abspath(main))
    for entry in os.listdir(folder):
        collection, _, rest = entry.removeprefix(name + ".").partition(".")
        for tail in _TAILS:
            rest = rest.removesuffix(tail)
        if not entry.startswith(name + ".") or not rest.isdecimal():
            continue
        if int(rest) not in arriving if collection == INCOMING else generations.get(collection, int(rest)) != int(rest):
            discard(os.path.join(folder, f"{name}.{collection}.{rest}"))
