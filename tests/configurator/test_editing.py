"""A selection is edited choice by choice: it is read back, undone, kept as bytes, renewed, and refused where not offered."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offlinekit import FilterError, LimitExceeded, Offer, SelectionExpired, StateError, everything, today
from offlinekit.configurator import Configuration, Selection
from offlinekit.configurator.conditions import conditions_of, joined, leaves, normal, replaced
from offlinekit.exceptions import NotOffered
from offlinekit.expr import evaluate
from offlinekit.nodes import And, Filter, Not, Or
from offlinekit.testing.pair import Pair
from tests.configurator.world import OFFER, SCHEMA, Customer, Order, Product, Rank, opened


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with opened() as pair:
        yield pair


@pytest.fixture
def take(pair: Pair) -> Configuration:
    return pair.replica.configure()


def test_quick_filters_are_chosen_and_given_up(take: Configuration) -> None:
    take.quick("mine").quick("in_city", city="Recife").quick("in_city", city="Natal")
    assert take.of(Customer).quick == {"mine": {}, "in_city": {"city": "Natal"}}
    assert take.unquick("mine").of(Customer).quick == {"in_city": {"city": "Natal"}}
    assert take.unquick("in_city").selection.choices == ()
    with pytest.raises(FilterError, match="did you mean 'mine'"):
        take.unquick("min")


def test_values_that_json_has_not_travel_as_params(pair: Pair) -> None:
    moment = datetime.fromtimestamp(pair.clock.now() - 5e5, UTC)
    cases: list[tuple[str, Any, Filter]] = [
        ("limit", {"least": Decimal("50.25")}, Customer.limit >= Decimal("50.25")),
        ("ranked", {"rank": Rank.LARGE}, Customer.rank == Rank.LARGE),
        ("seen", {"at": moment}, Customer.seen >= moment),
        ("any_city", {"cities": ["Recife", "Natal"]}, Customer.city.is_in(["Recife", "Natal"])),
    ]
    for name, params, where in cases:
        preview = pair.replica.configure().quick(name, **params).preview()
        wanted = pair.authority.select(Customer).where(where, Customer.rep == "me").count()
        assert 0 < preview.collections["customer"].hold == wanted < 40


def test_a_time_bound_stands_in_an_advanced_condition(pair: Pair) -> None:
    preview = pair.replica.configure().all_of(Customer.since >= today(-300)).preview()
    day = datetime.fromtimestamp(pair.clock.now(), UTC).date() - timedelta(days=300)
    wanted = pair.authority.select(Customer).where(Customer.since >= day, Customer.rep == "me").count()
    assert 0 < preview.collections["customer"].hold == wanted < 40


def test_conditions_are_listed_with_their_labels(take: Configuration) -> None:
    take.all_of(Customer.city == "Recife", Customer.visits > 3, ~Customer.rank.is_in([Rank.SMALL]))
    take.any_of(Customer.limit >= Decimal(5), Customer.since < date(2031, 1, 1))
    chips = take.of(Customer).conditions
    assert [(c.field, c.operator, c.value, c.negated, c.label, c.group) for c in chips] == [
        ("city", "=", "Recife", False, "City", 0), ("visits", ">", 3, False, "visits", 1),
        ("rank", "in", (Rank.SMALL,), True, "rank", 2), ("limit", ">=", Decimal("5.00"), False, "Credit limit", 3),
        ("since", "<", date(2031, 1, 1), False, "since", 3),
    ]  # fmt: skip
    assert take.of(Customer).joined == "mixed"


def test_conditions_are_removed_and_replaced_one_by_one(take: Configuration) -> None:
    take.all_of(Customer.city == "Recife").any_of(Customer.visits > 3, Customer.visits < 1)
    city, more, less = take.of(Customer).conditions
    take.replace(city, Customer.city == "Natal").remove(more.id)
    assert [(c.field, c.value) for c in take.of(Customer).conditions] == [("city", "Natal"), ("visits", 1)]
    assert take.of(Customer).joined == "all"
    take.remove(more)
    assert len(take.of(Customer).conditions) == 2, "removing twice, as from an old page, does nothing"
    with pytest.raises(FilterError, match="not part"):
        take.replace(city, Customer.city == "Recife")
    with pytest.raises(FilterError, match="cannot be replaced by one on 'order'"):
        take.replace(take.of(Customer).conditions[0], Order.open == True)  # noqa: E712
    for condition in take.of(Customer).conditions:
        take.remove(condition)
    assert take.selection.choices == ()
    assert less.id != more.id


def test_a_comparison_that_stands_in_two_groups_is_removed_from_one(take: Configuration) -> None:
    take.any_of(Customer.visits > 3, Customer.city == "Recife").any_of(Customer.visits > 3, Customer.city == "Natal")
    chips = take.of(Customer).conditions
    assert len({c.id for c in chips}) == 4
    take.remove(chips[2].id)
    assert [(c.group, c.value) for c in take.of(Customer).conditions] == [(0, 3), (0, "Recife"), (1, "Natal")]


def test_conditions_are_joined_by_all_or_by_any(take: Configuration) -> None:
    take.all_of(Customer.city == "Recife", Customer.visits > 3)
    assert take.join(Customer, "any").of(Customer).joined == "any"
    assert {c.group for c in take.of(Customer).conditions} == {0}
    assert take.join(Customer, "all").of(Customer).joined == "all"
    assert take.join(Order, "any").of(Order).conditions == ()


def test_records_are_picked_by_hand_and_left_out(take: Configuration) -> None:
    take.quick("mine").unpick(Customer, "c0001", "c0002").pick(Customer, "c0003")
    assert (take.of(Customer).unpicks, take.of(Customer).picks) == (("c0001", "c0002"), ("c0003",))
    take.pick(Customer, "c0002")
    assert (take.of(Customer).unpicks, take.of(Customer).picks) == (("c0001",), ("c0002", "c0003"))
    assert take.pick_all(Customer).of(Customer).unpicks == ()
    take.pick_none(Customer)
    assert (take.of(Customer).picks, take.of(Customer).by_hand, take.of(Customer).filtered) == ((), True, True)
    take.pick(Customer, "c0004", "c0005").unpick(Customer, "c0004")
    assert (take.of(Customer).picks, take.of(Customer).unpicks) == (("c0005",), ())
    assert take.pick_all(Customer).of(Customer).by_hand is False
    with pytest.raises(FilterError, match="choose a quick filter"):
        take.pick_all(Product)


def test_what_is_chosen_by_hand_is_what_is_held(pair: Pair) -> None:
    take = pair.replica.configure().quick("mine").pick_none(Customer).pick(Customer, "c0001", "c0002", "c0003")
    assert take.preview().collections["customer"].hold == 2, "the third is another rep's"
    again = Selection.decode(take.selection.encode(), SCHEMA, OFFER)
    assert again == take.selection


def test_a_change_that_is_refused_changes_nothing(take: Configuration) -> None:
    before = take.quick("mine").selection
    for refused in (
        lambda: take.quick("in_city", town="Recife"),
        lambda: take.all_of(Customer.region == "n"),
        lambda: take.all_of(Customer.limit == Decimal(1)),
        lambda: take.pick(Customer, *(f"x{n}" for n in range(10_001))),
        lambda: take.include("ordres"),
        lambda: take.zone("America/Nowhere"),
    ):
        with pytest.raises((FilterError, LimitExceeded)):
            refused()
        assert take.selection == before


def test_an_update_of_many_conditions_stays_flat(take: Configuration) -> None:
    for n in range(60):
        take.all_of(Customer.visits != n)
    assert len(take.of(Customer).conditions) == 60


def test_includes_are_added_and_given_up(take: Configuration) -> None:
    take.include("orders").include("bought").include("orders")
    assert take.of(Customer).includes == ("bought", "orders")
    assert take.exclude("bought").of(Customer).includes == ("orders",)
    assert take.clear(Customer).of(Customer).includes == ()


def test_filters_are_given_up_and_picks_stay(take: Configuration) -> None:
    take.quick("mine").all_of(Customer.visits > 1).unpick(Customer, "c0001").pick(Customer, "c0002").unfiltered(Customer)
    assert not take.of(Customer).filtered
    assert (take.of(Customer).picks, take.of(Customer).unpicks) == (("c0002",), ())


# -- keeping, renewing, ending


def test_a_half_made_configuration_survives_a_restart(pair: Pair, take: Configuration) -> None:
    take.quick("in_city", city="Recife").any_of(Customer.visits > 3, Customer.city.is_null()).include("orders")
    take.pick(Customer, "c0001").unpick(Customer, "c0002").zone("Asia/Tokyo")
    kept = take.selection.encode()
    again = pair.replica.configure(kept)
    assert again.selection.encode() == kept
    assert {c.id for c in again.of(Customer).conditions} == {c.id for c in take.of(Customer).conditions}
    assert pair.replica.configure(again.selection).selection == again.selection
    pair.clock.move(days=1)
    assert pair.replica.configure(kept).selection.until == again.selection.until, "the clock is the configuration's own"
    assert (pair.replica.configure(kept).selection.until or 0) > pair.clock.now(), "a day means the day on which it is saved"
    pair.clock.move(days=-1)


def test_a_kept_configuration_of_somebody_else_is_refused(pair: Pair) -> None:
    with pytest.raises(StateError, match="another person"):
        pair.replica.configure(Selection("", "somebody", 0.0, None, "UTC", ()))
    with pytest.raises(FilterError, match="not an encoded selection"):
        pair.replica.configure(b"nonsense")


def test_what_is_offered_no_longer_is_taken_out_piece_by_piece() -> None:
    with opened() as pair:
        take = (
            pair.replica.configure().quick("mine").quick("in_city", city="Recife").include("orders").all_of(Customer.visits > 1)
        )
        kept, narrower = take.selection.encode(), Offer(OFFER.quick["mine"], advanced=[Customer.visits])
    with opened(offer=narrower) as pair:
        take = pair.replica.configure(kept)
        assert "in_city" in take.problem
        with pytest.raises(NotOffered):
            take.preview()
        assert "orders" in take.unquick("in_city").problem
        assert take.exclude("orders").problem == ""
        assert take.of(Customer).quick == {"mine": {}}
        assert take.preview().rows > 0


def test_a_selection_says_when_it_began_and_ends_in_its_zone(take: Configuration) -> None:
    selection = take.zone("America/Sao_Paulo").selection
    assert selection.ends is not None
    assert (selection.ends.hour, selection.ends.date()) == (0, selection.began.date() + timedelta(days=1))
    assert take.until(None).selection.ends is None


def test_renewing_repeats_the_choices_and_the_kind_of_validity() -> None:
    with opened() as pair:
        replica = pair.replica
        assert replica.configure().renew().selection.until is not None, "nothing was saved, so there is nothing to repeat"
        replica.configure().quick("mine").zone("Asia/Tokyo").save()
        first = replica.selection
        pair.clock.move(days=2)
        second = replica.renew_selection()
        assert second.choices == first.choices
        assert (second.zone, second.id != first.id) == ("Asia/Tokyo", True)
        assert (second.until or 0) - (first.until or 0) == 2 * 86_400
        replica.configure().renew().until(None).save()
        assert replica.renew_selection().until is None
        replica.configure().renew().until(datetime.fromtimestamp(pair.clock.now() + 60, UTC)).save()
        pair.clock.move(days=1)
        assert (replica.renew_selection().until or 0) > pair.clock.now() + 60


def test_renewing_offline_unlocks_nothing() -> None:
    with opened() as pair:
        replica = pair.replica
        replica.configure().quick("mine").save()
        pair.sync()
        pair.clock.move(days=1)
        pair.pull_the_plug()
        replica.renew_selection()
        for locked in (lambda: replica.get(Customer, "c0001"), lambda: replica.sql("SELECT * FROM customer"),
                       lambda: replica.transaction("sell")):  # fmt: skip
            with pytest.raises(SelectionExpired):
                locked()
        pair.plug_in()
        report = pair.sync()
        assert report.answers == ["same"], "a renewal moves only the difference"
        assert replica.get(Customer, "c0001") is not None


# -- the form that conditions are kept in, against the evaluator

LEAVES = [Customer.city == "Recife", Customer.city.is_null(), Customer.visits > 3, Customer.name.contains("a"),
          Customer.rank.is_in([Rank.LARGE])]  # fmt: skip
FILTERS = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.one_of(
        inner.map(Not),
        st.lists(inner, min_size=1, max_size=3).map(lambda p: And(tuple(p))),
        st.lists(inner, min_size=1, max_size=3).map(lambda p: Or(tuple(p))),
    ),
    max_leaves=8,
)
ROWS = st.fixed_dictionaries({"city": st.sampled_from(["Recife", "Natal", None]), "visits": st.integers(2, 5),
                              "name": st.sampled_from(["Ana", "Bo"]), "rank": st.sampled_from(["small", "large"])})  # fmt: skip


def _holds(node: Filter, row: dict[str, Any]) -> bool | None:
    return evaluate(node, row, SCHEMA, lambda *_: [])


@given(FILTERS, ROWS)
def test_the_form_of_a_condition_changes_no_meaning(node: Filter, row: dict[str, Any]) -> None:
    assert _holds(normal(node), row) == _holds(node, row)
    assert normal(normal(node)) == normal(node)


@given(FILTERS, ROWS, st.integers(0, 20))
def test_removing_and_replacing_touch_one_comparison(node: Filter, row: dict[str, Any], n: int) -> None:
    condition = normal(node)
    chips = conditions_of(condition, SCHEMA.info(Customer), OFFER)
    assert [c.filter for c in chips] == list(leaves(condition))
    chip = chips[n % len(chips)]
    rest = replaced(condition, chip.id, None)
    left = [] if rest is None else [c.filter for c in conditions_of(rest, SCHEMA.info(Customer), OFFER)]
    assert set(left) <= {c.filter for c in chips}
    if joined(condition) != "mixed":
        assert left == [c.filter for c in chips if c.id != chip.id]
        expected = (And if joined(condition) == "all" else Or)(tuple(left))
        assert rest is None or _holds(rest, row) == _holds(expected, row)
    assert replaced(condition, chip.id, chip.filter) == condition
    swapped = replaced(condition, chip.id, everything)
    assert swapped is not None
