"""Expired selections: what may still be read and written, and that a renewal moves only the difference."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from offlinekit.exceptions import Reject, SelectionExpired
from offlinekit.replica.transaction import Transaction
from offlinekit.testing.pair import Pair
from tests.replica.world import City, Draft, Line, Order, opened


def execute_in(transaction: Transaction) -> Callable[[str], object]:
    """What runs one statement in a transaction that is then rolled back."""

    def run(sql: str) -> object:
        with transaction as tx:
            tx.execute(sql)
            raise RuntimeError("it was allowed")

    return run


@pytest.fixture
def pair() -> Iterator[Pair]:
    def judge(changes: object, ctx: object) -> None:
        for order in changes.inserted(Order):
            if order.note == "no":
                raise Reject("no", "no")

    with opened(until=True, hook=judge) as pair:
        with pair.replica.transaction("sell") as tx:
            tx.insert(Order(id="mine"))
        with pair.replica.transaction("sell") as tx:
            tx.insert(Order(id="refused", note="no"))
        pair.sync()
        with pair.replica.transaction() as tx:
            tx.insert(Draft(id="d"))
        with pair.replica.transaction("sell") as tx:
            tx.insert(Order(id="waits"))
        pair.clock.move(days=1)
        yield pair


def test_what_a_selection_held_is_not_read_after_its_end(pair: Pair) -> None:
    replica = pair.replica
    with pytest.raises(SelectionExpired) as caught:
        replica.get(Order, "a")
    assert caught.value.collection == "order"
    for call in (
        lambda: replica.get(Order, "unknown"),
        lambda: replica.select(Line).all(),
        lambda: replica.sql('SELECT * FROM "order"'),
        lambda: replica.transaction("sell"),
    ):
        with pytest.raises(SelectionExpired):
            call()


@pytest.mark.parametrize(
    "sql",
    [
        'SELECT * FROM "order"',
        'SELECT count(*) FROM "ORDER"',
        "SELECT name FROM city",  # held by everybody, but raw SQL knows no difference between records
        'SELECT text FROM draft WHERE id IN (SELECT id FROM "order")',
        'WITH ok_search_insert_draft AS (SELECT note FROM "order") SELECT * FROM ok_search_insert_draft',
        "SELECT id FROM ok_base_order",
        "SELECT note FROM ok_search_order WHERE ok_search_order MATCH 'x'",
        "SELECT block FROM ok_search_order_data",
        "SELECT * FROM ok_base_line",
        "SELECT * FROM ok_change",
        "SELECT count(*) FROM OK_BASE_ORDER",
    ],
)
def test_raw_sql_over_what_was_replicated_is_not_run_after_its_end(pair: Pair, sql: str) -> None:
    replica = pair.replica
    pair.clock.move(days=-1)
    replica.sql(sql)  # so that a statement that is remembered would be found
    pair.clock.move(days=1)
    for run in (replica.sql, execute_in(replica.transaction())):
        with pytest.raises(SelectionExpired):
            run(sql)
    with pytest.raises(SelectionExpired):
        execute_in(replica.rejections()[0].edit())(sql)


@pytest.mark.parametrize(
    "sql", ['UPDATE "order" SET note=1', 'DELETE FROM "order"', 'INSERT INTO draft SELECT id,note FROM "order"']
)
def test_raw_sql_writes_nothing_that_was_replicated_after_its_end(pair: Pair, sql: str) -> None:
    with pytest.raises(SelectionExpired):
        execute_in(pair.replica.rejections()[0].edit())(sql)


def test_a_correction_reads_what_it_corrects_and_nothing_else(pair: Pair) -> None:
    replica = pair.replica
    with replica.rejections()[0].edit() as tx:
        refused = tx.get(Order, "refused")
        assert refused is not None
        assert refused.note == "no"
        assert {o.id for o in tx.select(Order)} == {"mine", "waits", "refused"}, "what this device made, and no more"
        with pytest.raises(SelectionExpired):
            tx.get(Order, "o1")
        tx.update(refused, note="yes")
    pair.sync()
    assert not replica.rejections()


def test_raw_sql_over_device_only_collections_goes_on(pair: Pair) -> None:
    replica = pair.replica
    assert replica.sql("WITH d AS (SELECT * FROM draft) SELECT id, (SELECT count(*) FROM d) FROM d") == [("d", 1)]
    assert replica.sql("SELECT 1") == [(1,)]
    with replica.transaction() as tx:
        tx.execute("INSERT INTO draft VALUES('e', 'a word')")
        tx.execute("UPDATE draft SET text='another' WHERE id='e'")
        tx.execute("DELETE FROM draft WHERE id='d'")
    assert replica.sql("SELECT * FROM draft") == [("e", "another")]
    assert replica.sql("SELECT text FROM ok_search_draft WHERE ok_search_draft MATCH 'another'") == [("another",)]


def test_the_device_s_own_and_what_everybody_holds_are_still_read(pair: Pair) -> None:
    replica = pair.replica
    assert [o.id for o in replica.select(Order)] == ["mine", "waits"]
    assert replica.select(Order).count() == 2
    assert replica.get(Order, "mine").id == "mine"
    assert replica.get(City, "C").name == "São Paulo"
    assert replica.select(City).search("sao").count() == 1
    assert replica.get(Draft, "d") is not None
    assert len(replica.pending()) == len(replica.rejections()) == 1


def test_pushes_go_on_and_a_refusal_is_corrected(pair: Pair) -> None:
    replica = pair.replica
    with replica.rejections()[0].edit() as tx:
        tx.update(Order(id="refused"), note="yes")
    with replica.transaction() as tx:
        tx.insert(Draft(id="e"))
    report = pair.sync()
    assert report.outcomes == {"accepted": 2}
    assert report.answers[-1] == "expired"
    assert report.received == report.dropped == {}
    assert {o.id for o in replica.select(Order)} >= {"mine"}
    assert pair.authority.get(Order, "refused").note == "yes"


@pytest.mark.invariant("I11")
def test_a_renewal_moves_only_the_difference(pair: Pair) -> None:
    pair.sync()
    with pair.authority.transaction() as tx:
        tx.insert(Order(id="new"))
    pair.replica.configure().renew().save()
    with pytest.raises(SelectionExpired):
        pair.replica.get(Order, "a")  # renewing offline unlocks nothing
    report = pair.sync()
    assert {k: v for k, v in report.received.items() if v} == {"order": 2}  # the new one, and the one sent meanwhile
    assert not any(report.dropped.values())


def test_a_clock_that_went_wrong_is_judged_anew_at_the_next_answer(pair: Pair) -> None:
    pair.clock.move(days=-1)
    assert pair.replica.get(Order, "a") is not None
    pair.clock.move(days=70 * 365)
    with pytest.raises(SelectionExpired):
        pair.replica.get(Order, "a")
    pair.clock.move(days=-70 * 365)
    assert pair.replica.get(Order, "a") is not None
    assert pair.sync().answers[-1] in ("same", "delta")
