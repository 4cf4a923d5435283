"""What other programs write to an authority's tables is seen: every way that INSERT, UPDATE and DELETE can take."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from offlinekit import Collection, Field, Schema, SQLiteStore, everything, field
from offlinekit.exceptions import NotTracked


class Part(Collection):
    sku: Field[str] = field(key=True)
    ean: Field[str]
    name: Field[str]


schema = Schema(Part)
SCOPES = {"part": everything}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    plain = apsw.Connection(str(tmp_path / "hq.db"))
    plain.execute("CREATE TABLE part(sku TEXT PRIMARY KEY, ean TEXT NOT NULL DEFAULT '-' UNIQUE, name TEXT COLLATE NOCASE)")
    plain.executemany("INSERT INTO part VALUES(?,?,?)", [(f"s{n}", f"e{n}", f"n{n}") for n in range(5)])
    plain.close()
    store = SQLiteStore(tmp_path / "hq.db")
    store.bind(schema)
    yield store
    store.close()


def ordinals(store: SQLiteStore) -> dict[str, int]:
    return dict(store._writer.execute("SELECT sku,ordinal FROM ok_side_part"))


def touched_by(store: SQLiteStore, *statements: str) -> set[str]:
    """The keys that are touched after a plain program ran the statements."""
    with store.snapshot() as before:
        cursor = before.cursor
    plain = apsw.Connection(store.path)
    for statement in statements:
        plain.execute(statement)
    plain.close()
    with store.snapshot() as after:
        assert after.honoured(cursor)
        seen = after.touched("part", cursor)
        assert after.any_touched(["part"], cursor) == bool(seen)
    return {sku for sku, ordinal in ordinals(store).items() if ordinal in seen}


@pytest.mark.parametrize(
    ("statement", "wanted"),
    [
        ("INSERT INTO part VALUES('new','x','y')", {"new"}),
        ("INSERT OR IGNORE INTO part VALUES('s1','x','y')", set()),
        ("INSERT INTO part VALUES('s1','x','y') ON CONFLICT DO UPDATE SET name='other'", {"s1"}),
        ("REPLACE INTO part VALUES('new','e2','y')", {"new", "s2"}),
        ("INSERT OR REPLACE INTO part(rowid,sku,ean,name) VALUES(1,'new','x','y')", {"new", "s0"}),
        ("UPDATE OR REPLACE part SET ean='e3' WHERE sku='s4'", {"s3", "s4"}),
        ("UPDATE part SET sku='moved' WHERE sku='s0'", {"s0", "moved"}),
        ("UPDATE part SET name='N1' WHERE sku='s1'", {"s1"}),
        ("UPDATE part SET name=name", set()),
        ("DELETE FROM part WHERE sku='s2'", {"s2"}),
        ("DELETE FROM part", {"s0", "s1", "s2", "s3", "s4"}),
    ],
)
def test_what_a_plain_statement_changes_is_touched(store: SQLiteStore, statement: str, wanted: set[str]) -> None:
    assert touched_by(store, statement) >= wanted
    if not wanted:
        assert touched_by(store, statement) == set()


def test_a_null_that_replace_turns_into_the_default_touches_whoever_had_the_default(store: SQLiteStore) -> None:
    touched_by(store, "INSERT INTO part VALUES('first','-','n')")
    assert touched_by(store, "INSERT OR REPLACE INTO part VALUES('second',NULL,'n')") == {"first", "second"}


def test_a_key_keeps_its_ordinal_for_ever(store: SQLiteStore) -> None:
    before = ordinals(store)
    touched_by(store, "DELETE FROM part", "INSERT INTO part VALUES('z','z','z')", "INSERT INTO part VALUES('s3','e3','again')")
    after = ordinals(store)
    assert {k: after[k] for k in before} == before
    assert after["z"] not in before.values()


def test_a_table_that_was_made_again_is_refused_until_it_is_reconciled(store: SQLiteStore) -> None:
    plain = apsw.Connection(store.path)
    plain.execute("DROP TABLE part; CREATE TABLE part(sku TEXT PRIMARY KEY, ean TEXT, name TEXT)")
    plain.execute("INSERT INTO part VALUES('s1','e1','n1')")
    plain.close()
    with pytest.raises(NotTracked, match="part: its triggers are missing"), store.snapshot():
        pass
    assert store.reconcile() == {"part": 5}
    with store.snapshot() as snapshot:
        assert len(snapshot.evaluate("part", everything, SCOPES)) == 1


def test_a_unique_index_added_later_is_refused_until_it_is_reconciled(store: SQLiteStore) -> None:
    plain = apsw.Connection(store.path)
    plain.execute("CREATE UNIQUE INDEX one_name ON part(name)")
    plain.close()
    with pytest.raises(NotTracked), store.snapshot():
        pass
    store.reconcile()
    assert touched_by(store, "REPLACE INTO part VALUES('new','new','N2')") == {"new", "s2"}


def test_no_trigger_scans_the_table_for_a_record_that_is_written(store: SQLiteStore) -> None:
    """Joined by OR, the conditions on the unique indexes made a load of n records take n² time."""
    db = store._writer
    for condition in ("sku=?1 COLLATE BINARY", "ean=?1 COLLATE BINARY", "rowid=?1"):
        plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN SELECT 1 FROM part WHERE {condition}", ("x",))]
        assert not any(step.startswith("SCAN") for step in plan), plan
    for (sql,) in db.execute("SELECT sql FROM sqlite_schema WHERE type='trigger' AND name LIKE 'ok_%ing_part'"):
        inner = sql.partition("WHEN ")[2]
        assert all("EXISTS(" in part for part in inner.partition(" BEGIN ")[0].split(" OR ")), inner
