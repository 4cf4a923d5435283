"""Refused mutations: kept, corrected, sent again or given up; what waits for them; and what is shown meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from offlinekit.exceptions import AlreadySent, Reject, StateError
from offlinekit.exchange import Exchanger
from offlinekit.testing.pair import Pair
from tests.replica.world import Line, Order, opened


def judge(changes: Any, ctx: Any) -> None:
    """Refuses large totals, and numbers what it accepts."""
    for order in (*changes.inserted(Order), *(u.record for u in changes.updated(Order))):
        if order.total > 100:
            raise Reject("credit", "at most 100", fields=[Order.total])
        if order.note == "number":
            order.number = 17


@pytest.fixture
def pair() -> Iterator[Pair]:
    with opened(hook=judge) as pair:
        yield pair


def insert(pair: Pair, id_: str, total: int, **values: Any) -> Any:
    """Inserts an order, and returns the mutation."""
    with pair.replica.transaction("sell") as tx:
        tx.insert(Order(id=id_, total=Decimal(total), **values))
    return tx.mutation


def update(pair: Pair, id_: str, **values: Any) -> Any:
    """Updates an order, and returns the mutation."""
    with pair.replica.transaction("sell") as tx:
        tx.update(Order(id=id_), **values)
    return tx.mutation


def shown(pair: Pair) -> dict[str, tuple[Decimal, str | None]]:
    """The orders that the replica shows."""
    return {o.id: (o.total, o.note) for o in pair.replica.select(Order)}


@pytest.mark.invariant("I9")
def test_a_refused_mutation_is_rolled_back_and_kept_with_its_reason(pair: Pair) -> None:
    before = shown(pair)
    mutation = insert(pair, "x", 500)
    assert "x" in shown(pair)
    assert pair.sync().outcomes == {"rejected": 1}
    assert shown(pair) == before
    (refused,) = pair.replica.rejections()
    assert (refused.id, refused.code, refused.message, refused.fields) == (mutation.id, "credit", "at most 100", ("total",))
    assert [(o.id, o.total) for o in refused.records] == [("x", Decimal(500))]
    assert mutation.now.settled
    assert pair.sync().sent == 0
    assert len(pair.replica.rejections()) == 1


def test_a_refused_mutation_is_corrected_and_sent_as_another(pair: Pair) -> None:
    old = insert(pair, "x", 500)
    pair.sync()
    (refused,) = pair.replica.rejections()
    with pytest.raises(ZeroDivisionError), refused.edit() as tx:
        tx.update(Order(id="x"), total=Decimal(6))
        raise ZeroDivisionError
    assert "x" not in shown(pair)
    assert len(pair.replica.rejections()) == 1
    with refused.edit() as tx:
        assert tx.get(Order, "x").total == 500
        tx.update(Order(id="x"), total=Decimal(60))
    assert tx.mutation.id != old.id
    assert old.state is None
    assert pair.replica.rejections() == []
    assert pair.sync().outcomes == {"accepted": 1}
    assert pair.authority.get(Order, "x").total == 60
    with pytest.raises(StateError):
        refused.edit()
    with pytest.raises(StateError):
        refused.discard()


def test_waiting_ends_exactly_when_a_mutation_is_settled_and_so_also_when_it_is_parked(pair: Pair) -> None:
    insert(pair, "x", 500)
    waits = update(pair, "x", note="later")
    assert (waits.now.settled, waits.settled(0).settled, asyncio.run(waits.wait(0)).settled) == (False, False, False)
    pair.sync()
    for state in (waits.now, waits.settled(20), asyncio.run(waits.wait(20))):
        assert (state.state, state.settled) == ("parked", True), "nothing more comes before the user resolves the refusal"
    with pair.replica.rejections()[0].edit() as tx:
        tx.update(Order(id="x"), total=Decimal(50))
    assert not waits.now.settled, "its way is free again"
    pair.sync()
    assert (waits.now.state, waits.now.settled) == ("accepted", True)


@pytest.mark.invariant("I4")
def test_what_waits_is_parked_and_follows_the_correction_in_its_order(pair: Pair) -> None:
    first = insert(pair, "x", 500)
    with pair.replica.transaction("sell") as tx:
        tx.insert(Line(order="x", n=1))
    line = tx.mutation
    second = update(pair, "x", note="later")
    free = insert(pair, "free", 5)
    assert pair.sync().outcomes == {"rejected": 1, "parked": 2, "accepted": 1}
    assert free.state == "accepted", "what does not depend on it flows on"
    assert (line.state, second.state) == ("parked", "parked")
    assert "x" not in shown(pair)
    assert pair.replica.get(Line, ("x", 1)) is None
    (refused,) = pair.replica.rejections()
    assert [m.id for m in refused.waiting] == [line.id, second.id] == [m.id for m in pair.replica.parked()]
    with refused.edit() as tx:
        tx.update(Order(id="x"), total=Decimal(50))
    assert [m.id for m in pair.replica.pending()] == [tx.mutation.id, line.id, second.id]
    assert shown(pair)["x"] == (Decimal(50), "later")
    assert pair.replica.get(Line, ("x", 1)) is not None
    assert pair.sync().outcomes == {"accepted": 3}
    assert pair.authority.get(Order, "x").note == "later"
    assert first.state is None


def test_a_discard_refuses_what_waits(pair: Pair) -> None:
    insert(pair, "x", 500)
    later = update(pair, "x", note="later")
    pair.sync()
    (refused,) = pair.replica.rejections()
    refused.discard()
    assert [(r.id, r.code) for r in pair.replica.rejections()] == [(later.id, "dependency_discarded")]
    pair.replica.rejections()[0].discard()
    assert pair.replica.rejections() == pair.replica.parked() == []
    assert pair.sync().sent == 0


def test_an_unsent_mutation_is_withdrawn_and_a_sent_one_is_not(pair: Pair) -> None:
    first = insert(pair, "x", 5)
    later = update(pair, "x", note="later")
    first.withdraw()
    assert "x" not in shown(pair)
    assert later.now.code == "dependency_withdrawn"
    pair.replica.rejections()[0].discard()
    sent = insert(pair, "y", 5)
    steps = Exchanger(pair.replica.store).push()
    next(steps)
    steps.close()  # whether it arrived is not known
    for call in (sent.withdraw, sent.edit):
        with pytest.raises(AlreadySent):
            call()
    assert pair.sync().outcomes == {"accepted": 1}
    with pytest.raises(StateError, match="was accepted"):
        sent.withdraw()


def test_an_unsent_mutation_is_edited_below_those_that_follow_it(pair: Pair) -> None:
    first = update(pair, "a", total=Decimal(2), note="one")
    later = update(pair, "a", note="two")
    with first.edit() as tx:
        assert tx.get(Order, "a").note == "one", "what came later does not stand yet"
        tx.update(Order(id="a"), total=Decimal(3))
    assert shown(pair)["a"] == (Decimal(3), "two")
    assert [m.id for m in pair.replica.pending()] == [tx.mutation.id, later.id]
    assert pair.sync().outcomes == {"accepted": 2}
    assert pair.authority.get(Order, "a").note == "two"


def test_transformed_values_are_shown_at_once_and_nothing_flickers(pair: Pair) -> None:
    mutation = insert(pair, "x", 5, note="number")
    seen: list[int | None] = []
    pair.replica.on_change(lambda _: seen.append(pair.replica.get(Order, "x").number), Order)
    pair.drive(Exchanger(pair.replica.store).push())
    assert mutation.state == "transformed"
    assert pair.replica.get(Order, "x").number == 17
    later = update(pair, "x", total=Decimal(7))
    assert pair.sync().outcomes == {"accepted": 1}, "its own transformation makes nothing stale"
    assert later.state == "accepted"
    order = pair.replica.get(Order, "x")
    assert (order.number, order.total) == (17, Decimal(7))
    assert set(seen) == {17}


# -- base and overlay


def _insert(pair: Pair) -> None:
    insert(pair, "n", 3)


def _update(pair: Pair) -> None:
    update(pair, "a", note="mine")


def _delete(pair: Pair) -> None:
    with pair.replica.transaction("sell") as tx:
        tx.delete(Order(id="a"))


CASES = [
    # what is pending, the authority's statement, what is shown after a pull alone
    (_insert, """INSERT INTO "order"(id,rep,total,cost) VALUES('n','r',900,0)""", {"n": (Decimal(3), None)}),
    (_update, """UPDATE "order" SET total=900 WHERE id='a'""", {"a": (Decimal(9), "mine")}),
    (_update, """DELETE FROM "order" WHERE id='a'""", {"a": (Decimal(1), "mine")}),
    (_update, """UPDATE "order" SET rep='other' WHERE id='a'""", {"a": (Decimal(1), "mine")}),
    (_delete, """UPDATE "order" SET total=900 WHERE id='a'""", {}),
    (_delete, """DELETE FROM "order" WHERE id='a'""", {}),
    (_delete, """UPDATE "order" SET rep='other' WHERE id='a'""", {}),
]


@pytest.mark.parametrize("policy", ["reject", "authority_wins"])
@pytest.mark.parametrize(("change", "sql", "expected"), CASES)
def test_pending_changes_stay_visible_over_what_the_authority_does(policy: Any, change: Any, sql: str, expected: Any) -> None:
    with opened(hook=judge, conflicts={Order: policy}) as pair:
        change(pair)
        with pair.authority.transaction() as tx:
            tx.connection.execute(sql)
        pair.drive(Exchanger(pair.replica.store).pull())
        assert {k: v for k, v in shown(pair).items() if k != "b" and (k == "n" or change is not _insert)} == expected
        outcomes = pair.sync().outcomes
        # the authority has decided: what it holds in scope is what is shown
        with pair.authority.transaction() as tx:
            held = {o.id: (o.total, o.note) for o in tx.select(Order) if o.rep == "r"}
        assert shown(pair) == held
        assert outcomes == ({"rejected": 1} if policy == "reject" else outcomes)
        assert pair.replica.store.reader().execute("SELECT count(*) FROM ok_base_order").get == 0
        if policy == "reject":
            (refused,) = pair.replica.rejections()
            assert refused.code in ("stale", "exists", "not_allowed")
            refused.discard()
        else:
            assert pair.replica.rejections() == [] or pair.replica.rejections()[0].code == "not_allowed"
        assert shown(pair) == held


def test_authority_wins_drops_the_conflicting_record_alone() -> None:
    with opened(hook=judge, conflicts={Order: "authority_wins"}) as pair:
        with pair.replica.transaction("sell") as tx:
            tx.update(Order(id="a"), note="mine")
            tx.update(Order(id="b"), note="mine")
        with pair.authority.transaction() as head:
            head.connection.execute("""UPDATE "order" SET note='theirs' WHERE id='a'""")
        pair.drive(Exchanger(pair.replica.store).push())
        assert tx.mutation.state == "transformed"
        assert {k: n for k, (_, n) in shown(pair).items()} == {"a": "theirs", "b": "mine"}, "shown at once"
        pair.sync()
        assert {k: n for k, (_, n) in shown(pair).items()} == {"a": "theirs", "b": "mine"}
