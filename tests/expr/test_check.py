"""What a filter may say where it stands: names, types, claims and params, and limits; the errors name what is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offlinekit.exceptions import FilterError, LimitExceeded
from offlinekit.expr.check import DEPTH_MAX, NODES_MAX, OPERANDS_MAX, Allowed, check
from offlinekit.nodes import (
    And,
    Compare,
    Filter,
    IsIn,
    IsNull,
    Moment,
    Not,
    Or,
    Some,
    Text,
    Within,
    claim,
    everything,
    hour,
    nothing,
    param,
    today,
)
from offlinekit.schema import Collection, Field, Schema, field
from tests.expr import world


class Customer(Collection):
    """Holds what may not decide."""

    code: Field[str] = field(key=True)
    name: Field[str]
    city: Field[str | None]
    credit: Field[int] = field(online_only=True)
    extra: Field[dict[str, int] | None]


class Order(Collection):
    """Refers to a customer."""

    id: Field[int] = field(key=True)
    customer: Field[str] = field(ref=Customer)
    number: Field[int | None]


SCHEMA = Schema(Customer, Order)
EVERYWHERE = Allowed("a test", claims=True, params=frozenset({"city", "town"}), online_only=True)
SELECTION = Allowed("a selection")
SCOPE = Allowed("a scope", claims=True, online_only=True, folding=False)


def refusal(node: Filter, collection: str = "customer", allowed: Allowed = SELECTION) -> str:
    """The message with which a filter is refused."""
    with pytest.raises(FilterError) as caught:
        check(node, SCHEMA, SCHEMA.info(collection), allowed)
    assert caught.value.collection in {"", *SCHEMA.collections}
    return str(caught.value)


@pytest.mark.slow
@given(st.data(), st.sampled_from(["customer", "order", "line"]))
def test_filter_of_the_right_types_is_let_through(data: st.DataObject, collection: str):
    node = data.draw(world.filters(collection))
    check(node, world.SCHEMA, world.SCHEMA.info(collection), SELECTION)


@pytest.mark.parametrize(
    ("node", "allowed"),
    [
        (Customer.code == claim("rep"), SCOPE),
        (Customer.code.is_in(claim("reps")), SCOPE),
        (Customer.credit > 5, SCOPE),
        (Customer.city == param("city"), EVERYWHERE),
        (Customer.city.is_in(param("town")), EVERYWHERE),
        (Customer.name.contains(param("city")), EVERYWHERE),
        (Customer.extra.is_null(), SELECTION),
        (everything, SCOPE),
        (nothing & Order.customer.some(Order.number > 5), SELECTION),
        (And(()), SELECTION),
        (Or(()), SELECTION),
    ],
)
def test_filter_is_let_through_where_all_of_it_may_stand(node: Filter, allowed: Allowed):
    check(node, SCHEMA, SCHEMA.info("customer"), allowed)


HIDDEN = "customer.credit is online_only and may not decide what a device holds in a selection"


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (IsNull("customer", "nmae"), "unknown field 'nmae' in collection 'customer'; did you mean 'name'?"),
        (Compare("customer", "zzz", "=", 1), "unknown field 'zzz' in collection 'customer';"
         " known: city, code, credit, extra, name"),
        (Order.number == 1, "a filter on 'order' stands where one on 'customer' is needed;"
         " reach another collection with reference.within(...)"),
        (Customer.credit > 5, HIDDEN),
        (~Customer.credit.is_null(), HIDDEN),
        (Compare("customer", "extra", "=", "1"), "customer.extra is JSON, which filters cannot look into,"
         " in a selection"),
        (Customer.name == claim("rep"), "customer.name: claim 'rep' may not stand in a selection"),
        (Customer.name.is_in(claim("reps")), "customer.name: claim 'reps' may not stand in a selection"),
        (Customer.name == param("x"), "customer.name: param 'x' may not stand; none is declared in a selection"),
        (Compare("customer", "name", "=", 5), "customer.name: 5 is no text in a selection"),
        (Compare("customer", "name", "=", None), "customer.name: None is no text in a selection"),
        (IsIn("customer", "name", ("x", None)), "customer.name: None is no text in a selection"),
        (IsIn("customer", "name", ("x", today())), "customer.name: a time bound needs a comparison in a selection"),
        (Compare("customer", "name", "<", hour()), "customer.name: is text: a hour cannot be compared with it"
         " in a selection"),
        (Text("customer", "credit", "contains", "x"), HIDDEN),
        (Within("customer", "city", "customer", everything), "customer.city does not refer to 'customer'"),
        (Some("customer", "order", "number", everything), "order.number does not refer to 'customer'"),
        (Some("order", "order", "customer", everything), "order.customer does not refer to 'customer'"),
        (Order.customer.within(everything), "a filter on 'order' stands where one on 'customer' is needed;"
         " reach another collection with reference.within(...)"),
        (And((everything, True)), "True is no filter"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_filter_is_refused_with_the_reason(node: Filter, message: str):
    assert refusal(node) == message
    assert refusal(Not(Or((nothing, node)))) == message
    assert refusal(Order.customer.within(node), "order") == message


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (Customer.name.contains("x"), "customer.name may not be compared folded (contains) in a scope"),
        (
            Customer.name.equals_folded(claim("x")),
            "customer.name may not be compared folded (equals_folded) in a scope",
        ),
        (Customer.name == param("city"), "customer.name: param 'city' may not stand; none is declared in a scope"),
    ],
)
def test_scope_may_neither_fold_nor_ask_the_device(node: Filter, message: str):
    assert refusal(node, allowed=SCOPE) == message


def test_param_that_is_misspelt_is_refused_with_the_nearest():
    message = "customer.city: param 'ciy' may not stand; did you mean 'city'? in a test"
    assert refusal(Customer.city == param("ciy"), allowed=EVERYWHERE) == message
    assert refusal(Customer.city.is_in(param("ciy")), allowed=EVERYWHERE) == message


def test_number_is_not_folded():
    message = "order.number is no text and cannot be folded in a selection"
    assert refusal(Text("order", "number", "contains", "1"), "order") == message


def test_unknown_end_of_a_reference_is_refused_with_the_nearest():
    message = "unknown collection 'ordr'; did you mean 'order'?"
    assert refusal(Some("customer", "ordr", "customer", everything)) == message
    message = "unknown field 'custmer' in collection 'order'; did you mean 'customer'?"
    assert refusal(Some("customer", "order", "custmer", everything)) == message


@pytest.mark.parametrize("day", [today(), Moment("day", -3)])
def test_day_may_bound_dates_and_instants_and_an_hour_only_instants(day: Moment):
    check(Compare("customer", "since", ">=", day), world.SCHEMA, world.SCHEMA.info("customer"), SELECTION)
    check(Compare("order", "placed", ">=", day), world.SCHEMA, world.SCHEMA.info("order"), SELECTION)
    check(Compare("order", "placed", ">=", hour()), world.SCHEMA, world.SCHEMA.info("order"), SELECTION)
    with pytest.raises(FilterError, match="is date: a hour cannot be compared with it"):
        check(Compare("customer", "since", ">=", hour()), world.SCHEMA, world.SCHEMA.info("customer"), SELECTION)


# -- limits


def limit(node: Filter) -> LimitExceeded:
    """The error with which a filter over a limit is refused."""
    with pytest.raises(LimitExceeded) as caught:
        check(node, SCHEMA, SCHEMA.info("customer"), SELECTION)
    return caught.value


def nested(depth: int) -> Filter:
    """A filter of that depth."""
    node: Filter = Customer.name == "x"
    for _ in range(depth - 1):
        node = Not(node)
    return node


def test_filter_of_the_greatest_depth_passes_and_one_deeper_does_not():
    assert DEPTH_MAX == 32
    check(nested(32), SCHEMA, SCHEMA.info("customer"), SELECTION)
    error = limit(nested(33))
    assert str(error) == "depth of a filter in a selection: 33 is more than the limit of 32; flatten or split it"
    assert (error.limit, error.maximum, error.value) == ("depth of a filter in a selection", 32, 33)


def test_filter_of_any_depth_is_refused_without_running_out_of_stack():
    assert limit(nested(50_000)).value == 33


def test_filter_with_the_most_nodes_passes_and_one_more_does_not():
    assert NODES_MAX == 256
    leaf = Customer.name == "x"
    check(And((leaf,) * 255), SCHEMA, SCHEMA.info("customer"), SELECTION)
    error = limit(And((leaf,) * 256))
    assert str(error) == "nodes of a filter in a selection: 257 is more than the limit of 256; use is_in() or picks"


def test_filter_with_the_most_values_passes_and_one_more_does_not():
    assert OPERANDS_MAX == 10_000
    many = [str(n) for n in range(10_000)]
    check(Customer.name.is_in(many), SCHEMA, SCHEMA.info("customer"), SELECTION)
    error = limit(Customer.name.is_in(many) | Customer.city.is_in(["x"]))
    assert str(error) == "values of is_in() in a selection: 10001 is more than the limit of 10000; use a reference"


def test_long_chain_of_conditions_is_not_deep():
    node = Customer.name == "0"
    for n in range(1, 255):
        node = node | (Customer.name == str(n))
    check(node, SCHEMA, SCHEMA.info("customer"), SELECTION)
