"""A first load by priority as programs see it: usable early, sent in between, consistent in the end."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from offlinekit import Always, Changes, Collection, Context, Field, Offer, Replica, Schema, everything, field
from offlinekit.schema import info_of
from offlinekit.sync import Status
from offlinekit.testing.pair import Pair, linked_pair
from offlinekit.transport import Memory

WAIT = 20.0


class Customer(Collection):
    """Wanted first."""

    code: Field[str] = field(key=True)


class Order(Collection, writable=True, priority=1):
    """Refers to customers."""

    id: Field[int] = field(key=True)
    customer: Field[str] = field(ref=Customer)


class Product(Collection, priority=2):
    """Many."""

    sku: Field[int] = field(key=True)


class Leaflet(Collection, own_file=True, priority=3):
    """In a file of its own."""

    id: Field[int] = field(key=True)


SCHEMA = Schema(Customer, Order, Product, Leaflet, intents=["sell"])
OFFER = Offer(always=[Always(c) for c in (Customer, Order, Product, Leaflet)])


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """An authority with a few records, and a device that has nothing yet."""
    with linked_pair(SCHEMA, scopes=dict.fromkeys((Customer, Order, Product, Leaflet), everything), offer=OFFER,
                     folder=str(tmp_path)) as made:  # fmt: skip
        made.authority.load([Customer(code="ana"), Order(id=1, customer="ana"), Leaflet(id=1)])
        made.authority.load(Product(sku=n) for n in range(20))
        made.replica._link = None
        yield made


def test_the_priority_is_declared_and_makes_no_other_schema() -> None:
    class Late(Collection, name="customer", priority=9):
        code: Field[str] = field(key=True)

    assert [info_of(c).priority for c in (Customer, Order, Late)] == [0, 1, 9]
    assert Schema(Late).hash == Schema(Customer).hash


def test_a_sync_brings_groups_in_order_and_sends_what_is_written_meanwhile(pair: Pair) -> None:
    replica, seen, when = pair.replica, list[tuple[set[str], int, bool]](), list[int]()

    @pair.authority.intent("sell", writes={Order: "insert"})
    def sold(changes: Changes, ctx: Context) -> None:
        when.append(replica.select(Product).count())

    def changed(names: frozenset[str]) -> None:
        if names:
            seen.append((set(names), replica.select(Order).count(), bool(replica.link and replica.link.status.consistent)))
        if names == {"customer"}:  # the first group is there, and already somebody works with it
            with replica.transaction("sell") as tx:
                tx.insert(Order(id=2, customer=replica.select(Customer).all()[0].code))

    replica.on_change(changed, Customer, Order, Product, Leaflet)
    link = replica.start_sync(Memory(pair.authority, lambda: (pair.identity, {})), every=3600)
    status = link.wait_synced(WAIT)
    assert status.consistent
    arrived = [names for names, *_ in seen if len(names) == 1]
    assert [g for g in arrived if g != {"order"}] == [{"customer"}, {"product"}, {"leaflet"}]
    assert not any(was for *_, was in seen[:-1])
    assert when == [0], "it was sent before the products were there"
    assert pair.authority.get(Order, 2) == Order(id=2, customer="ana")
    assert replica.select(Order).count() == 2
    assert replica.mutation_rows("state='pending'") == []
    link.stop()


def test_a_device_that_is_closed_between_two_groups_goes_on(pair: Pair) -> None:
    replica, first = pair.replica, threading.Event()
    transport = Memory(pair.authority, lambda: (pair.identity, {}))

    def changed(names: frozenset[str]) -> None:
        if "customer" in names:
            transport.plugged = False
            first.set()

    replica.on_change(changed, Customer)
    link = replica.start_sync(transport, every=3600)
    assert first.wait(WAIT)
    link.stop()
    path = replica.store.path
    replica.close()
    transport = Memory(pair.authority, lambda: (pair.identity, {}))
    with Replica.open(path, SCHEMA, offer=OFFER, identity=pair.identity, zone="UTC", clock=pair.clock) as again:
        assert (again.select(Customer).count(), again.select(Order).count()) == (1, 0)
        statuses: list[Status] = []
        link = again.start_sync(transport, every=3600)
        link.on_status(statuses.append)
        assert link.wait_synced(WAIT).consistent
        assert "customer" not in {n for n, count in link.report.received.items() if count}, "it is not sent again"
        assert [again.select(c).count() for c in (Customer, Order, Product, Leaflet)] == [1, 1, 20, 1]
    assert os.path.exists(path)


def test_the_status_says_while_groups_are_loaded_again_that_they_do_not_stand_together(pair: Pair) -> None:
    link, statuses = pair.replica.start_sync(Memory(pair.authority, lambda: (pair.identity, {})), every=3600), list[Status]()
    assert link.wait_synced(WAIT).consistent
    with pair.authority.store.unit() as unit:
        unit.connection.execute("DELETE FROM ok_mark")  # as if restored: no cursor of before is known any more
    link.on_status(statuses.append)
    assert link.wait_synced(WAIT).consistent
    assert link.report.answers == ["new_history", *["delta"] * 5]
    assert any(s.state == "syncing" and not s.consistent for s in statuses)
    link.stop()


def test_a_pair_syncs_all_groups(pair: Pair) -> None:
    report = pair.sync()
    assert report.answers == ["delta"] * 5
    assert report.received == {"customer": 1, "order": 1, "product": 20, "leaflet": 1}
    assert pair.sync().answers == ["same"]
