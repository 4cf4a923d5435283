"""What a receipt may tell, and what becomes of receipts: conflicts, hidden fields, and answers heard very late."""

from __future__ import annotations

import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from attrs import evolve

from offlinekit import (
    Authority,
    Changes,
    Context,
    Field,
    Offer,
    Quick,
    Reject,
    Replica,
    Schema,
    SQLiteStore,
    everything,
    field,
)
from offlinekit.authority.pushing import COMPACTED_MIN, FORGOTTEN
from offlinekit.exchange import Exchanger, Send
from offlinekit.protocol import messages as m
from offlinekit.protocol.codec import decode_answer, decode_request, encode
from offlinekit.store.port import Receipt
from offlinekit.testing.pair import Pair, linked_pair
from tests.replica.world import OFFER, SCHEMA, SCOPES, City, Line, Order, opened


@pytest.fixture
def pair() -> Iterator[Pair]:
    with opened() as pair:
        yield pair


def update(pair: Pair, id_: str, **values: Any) -> Any:
    """Updates an order, and returns the mutation."""
    with pair.replica.transaction("sell") as tx:
        tx.update(Order(id=id_), **values)
    return tx.mutation


def by_office(pair: Pair, sql: str, *bindings: Any) -> None:
    """A plain write on the authority."""
    with pair.authority.transaction() as tx:
        tx.connection.execute(sql, bindings)


# -- fields that devices never hold


@pytest.mark.invariant("I10")
def test_a_change_of_a_field_that_devices_never_hold_makes_nobody_stale(pair: Pair) -> None:
    mutation = update(pair, "a", note="mine")
    by_office(pair, """UPDATE "order" SET cost=77 WHERE id='a'""")
    assert pair.sync().outcomes == {"accepted": 1}
    assert mutation.state == "accepted"
    found = pair.authority.get(Order, "a")
    assert found is not None
    assert (found.note, found.cost, found.total) == ("mine", 77, Decimal(1))


class OpenOrder(Order, name="order", writable=True):
    """As an earlier program declared it: devices held its cost."""

    cost: Field[int] = field(default=0)


def test_a_receipt_shows_no_field_that_was_hidden_after_the_mutation_was_made(tmp_path: Path) -> None:
    schema = Schema(OpenOrder, City, intents=["sell"])
    scopes = {OpenOrder: everything, City: everything}
    with linked_pair(schema, scopes=scopes, offer=Offer(Quick("orders", OpenOrder, everything)), folder=str(tmp_path)) as pair:
        pair.authority.load([OpenOrder(id="a")])
        pair.replica.configure().quick("orders").until(None).save()
        pair.sync()
        pair.authority = Authority(pair.authority.store, Schema(Order, City, intents=["sell"]), scopes={Order: everything})

        @pair.authority.intent("sell", writes={Order: "update"})
        def sell(changes: Changes, ctx: Context) -> None:
            for update in changes.updated(Order):
                update.record.number, update.record.cost = 17, 4711

        with pair.replica.transaction("sell") as tx:
            tx.update(OpenOrder(id="a"), note="mine")
        pushed = pair.drive(Exchanger(pair.replica.store).push())
        assert pushed.outcomes == {"transformed": 1}
        order = pair.replica.get(OpenOrder, "a")
        assert order is not None
        assert (order.note, order.number, order.cost) == ("mine", 17, 0)


# -- receipts become compact


def judge(changes: Changes, ctx: Context) -> None:
    """Refuses large totals, and numbers what is to be numbered."""
    for order in (*changes.inserted(Order), *(u.record for u in changes.updated(Order))):
        if order.total > 100:
            raise Reject("credit", "at most 100", fields=[Order.total])
        if order.note == "number":
            order.number = 17


@pytest.fixture
def late() -> Iterator[Pair]:
    """A pair whose device selects no orders: it holds those that it made."""
    with opened(hook=judge) as pair:
        yield pair


def insert(pair: Pair, id_: str, **values: Any) -> Any:
    """Inserts an order, and returns the mutation."""
    with pair.replica.transaction("sell") as tx:
        tx.insert(Order(id=id_, **values))
    return tx.mutation


def lose_the_answer(pair: Pair) -> None:
    """The authority takes a push in, and the device does not hear of it."""
    steps = Exchanger(pair.replica.store).push()
    effect = next(steps)
    assert isinstance(effect, Send)
    pair.authority.handle(effect.body, pair.identity, pair.claims or {})
    steps.close()


