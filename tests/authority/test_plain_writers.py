"""Programs that know nothing of offlinekit write the authority's tables, and no change of theirs goes unseen."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.authority.oracle import Watch
from tests.authority.shop import DDL, SCHEMA, TRIGGERS
from tests.authority.statements import batch, fill
from tests.authority.writing import PlainWriter

PRAGMAS = ("recursive_triggers", "foreign_keys", "trusted_schema")


@pytest.fixture
def shop(tmp_path: Path, writer: PlainWriter) -> Iterator[Watch]:
    """The tables of the shop with a few records; the writer has foreign keys on."""
    writer.open(tmp_path / "shop.db", *DDL, "PRAGMA foreign_keys=ON", *fill())
    watch = Watch(tmp_path / "shop.db", SCHEMA, writer)
    yield watch
    watch.close()


@pytest.mark.slow
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data(), on=st.sets(st.sampled_from(PRAGMAS)), attached=st.booleans(), triggers=st.booleans())
def test_no_change_by_random_statements_goes_unseen(
    process: PlainWriter, data: st.DataObject, on: set[str], attached: bool, triggers: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "shop.db")
        process.open(path, *DDL, *(TRIGGERS if triggers else ()))
        at = ""
        if attached:
            at = "a."
            process.open(":memory:", *DDL, f"ATTACH '{path}' AS a")
        process.write(*(f"PRAGMA {p}={'ON' if p in on else 'OFF'}" for p in PRAGMAS), *fill(at))
        watch = Watch(path, SCHEMA, process, at=at)
        try:
            for drawn in data.draw(st.lists(batch(at), min_size=1, max_size=3)):
                inside = drawn.statements[0] in ("BEGIN", "SAVEPOINT a")
                if inside:
                    watch.attempt(*drawn.statements)
                else:
                    for sql in drawn.statements:
                        watch.attempt(sql)
                watch.exact = drawn.exact and not triggers and not inside
                watch.look()
        finally:
            watch.close()
            process.close()


# -- what each kind of statement touches: exactly this, so that nothing is sent in vain


@pytest.mark.parametrize(
    ("statement", "touched"),
    [
        ("INSERT INTO customer(id,name) VALUES(4,'di')", {"customer": {4}}),
        ("INSERT INTO customer(name) VALUES('di')", {"customer": {4}}),
        ("INSERT INTO ord(id) VALUES('o1') ON CONFLICT DO NOTHING", {}),
        ("INSERT INTO ord(id,total) VALUES('o1',3) ON CONFLICT(id) DO UPDATE SET total=excluded.total", {"ord": {"o1"}}),
        ("INSERT INTO ord(id,total) VALUES('o1',1.5) ON CONFLICT(id) DO UPDATE SET total=excluded.total", {}),
        # in vain: nobody knows before that the record with the other key is not replaced
        ("INSERT INTO ord(id,number) VALUES('o1',2) ON CONFLICT(id) DO UPDATE SET id='o1'", {"ord": {"o2"}}),
        ("INSERT INTO ord(id,number) VALUES('o3',1) ON CONFLICT(number) DO UPDATE SET id=excluded.id", None),
        ("INSERT OR IGNORE INTO ord(id,total) VALUES('o1',9)", {}),
        ("UPDATE ord SET number=NULL WHERE id='o2'", {"ord": {"o2"}}),
        ("UPDATE ord SET note='undeclared'", {}),
        ("UPDATE ord SET id=id, total=total, number=number, customer=customer", {}),
        ("UPDATE item SET qty=5 WHERE ord='o1'", {"item": {("o1", 1), ("o1", 2)}}),
        ("UPDATE item SET tag=1.0 WHERE ord='o2'", {"item": {("o2", 1)}}),
        ("UPDATE product SET name='B' WHERE sku='p2'", {"product": {"p2"}}),
        ("UPDATE product SET sku='P2' WHERE sku='p2'", {"product": {"p2", "P2"}}),
        ("DELETE FROM ord WHERE id='o2'", {"ord": {"o2"}, "item": {("o2", 1)}}),
        ("DELETE FROM item", {"item": {("o1", 1), ("o1", 2), ("o2", 1)}}),
        ("DELETE FROM customer WHERE id=1", {"customer": {1}, "ord": {"o1"}}),
        ("UPDATE customer SET id=9 WHERE id=1", {"customer": {1, 9}, "ord": {"o1"}}),
        ("UPDATE item SET line=line+10 WHERE ord='o2'", {"item": {("o2", 1), ("o2", 11)}}),
        # what replaces records that it does not name
        ("INSERT OR REPLACE INTO customer(id,name,email) VALUES(4,'di','b')", {"customer": {2, 4}, "ord": {"o2"}}),
        ("INSERT OR REPLACE INTO customer(name,email) VALUES('di','b')", {"customer": {2, 4}, "ord": {"o2"}}),
        ("REPLACE INTO ord(id,number) VALUES('o3',2)", {"ord": {"o2", "o3"}, "item": {("o2", 1)}}),
        ("REPLACE INTO ord(rowid,id) VALUES(2,'o3')", {"ord": {"o2", "o3"}, "item": {("o2", 1)}}),
        ("UPDATE OR REPLACE ord SET rowid=2 WHERE id='o1'", {"ord": {"o2"}, "item": {("o2", 1)}}),
        ("UPDATE OR REPLACE ord SET number=2 WHERE id='o1'", {"ord": {"o1", "o2"}, "item": {("o2", 1)}}),
        ("UPDATE OR REPLACE item SET line=1 WHERE ord='o1'", {"item": {("o1", 1), ("o1", 2)}}),
        ("UPDATE OR IGNORE item SET line=1", {"item": {("o1", 1)}}),  # in vain: nobody knows before that it is ignored
        ("INSERT OR REPLACE INTO product(sku,ean) VALUES('p3',NULL)", {"product": {"p1", "p3"}}),
        ("UPDATE OR REPLACE product SET ean=NULL WHERE sku='p2'", {"product": {"p1", "p2"}}),
        ("INSERT OR REPLACE INTO product(sku,ean,label) VALUES('p3','e3','L')", {"product": {"p1", "p3"}}),
        ("INSERT INTO product(sku,ean,cat,name) VALUES('p3','e3','x','A')", {"product": {"p1", "p3"}}),
        ("UPDATE product SET name='A' WHERE sku='p2'", {"product": {"p1", "p2"}}),
        ("INSERT OR REPLACE INTO product(sku,ean,note) VALUES('p3','e3',2)", {"product": {"p2", "p3"}}),
        ("INSERT OR REPLACE INTO product(sku,ean) VALUES('P1','e3')", {"product": {"p1", "P1"}}),
    ],
)
def test_a_statement_touches_what_it_changes_and_nothing_else(
    shop: Watch, statement: str, touched: dict[str, set[object]] | None
) -> None:
    if touched is None:  # refused: orders have items
        assert "IntegrityError" in shop.attempt(statement)[0]
    assert shop.touched(*([statement] if touched is not None else [])) == (touched or {})


@pytest.mark.parametrize(
    ("statement", "touched", "changed"),
    [
        ("UPDATE item SET note='n' WHERE ord='o2'", {"item": {("o2", 1)}}, {}),
        ("UPDATE item SET note='n', qty=9 WHERE ord='o2'", {"item": {("o2", 1)}}, {"item": {("o2", 1)}}),
        ("UPDATE item SET note='n', line=7 WHERE ord='o2'", {"item": {("o2", 1), ("o2", 7)}}, {"item": {("o2", 1), ("o2", 7)}}),
        ("UPDATE item SET note=NULL", {}, {}),
        ("INSERT INTO item(ord,line,qty) VALUES('o2',1,0) ON CONFLICT DO UPDATE SET note='n'", {"item": {("o2", 1)}}, {}),
        ("UPDATE product SET note=note+7", {"product": {"p1", "p2"}}, {}),
        ("UPDATE product SET note='1' WHERE sku='p1'", {}, {}),  # its column makes a number of it
        # who replaces a record may have written anything
        ("REPLACE INTO item(ord,line,qty,note) VALUES('o2',1,1,'n')", {"item": {("o2", 1)}}, {"item": {("o2", 1)}}),
        ("UPDATE OR REPLACE product SET note=2 WHERE sku='p1'", {"product": {"p1", "p2"}}, {"product": {"p2"}}),
    ],
)
def test_what_devices_never_hold_changes_in_silence(
    shop: Watch, statement: str, touched: dict[str, set[object]], changed: dict[str, set[object]]
) -> None:
    assert shop.touched(statement) == touched
    assert shop.changed() == changed


def test_an_update_that_changes_the_key_of_a_record_without_children_is_a_deletion_and_an_insertion(shop: Watch) -> None:
    sql = "INSERT INTO ord(id,number) VALUES('o3',3) ON CONFLICT(number) DO UPDATE SET id=excluded.id"
    shop.touched("INSERT INTO ord(id,number) VALUES('old',3)")
    assert shop.touched(sql) == {"ord": {"old", "o3"}}
    assert shop.touched("UPDATE ord SET id='old' WHERE id='o3'") == {"ord": {"old", "o3"}}


def test_two_records_that_swap_their_keys_are_both_touched_and_keep_the_keys_ordinals(shop: Watch) -> None:
    swap = ("UPDATE item SET line=-line WHERE ord='o1'", "UPDATE item SET line=3+line WHERE ord='o1'")
    ordinals = dict(shop.ordinals["item"])
    assert {("o1", 1), ("o1", 2)} <= shop.touched(*swap)["item"]
    assert {k: n for k, n in shop.ordinals["item"].items() if k in ordinals} == ordinals


def test_a_key_that_comes_back_has_its_ordinal_again(shop: Watch) -> None:
    shop.touched("DELETE FROM item")
    shop.touched("INSERT INTO item(ord,line,qty) VALUES('o2',9,0)")
    shop.touched("INSERT INTO item(ord,line,qty) VALUES('o1',2,0),('o1',1,0)")
    assert sorted(shop.ordinals["item"].values()) == [1, 2, 3, 4]


def test_replace_with_recursive_triggers_is_seen_as_well(shop: Watch) -> None:
    shop.writer.write("PRAGMA recursive_triggers=ON")
    assert shop.touched("REPLACE INTO ord(id,number) VALUES('o3',2)") == {"ord": {"o2", "o3"}, "item": {("o2", 1)}}


def test_a_record_with_the_key_minus_one_is_replaced_in_sight(shop: Watch) -> None:
    """In a BEFORE trigger a key that SQLite is yet to choose is -1."""
    shop.touched("INSERT INTO customer(id,name,email) VALUES(-1,'minus','m')")
    assert shop.touched("INSERT OR REPLACE INTO customer(name,email) VALUES('new','m')") == {"customer": {-1, 4}}


def test_a_nightly_job_that_writes_the_same_values_touches_nothing(shop: Watch) -> None:
    assert not shop.touched(
        "INSERT INTO customer(id,name,email) VALUES(1,'ann','a'),(2,'bob','b')"
        " ON CONFLICT(id) DO UPDATE SET name=excluded.name, email=excluded.email",
        "UPDATE product SET name=name||'', label=label, note=note",
        "INSERT OR IGNORE INTO item(ord,line,qty) SELECT ord,line,qty FROM item",
        "UPDATE OR REPLACE ord SET id=id, number=number",
    )


def test_what_the_writer_rolls_back_is_not_touched(shop: Watch) -> None:
    assert shop.touched(
        "BEGIN", "UPDATE customer SET name='x'", "SAVEPOINT a", "DELETE FROM item", "ROLLBACK TO a",
        "UPDATE ord SET total=7 WHERE id='o1'", "RELEASE a", "UPDATE customer SET name='ann' WHERE id=1", "COMMIT",
    ) == {"customer": {1, 2, 3}, "ord": {"o1"}}  # fmt: skip
    assert not shop.touched("BEGIN", "DELETE FROM item", "ROLLBACK")


def test_a_statement_that_fails_half_way_touches_what_it_keeps(shop: Watch) -> None:
    (error,) = shop.attempt("INSERT OR FAIL INTO ord(id,number) VALUES('o8',8),('o9',1)")
    assert "IntegrityError" in error
    assert "o8" in shop.touched()["ord"]
    shop.attempt("INSERT INTO ord(id,number) VALUES('o6',6),('o7',1)")
    assert shop.touched() == {}


def test_a_program_that_trusts_no_schema_can_write(shop: Watch) -> None:
    shop.writer.write("PRAGMA trusted_schema=OFF")
    assert shop.touched("UPDATE customer SET name='x' WHERE id=1") == {"customer": {1}}


def test_a_program_that_attaches_the_file_beside_tables_of_the_same_names_is_seen(shop: Watch, tmp_path: Path) -> None:
    shop.writer.open(tmp_path / "own.db", *DDL, *fill(), f"ATTACH '{tmp_path / 'shop.db'}' AS a")
    shop.at = "a."
    assert shop.touched("DELETE FROM main.item", "REPLACE INTO a.ord(id,number) VALUES('o3',2)") == {"ord": {"o2", "o3"}}


def test_what_the_applications_own_triggers_write_is_touched(shop: Watch) -> None:
    shop.writer.write(*TRIGGERS)
    assert shop.touched("INSERT INTO item(ord,line,qty) VALUES('o1',3,1)") == {"item": {("o1", 3)}, "ord": {"o1"}}
    assert shop.touched("INSERT INTO customer(id,name) VALUES(5,'bob')") == {"customer": {5}, "product": {"c5"}}
    assert shop.touched("DELETE FROM product WHERE sku='p1'") == {
        "product": {"p1"}, "item": {("o1", 1), ("o2", 1)},
    }  # fmt: skip


def test_a_vacuum_that_gives_new_rowids_changes_no_ordinal(shop: Watch) -> None:
    shop.touched("UPDATE ord SET rowid=77 WHERE id='o1'", "VACUUM")
    assert shop.touched("REPLACE INTO ord(rowid,id) SELECT rowid,'new' FROM ord WHERE id='o1'") == {
        "ord": {"o1", "new"}, "item": {("o1", 1), ("o1", 2)},
    }  # fmt: skip
