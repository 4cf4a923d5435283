"""Filters as they are written: what the operators of a field build, and what they refuse in which words."""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from offlinekit.exceptions import FilterError
from offlinekit.nodes import (
    And,
    Compare,
    IsIn,
    IsNull,
    Moment,
    Not,
    Or,
    Some,
    Text,
    Within,
    claim,
    hour,
    param,
    today,
)
from offlinekit.schema import Collection, Field, field


class Status(enum.Enum):
    """How a customer stands."""

    OPEN = "open"
    DONE = "done"


class Address(msgspec.Struct):
    """Where somebody lives."""

    street: str


class Customer(Collection):
    """A field of most kinds."""

    code: Field[str] = field(key=True)
    name: Field[str]
    city: Field[str | None]
    visits: Field[int]
    active: Field[bool]
    credit: Field[Decimal] = field(scale=2)
    since: Field[date | None]
    seen: Field[datetime | None]
    status: Field[Status]
    home: Field[Address | None]
    parent: Field[str | None] = field(ref="customer")


class OrderLine(Collection):
    """Refers to a customer."""

    line: Field[int] = field(key=True)
    customer: Field[str] = field(ref=Customer)


def test_operators_build_nodes_of_storage_values():
    nodes: list[tuple[Any, Any]] = [
        (Customer.city == "x", Compare("customer", "city", "=", "x")),
        (Customer.city != "x", Not(Compare("customer", "city", "=", "x"))),
        (Customer.visits < 5, Compare("customer", "visits", "<", 5)),
        (Customer.visits <= 5, Compare("customer", "visits", "<=", 5)),
        (Customer.visits > 5, Compare("customer", "visits", ">", 5)),
        (Customer.credit >= Decimal("1.5"), Compare("customer", "credit", ">=", 150)),
        (Customer.status == Status.DONE, Compare("customer", "status", "=", "done")),
        (Customer.active == True, Compare("customer", "active", "=", 1)),  # noqa: E712
        (Customer.since >= today(-7), Compare("customer", "since", ">=", Moment("day", -7))),
        (Customer.seen >= today(), Compare("customer", "seen", ">=", Moment("day", 0))),
        (Customer.seen < hour(1), Compare("customer", "seen", "<", Moment("hour", 1))),
        (Customer.code == claim("rep"), Compare("customer", "code", "=", claim("rep"))),
        (Customer.city.is_in(["x", "y"]), IsIn("customer", "city", ("x", "y"))),
        (Customer.city.is_in(param("cities")), IsIn("customer", "city", param("cities"))),
        (Customer.city.is_null(), IsNull("customer", "city")),
        (Customer.name.contains("É"), Text("customer", "name", "contains", "É")),
        (Customer.name.starts_with(param("q")), Text("customer", "name", "starts_with", param("q"))),
        (Customer.name.equals_folded("x"), Text("customer", "name", "equals_folded", "x")),
        (
            Customer.visits.between(1, 2),
            And((Compare("customer", "visits", ">=", 1), Compare("customer", "visits", "<=", 2))),
        ),
        (
            OrderLine.customer.within(Customer.city.is_null()),
            Within("order_line", "customer", "customer", IsNull("customer", "city")),
        ),
        (
            OrderLine.customer.some(OrderLine.line == 1),
            Some("customer", "order_line", "customer", Compare("order_line", "line", "=", 1)),
        ),
        (
            Customer.parent.some(Customer.visits == 1),
            Some("customer", "customer", "parent", Compare("customer", "visits", "=", 1)),
        ),
    ]
    for built, expected in nodes:
        assert built == expected


def test_chain_of_the_same_operator_is_one_node():
    a, b, c = Customer.visits == 1, Customer.visits == 2, Customer.visits == 3
    assert a & b & c == a & (b & c) == And((a, b, c))
    assert a | b | c == a | (b | c) == Or((a, b, c))
    assert (a | b) & c == And((Or((a, b)), c))
    assert ~(a & b) == Not(And((a, b)))


def test_filter_has_no_truth_value():
    with pytest.raises(FilterError) as caught:
        bool(Customer.city == "x")
    assert str(caught.value) == ("a filter has no truth value: use & | ~ instead of and, or, not, and is_in() instead of in")
    with pytest.raises(FilterError):
        _ = Customer.city in [Customer.name]


NULL = "comparing customer.city with None is never true; use .is_null()"
NO_REFERENCE = "customer.city is no reference; declare it with field(ref=...)"
WRONG: list[tuple[Callable[[], object], str, str]] = [
    (lambda: Customer.city == 5, "city", "customer.city cannot be compared with 5: expected str, got int"),
    (
        lambda: Customer.credit == 1.5,
        "credit",
        "customer.credit cannot be compared with 1.5: expected Decimal or int, got float",
    ),
    (lambda: Customer.city == None, "city", NULL),  # noqa: E711
    (lambda: Customer.city.is_in([None]), "city", NULL),
    (lambda: Customer.city.is_in("Rio"), "city", "customer.city.is_in() takes a list, not 'Rio'; use == for one value"),
    (
        lambda: Customer.home == Address("x"),
        "home",
        "customer.home is JSON, which filters cannot look into; declare a field of its own",
    ),
    (lambda: Customer.visits.contains("x"), "visits", "customer.visits is integer: contains is for text"),
    (lambda: Customer.city >= today(), "city", "customer.city is text: a day cannot be compared with it"),
    (lambda: Customer.since >= hour(), "since", "customer.since is date: a hour cannot be compared with it"),
    (lambda: Customer.city.within(Customer.city == "x"), "city", NO_REFERENCE),
    (lambda: Customer.city.some(Customer.city == "x"), "city", NO_REFERENCE),
]


@pytest.mark.parametrize(("wrong", "name", "message"), WRONG)
def test_filter_that_cannot_be_meant_is_refused(wrong: Callable[[], object], name: str, message: str):
    with pytest.raises(FilterError) as caught:
        wrong()
    assert str(caught.value) == message
    assert (caught.value.collection, caught.value.field) == ("customer", name)
