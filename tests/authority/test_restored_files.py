"""Cursors belong to one history: a file that was restored from a copy honours none that was published after the copy."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from offlinekit.store.sqlite.authority_store import SQLiteStore
from tests.authority.oracle import Watch
from tests.authority.shop import DDL, SCHEMA
from tests.authority.statements import fill
from tests.authority.writing import PlainWriter

FILE, COPY = "shop.db", "copy.db"


@contextmanager
def opened(folder: Path) -> Iterator[SQLiteStore]:
    """The store of the file."""
    store = SQLiteStore(folder / FILE)
    store.bind(SCHEMA)
    yield store
    store.close()


def cursor(store: SQLiteStore) -> bytes:
    """The cursor of a new snapshot."""
    with store.snapshot() as snapshot:
        return snapshot.cursor


def honours(store: SQLiteStore) -> Callable[[bytes], bool]:
    """Whether a snapshot and a write transaction honour a cursor; they agree."""

    def ask(at: bytes) -> bool:
        with store.snapshot() as snapshot:
            found = snapshot.honoured(at)
        with store.unit() as unit:
            assert unit.honoured(at) == found
        return found

    return ask


def restore(folder: Path, writer: PlainWriter) -> None:
    """Put the copy in the place of the file, as an operator does while nothing runs."""
    writer.close()
    for suffix in ("-wal", "-shm"):
        (folder / (FILE + suffix)).unlink(missing_ok=True)
    shutil.copy(folder / COPY, folder / FILE)


def test_an_older_copy_that_plain_programs_write_on_past_old_cursors_honours_none_of_them(
    tmp_path: Path, writer: PlainWriter
) -> None:
    writer.open(tmp_path / FILE, *DDL, *fill())
    with opened(tmp_path) as store:
        before = [cursor(store)]
        writer.write("UPDATE customer SET name='before' WHERE id=1")
        before.append(cursor(store))
        writer.write("UPDATE ord SET total=5 WHERE id='o1'", f"VACUUM INTO '{tmp_path / COPY}'")
        after = []
        for n in range(5):
            writer.write(f"UPDATE customer SET name='lost {n}' WHERE id=2")
            after.append(cursor(store))
    restore(tmp_path, writer)
    writer.open(tmp_path / FILE)
    for n in range(20):
        writer.write(f"UPDATE customer SET name='other {n}' WHERE id=3")
    with opened(tmp_path) as store:
        for _ in range(7):  # epochs are numbered past those of the old cursors
            writer.write("UPDATE customer SET email='x'||abs(random()) WHERE id=3")
            assert not any(map(honours(store), after))
            assert all(map(honours(store), before))
        with store.snapshot() as snapshot:
            assert snapshot.touched("customer", before[0]) == snapshot.ordinals("customer", [(1,), (3,)])
            assert snapshot.touched("customer", before[1]) == snapshot.ordinals("customer", [(3,)])
            assert snapshot.touched("ord", before[1]) == snapshot.ordinals("ord", [("o1",)])
            assert not snapshot.any_touched(["item", "product"], before[0])


def test_what_is_touched_while_an_epoch_is_open_is_never_in_the_cursor_before(tmp_path: Path, writer: PlainWriter) -> None:
    writer.open(tmp_path / FILE, *DDL, *fill())
    watch = Watch(tmp_path / FILE, SCHEMA, writer)
    cursors = [watch.past[-1].cursor]
    for n in range(1, 4):
        assert watch.touched(f"UPDATE customer SET name='{n}' WHERE id={n}") == {"customer": {n}}
        cursors.append(watch.past[-1].cursor)
    assert len(set(cursors)) == 4
    watch.close()


def test_a_snapshot_does_not_see_what_is_written_after_it(tmp_path: Path, writer: PlainWriter) -> None:
    writer.open(tmp_path / FILE, *DDL, *fill())
    with opened(tmp_path) as store:
        start = cursor(store)
        with store.snapshot() as snapshot:
            writer.write("UPDATE customer SET name='later' WHERE id=1")
            assert not snapshot.any_touched(["customer"], start)
            ((_, name),) = snapshot.rows("customer", ["name"], snapshot.ordinals("customer", [(1,)]))
            assert name == "ann"
            at = snapshot.cursor
        with store.snapshot() as snapshot:
            assert snapshot.touched("customer", at) == snapshot.ordinals("customer", [(1,)])


def test_without_changes_the_cursor_stays(tmp_path: Path, writer: PlainWriter) -> None:
    writer.open(tmp_path / FILE, *DDL, *fill())
    with opened(tmp_path) as store:
        first = cursor(store)
        writer.write("UPDATE customer SET note='undeclared'", "BEGIN", "DELETE FROM item", "ROLLBACK")
        assert cursor(store) == first
    with opened(tmp_path) as store:
        assert cursor(store) == first


def test_a_cursor_that_nobody_published_is_not_honoured(tmp_path: Path, writer: PlainWriter) -> None:
    writer.open(tmp_path / FILE, *DDL)
    with opened(tmp_path) as store:
        mine = cursor(store)
        wrong = [b"", mine[:-1], mine + b"\0", bytes(16), b"\xff" * 16, mine[:8] + (99).to_bytes(8, "big"), bytes(8) + mine[8:]]
        assert not any(map(honours(store), wrong))
        assert honours(store)(mine)