def a_week_goes_by(pair: Pair) -> None:
    """Until receipts are compact: another device of the same person has pushed."""
    pair.clock.move(days=8)
    with Replica.open(f"{pair.replica.store.path}.other", SCHEMA, identity="rep", clock=pair.clock) as other:
        with other.transaction("sell") as tx:
            tx.insert(Line(order="a", n=int(pair.clock.now())))
        assert pair.drive(Exchanger(other.store).push()).outcomes == {"accepted": 1}


def receipt(pair: Pair, mutation: Any) -> Receipt:
    """The authority's receipt."""
    with pair.authority.store.unit() as unit:
        found = unit.receipt(mutation.id.bytes)
    assert found is not None
    return found


def hear_late(pair: Pair, mutation: Any) -> Receipt:
    """The device pushes again, and gets a compact receipt."""
    lose_the_answer(pair)
    whole = receipt(pair, mutation)
    assert whole.body
    a_week_goes_by(pair)
    assert receipt(pair, mutation) == evolve(whole, body=b"")
    pair.drive(Exchanger(pair.replica.store).push())
    return whole


@pytest.mark.invariant("I9")
def test_an_acceptance_that_is_heard_late_keeps_what_the_device_made(late: Pair) -> None:
    late.replica.configure().quick("lines").until(None).save()
    late.sync()
    mutation = insert(late, "x", total=Decimal(5))
    whole = hear_late(late, mutation)
    assert mutation.state == "accepted"
    late.sync()
    assert mutation.state is None, "it was durable already"
    assert [(o.id, o.total) for o in late.replica.select(Order)] == [("x", Decimal(5))]
    assert receipt(late, mutation).position == whole.position


def test_an_acceptance_that_is_heard_late_gives_way_to_what_was_written_since(late: Pair) -> None:
    mine, gone = update(late, "a", note="mine"), insert(late, "x")
    lose_the_answer(late)
    by_office(late, """UPDATE "order" SET note='theirs', total=9900 WHERE id='a'""")
    by_office(late, """DELETE FROM "order" WHERE id='x'""")
    a_week_goes_by(late)
    assert late.drive(Exchanger(late.replica.store).push()).outcomes == {"accepted": 2}
    assert (mine.state, gone.state) == ("accepted", "accepted")
    order = late.replica.get(Order, "a")
    assert order is not None
    assert order.note == "mine", "until a pull brings what came after it"
    late.sync()
    assert {o.id: (o.note, o.total) for o in late.replica.select(Order)} == {"a": ("theirs", 99), "b": ("Águas", 0)}


@pytest.mark.invariant("I9")
def test_a_refusal_that_is_heard_late_shows_its_code_and_can_be_corrected(late: Pair) -> None:
    mutation = insert(late, "x", total=Decimal(500))
    hear_late(late, mutation)
    (refused,) = late.replica.rejections()
    assert (refused.id, refused.code, refused.message, refused.fields) == (mutation.id, "credit", FORGOTTEN, ())
    assert late.replica.get(Order, "x") is None
    with refused.edit() as tx:
        tx.update(Order(id="x"), total=Decimal(50))
    assert late.sync().outcomes == {"accepted": 1}
    assert late.authority.get(Order, "x") is not None


@pytest.mark.invariant("I9")
def test_a_change_after_two_of_ones_own_is_not_stale_when_their_receipts_are_compact(late: Pair) -> None:
    """The second was excused by what the first left; the third, made before their answers came, is excused by the second."""
    insert(late, "x", note="number")
    update(late, "x", total=Decimal(1))
    steps = Exchanger(late.replica.store).push()
    effect = next(steps)
    assert isinstance(effect, Send)
    answer = late.authority.handle(effect.body, late.identity, late.claims or {})
    third = update(late, "x", total=Decimal(2))
    with pytest.raises(StopIteration):
        steps.send(answer)
    a_week_goes_by(late)
    assert late.drive(Exchanger(late.replica.store).push()).outcomes == {"accepted": 1}, third.now


