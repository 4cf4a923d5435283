"""What other programs do to the tables themselves, and values in them that the declared schema cannot hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from offlinekit.exceptions import NotTracked, StoreError
from offlinekit.nodes import everything
from offlinekit.query import Query
from offlinekit.schema import Collection, Field, Schema, field
from offlinekit.selection import Source, Step
from offlinekit.store.sqlite.authority_store import SQLiteStore
from tests.authority.oracle import Watch
from tests.authority.shop import DDL, SCHEMA
from tests.authority.statements import fill
from tests.authority.writing import PlainWriter


class Part(Collection):
    """One small table for what is done to tables."""

    code: Field[str] = field(key=True)
    name: Field[str | None] = field(search=True)
    size: Field[float | None]


PARTS = Schema(Part)
RECORDS = "INSERT INTO part(code,name,size) VALUES('a','nut',1.5),('b','bolt',NULL)"


@pytest.fixture
def shop(tmp_path: Path, writer: PlainWriter) -> Iterator[Watch]:
    """The tables of the shop with a few records."""
    writer.open(tmp_path / "shop.db", *DDL, *fill())
    watch = Watch(tmp_path / "shop.db", SCHEMA, writer)
    yield watch
    watch.close()


@pytest.fixture
def parts(tmp_path: Path, writer: PlainWriter) -> Iterator[Watch]:
    """A table that offlinekit does not get to create, with two records."""
    writer.open(tmp_path / "parts.db", "CREATE TABLE part(code TEXT PRIMARY KEY, name TEXT, size REAL, note TEXT)", RECORDS)
    watch = Watch(tmp_path / "parts.db", PARTS, writer)
    yield watch
    watch.close()


def refused(watch: Watch) -> str:
    """The reason why the store gives no snapshot and takes no write."""
    with pytest.raises(NotTracked) as caught, watch.store.snapshot():
        pass
    with pytest.raises(NotTracked), watch.store.unit():
        pass
    assert "part" in watch.store.untracked()
    return str(caught.value)


# -- the tables change


def test_a_table_that_is_dropped_and_created_again_is_refused_until_it_is_reconciled(parts: Watch) -> None:
    parts.writer.write("DROP TABLE part", "CREATE TABLE part(code TEXT PRIMARY KEY, name TEXT, size REAL)")
    parts.writer.write("INSERT INTO part VALUES('a','nut',1.5),('c','cog',NULL)")
    assert "triggers" in refused(parts)
    assert parts.store.reconcile() == {"part": 3}
    assert parts.touched() == {"part": {"a", "b", "c"}}
    assert parts.touched("DELETE FROM part WHERE code='a'") == {"part": {"a"}}
    assert parts.store.reconcile() == {}


def test_a_table_that_is_gone_is_refused_and_cannot_be_reconciled(parts: Watch) -> None:
    parts.writer.write("DROP TABLE part")
    assert "its table is gone" in refused(parts)
    with pytest.raises(StoreError, match="its table is gone"):
        parts.store.reconcile()


def test_a_table_that_is_renamed_and_replaced_by_another_is_refused(parts: Watch) -> None:
    parts.writer.write("ALTER TABLE part RENAME TO before", "CREATE TABLE part AS SELECT * FROM before")
    parts.writer.write("CREATE UNIQUE INDEX part_code ON part(code)", "UPDATE part SET size=9")
    assert "triggers" in refused(parts)
    parts.store.reconcile()
    assert parts.touched() == {"part": {"a", "b"}}
    assert parts.touched("DELETE FROM before") == {}


def test_a_unique_index_that_is_added_later_is_refused_until_it_is_reconciled(parts: Watch) -> None:
    parts.writer.write("CREATE UNIQUE INDEX part_name ON part(name COLLATE NOCASE)")
    assert "unique indexes" in refused(parts)
    parts.store.reconcile()
    assert parts.touched() == {"part": {"a", "b"}}
    assert parts.touched("REPLACE INTO part(code,name) VALUES('c','NUT')") == {"part": {"a", "c"}}


def test_a_partial_unique_index_is_tracked(parts: Watch) -> None:
    parts.writer.write("CREATE UNIQUE INDEX part_size ON part(size) WHERE name IS NOT NULL")
    parts.store.reconcile()
    assert parts.touched() == {"part": {"a", "b"}}
    assert parts.touched("REPLACE INTO part(code,name,size) VALUES('c','cog',1.5)") == {"part": {"a", "c"}}


def test_a_unique_index_on_an_expression_is_refused_until_it_is_dropped(parts: Watch) -> None:
    parts.writer.write("CREATE UNIQUE INDEX part_lower ON part(lower(name))")
    assert "unique index on an expression" in refused(parts)
    with pytest.raises(StoreError, match="unique index on an expression"):
        parts.store.reconcile()
    parts.writer.write("DROP INDEX part_lower")
    assert parts.touched() == {}


def test_an_index_that_is_not_unique_is_no_concern(parts: Watch) -> None:
    assert parts.touched("CREATE INDEX part_name ON part(lower(name))", "UPDATE part SET name='x' WHERE code='a'") == {
        "part": {"a"}
    }


def test_a_trigger_that_is_dropped_is_missed(parts: Watch) -> None:
    parts.writer.write("DROP TRIGGER ok_update_part")
    assert "triggers" in refused(parts)


def test_columns_that_the_application_adds_and_renames_are_no_concern(parts: Watch) -> None:
    assert parts.touched("ALTER TABLE part ADD COLUMN weight INTEGER NOT NULL DEFAULT 0") == {}
    assert parts.touched("ALTER TABLE part RENAME COLUMN note TO remark") == {}
    assert parts.touched("UPDATE part SET weight=5, remark='r'") == {}
    assert parts.touched("UPDATE part SET size=2 WHERE code='b'") == {"part": {"b"}}


def test_a_declared_column_that_is_renamed_is_named(parts: Watch) -> None:
    parts.writer.write("ALTER TABLE part RENAME COLUMN size TO length")
    assert "its table lacks size" in refused(parts)


@pytest.mark.parametrize(
    "table",
    [
        "CREATE TABLE part(code TEXT NOT NULL, name TEXT, size REAL)",
        "CREATE TABLE part(id INTEGER PRIMARY KEY, code TEXT, name TEXT, size REAL, UNIQUE(code, name))",
        "CREATE TABLE part(code TEXT, name TEXT, size REAL); CREATE UNIQUE INDEX some ON part(code) WHERE size > 0",
    ],
)
def test_a_table_that_lets_two_records_have_one_key_is_refused(tmp_path: Path, writer: PlainWriter, table: str) -> None:
    writer.open(tmp_path / "parts.db", *table.split("; "))
    store = SQLiteStore(tmp_path / "parts.db")
    with pytest.raises(StoreError, match=r"two records have one key; create a unique index on \(code\)"):
        store.bind(PARTS)
    writer.write("CREATE UNIQUE INDEX one ON part(code)")
    store.bind(PARTS)
    store.close()


@pytest.mark.parametrize(
    ("table", "replacing"),
    [
        ("part(code TEXT PRIMARY KEY, name TEXT, size REAL, rowid INTEGER UNIQUE)", "(oid,code) VALUES(1,'c')"),
        ("part(code TEXT PRIMARY KEY, name TEXT, size REAL, oid TEXT, rowid TEXT)", "(_rowid_,code) VALUES(1,'c')"),
        ("part(id INTEGER PRIMARY KEY, code TEXT UNIQUE, name TEXT, size REAL)", "(id,code) VALUES(1,'c')"),
        ("part(code STRING PRIMARY KEY, name TEXT, size REAL)", "(rowid,code) VALUES(1,'c')"),
        ("part(code TEXT PRIMARY KEY COLLATE NOCASE, name TEXT, size REAL)", "(rowid,code) VALUES(1,'c')"),
        ("part(code TEXT PRIMARY KEY, name TEXT, size REAL, kind TEXT NOT NULL DEFAULT nut UNIQUE)",
         "(code,kind) VALUES('c',NULL)"),
        ('part(code TEXT PRIMARY KEY, name TEXT, size REAL, kind TEXT NOT NULL DEFAULT "name" UNIQUE)',
         "(code,kind) VALUES('c',NULL)"),
        ("part(code TEXT PRIMARY KEY, name TEXT, size REAL, kind TEXT NOT NULL DEFAULT (lower('NUT')) UNIQUE)",
         "(code,kind) VALUES('c',NULL)"),
        ("part(code TEXT PRIMARY KEY, name TEXT, size REAL, on_ INTEGER NOT NULL DEFAULT TRUE UNIQUE)",
         "(code,on_) VALUES('c',NULL)"),
        ("Part(Code TEXT PRIMARY KEY, NAME TEXT UNIQUE, Size REAL) WITHOUT ROWID", "(code,name) VALUES('c','nut')"),
    ],
)  # fmt: skip
def test_tables_as_other_programs_declare_them_are_tracked(
    tmp_path: Path, writer: PlainWriter, table: str, replacing: str
) -> None:
    writer.open(tmp_path / "parts.db", f"CREATE TABLE {table}", "INSERT INTO part(code,name,size) VALUES('a','nut',1.5)")
    watch = Watch(tmp_path / "parts.db", PARTS, writer)
    assert watch.touched(f"REPLACE INTO part{replacing}") == {"part": {"a", "c"}}
    assert watch.touched("UPDATE part SET name='x'") == {"part": {"c"}}
    watch.close()


class Bin(Collection):
    """Has a number for its key."""

    code: Field[int] = field(key=True)
    name: Field[str | None]


@pytest.mark.parametrize(("schema", "fitting", "other"), [(PARTS, "'7'", "7"), (Schema(Bin), "7", "'7'")])
def test_a_key_without_a_type_holds_text_and_number_apart(
    tmp_path: Path, writer: PlainWriter, schema: Schema, fitting: str, other: str
) -> None:
    """They share an ordinal, of which only the record that fits is given out; writing neither fails."""
    (info,) = schema
    writer.open(tmp_path / "a.db", f"CREATE TABLE {info.name}(code PRIMARY KEY, name TEXT, size REAL)")
    writer.write(f"INSERT INTO {info.name} VALUES({fitting},'fits',NULL),({other},'does not',NULL)")
    store = SQLiteStore(tmp_path / "a.db")
    store.bind(schema)
    for sql in (
        "UPDATE {} SET size=1", "UPDATE {} SET name=name||'!'", "DELETE FROM {} WHERE code={other}",
        "INSERT INTO {}(code) VALUES({other})", "INSERT INTO {}(code) VALUES(0.1+0.2),(x'ff')",
        "DELETE FROM {} WHERE code<>{fitting}",
        "INSERT INTO {}(code) VALUES(0.1+0.2),({other})", "UPDATE {} SET code={other}||code WHERE code<>{fitting}",
    ):  # fmt: skip
        with store.snapshot() as snapshot:
            found = snapshot.evaluate(info.name, everything, {info.name: everything})
            rows = [(row[1], str(row[2]).rstrip("!")) for row in snapshot.rows(info.name, ["code", "name"], found)]
            assert rows == [(int(fitting) if fitting == "7" else "7", "fits")]
        writer.write(sql.format(info.name, fitting=fitting, other=other))
    store.close()


def test_records_without_a_whole_key_are_written_and_left_out(parts: Watch) -> None:
    assert parts.touched("INSERT INTO part(name) VALUES('none'),('nil')", "UPDATE part SET size=3 WHERE code IS NULL") == {}
    assert parts.touched("UPDATE part SET code='c' WHERE name='nil'") == {"part": {"c"}}
    assert parts.touched("UPDATE part SET code=NULL WHERE code IN ('c','a')") == {"part": {"a", "c"}}


def test_keys_that_differ_by_case_only_are_two_keys(tmp_path: Path, writer: PlainWriter) -> None:
    """In a column that ignores case, beside a unique index that does not."""
    writer.open(tmp_path / "parts.db", "CREATE TABLE part(code TEXT COLLATE NOCASE, name TEXT UNIQUE, size REAL)")
    writer.write("CREATE UNIQUE INDEX one ON part(code COLLATE BINARY)", "INSERT INTO part VALUES('a','nut',1),('A','bolt',2)")
    watch = Watch(tmp_path / "parts.db", PARTS, writer)
    assert watch.touched("UPDATE OR REPLACE part SET name='bolt' WHERE size=1") == {"part": {"a", "A"}}
    assert watch.touched("REPLACE INTO part(code,name) VALUES('A','bolt')") == {"part": {"a", "A"}}
    watch.close()


# -- values that do not fit


@pytest.mark.parametrize(
    "change",
    [
        "name=CAST(x'ff' AS TEXT)", "name=CAST(x'c328' AS TEXT)", "name=CAST(x'eda080' AS TEXT)", "name=x'00'",
        "size='long'", "size=x'3132'", "code=CAST(x'ff' AS TEXT)", "code=x'61'", "code=CAST(x'61ff' AS TEXT)",
    ],
)  # fmt: skip
def test_a_record_that_does_not_fit_is_left_out_and_counted_until_it_does(parts: Watch, change: str) -> None:
    parts.touched(f"UPDATE part SET {change} WHERE code='a'")
    scopes = {"part": everything}
    with parts.store.snapshot() as snapshot:
        assert len(snapshot.unfit("part")) == 1
        for query in (Query("part", total=True), Query("part", Part.name.contains("b")), Query("part", search="bolt")):
            assert [row[0] for row in snapshot.query(query, ["code", "name"], scopes)[0]] == ["b"]
        assert len(snapshot.evaluate("part", Part.name.contains("o"), scopes)) == 1
    with parts.store.unit() as unit:
        assert [row[0] for row in unit.query(Query("part"), ["code", "name"], None)[0]] == ["b"]
    parts.touched("UPDATE part SET code='a', name='nut', size=1 WHERE code<>'b' OR typeof(code)='blob'")
    with parts.store.snapshot() as snapshot:
        assert not snapshot.unfit("part")


def test_an_older_snapshot_tells_what_did_not_fit_without_looking_at_every_record(parts: Watch) -> None:
    statements: list[str] = []
    with parts.store.snapshot() as older:
        assert not older.unfit("part")
    with parts.store.snapshot() as older:
        parts.touched("UPDATE part SET size='long' WHERE code='a'")
        with parts.store.snapshot() as newer:
            assert len(newer.unfit("part")) == 1
        older.db.exec_trace = lambda cursor, sql, bindings: statements.append(sql) or True  # type: ignore[func-returns-value]
        try:
            assert not older.unfit("part")
        finally:
            older.db.exec_trace = None
    assert not [sql for sql in statements if "IS NOT TRUE" in sql and "version>" not in sql]


def test_not_a_number_is_null(parts: Watch) -> None:
    assert parts.touched("UPDATE part SET size=9e999-9e999 WHERE code='a'") == {"part": {"a"}}
    assert parts.tables["part"][((b"text", b"a"),)][2] == (b"null", None)


def test_strict_tables_hold_text_that_cannot_be_read_too(tmp_path: Path, writer: PlainWriter) -> None:
    store = SQLiteStore(tmp_path / "parts.db")
    store.bind(PARTS)
    store.close()
    writer.open(tmp_path / "parts.db", RECORDS, "UPDATE part SET name=CAST(x'80' AS TEXT) WHERE code='a'")
    watch = Watch(tmp_path / "parts.db", PARTS, writer)
    with watch.store.snapshot() as snapshot:
        assert len(snapshot.unfit("part")) == 1
    with watch.store.unit() as unit, pytest.raises(StoreError, match=r"part.*not valid UTF-8"):
        unit.get(PARTS.info("part"), ("a",))
    watch.close()


class Depot(Collection):
    """Keyed by text that its table folds."""

    code: Field[str] = field(key=True)
    area: Field[str] = field(key=True)


class Gate(Collection):
    """Refers to a town; both keys and the reference are folded."""

    name: Field[str] = field(key=True)
    town: Field[str] = field(ref="town")


class Town(Collection):
    name: Field[str] = field(key=True)


FOLDED = Schema(Depot, Gate, Town)
TABLES = (
    "CREATE TABLE depot(code TEXT COLLATE NOCASE, area TEXT, PRIMARY KEY(code, area COLLATE RTRIM))",
    "CREATE TABLE town(name TEXT NOT NULL COLLATE NOCASE PRIMARY KEY)",
    "CREATE TABLE gate(name TEXT NOT NULL COLLATE NOCASE PRIMARY KEY, town TEXT COLLATE NOCASE)",
    "CREATE INDEX by_town ON gate(town)",
    "INSERT INTO depot VALUES('A','x'),('b','y')",
    "INSERT INTO town VALUES('Recife'),('natal')",
    "INSERT INTO gate VALUES('N','Recife'),('S','NATAL')",
)


def scans(db: apsw.Connection, statements: list[tuple[str, Any]]) -> list[str]:
    """The statements that read one of the tables from end to end."""
    found = []
    for sql, bindings in statements:
        if not sql.startswith(("SELECT", "UPDATE", "DELETE")):
            continue
        plan = [str(row[3]) for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", bindings)]
        if any(re.match(r"SCAN (t|f|t\d+|depot|town|gate)\b|.*AUTOMATIC", step) for step in plan):
            found.append(f"{sql}\n{plan}")
    return found


def test_keys_that_their_table_folds_are_looked_up_by_index_and_compared_exactly(tmp_path: Path, writer: PlainWriter) -> None:
    writer.open(tmp_path / "folded.db", *TABLES)
    store = SQLiteStore(tmp_path / "folded.db")
    store.bind(FOLDED)
    depot, scopes = FOLDED.info("depot"), {c.name: everything for c in FOLDED}
    statements: list[tuple[str, Any]] = []

    def seen(cursor: object, sql: str, bindings: Any) -> bool:
        statements.append((sql, bindings))
        return True

    with store.snapshot() as snapshot:
        depots = snapshot.evaluate("depot", everything, scopes)
        gates, towns = (snapshot.evaluate(name, everything, scopes) for name in ("gate", "town"))
    (reader,) = store._idle
    reader.exec_trace = seen
    with store.snapshot() as snapshot:
        assert snapshot.evaluate("depot", everything, scopes, depots) == depots
        assert {tuple(row[1:]) for row in snapshot.rows("depot", ["code", "area"], depots)} == {("A", "x"), ("b", "y")}
        reached = snapshot.step(Step("town", Source("gate", everything), "gate", "town", True, everything), gates, scopes)
        assert [row[1] for row in snapshot.rows("town", ["name"], reached)] == ["Recife"], "NATAL is another town"
        reached = snapshot.step(Step("gate", Source("town", everything), "gate", "town", False, everything), towns, scopes)
        assert [row[1] for row in snapshot.rows("gate", ["name"], reached)] == ["N"]
        assert len(snapshot.evaluate("gate", Gate.town.within(Town.name > ""), scopes, gates)) == 1
        assert len(snapshot.evaluate("town", Gate.town.some(Gate.name > ""), scopes, towns)) == 1
    reader.exec_trace = None
    store._writer.exec_trace = seen
    with store.unit() as unit:
        assert unit.get(depot, ("A", "x")) == {"code": "A", "area": "x"}
        assert [unit.get(depot, key) for key in (("a", "x"), ("A", "x "), ("A", "y"))] == [None] * 3
        unit.update(depot, ("b", "y"), {"area": "z"})
        unit.delete(depot, ("B", "z"))
        unit.delete(depot, ("A", "x"))
    store._writer.exec_trace = None
    with store.unit() as unit:
        assert unit.query(Query("depot", everything), ["code", "area"], None)[0] == [("b", "z")]
    assert scans(store._writer, statements) == []
    store.close()


# -- fields that devices never hold


class Secret(Collection, name="part"):
    """The same table, of which devices hold less."""

    code: Field[str] = field(key=True)
    name: Field[str | None] = field(search=True)
    size: Field[float | None] = field(online_only=True)


class Secrets(Collection, name="part"):
    """And still less."""

    code: Field[str] = field(key=True)
    name: Field[str | None] = field(online_only=True)
    size: Field[float | None] = field(online_only=True)


def again(watch: Watch, declared: type[Collection]) -> Watch:
    """Another process opens the file, with another declaration."""
    watch.close()
    return Watch(watch.store.path, Schema(declared), watch.writer)


def marks(watch: Watch) -> list[str]:
    """The columns of the side table beside ordinal and key."""
    (columns,) = watch.writer.write("SELECT name FROM pragma_table_info('ok_side_part')")
    return [name.decode() for (name,) in columns][2:]


def test_a_collection_that_hides_nothing_has_one_mark(parts: Watch) -> None:
    assert marks(parts) == ["version"]


@pytest.mark.parametrize("declared", [Secret, Secrets])
def test_a_store_from_before_its_second_mark_gets_it_when_it_is_opened(parts: Watch, declared: type[Collection]) -> None:
    cursor = parts.past[-1].cursor
    parts.touched("UPDATE part SET size=2 WHERE code='a'")
    watch = again(parts, declared)
    assert marks(watch) == ["version", "ok_changed"]
    with watch.store.snapshot() as snapshot:
        assert snapshot.touched("part", cursor) == snapshot.changed("part", cursor), "nobody knows what had changed"
        assert len(snapshot.touched("part", cursor)) == 1, "and nothing else is touched"
    assert watch.touched("UPDATE part SET size=3") == {"part": {"a", "b"}}
    assert watch.changed() == {}
    watch.close()


@pytest.mark.parametrize(("before", "after"), [(Secret, Part), (Secrets, Secret), (Secrets, Part)])
def test_a_change_that_was_hidden_is_seen_once_its_field_is_not_hidden_any_more(
    parts: Watch, before: type[Collection], after: type[Collection]
) -> None:
    """A device that held the field before it was hidden has a projection that nothing tells apart from today's."""
    watch = again(parts, before)
    cursor = watch.past[-1].cursor
    watch.touched("UPDATE part SET size=7, name='hidden' WHERE code='a'")
    watch = again(watch, after)
    with watch.store.snapshot() as snapshot:
        assert snapshot.changed("part", cursor) == snapshot.ordinals("part", [("a",)])
    watch.touched("UPDATE part SET name='new' WHERE code='b'", "INSERT INTO part(code) VALUES('c')")
    assert watch.changed() == {"part": {"b", "c"}}
    (triggers,) = watch.writer.write("SELECT 1 FROM sqlite_schema WHERE name='ok_hidden_part'")
    assert bool(triggers) == (after is Secret)
    watch.close()


def test_a_store_that_saw_not_every_change_is_not_mended_by_opening_it(parts: Watch) -> None:
    parts.writer.write("DROP TRIGGER ok_delete_part", "DELETE FROM part WHERE code='a'")
    parts.close()
    parts.store = SQLiteStore(parts.store.path)
    parts.store.bind(Schema(Secret))
    assert "triggers" in refused(parts)
    cursor = parts.past[-1].cursor
    parts.store.reconcile()
    with parts.store.snapshot() as snapshot:
        assert len(snapshot.changed("part", cursor)) == 2


def test_a_hidden_value_that_does_not_fit_leaves_a_record_out_until_it_does(parts: Watch) -> None:
    watch = again(parts, Secret)
    assert watch.touched("UPDATE part SET size='long' WHERE code='a'") == {"part": {"a"}}
    assert watch.touched("UPDATE part SET size=1 WHERE code='a'") == {"part": {"a"}}  # `touched` compares what is left out
    watch.close()
