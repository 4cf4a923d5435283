"""Local transactions: who may open one and where, what they capture, what they refuse, and what outsiders may do."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from offlinekit.exceptions import (
    ConstraintViolated,
    InvalidValue,
    LimitExceeded,
    RecordNotFound,
    SchemaError,
    StateError,
)
from offlinekit.replica import Replica
from offlinekit.testing.pair import Pair
from tests.replica.world import City, Draft, Line, Order, opened


@pytest.fixture
def pair() -> Iterator[Pair]:
    with opened() as pair:
        yield pair


@pytest.fixture
def replica(pair: Pair) -> Replica:
    return pair.replica


def outbox(replica: Replica) -> list[list[tuple[str, str, dict[str, Any]]]]:
    """The changes of each pending mutation: collection, operation, new values."""
    return [[(c.collection, c.op, dict(c.after)) for c in m.changes] for m in replica.pending()]


# -- where


def test_a_transaction_of_another_thread_is_refused(replica: Replica) -> None:
    errors: list[BaseException] = []

    def use(tx: Any) -> None:
        for call in (lambda: tx.get(Order, "a"), lambda: tx.insert(Order(id="x")), lambda: tx.execute("SELECT 1")):
            try:
                call()
            except StateError as error:
                errors.append(error)

    with replica.transaction("sell") as tx:
        thread = threading.Thread(target=use, args=(tx,))
        thread.start()
        thread.join()
        tx.insert(Order(id="mine"))
    assert len(errors) == 3
    assert "belongs to the thread and task that opened it" in str(errors[0])
    assert [[(c, op, new["id"]) for c, op, new in m] for m in outbox(replica)] == [[("order", "insert", "mine")]]


def test_threads_write_one_after_the_other(replica: Replica) -> None:
    barrier = threading.Barrier(8)

    def work(n: int) -> None:
        barrier.wait()
        for k in range(10):
            try:
                with replica.transaction("sell") as tx:
                    tx.insert(Order(id=f"{n}-{k}"))
                    if k % 2:
                        raise ZeroDivisionError
            except ZeroDivisionError:
                assert replica.get(Order, f"{n}-{k}") is None

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(replica.pending()) == 40
    assert replica.select(Order).count() == 42


def test_transactions_do_not_nest(replica: Replica) -> None:
    with replica.transaction("sell") as tx:
        tx.insert(Order(id="x"))
        with pytest.raises(StateError, match="do not nest"), replica.transaction("sell"):
            pass
        with pytest.raises(StateError, match="inside a transaction"):
            replica.configure().save()
    assert replica.get(Order, "x") is not None


def test_a_transaction_is_used_once(replica: Replica) -> None:
    tx = replica.transaction("sell")
    with tx:
        pass
    with pytest.raises(StateError, match="used once"), tx:
        pass
    with pytest.raises(StateError, match="is over"):
        tx.insert(Order(id="x"))
    with pytest.raises(StateError, match="changed nothing"):
        _ = tx.mutation


def test_an_await_inside_is_refused_and_rolls_back(replica: Replica) -> None:
    async def main() -> None:
        with pytest.raises(StateError, match="await inside"), replica.transaction("sell") as tx:
            tx.insert(Order(id="x"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            tx.insert(Order(id="y"))

    asyncio.run(main())
    assert replica.pending() == []
    with replica.transaction("sell") as tx:  # the writer is free again
        tx.insert(Order(id="z"))


def test_an_await_before_the_end_is_noticed_at_the_end(replica: Replica) -> None:
    async def main() -> None:
        with replica.transaction("sell") as tx:
            tx.insert(Order(id="x"))
            await asyncio.sleep(0)

    with pytest.raises(StateError, match="await inside"):
        asyncio.run(main())
    assert replica.get(Order, "x") is None


def test_a_transaction_of_another_task_is_refused(replica: Replica) -> None:
    async def main() -> None:
        async def other(tx: Any) -> None:
            with pytest.raises(StateError, match="thread and task"):
                tx.insert(Order(id="y"))
            with pytest.raises(StateError, match="do not nest"), replica.transaction("sell"):
                pass

        with pytest.raises(StateError, match="await inside"), replica.transaction("sell") as tx:
            await asyncio.create_task(other(tx))
            tx.insert(Order(id="x"))

    asyncio.run(main())
    assert replica.pending() == []


# -- what it sees, and what an exception leaves


def test_reads_inside_see_the_writes_and_others_do_not(replica: Replica) -> None:
    seen: list[Any] = []
    with replica.transaction("sell") as tx:
        tx.insert(Order(id="x", total=Decimal("1.50")))
        tx.delete(Order(id="b"))
        assert tx.get(Order, "x").total == Decimal("1.50")
        assert [o.id for o in tx.select(Order)] == [o.id for o in replica.select(Order)] == ["a", "x"]
        assert tx.execute('SELECT count(*) FROM "order"') == replica.sql('SELECT count(*) FROM "order"') == [(2,)]
        thread = threading.Thread(target=lambda: seen.extend(o.id for o in replica.select(Order)))
        thread.start()
        thread.join()
    assert seen == ["a", "b"]
    assert [o.id for o in replica.select(Order)] == ["a", "x"]


@pytest.mark.invariant("I2")
def test_an_exception_rolls_back_records_and_outbox(replica: Replica) -> None:
    with pytest.raises(ZeroDivisionError), replica.transaction("sell") as tx:
        tx.insert(Order(id="x"))
        tx.execute('UPDATE "order" SET note=? WHERE id=?', ("changed", "a"))
        raise ZeroDivisionError
    assert [(o.id, o.note) for o in replica.select(Order)] == [("a", None), ("b", "Águas")]
    assert replica.pending() == []
    assert replica.store.reader().execute("SELECT count(*) FROM ok_touch").get == 0


def test_a_key_that_exists_and_one_that_does_not_are_refused(replica: Replica) -> None:
    with replica.transaction("sell") as tx:
        with pytest.raises(ConstraintViolated, match="has a record 'a' already"):
            tx.insert(Order(id="a"))
        with pytest.raises(RecordNotFound):
            tx.update(Order(id="none"), note="x")
        with pytest.raises(RecordNotFound):
            tx.delete(Order(id="none"))
        with pytest.raises(ConstraintViolated):
            tx.execute('INSERT INTO "order"(id,rep,total) VALUES(?,?,?)', ("a", "r", 1))
    assert replica.pending() == []


def test_net_changes_are_captured(replica: Replica) -> None:
    with replica.transaction("sell") as tx:
        tx.insert(Order(id="x"))
        tx.delete(Order(id="x"))
        order = tx.update(tx.get(Order, "a"), note="1")
        order = tx.update(order, note="2", total=Decimal(3))
        tx.update(order, note=None)
    assert outbox(replica) == [[("order", "update", {"total": 300})]]
    with replica.transaction("sell") as tx:
        tx.update(tx.get(Order, "b"), note="x")
        tx.update(tx.get(Order, "b"), note="Águas")
    assert len(replica.pending()) == 1, "a transaction that changes nothing is no mutation"


# -- raw SQL

INSERT = 'INSERT INTO "order"(id,rep,total) VALUES'


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (f"{INSERT}('x','r',5)", {("x", "insert")}),
        (f"{INSERT}('x','r',5),('y','r',6)", {("x", "insert"), ("y", "insert")}),
        (f"{INSERT}('a','r',5) ON CONFLICT(id) DO UPDATE SET total=excluded.total", {("a", "update")}),
        (f"INSERT OR REPLACE {INSERT[6:]}('a','r',5)", {("a", "update")}),
        (f"INSERT OR REPLACE {INSERT[6:]}('b','r',0)", {("b", "update")}),  # which loses the note
        (f"INSERT OR IGNORE {INSERT[6:]}('a','r',5)", set()),
        ("""UPDATE OR IGNORE "order" SET total=total+1""", {("a", "update"), ("b", "update")}),
        ("""UPDATE "order" SET note=note""", set()),
        ('DELETE FROM "order"', {("a", "delete"), ("b", "delete")}),
        ("""DELETE FROM "order" WHERE id='a' RETURNING id""", {("a", "delete")}),
    ],
)
def test_raw_sql_is_captured(pair: Pair, sql: str, expected: set[tuple[str, str]]) -> None:
    with pair.replica.transaction("sell") as tx:
        tx.execute(sql)
    found = {(c.key[0], c.op) for m in pair.replica.pending() for c in m.changes}
    assert found == expected
    shown = pair.replica.sql('SELECT id,total,note FROM "order" ORDER BY id')
    pair.sync()
    assert pair.replica.rejections() == []
    assert pair.replica.sql('SELECT id,total,note FROM "order" ORDER BY id') == shown
    with pair.authority.transaction() as tx:
        assert list(tx.connection.execute('SELECT id,total,note FROM "order" ORDER BY id')) == shown


def test_records_deleted_and_written_again_keep_their_places(pair: Pair) -> None:
    with pair.replica.transaction("sell") as tx:
        tx.execute('DELETE FROM "order"')
        for id_ in ("x", "b", "y", "a"):
            tx.execute(f"{INSERT}(?,'r',5)", (id_,))
    ordinals: dict[Any, Any] = dict(pair.replica.sql('SELECT id,_ordinal FROM "order"'))
    assert ordinals["a"] > 0 < ordinals["b"]
    assert ordinals["x"] < 0 > ordinals["y"]
    pair.sync()
    assert sorted(o.id for o in pair.authority.select(Order)) == ["a", "b", "x", "y"]
    assert pair.sync().received == {}


def test_a_record_gets_its_place_back_that_a_new_one_was_given_meanwhile(pair: Pair) -> None:
    order = Order(id="x", rep="r")
    with pair.replica.transaction("sell") as tx:
        tx.insert(order)
    before: dict[Any, Any] = dict(pair.replica.sql('SELECT id,_ordinal FROM "order"'))
    with pair.replica.transaction("sell") as tx:
        tx.delete(order)
        tx.insert(Order(id="y", rep="r"))
        tx.insert(order)
    after: dict[Any, Any] = dict(pair.replica.sql('SELECT id,_ordinal FROM "order"'))
    assert after["x"] == before["x"] < 0
    assert after["y"] < 0
    pair.sync()
    assert sorted(o.id for o in pair.authority.select(Order)) == ["a", "b", "x", "y"]


@pytest.mark.parametrize(
    "sql", ["""UPDATE "order" SET id='z' WHERE id='a'""", "UPDATE OR IGNORE \"order\" SET id='z' WHERE id='a'"]
)
def test_a_key_never_changes(replica: Replica, sql: str) -> None:
    with pytest.raises(StateError, match="a key never changes"), replica.transaction("sell") as tx:
        tx.execute(sql)
    with pytest.raises(InvalidValue, match="a key never changes"), replica.transaction("sell") as tx:
        tx.update(tx.get(Order, "a"), id="z")


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE x(a)", 'DROP TABLE "order"', 'ALTER TABLE "order" ADD COLUMN x', "CREATE INDEX x ON city(name)",
        "CREATE TRIGGER t AFTER INSERT ON city BEGIN SELECT 1; END", "CREATE TEMP TABLE x(a)", "CREATE VIEW v AS SELECT 1",
        "ATTACH 'x.db' AS x", "DETACH main", "COMMIT", "ROLLBACK", "BEGIN", "SAVEPOINT x", "RELEASE x",
        "PRAGMA journal_mode=delete", "PRAGMA user_version=3", "REINDEX", "ANALYZE",
        "DELETE FROM ok_mutation", "UPDATE ok_gate SET mode=2", "INSERT INTO ok_meta VALUES('x',x'')",
        "DELETE FROM ok_base_order",
        "DELETE FROM sqlite_sequence", "INSERT INTO ok_search_order(ok_search_order) VALUES('delete-all')",
    ],
)  # fmt: skip
def test_what_raw_sql_may_not_do_is_denied(replica: Replica, sql: str) -> None:
    with pytest.raises(StateError, match="not allowed here"):
        replica.sql(sql)
    with pytest.raises(StateError, match="not allowed here"), replica.transaction("sell") as tx:
        tx.insert(Order(id="x"))
        tx.execute(sql)
    assert replica.get(Order, "x") is None
    assert replica.sql("SELECT count(*) FROM city") == [(1,)]


def test_reading_sql_may_not_write(replica: Replica) -> None:
    with pytest.raises(StateError, match="not allowed here"):
        replica.sql("DELETE FROM draft")
    with replica.transaction("sell"), pytest.raises(StateError, match="not allowed here"):
        replica.sql('DELETE FROM "order"')


# -- rights and values


def test_collections_that_devices_do_not_write_are_refused(replica: Replica) -> None:
    with replica.transaction("sell") as tx:
        with pytest.raises(StateError, match="devices do not write 'city'"):
            tx.insert(City(code="X", name="x"))
        for sql in ("DELETE FROM city", "UPDATE OR IGNORE city SET name='x'", "INSERT OR REPLACE INTO city VALUES(1,'C','x')"):
            with pytest.raises(StateError, match="devices do not write this collection"):
                tx.execute(sql)
    assert replica.get(City, "C").name == "São Paulo"


def test_without_an_intent_only_device_only_collections_are_written(replica: Replica) -> None:
    with replica.transaction() as tx:
        tx.insert(Draft(id="1", text="x"))
        tx.update(Draft(id="1"), text="y")
        tx.execute("INSERT INTO draft VALUES('2','z')")
        with pytest.raises(StateError, match="is replicated"):
            tx.insert(Order(id="x"))
        with pytest.raises(StateError, match="a replicated collection is written in"):
            tx.execute('DELETE FROM "order"')
    assert [(d.id, d.text) for d in replica.select(Draft)] == [("1", "y"), ("2", "z")]
    assert replica.pending() == []
    with pytest.raises(SchemaError, match="unknown intent"):
        replica.transaction("sel")


@pytest.mark.parametrize(
    "sql", ["DELETE FROM draft", "DELETE FROM draft WHERE id='1'", "INSERT OR REPLACE INTO draft VALUES('1','z')"]
)
def test_watchers_hear_of_raw_sql(replica: Replica, sql: str) -> None:
    with replica.transaction() as tx:
        tx.insert(Draft(id="1"))
    heard: list[frozenset[str]] = []
    replica.on_change(heard.append, Draft)
    with replica.transaction() as tx:
        tx.execute(sql)
    assert heard == [{"draft"}]


def test_a_transaction_that_is_too_large_is_refused(replica: Replica) -> None:
    with pytest.raises(LimitExceeded, match="several transactions"), replica.transaction("sell") as tx:
        for n in range(6):
            tx.insert(Order(id=str(n), note="x" * 100_000))
    assert replica.pending() == []
    assert replica.select(Order).count() == 2


@pytest.mark.parametrize("values", [{"total": "x"}, {"total": -100}, {"note": b"x"}, {"total": 1.5}])
def test_values_written_by_raw_sql_are_checked(replica: Replica, values: dict[str, Any]) -> None:
    (name, value), *_ = values.items()
    with pytest.raises((InvalidValue, ConstraintViolated)), replica.transaction("sell") as tx:
        tx.execute(f'UPDATE "order" SET {name}=? WHERE id=?', (value, "a"))
    assert replica.pending() == []


def test_typed_values_are_checked(replica: Replica) -> None:
    with replica.transaction("sell") as tx:
        order = tx.get(Order, "a")
        for wrong in ({"total": Decimal(-1)}, {"total": Decimal("0.001")}, {"note": 3}, {"cost": 4}, {"totl": 3}):
            with pytest.raises((InvalidValue, SchemaError)):
                tx.update(order, **wrong)
        with pytest.raises(InvalidValue):
            Line(order="a", n="x")
    assert replica.pending() == []


# -- other programs

OUTSIDER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
print(db.execute('SELECT id FROM "order" ORDER BY id').fetchall())
for sql in ("DELETE FROM city", "UPDATE city SET name='x'", "INSERT INTO city VALUES(9,'X','x')", 'DELETE FROM "order"',
            'UPDATE "order" SET note=1', "INSERT INTO line VALUES(9,'a',1,1)"):
    try:
        db.execute(sql)
        print("WRITTEN", sql)
    except sqlite3.Error as error:
        print(type(error).__name__, error)
db.commit()
"""


def test_other_programs_read_the_tables_and_are_told_why_they_may_not_write(replica: Replica) -> None:
    with replica.transaction("sell") as tx:
        tx.insert(Order(id="x"))
    done = subprocess.run(
        [sys.executable, "-c", OUTSIDER, replica.store.path], capture_output=True, text=True, timeout=60, check=True
    )
    first, *others = done.stdout.splitlines()
    assert first == "[('a',), ('b',), ('x',)]"
    assert len(others) == 6
    for line in others:
        assert line == ("IntegrityError offlinekit: other programs may read this table and not write it;"
                        " use replica.transaction()"), line  # fmt: skip
    assert replica.select(City).count() == 1