@pytest.mark.parametrize(
    ("then", "wanted"),
    [
        ("SELECT 1", [17]),
        ("UPDATE \"order\" SET number=18 WHERE id='x'", [18]),
        ("UPDATE \"order\" SET number=18, rep='theirs' WHERE id='x'", []),
        ("DELETE FROM \"order\" WHERE id='x'", []),
    ],
)
def test_a_transformation_that_is_heard_late_shows_the_record_as_it_is_by_now(late: Pair, then: str, wanted: list[int]) -> None:
    mutation = insert(late, "x", note="number")
    lose_the_answer(late)
    by_office(late, then)
    a_week_goes_by(late)
    assert late.drive(Exchanger(late.replica.store).push()).outcomes == {"transformed": 1}
    assert mutation.state == "transformed"
    for _ in range(2):
        assert [o.number for o in late.replica.select(Order) if o.id == "x"] == wanted
        late.sync()
    assert mutation.state is None


def test_its_own_transformation_makes_nothing_stale_however_late(late: Pair) -> None:
    first = update(late, "a", note="number")
    lose_the_answer(late)
    second = update(late, "a", total=Decimal(7))
    a_week_goes_by(late)
    assert late.sync().outcomes == {"transformed": 1, "accepted": 1}
    order = late.replica.get(Order, "a")
    assert order is not None
    assert (order.number, order.total) == (17, Decimal(7))
    assert first.state is None
    assert second.state == "accepted"


def test_a_compact_receipt_answers_nobody_else(late: Pair) -> None:
    mutation = insert(late, "x", note="number")
    lose_the_answer(late)
    a_week_goes_by(late)
    steps = Exchanger(late.replica.store).push()
    effect = next(steps)
    assert isinstance(effect, Send)
    request = decode_request(effect.body)
    assert isinstance(request, m.Push)
    request = msgspec.structs.replace(request, identity="thief", device=b"t" * 16, turn=b"")
    answer = decode_answer(late.authority.handle(encode(request), "thief", {"rep": "r"}))
    assert isinstance(answer, m.Pushed)
    (told,) = answer.results
    assert (told.id, told.outcome, told.code, told.records) == (mutation.id.bytes, "rejected", "not_allowed", [])
    steps.close()


def test_receipts_become_compact_in_portions_and_not_before_their_time(late: Pair) -> None:
    store = late.authority.store

    def make(count: int) -> None:
        with store.unit() as unit:
            for _ in range(count):
                id_ = os.urandom(16)
                unit.begin_receipt(id_, "rep")
                unit.complete_receipt(Receipt(id_, "rep", "accepted", unit.position, "", b"body"))
            unit.publish(store.now())

    def whole() -> int:
        with store.unit() as unit:
            return int(unit.connection.execute("SELECT count(*) FROM ok_receipt WHERE body IS NOT NULL").get)

    make(2 * COMPACTED_MIN + 50)
    late.clock.move(days=6)
    make(10)
    update(late, "a", note="too early")
    late.sync()
    assert whole() == 2 * COMPACTED_MIN + 61
    late.clock.move(days=2)
    for n, left in enumerate([COMPACTED_MIN + 50 + 10, 50 + 9, 10 + 4, 10 + 5]):
        update(late, "a", note=str(n))
        late.sync()
        assert whole() == left, "two for each mutation, and some more"
    assert late.authority.pusher.counts["compacted"] == 2 * COMPACTED_MIN + 50


def test_a_store_of_an_earlier_build_keeps_its_receipts(late: Pair) -> None:
    mutation = insert(late, "x", total=Decimal(500))
    lose_the_answer(late)
    by_office(late, "ALTER TABLE ok_receipt DROP COLUMN kept")
    late.authority.close()
    late.authority = Authority(SQLiteStore(late.authority.store.path, clock=late.clock), SCHEMA, scopes=SCOPES, offer=OFFER)
    late.authority.intent("sell", writes={Order: ["insert", "update"], Line: ["insert"]})(judge)
    a_week_goes_by(late)
    late.sync()
    assert [(r.id, r.code) for r in late.replica.rejections()] == [(mutation.id, "credit")]


def test_a_clock_that_was_far_behind_once_makes_nothing_durable(late: Pair) -> None:
    store = late.authority.store
    with store.unit() as unit:
        unit.publish(1_000.0)
    with store.unit() as unit:
        unit.publish(1.0)
    with store.snapshot() as snapshot:
        assert snapshot.durable_position(2_000.0) == snapshot.durable_position(1_000.5) < unit.position
        assert snapshot.durable_position(0.5) == 0
