"""Candidates are the records that the filters list, inside the scope, and each says how it stands; an oracle in Python agrees."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from offlinekit import FilterError, Offline, SelectionExpired, StateError, desc
from offlinekit.configurator import Configuration, Mark
from offlinekit.exceptions import ProtocolError
from offlinekit.testing.pair import Pair
from tests.configurator.world import CITIES, Customer, Item, Order, Product, Rank, opened


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with opened() as pair:
        pair.replica.configure().quick("mine").save()
        pair.sync()
        yield pair


@pytest.fixture
def take(pair: Pair) -> Configuration:
    return pair.replica.configure()


def codes(page: Any) -> list[str]:
    return [c.code for c in page]


# -- against an oracle


def _predicates(pair: Pair, r: random.Random) -> list[tuple[Callable[[Configuration], object], Callable[[Customer], bool]]]:
    """Things to choose, each with what it means, said a second time in Python."""
    city, n = r.choice(CITIES), r.randrange(9)
    day = datetime.fromtimestamp(pair.clock.now(), UTC).date() - timedelta(days=30)
    buying = {o.customer for o in pair.authority.select(Order) if o.open and o.day >= day}
    return [
        (lambda t: t.quick("mine"), lambda c: True),
        (lambda t: t.quick("in_city", city=city), lambda c: c.city == city),
        (lambda t: t.quick("buying"), lambda c: c.code in buying),
        (lambda t: t.all_of(Customer.visits >= n), lambda c: c.visits >= n),
        (lambda t: t.any_of(Customer.city.is_null(), Customer.rank == Rank.LARGE), lambda c: not c.city or c.rank is Rank.LARGE),
    ]


@pytest.mark.parametrize("seed", range(25))
def test_candidates_marks_and_counts_are_those_of_the_oracle(pair: Pair, seed: int) -> None:
    r, take = random.Random(seed), pair.replica.configure()
    scope = [c for c in pair.authority.select(Customer) if c.rep == "me"]
    passes = []
    for choose, holds in r.sample(_predicates(pair, r), r.randrange(4)):
        choose(take)
        passes.append(holds)
    everybody = [f"c{n:04}" for n in range(90)]
    if r.random() < 0.3:
        take.pick_none(Customer)
    take.unpick(Customer, *r.sample(everybody, r.choice([0, 5]))).pick(Customer, *r.sample(everybody, r.choice([0, 7])))
    state = take.of(Customer)
    listed = [c.code for c in scope if all(holds(c) for holds in passes)]
    own = set(listed) - set(state.unpicks) if state.filtered and not state.by_hand else set()
    chosen = own | (set(state.picks) & {c.code for c in scope})

    found: list[str] = []
    marks: dict[str, Mark] = {}
    place: tuple[Any, ...] | None = None
    while True:  # page by page
        page = take.candidates(Customer).order_by(desc(Customer.visits)).limit(7).with_total().after(place).all()
        assert page.total == len(listed)
        found += codes(page)
        marks |= {c.code: m for c, m in page.marked}
        place = page.next
        if place is None:
            break
    assert sorted(found) == sorted(listed)
    assert len(found) == len(set(found))
    assert {code for code, m in marks.items() if m.chosen} == chosen & set(listed)
    assert sorted(codes(take.candidates(Customer, show="chosen").limit(500).all())) == sorted(chosen)
    assert take.candidates(Customer, show="chosen").count() == len(chosen)
    assert take.preview().collections["customer"].hold == len(chosen)
    judged = dict(zip((c.code for c in scope), take.chosen(Customer, scope), strict=True))
    assert {code for code, m in judged.items() if m.chosen} == chosen
    assert all(judged[code] == m for code, m in marks.items())
    left_out = own and set(listed) & set(state.unpicks)
    assert {code for code, m in judged.items() if m == Mark.UNPICK} == (left_out or set()) - set(state.picks)


def test_a_page_of_candidates_is_searched_and_ordered(pair: Pair, take: Configuration) -> None:
    found = take.quick("mine").candidates(Customer).search("casa").order_by(Customer.name).limit(5).with_total().all()
    names = [c.name for c in found]
    assert names == sorted(names)
    assert all(name.startswith("Casa") for name in names)
    assert (len(found), found.offline, set(found.marks)) == (5, False, {Mark.FILTER})
    assert found[0].memo.startswith("HUSH"), "remote reads show fields that are online_only"


@pytest.mark.invariant("I10")
def test_nothing_outside_the_scope_is_a_candidate(take: Configuration) -> None:
    assert {c.rep for c in take.candidates(Customer).limit(500).all()} == {"me"}
    assert {p.grp for p in take.candidates(Product).limit(500).all()} == {"g0", "g1", "g2"}
    assert take.quick("group", grp="secret").candidates(Product).count() == 0
    take.pick(Product, "p00009", "p00001")
    assert [p.sku for p in take.candidates(Product, show="chosen").all()] == ["p00001"]


def test_keys_of_several_fields_are_listed_and_judged(pair: Pair, take: Configuration) -> None:
    items = take.candidates(Item).limit(500).all()
    keys = [(i.order, i.line) for i in items]
    take.pick(Item, *keys[:70], ("nothing", 1))
    assert take.candidates(Item, show="chosen").count() == 70
    assert take.chosen(Item, items)[:70] == (Mark.PICK,) * 70
    orders = take.quick("recent").candidates(Order).limit(500).all()
    assert set(take.chosen(Order, orders)) == {Mark.FILTER}


def test_many_picks_are_listed(take: Configuration) -> None:
    take.quick("mine").pick(Customer, *(f"c{n:05}" for n in range(9_999)), "c0001").unpick(
        Customer, *(f"c{n:04}" for n in range(10))
    )
    left_out = sum(n % 3 != 0 for n in range(10))
    assert take.candidates(Customer, show="chosen").count() == 60 - left_out
    take.pick(Item, *((f"o{n:05}", 1) for n in range(2_000)))
    assert take.candidates(Item, show="chosen").count() == take.candidates(Item).where(Item.line == 1).count() > 0
    take.pick(Item, ("o02000", 1))
    with pytest.raises(ProtocolError, match="preview"):
        take.candidates(Item, show="chosen").count()
    assert take.preview().collections["item"].hold > 0


def test_a_later_change_does_not_move_a_list_under_its_reader(take: Configuration) -> None:
    select = take.quick("in_city", city="Recife").candidates(Customer)
    before = codes(select.all())
    take.unquick("in_city")
    assert codes(select.all()) == before


# -- offline


def test_offline_the_held_candidates_are_listed_and_it_says_so(pair: Pair, take: Configuration) -> None:
    take.quick("in_city", city="Recife").unpick(Customer, "c0001")
    online = take.candidates(Customer).limit(500).all()
    everything = take.candidates(Order).count()
    pair.pull_the_plug()
    try:
        offline = take.candidates(Customer).limit(500).with_total().all()
        assert (codes(offline), offline.marks, offline.offline) == (codes(online), online.marks, True)
        assert take.candidates(Order).count() == 0 < everything, "no orders are held"
        assert set(take.chosen(Customer, online)) <= {Mark.FILTER, Mark.UNPICK}
        with pytest.raises(FilterError, match="online_only"):
            take.candidates(Customer).where(Customer.memo == "").all()
        pair.clock.move(days=1)
        with pytest.raises(SelectionExpired):
            take.candidates(Customer).all()
        pair.clock.move(days=-1)
    finally:
        pair.plug_in()


def test_a_replica_that_never_pulled_cannot_list_offline() -> None:
    with opened() as fresh:
        assert fresh.replica.configure().candidates(Customer).count() == 60, "before the first pull"
        fresh.pull_the_plug()
        with pytest.raises(Offline):
            fresh.replica.configure().candidates(Customer).all()
        fresh.replica._link = None
        with pytest.raises(Offline, match="nothing was pulled yet"):
            fresh.replica.configure().candidates(Customer).all()


# -- on an event loop


def test_an_event_loop_awaits_and_is_never_blocked(pair: Pair, take: Configuration) -> None:
    take.quick("mine")

    async def show() -> None:
        page = await take.candidates(Customer).limit(5).with_total().fetch()
        assert (len(page), page.total) == (5, 60)
        assert await take.candidates(Customer).fetch_count() == 60
        assert await take.fetch_chosen(Customer, page) == page.marks
        for blocking in (take.candidates(Customer).all, take.preview, lambda: take.chosen(Customer, page)):
            with pytest.raises(StateError, match="fetch"):
                blocking()

    asyncio.run(show())
