"""What is moved forward by what was touched is what a full evaluation finds: any filter, scope, writer, snapshot and history."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from offlinekit.authority import evaluating
from offlinekit.authority.evaluating import Evaluator
from offlinekit.nodes import And, Compare, Filter, IsNull, Not, Or, Some, Within, everything
from offlinekit.schema import Field
from offlinekit.selection import Plan, Source
from offlinekit.store.port import Snapshot
from offlinekit.store.sqlite import SQLiteStore
from offlinekit.view import View
from tests.authority.writing import PlainWriter
from tests.expr.world import KEYS, POOLS, SCHEMA, filters, relations

COLLECTIONS = tuple(info.name for info in SCHEMA)
PLAIN = Plan(dict.fromkeys(COLLECTIONS, everything), {})
PAID = Source("order", Compare("order", "total", ">", 0))
UNIQUE = "CREATE UNIQUE INDEX customer_name ON customer(name,city)"  # so that REPLACE deletes others


def pool(f: Field[Any]) -> list[Any]:
    """A few storage values, so that filters and references meet records."""
    if f.kind.name == "text" and f.name not in KEYS:
        return ["x", "y"]
    return [f.kind.store(v) for v in (KEYS.get(f.name) if f.kind.name in ("text", "integer") else None) or POOLS[f.kind.name]][:3]


@st.composite
def leaves(draw: st.DrawFn, collection: str) -> Filter:
    """Filters on one field that about half of the records pass."""
    f = draw(st.sampled_from(list(SCHEMA.info(collection).fields.values())))
    same = Compare(collection, f.name, "=", draw(st.sampled_from(pool(f))))
    return draw(st.sampled_from([same, Not(same), Or((same, IsNull(collection, f.name)))]))


@st.composite
def scopes(draw: st.DrawFn) -> dict[str, Filter]:
    """Scopes that look into each other in no circle."""
    found: dict[str, Filter] = {}
    for name in draw(st.permutations(COLLECTIONS)):
        steps = [Within(name, a, b, everything) if kind is Within else Some(name, a, b, everything)
                 for kind, a, b, beyond in relations(name) if beyond in found]  # fmt: skip
        parts = draw(st.lists(leaves(name) | st.sampled_from([*steps, everything]), max_size=2))
        found[name] = draw(st.sampled_from([And, Or]))(tuple(parts)) if parts else everything
    return found


@st.composite
def statements(draw: st.DrawFn) -> str:
    """A write of a plain program."""
    info = SCHEMA.info(draw(st.sampled_from(COLLECTIONS)))

    def literal(name: str) -> str:
        f = info.field(name)
        unfit = ["soon"] if f.kind.name == "date" else []
        return apsw.format_sql_value(draw(st.sampled_from(pool(f) + [None] * f.nullable + unfit)))

    key = info.key[0]
    match draw(st.sampled_from(["put", "put", "put", "set", "set", "move", "delete", "delete", "empty"])):
        case "put":
            verb = draw(st.sampled_from(["REPLACE", "INSERT OR REPLACE", "INSERT OR IGNORE"]))
            return f'{verb} INTO "{info.name}" VALUES({",".join(map(literal, info.fields))})'
        case "set":
            name = draw(st.sampled_from(list(info.fields)))
            return f'UPDATE OR REPLACE "{info.name}" SET "{name}"={literal(name)} WHERE "{key}"={literal(key)}'
        case "move":
            return f'UPDATE OR IGNORE "{info.name}" SET "{key}"={literal(key)} WHERE "{key}"={literal(key)}'
        case "delete":
            return f'DELETE FROM "{info.name}" WHERE "{key}"={literal(key)}'
        case _:
            return f'DELETE FROM "{info.name}"' if draw(st.integers(0, 9)) == 0 else "SELECT 1"


@pytest.fixture(scope="module")
def writer() -> Iterator[PlainWriter]:
    """Another program, in a process of its own."""
    with PlainWriter() as process:
        yield process


class History:
    """An authority's file that a plain program writes, with copies that can be put back."""

    def __init__(self, folder: Path, writer: PlainWriter) -> None:
        self.path, self.copy, self.writer = folder / "head.db", folder / "copy.db", writer
        self.open()
        writer.write(UNIQUE)
        self.store.reconcile()

    def open(self) -> None:
        """Opens the file, as new processes do."""
        self.store = SQLiteStore(self.path)
        self.store.bind(SCHEMA)
        self.writer.open(self.path)

    def close(self) -> None:
        """Ends all of them."""
        self.writer.close()
        self.store.close()

    def keep(self) -> None:
        """Takes a copy."""
        self.copy.unlink(missing_ok=True)
        self.writer.write(f"VACUUM INTO '{self.copy}'")

    def restore(self) -> None:
        """Puts it back; everything since is forgotten."""
        if self.copy.exists():
            self.close()
            for tail in ("", "-wal", "-shm"):
                Path(f"{self.path}{tail}").unlink(missing_ok=True)
            shutil.copy(self.copy, self.path)
            self.open()


