"""A shared snapshot: many threads on one cursor, renewed by need, and never in the way of the WAL for long."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import apsw
import pytest
from attrs import evolve

from offlinekit.exceptions import NotTracked
from offlinekit.nodes import everything
from offlinekit.schema import Collection, Field, Schema, field
from offlinekit.store.port import Snapshot
from offlinekit.store.sqlite import SQLiteStore
from offlinekit.testing._shops import together
from offlinekit.testing.pair import MovableClock


class Note(Collection):
    """A record."""

    id: Field[int] = field(key=True)
    text: Field[str] = field(default="")


SCHEMA = Schema(Note)
NOTE = SCHEMA.info(Note)
AGE_S = 0.25


class HandTimer:
    """A timer that rings when the test says so."""

    def __init__(self, interval: float, function: Callable[..., None], args: tuple[float, ...]) -> None:
        self.interval, self._function, self._args = interval, function, args
        self.waits = self.daemon = False

    def start(self) -> None:
        """Begins to wait."""
        self.waits = True
        TIMERS.append(self)

    def cancel(self) -> None:
        """Gives up."""
        self.waits = False

    def ring(self) -> None:
        """The time is over."""
        if self.waits:
            self.waits = False
            self._function(*self._args)


TIMERS: list[HandTimer] = []


@pytest.fixture
def clock() -> MovableClock:
    """Stands still until it is moved."""
    return MovableClock()


@pytest.fixture
def store(tmp_path: Path, clock: MovableClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[SQLiteStore]:
    """An authority's store whose timers ring by hand."""
    TIMERS.clear()
    monkeypatch.setattr(threading, "Timer", HandTimer)
    made = SQLiteStore(tmp_path / "head.db", clock=clock)
    made.bind(SCHEMA)
    yield made
    made.close()


def write(store: SQLiteStore, *ids: int) -> None:
    """Commits notes."""
    with store.unit() as unit:
        for id_ in ids:
            unit.insert(NOTE, {"id": id_, "text": ""})


def count(store: SQLiteStore, **how: object) -> int:
    """How many notes a snapshot holds."""
    with store.snapshot(**how) as snapshot:  # type: ignore[arg-type]
        return len(snapshot.evaluate("note", everything, {"note": everything}))


def holding(id_: int) -> Callable[[Snapshot], bool]:
    """Whether a snapshot holds a note."""
    return lambda snapshot: bool(snapshot.ordinals("note", [(id_,)]))


def wal_is_free(store: SQLiteStore) -> bool:
    """Whether the whole WAL can be taken into the database, so that it begins anew."""
    db = apsw.Connection(store.path)  # which waits for nobody
    busy, *_ = next(iter(db.execute("PRAGMA wal_checkpoint(restart)")))
    db.close()
    return not busy


def test_a_snapshot_is_shared_until_it_is_of_age(store: SQLiteStore, clock: MovableClock) -> None:
    write(store, 1)
    assert count(store, age_s=AGE_S) == 1
    write(store, 2)
    assert count(store, age_s=AGE_S) == 1
    assert count(store, age_s=AGE_S, enough=lambda s: True) == 1
    assert count(store) == 2, "without an age it holds everything"
    assert count(store, age_s=AGE_S) == 1, "and nobody else gets it"
    clock.move(seconds=AGE_S)
    assert count(store, age_s=AGE_S) == 2
    write(store, 3)
    assert count(store, age_s=AGE_S, enough=lambda s: False) == 3
    assert count(store, age_s=AGE_S) == 3, "the one that was taken in between is shared"


def test_a_clock_that_goes_back_makes_no_snapshot_young_for_ever(store: SQLiteStore, clock: MovableClock) -> None:
    assert count(store, age_s=AGE_S) == 0
    clock.move(days=-1)
    write(store, 1)
    assert count(store, age_s=AGE_S) == 1


def test_threads_that_come_at_once_stand_at_one_cursor(store: SQLiteStore) -> None:
    """The first round finds too few connections and renews; from then on there are enough, whatever is written."""
    for n in range(3):
        write(store, n)
        cursors = at_once(store, 4)
    assert len(cursors) == 1
    assert store._writer.execute("SELECT count(*) FROM ok_mark").get <= 4


