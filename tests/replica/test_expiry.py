"""Expired selections: what may still be read and written, and that a renewal moves only the difference."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from offlinekit.exceptions import Reject, SelectionExpired
from offlinekit.testing.pair import Pair
from tests.replica.world import City, Draft, Line, Order, opened


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
