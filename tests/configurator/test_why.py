"""Why a record is held: every case by name, and for random selections exactly the records that have a reason are held."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from offlinekit import Always, Collection, Include, Offer
from offlinekit.replica import Reason
from offlinekit.testing.pair import Pair
from tests.configurator.test_preview import choose, pull
from tests.configurator.world import OFFER, Customer, Draft, Item, Order, Product, Region, opened


@pytest.fixture
def pair() -> Iterator[Pair]:
    with opened() as pair:
        yield pair


def held(pair: Pair, *kinds: type[Collection]) -> Iterator[Any]:
    for kind in kinds or (Region, Customer, Order, Item, Product):
        yield from pair.replica.select(kind)


def why(pair: Pair, record: Collection) -> list[tuple[str, str]]:
    return [(r.kind, r.name) for r in pair.replica.why(record)]


def test_quick_filters_and_conditions_are_named(pair: Pair) -> None:
    pair.replica.configure().quick("mine").quick("in_city", city="Recife").all_of(
        Customer.visits >= 2, Customer.name != "x"
    ).save()
    pair.sync()
    for customer in held(pair, Customer):
        assert pair.replica.why(customer) == [
            Reason("quick", "in_city", "In a city"), Reason("quick", "mine", "My customers"),
            Reason("condition", label="name, visits"),
        ]  # fmt: skip


def test_picks_are_named_and_what_is_not_held_has_no_reason(pair: Pair) -> None:
    pair.replica.configure().quick("in_city", city="Recife").pick(Customer, "c0001", "c0000").save()
    pair.sync()
    c = pair.replica.get(Customer, "c0001")
    assert c is not None
    assert why(pair, c) == ([("quick", "in_city")] if c.city == "Recife" else []) + [("pick", "")]
    others = pair.authority.get(Customer, "c0000")
    assert others is not None
    assert pair.replica.why(others) == [], "picked, and not in the scope"
    pair.replica.configure().quick("mine").pick_none(Customer).pick(Customer, "c0001").save()
    pair.sync()
    assert why(pair, c) == [("pick", "")], "by hand, filters hold nothing"


def test_the_path_of_an_include_is_told(pair: Pair) -> None:
    pair.replica.configure().pick(Customer, "c0001", "c0002", "c0004").include("bought").save()
    pair.sync()
    products = list(held(pair, Product))
    assert products
    for product in products:
        (reason,) = pair.replica.why(product)
        assert (reason.kind, reason.name, [c for c, _ in reason.path]) == (
            "include", "bought", ["customer", "order", "item", "product"],
        )  # fmt: skip
        (_, customer), (_, order), (_, item), (_, sku) = reason.path
        assert [o.customer for o in pair.replica.select(Order).where(Order.id == order)] == [customer]
        assert customer in ("c0001", "c0002", "c0004")
        assert item[0] == order
        found = pair.replica.get(Item, item)
        assert found is not None
        assert found.product == sku == product.sku


def test_what_everybody_holds_and_where_it_leads_is_told() -> None:
    always = [Always(Region, Region.code == "n", include=[Include("there", Region, Customer.region)], label="The north")]
    with opened(offer=Offer(*OFFER.quick.values(), always=always)) as pair:
        pair.sync()
        (region,) = pair.replica.select(Region)
        assert pair.replica.why(region) == [Reason("always", "region", "The north")]
        for customer in held(pair, Customer):
            assert pair.replica.why(customer) == [
                Reason("always", "region", "The north", (("region", "n"), ("customer", customer.code)))
            ]


def test_what_was_made_here_and_what_is_pending_is_told(pair: Pair) -> None:
    replica = pair.replica
    replica.configure().quick("mine").save()
    pair.sync()
    customer = replica.select(Customer).first()
    assert customer is not None
    with replica.transaction("sell") as tx:
        tx.insert(Order(id="new", customer=customer.code, day=customer.since))
        tx.update(customer, visits=7)
    order = replica.get(Order, "new")
    assert order is not None
    assert replica.why(order) == [Reason("pending", "insert", "sell", mutation=tx.mutation.id)]
    assert why(pair, customer) == [("quick", "mine"), ("pending", "update")]
    pair.sync()
    assert why(pair, order) == [("created", "")], "an implicit pick"
    assert why(pair, customer) == [("quick", "mine")]
    with replica.transaction() as draft:
        draft.insert(Draft(id=1))
    assert why(pair, Draft(id=1)) == []


def test_what_only_a_pending_change_keeps_is_told(pair: Pair) -> None:
    replica = pair.replica
    replica.configure().quick("mine").save()
    pair.sync()
    customer = replica.select(Customer).first()
    assert customer is not None
    with replica.transaction("sell") as tx:
        tx.update(customer, visits=7)
    replica.configure().quick("mine").unpick(Customer, customer.code).save()
    assert why(pair, customer) == [("quick", "mine"), ("pending", "update")], "what was pulled counts until the next pull"
    pull(pair)
    assert why(pair, customer) == [("pending", "update"), ("evicted", ""), ("unpick", "")]


def test_what_was_left_out_by_hand_and_is_included_all_the_same_is_told(pair: Pair) -> None:
    replica = pair.replica
    replica.configure().quick("mine").include("bought").quick("all").save()
    pair.sync()
    sku = next(p.sku for p in held(pair, Product) if ("include", "bought") in why(pair, p))
    replica.configure().renew().unpick(Product, sku).save()
    pair.sync()
    product = replica.get(Product, sku)
    assert product is not None
    assert why(pair, product) == [("include", "bought"), ("unpick", "")]


def test_what_is_held_and_over_is_told(pair: Pair) -> None:
    replica = pair.replica
    replica.configure().quick("mine").save()
    pair.sync()
    customer, region = replica.select(Customer).first(), replica.select(Region).first()
    assert customer is not None
    assert region is not None
    pair.clock.move(days=1)
    replica.renew_selection()
    assert why(pair, customer) == [("quick", "mine"), ("expired", "")]
    assert why(pair, region) == [("always", "region")], "still read"
    pair.sync()
    assert why(pair, customer) == [("quick", "mine")]


def linked(pair: Pair, one: tuple[str, Any], two: tuple[str, Any]) -> bool:
    """Whether one of two held records refers to the other."""
    schema = pair.replica.schema
    for (here, key), (there, other) in ((one, two), (two, one)):
        record = pair.replica.get(schema.info(here).cls, key)
        assert record is not None, (here, key)
        if any(f.target == there and getattr(record, n) == other for n, f in schema.info(here).refs.items()):
            return True
    return False


@pytest.mark.parametrize("seed", range(12))
def test_every_held_record_has_a_reason_and_every_path_leads_to_it(seed: int) -> None:
    with opened(seed=seed) as pair:
        choose(pair.replica.configure(), random.Random(seed)).save()
        pair.sync()
        for record in held(pair):
            found = pair.replica.why(record)
            assert found, record
            assert all(linked(pair, one, two) for r in found for one, two in zip(r.path, r.path[1:], strict=False))
        for customer in pair.authority.select(Customer):
            assert bool(pair.replica.why(customer)) == (pair.replica.get(Customer, customer.code) is not None)
