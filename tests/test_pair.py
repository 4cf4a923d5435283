"""The whole story in one process: choose, hold, write offline, be refused, correct, expire, renew."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from uuid import UUID

import pytest

from offlinekit import (
    Changes,
    Collection,
    Context,
    Field,
    Offer,
    Quick,
    Reject,
    Schema,
    SelectionExpired,
    StateError,
    claim,
    field,
    new_id,
)
from offlinekit.testing.pair import Pair, linked_pair


class Customer(Collection):
    code: Field[str] = field(key=True)
    name: Field[str] = field(search=True)
    city: Field[str]
    rep: Field[str]
    credit: Field[Decimal] = field(scale=2, online_only=True, default=Decimal(0))


class Order(Collection, writable=True):
    id: Field[UUID] = field(key=True, default_factory=new_id)
    customer: Field[str] = field(ref=Customer)
    total: Field[Decimal] = field(scale=2)
    number: Field[int | None] = field(default=None)


schema = Schema(Customer, Order, intents=["place_order"])
mine = Customer.rep == claim("rep")
offer = Offer(Quick("mine", Customer, mine), advanced=[Customer.city])
scopes = {Customer: mine, Order: Order.customer.within(mine)}


@pytest.fixture
def pair() -> Iterator[Pair]:
    with linked_pair(schema, offer=offer, scopes=scopes, identity="rep-1", claims={"rep": "1"}) as made:

        @made.authority.intent("place_order", writes={Order: "insert"})
        def place_order(changes: Changes, ctx: Context) -> None:
            for order in changes.inserted(Order):
                customer = ctx.get(Customer, order.customer)
                if customer is None or order.total > customer.credit:
                    raise Reject("credit", "too much", fields=["total"])
                order.number = 17

        made.authority.load(
            Customer(
                code=f"{n:03}", name=f"São Bento {n}", city="Recife" if n % 4 else "Natal", rep=str(n % 2), credit=Decimal(100)
            )
            for n in range(40)
        )
        yield made


def test_a_replica_holds_exactly_what_was_chosen_and_a_change_moves_only_the_difference(pair: Pair) -> None:
    take = pair.replica.configure().quick("mine").all_of(Customer.city == "Recife")
    wanted = take.preview().rows
    take.save()
    assert pair.sync().received["customer"] == wanted == 20
    assert pair.sync().answers == ["same"]
    with pair.authority.transaction() as tx:
        moved = tx.get(Customer, "001")
        assert moved is not None
        tx.update(moved, rep="0")
    report = pair.sync()
    assert (report.received["customer"], report.dropped["customer"]) == (0, 1)
    assert pair.replica.get(Customer, "001") is None
    assert [c.code for c in pair.replica.select(Customer).search("sao ben 3").all()] == ["003", "031", "033", "035", "037", "039"]


def test_an_order_survives_the_cut_line_is_refused_corrected_and_gets_its_number(pair: Pair) -> None:
    pair.replica.configure().quick("mine").save()
    pair.sync()
    pair.pull_the_plug()
    with pair.replica.transaction("place_order") as tx:
        order = tx.insert(Order(customer="003", total=Decimal("250.00")))
    assert tx.mutation.state == "pending"
    pair.plug_in()
    assert pair.sync().outcomes == {"rejected": 1}
    assert pair.replica.get(Order, order.id) is None, "a refused order is rolled back from view"
    (refused,) = pair.replica.rejections()
    assert (refused.code, refused.fields) == ("credit", ("total",))
    with refused.edit() as tx:
        tx.update(order, total=Decimal("60.00"))
    assert pair.sync().outcomes == {"transformed": 1}
    (held,) = pair.replica.select(Order).all()
    assert (held.id, held.total, held.number) == (order.id, Decimal("60.00"), 17)
    assert pair.replica.rejections() == []
    assert [o.number for o in pair.authority.select(Order)] == [17]
    assert pair.sync().answers == ["same"]


def test_a_lost_reply_doubles_nothing(pair: Pair) -> None:
    from offlinekit.exchange import Exchanger, Send

    pair.replica.configure().quick("mine").save()
    pair.sync()
    with pair.replica.transaction("place_order") as tx:
        tx.insert(Order(customer="003", total=Decimal("10.00")))
    steps = Exchanger(pair.replica.store).push()
    effect = next(steps)
    assert isinstance(effect, Send)
    pair.authority.handle(effect.body, "rep-1", {"rep": "1"})
    steps.close()
    pair.sync()
    assert pair.authority.select(Order).count() == 1
    assert tx.mutation.state == "transformed"


def test_an_expired_selection_locks_what_it_held_and_not_what_was_written_here(pair: Pair) -> None:
    pair.replica.configure().quick("mine").save()
    pair.sync()
    with pair.replica.transaction("place_order") as tx:
        order = tx.insert(Order(customer="003", total=Decimal("10.00")))
    pair.sync()
    pair.clock.move(days=2)
    with pytest.raises(SelectionExpired, match="renew"):
        pair.replica.select(Customer).all()
    with pytest.raises(SelectionExpired):
        pair.replica.transaction("place_order")
    assert pair.replica.get(Order, order.id) is not None
    assert pair.sync().answers == ["expired"]
    pair.replica.configure().renew().save()
    pair.sync()
    assert pair.replica.select(Customer).count() == 20


def test_raw_sql_is_captured_and_held_to_what_it_may_do(pair: Pair) -> None:
    pair.replica.configure().quick("mine").save()
    pair.sync()
    with pair.replica.transaction("place_order") as tx:
        tx.execute('INSERT INTO "order"(id,customer,total) VALUES(?,?,?)', (str(new_id()), "003", 1250))
    assert [c.op for c in tx.mutation.changes] == ["insert"]
    assert pair.sync().outcomes == {"transformed": 1}
    for statement in (
        "DROP TABLE customer",
        "COMMIT",
        "DELETE FROM ok_mutation",
        "UPDATE customer SET name=''",
        "ATTACH 'x' AS y",
    ):
        with pytest.raises(StateError), pair.replica.transaction("place_order") as tx:
            tx.execute(statement)
    with (
        pytest.raises(StateError, match="nest"),
        pair.replica.transaction("place_order"),
        pair.replica.transaction("place_order"),
    ):
        pass


def test_nothing_outside_the_scope_is_read_remotely_and_online_fields_are(pair: Pair) -> None:
    page = pair.replica.remote.select(Customer).where(Customer.credit >= Decimal(1)).with_total().limit(5).all()
    assert (page.total, len(page)) == (20, 5)
    assert {c.rep for c in page} == {"1"}
    assert page[0].credit == Decimal("100.00")
    following = pair.replica.remote.select(Customer).after(page.next).limit(100).all()
    assert len(following) == 15
