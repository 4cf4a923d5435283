"""The disk whose power is cut forgets what was not synced, and nothing else; it finds what a program forgets to sync."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import apsw
import pytest

from offlinekit.testing.crash import MODES, Disk, Operation, write_files
from tests.crash.sweep import sweep
from tests.crash.workloads import WORKLOADS


def test_what_python_writes_is_safe_once_it_is_synced(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"before")
    disk = Disk(tmp_path)
    with disk.recording():
        with open(tmp_path / "new", "wb", buffering=0) as file:
            file.write(b"x" * 1000)
            file.write(b"y" * 1000)
            unsynced = disk.operations
            os.fsync(file.fileno())
        os.replace(tmp_path / "new", tmp_path / "old")
    torn = disk.after(unsynced, "torn", random.Random(1))["new"]
    assert disk.after(unsynced, "kept") == {"old": b"before", "new": b"x" * 1000 + b"y" * 1000}
    assert disk.after(unsynced, "lost") == {"old": b"before"}
    assert disk.after(unsynced, "hollow") == {"old": b"before", "new": b""}
    assert torn.startswith(b"x" * 1000)
    assert len(torn) in (1000, 1024, 1536)
    assert disk.after(disk.operations, "lost") == {"old": b"before"}
    assert disk.after(disk.operations, "hollow") == {"old": b"x" * 1000 + b"y" * 1000}
    assert len({disk.after(unsynced, "mixed", random.Random(n)).get("new") for n in range(50)}) > 10


def test_files_are_truncated_appended_to_and_removed_as_recorded(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"abc")
    disk = Disk(tmp_path)
    with disk.recording():
        with open(tmp_path / "log", "ab") as log:
            log.write(b"def")
        disk.note("appended")
        with open(tmp_path / "log", "w", encoding="utf-8") as text:
            text.write("é")
        os.remove(tmp_path / "log")
    assert [disk.after(n, "kept").get("log") for n in range(disk.operations + 1)] == [b"abc", b"abcdef", b"", "é".encode(), None]
    assert [disk.told(n) for n in range(3)] == [[], ["appended"], ["appended"]]
    assert disk.after(disk.operations, "lost") == {"log": b"abc"}


@pytest.mark.parametrize(("synchronous", "lost"), [("full", False), ("normal", True), ("off", True)])
def test_a_commit_outlives_a_cut_as_far_as_sqlite_promises(tmp_path: Path, synchronous: str, lost: bool) -> None:
    disk, missing = Disk(tmp_path / "here"), 0
    (tmp_path / "here").mkdir()
    with disk.recording():
        db = apsw.Connection(str(tmp_path / "here" / "a.db"))
        db.execute("PRAGMA journal_mode=wal")
        db.execute(f"PRAGMA synchronous={synchronous}")
        db.execute("CREATE TABLE t(x)")
        first = disk.operations
        for n in range(5):
            db.execute("INSERT INTO t VALUES(?)", (n,))
            disk.note(n)
        last = disk.operations
        db.close()
    for n in range(first, last + 1):
        for mode in MODES:
            place = tmp_path / f"{n} {mode}"
            write_files(disk.after(n, mode, random.Random(n)), place)
            db = apsw.Connection(str(place / "a.db"))
            try:
                found = {row[0] for row in db.execute("SELECT x FROM t")}
                missing += not set(disk.told(n)) <= found
            except apsw.SQLError:  # not even the table is there
                missing += 1
            db.close()
    assert (missing > 0) is lost


MISTAKES: dict[str, tuple[str, Callable[[Operation], bool]]] = {
    "a device that does not sync its log": ("transaction", lambda o: o.kind == "sync" and o.path == "device/replica.db-wal"),
    "an authority that does not sync its log": ("push handled", lambda o: o.kind == "sync" and o.path == "head/head.db-wal"),
    "a log that is copied back without a sync": (
        "transaction with checkpoints", lambda o: o.kind == "sync" and o.path == "device/replica.db"
    ),
    "a generation that is current before it is synced": ("bulk file", lambda o: o.kind == "sync" and ".db.part.2" in o.path),
    "a folder that is never synced": ("transaction", lambda o: o.kind == "sync names"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_sync_that_is_forgotten_is_found(mistake: str) -> None:
    name, forgets = MISTAKES[mistake]
    workload = next(w for w in WORKLOADS if w.name == name)
    assert sweep(workload, part=(1, 8), forgets=forgets).failures


@pytest.mark.parametrize(
    ("error", "expected", "number"), [("full", apsw.FullError, errno.ENOSPC), ("io", apsw.IOError, errno.EIO)]
)
def test_a_full_disk_and_a_bad_one_fail_as_sqlite_and_python_say(
    tmp_path: Path, error: Literal["full", "io"], expected: type[apsw.Error], number: int
) -> None:
    failing = False
    with Disk(tmp_path).failing(lambda path: failing and path.startswith(("a", "f")), error):
        db, other = (apsw.Connection(str(tmp_path / name)) for name in ("a.db", "b.db"))
        for each in (db, other):
            each.execute("PRAGMA journal_mode=wal")
            each.execute("CREATE TABLE t(x)")
        failing = True
        with pytest.raises(expected):
            db.execute("INSERT INTO t VALUES(1)")
        with pytest.raises(OSError, match=r"f") as caught:
            (tmp_path / "f").write_bytes(b"x")
        assert caught.value.errno == number
        other.execute("INSERT INTO t VALUES(1)")
        failing = False
        db.execute("INSERT INTO t VALUES(1)")
        db.close()
        other.close()