@st.composite
def chains(draw: st.DrawFn, collection: str, depth: int) -> Filter:
    """Filters that look at records a few references away."""
    if not depth:
        return draw(leaves(collection))
    kind, first, second, beyond = draw(st.sampled_from(relations(collection)))
    return kind(collection, first, second, draw(chains(beyond, depth - 1)))


ANY = [st.builds(Source, st.just(c), st.just(everything)) for c in COLLECTIONS]
FAR = [st.builds(Source, st.just(c), chains(c, depth)) for c in COLLECTIONS for depth in (2, 3)]
SOME = [st.builds(Source, st.just(c), filters(c, 3, leaves)) for c in COLLECTIONS]
SOURCES = st.tuples(*ANY, *FAR, *SOME)
AFTER = st.sampled_from(["", "", "", "keep", "restore"])
STEPS = st.lists(st.tuples(st.booleans(), st.lists(statements(), max_size=4), AFTER), min_size=2, max_size=8)


@pytest.mark.slow
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(first=st.lists(statements(), min_size=10, max_size=30), bound=scopes(), sources=SOURCES, steps=STEPS)
def test_what_is_moved_on_equals_the_full_evaluation_at_every_cursor(
    writer: PlainWriter, first: list[str], bound: dict[str, Filter], sources: tuple[Source, ...],
    steps: list[tuple[bool, list[str], str]],
) -> None:  # fmt: skip
    evaluator, plan = Evaluator(lambda: 0.0, lambda what, collection: None), Plan(bound, {})

    def look(snapshot: Snapshot) -> None:
        for source in sources:
            found = evaluator.members(snapshot, plan, source)
            assert found == snapshot.evaluate(source.collection, source.where, bound), (source, bound)

    with tempfile.TemporaryDirectory() as folder:
        history = History(Path(folder), writer)
        writer.attempt(*first)
        try:
            for known, written, after in steps:
                with history.store.snapshot() as older:
                    if known:
                        look(older)
                    writer.attempt(*written)
                    with history.store.snapshot() as newer:
                        look(newer)
                    look(older)
                if after == "keep":
                    history.keep()
                elif after == "restore":
                    history.restore()
                    writer.attempt(*written[:1])  # past the point of the copy, before anybody asks
        finally:
            history.close()


class Told:
    """An authority's file with orders of two customers, and an evaluator whose clock is told how long an evaluation takes."""

    def __init__(self, folder: Path) -> None:
        self.store = SQLiteStore(folder / "head.db")
        self.store.bind(SCHEMA)
        self.counts: Counter[str] = Counter()
        self.seconds, self.time = 0.0, 0.0
        self.evaluator = Evaluator(self.now, lambda what, collection: self.counts.update([what]))
        for n in range(40):
            self.order(n, 0)

    def now(self) -> float:
        """A time that passes from call to call."""
        self.time += self.seconds
        return self.time

    def order(self, n: int, total: int) -> None:
        """Writes an order."""
        with self.store.unit() as unit:
            unit.connection.execute('REPLACE INTO "order"(id,customer,total) VALUES(?,?,?)', (n, "ab"[n % 2], total))

    def look(self, snapshot: Snapshot | None = None) -> View:
        """The paid orders, checked."""
        with self.store.snapshot() as newest:
            at = snapshot or newest
            found = self.evaluator.members(at, PLAIN, PAID)
            assert found == at.evaluate("order", PAID.where, PLAIN.scopes)
            return found


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    """Its store is closed in the end."""
    made = Told(tmp_path)
    yield made
    made.store.close()


def test_a_filter_is_evaluated_once_and_then_moved_on(told):
    assert told.look() == View()
    for n in range(3):
        told.order(n, 1)
        assert len(told.look()) == n + 1
        told.look()
    assert told.counts == {"evaluated": 1, "moved on": 3}


def test_where_more_was_touched_than_a_full_evaluation_takes_it_is_done_again(told, monkeypatch):
    monkeypatch.setattr(evaluating, "LOOKED_MIN", 2)
    told.seconds = 10 * evaluating.LOOK_S
    told.look()
    for count, wanted in ((10, {"evaluated": 1, "moved on": 1}), (11, {"evaluated": 2, "moved on": 1})):
        for n in range(count):
            told.order(n, count)
        told.look()
        assert told.counts == wanted


def test_an_older_snapshot_never_gets_what_a_newer_one_holds(told):
    told.look()
    with told.store.snapshot() as older:
        told.order(0, 1)
        with told.store.snapshot() as newer:
            assert (len(told.look(newer)), len(told.look(older))) == (1, 0)
            assert (len(told.look(newer)), len(told.look(older))) == (1, 0)
    assert told.counts == {"evaluated": 1, "moved on": 1}, "both are kept"


def test_what_many_want_at_once_is_evaluated_once(told):
    told.order(0, 1)
    barrier = threading.Barrier(4)

    def look() -> int:
        barrier.wait(20)
        return len(told.look())

    with ThreadPoolExecutor(4) as pool:
        assert [one.result(20) for one in [pool.submit(look) for _ in range(4)]] == [1] * 4
    assert told.counts["evaluated"] == 1, "who came later, perhaps with a newer snapshot, has waited for it"
