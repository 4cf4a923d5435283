"""What a receipt may tell, and what becomes of receipts: conflicts, hidden fields, and answers heard very late."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from offlinekit import Authority, Changes, Context, Field, Offer, Quick, Schema, everything, field
from offlinekit.exchange import Exchanger
from offlinekit.testing.pair import Pair, linked_pair
from tests.replica.world import City, Order, opened


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