def at_once(store: SQLiteStore, threads: int) -> set[bytes]:
    """The cursors of snapshots that so many threads have at the same time."""
    met, cursors = threading.Barrier(threads), set[bytes]()

    def pull() -> None:
        with store.snapshot(age_s=AGE_S) as snapshot:
            met.wait(10)
            cursors.add(snapshot.cursor)
            found = {len(snapshot.evaluate("note", everything, {"note": everything})) for _ in range(20)}
            met.wait(10)
            assert len(found) == 1

    together(*[pull] * threads)
    return cursors


def test_threads_that_find_it_of_age_renew_it_once(store: SQLiteStore, clock: MovableClock) -> None:
    renewed: list[int] = []
    connections = store._publisher._connections

    def open_(made: list[apsw.Connection]) -> bytes:
        renewed.append(len(made))
        return connections.open(made)

    at_once(store, 4)
    store._publisher._connections = evolve(connections, open=open_)
    for n in range(6):
        write(store, n)
        clock.move(seconds=AGE_S)
        at_once(store, 4)
    assert renewed == [4] * 6


def test_every_thread_sees_what_it_has_written_while_others_write_and_renew(store: SQLiteStore, clock: MovableClock) -> None:
    """By `enough`, as a pull asks for its own receipts."""

    def work(first: int) -> None:
        for n in range(first, first + 25):
            write(store, n)
            with store.snapshot(age_s=AGE_S, enough=holding(n)) as snapshot:
                assert holding(n)(snapshot)
                assert not snapshot.any_touched(["note"], snapshot.cursor)
            clock.move(seconds=0.1)

    together(*(partial(work, first) for first in (0, 100, 200)))


def test_an_idle_process_lets_the_wal_go(store: SQLiteStore, clock: MovableClock) -> None:
    write(store, 1)
    assert count(store, age_s=AGE_S) == 1
    write(store, 2)
    assert not wal_is_free(store), "the snapshot stands"
    TIMERS[-1].ring()
    assert not wal_is_free(store), "it is young, whatever the timer says"
    clock.move(seconds=AGE_S)
    TIMERS[-1].ring()
    assert wal_is_free(store)
    assert count(store, age_s=AGE_S) == 2


def test_a_snapshot_in_use_goes_when_its_last_user_has_ended(store: SQLiteStore, clock: MovableClock) -> None:
    write(store, 1)
    with store.snapshot(age_s=AGE_S) as snapshot:
        write(store, 2)
        clock.move(seconds=AGE_S)
        TIMERS[-1].ring()
        assert count(store, age_s=AGE_S) == 2
        assert len(snapshot.evaluate("note", everything, {"note": everything})) == 1
    TIMERS[-1].ring()
    clock.move(seconds=AGE_S)
    TIMERS[-1].ring()
    assert wal_is_free(store)


def test_one_timer_runs_however_often_it_is_renewed(store: SQLiteStore, clock: MovableClock) -> None:
    for _ in range(20):
        clock.move(seconds=AGE_S)
        count(store, age_s=AGE_S)
    assert sum(timer.waits for timer in TIMERS) == 1


def test_closing_the_store_closes_the_snapshot_too(store: SQLiteStore, tmp_path: Path) -> None:
    with store.snapshot(age_s=AGE_S) as snapshot:
        count(store, age_s=AGE_S)
        store.close()
        assert len(snapshot.evaluate("note", everything, {"note": everything})) == 0, "whoever is at it may end"
    assert not any(timer.waits for timer in TIMERS)
    assert [p.name for p in tmp_path.iterdir()] == ["head.db"], "the last connection was closed and took the WAL away"


def test_tracking_is_looked_at_again_when_a_snapshot_is_renewed(store: SQLiteStore, clock: MovableClock) -> None:
    count(store, age_s=AGE_S)
    store._writer.execute("DROP TRIGGER ok_insert_note")
    store._writer.execute("INSERT INTO note VALUES(7,'')")
    assert count(store, age_s=AGE_S) == 0
    clock.move(seconds=AGE_S)
    with pytest.raises(NotTracked), store.snapshot(age_s=AGE_S):
        pass
    store.reconcile()
    assert count(store, age_s=AGE_S) == 1
