"""Resolving: claims, params and time bounds become literals, in the zone and on the days that people mean."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offlinekit.exceptions import FilterError, LimitExceeded
from offlinekit.expr.codec import filter_hash
from offlinekit.expr.resolve import Bounds, cut, dependencies, names_used, resolve, zone_of
from offlinekit.nodes import (
    And,
    Claim,
    Compare,
    Filter,
    IsIn,
    Moment,
    Param,
    Text,
    claim,
    everything,
    hour,
    param,
    today,
)
from tests.expr.world import SCHEMA, Customer, Line, Order, Status, filters

CLAIMS: dict[str, Any] = {
    "rep": "r1",
    "cities": ["Rio", "Ubá"],
    "limit": 100,
    "ids": [2, 1],
    "line": "00000000-0000-0000-0000-000000000001",
    "since": "2024-01-01",
    "status": "open",
    "null": None,
    "half": 100.5,
    "whole": 100.0,
    "yes": True,
    "word": "ÀÉ",
}


def moment(text: str) -> float:
    """Seconds since 1970 of an ISO instant."""
    return datetime.fromisoformat(text).timestamp()


def given_(node: Filter, *, params: dict[str, Any] | None = None, now: float = 0.0, zone: str = "UTC") -> Filter:
    """Resolve with the claims of this file."""
    return resolve(node, SCHEMA, claims=CLAIMS, params=params or {}, bounds=Bounds(now, zone))


@pytest.mark.parametrize(
    ("node", "literal"),
    [
        (Customer.code == claim("rep"), Compare("customer", "code", "=", "r1")),
        (Customer.credit >= claim("limit"), Compare("customer", "credit", ">=", 10000)),
        (Customer.since >= claim("since"), Compare("customer", "since", ">=", "2024-01-01")),
        (Line.id == claim("line"), Compare("line", "id", "=", str(UUID(int=1)))),
        (Order.status == claim("status"), Compare("order", "status", "=", "open")),
        (Order.urgent == claim("yes"), Compare("order", "urgent", "=", 1)),
        (Order.rate == claim("limit"), Compare("order", "rate", "=", 100.0)),
        (Customer.city.is_in(claim("cities")), IsIn("customer", "city", ("Rio", "Ubá"))),
        (Order.id.is_in(claim("ids")), IsIn("order", "id", (2, 1))),
        (Customer.city.is_in([claim("rep"), "x"]), IsIn("customer", "city", ("r1", "x"))),
        (Customer.name.contains(claim("word")), Text("customer", "name", "contains", "ÀÉ")),
        (~(Customer.code == claim("rep")), ~Compare("customer", "code", "=", "r1")),
        (
            Order.customer.within(Customer.parent.some(Customer.code == claim("rep"))),
            Order.customer.within(Customer.parent.some(Compare("customer", "code", "=", "r1"))),
        ),
        (everything & Customer.city.is_null(), everything & Customer.city.is_null()),
    ],
)
def test_claim_becomes_a_literal(node: Filter, literal: Filter):
    assert given_(node) == literal


@pytest.mark.parametrize(
    ("node", "params", "literal"),
    [
        (Customer.city == param("c"), {"c": "Rio"}, Compare("customer", "city", "=", "Rio")),
        (Customer.credit < param("c"), {"c": Decimal("1.5")}, Compare("customer", "credit", "<", 150)),
        (Customer.since > param("d"), {"d": date(2024, 2, 29)}, Compare("customer", "since", ">", "2024-02-29")),
        (Order.status.is_in(param("s")), {"s": [Status.OPEN]}, IsIn("order", "status", ("open",))),
        (Order.id.is_in(param("i")), {"i": ()}, IsIn("order", "id", ())),
        (Order.id.is_in(param("i")), {"i": frozenset({5})}, IsIn("order", "id", (5,))),
    ],
)
def test_param_becomes_a_literal(node: Filter, params: dict[str, Any], literal: Filter):
    assert given_(node, params=params) == literal


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (Customer.code == claim("reps"), "claim 'reps' is missing; customer.code is compared with it"),
        (Customer.code == param("rep"), "param 'rep' is missing; customer.code is compared with it"),
        (Customer.code.is_in(claim("reps")), "claim 'reps' is missing; customer.code is compared with it"),
        (Customer.code.is_in(param("cities")), "param 'cities' is missing; customer.code is compared with it"),
        (Customer.code.is_in(claim("rep")), "claim 'rep' must be a list for customer.code.is_in()"),
        (Customer.code == claim("cities"), "claim 'cities' does not fit customer.code: expected str, got list"),
        (Customer.code == claim("limit"), "claim 'limit' does not fit customer.code: expected str, got int"),
        (Customer.code == claim("null"), "claim 'null' does not fit customer.code: expected str, got NoneType"),
        (Customer.code.is_in(claim("ids")), "claim 'ids' does not fit customer.code: expected str, got int"),
        (Order.id == claim("yes"), "claim 'yes' does not fit order.id: expected int, got bool"),
        (Order.total == claim("half"), "claim 'half' does not fit order.total: expected Decimal or int, got float"),
        (Order.total == claim("whole"), "claim 'whole' does not fit order.total: expected Decimal or int, got float"),
        (Order.status == claim("rep"), "claim 'rep' does not fit order.status: expected Status, got str"),
        (Line.id == claim("rep"), "claim 'rep' does not fit line.id: expected UUID, got str"),
    ],
)
def test_claim_that_is_missing_or_does_not_fit_is_named_with_its_field(node: Filter, message: str):
    with pytest.raises(FilterError) as caught:
        given_(~(everything & node))
    assert str(caught.value) == message
    field = message.removesuffix(".is_in()").partition(" fit ")[2].partition(":")[0]
    assert not field or f"{caught.value.collection}.{caught.value.field}" == field


# -- time bounds


NOW = "2024-03-10T15:45:59.999999+00:00"


@pytest.mark.parametrize(
    ("zone", "now", "node", "literal"),
    [
        ("UTC", NOW, Customer.since >= today(), "2024-03-10"),
        ("UTC", NOW, Customer.since >= today(-10), "2024-02-29"),
        ("UTC", NOW, Order.placed >= today(), "2024-03-10 00:00:00.000000"),
        ("UTC", NOW, Order.placed >= today(1), "2024-03-11 00:00:00.000000"),
        ("UTC", NOW, Order.placed >= hour(), "2024-03-10 15:00:00.000000"),
        ("UTC", NOW, Order.placed >= hour(-16), "2024-03-09 23:00:00.000000"),
        # The day is that of the zone, not that of UTC.
        ("America/Sao_Paulo", "2024-03-10T02:59:59+00:00", Customer.since >= today(), "2024-03-09"),
        ("America/Sao_Paulo", "2024-03-10T03:00:00+00:00", Customer.since >= today(), "2024-03-10"),
        ("America/Sao_Paulo", "2024-03-10T03:00:00+00:00", Order.placed >= today(), "2024-03-10 03:00:00.000000"),
        ("Pacific/Kiritimati", NOW, Customer.since >= today(), "2024-03-11"),
        ("Pacific/Kiritimati", NOW, Order.placed >= today(), "2024-03-10 10:00:00.000000"),
        # Hours begin where the clock on the wall says so.
        ("Asia/Kolkata", NOW, Order.placed >= hour(), "2024-03-10 15:30:00.000000"),
        ("Asia/Kathmandu", NOW, Order.placed >= hour(-1), "2024-03-10 14:15:00.000000"),
        # Clocks go forward at two: days of 23 hours begin at midnight all the same, and hours keep their length.
        ("America/New_York", "2024-03-10T15:00:00+00:00", Order.placed >= today(), "2024-03-10 05:00:00.000000"),
        ("America/New_York", "2024-03-10T15:00:00+00:00", Order.placed >= today(1), "2024-03-11 04:00:00.000000"),
        ("America/New_York", "2024-03-10T07:30:00+00:00", Order.placed >= hour(-1), "2024-03-10 06:00:00.000000"),
        # Clocks go back at two: the hour from one to two comes twice.
        ("America/New_York", "2024-11-03T05:30:00+00:00", Order.placed >= hour(), "2024-11-03 05:00:00.000000"),
        ("America/New_York", "2024-11-03T06:30:00+00:00", Order.placed >= hour(), "2024-11-03 06:00:00.000000"),
        ("America/New_York", "2024-11-03T06:30:00+00:00", Order.placed >= today(), "2024-11-03 04:00:00.000000"),
        ("America/New_York", "2024-11-04T06:30:00+00:00", Order.placed >= today(-1), "2024-11-03 04:00:00.000000"),
        # There was no midnight on that day, it began at one.
        ("America/Sao_Paulo", "2018-11-04T12:00:00+00:00", Order.placed >= today(), "2018-11-04 03:00:00.000000"),
        # Midnight came twice on that day: the day begins with the first, whichever it is now.
        ("America/Havana", "2024-11-03T04:30:00+00:00", Order.placed >= today(), "2024-11-03 04:00:00.000000"),
        ("America/Havana", "2024-11-03T05:30:00+00:00", Order.placed >= today(), "2024-11-03 04:00:00.000000"),
        # A day that an island left out when it crossed the date line.
        ("Pacific/Apia", "2011-12-31T12:00:00+00:00", Customer.since >= today(-1), "2011-12-31"),
    ],
)
def test_time_bound_becomes_a_literal(zone: str, now: str, node: Filter, literal: str):
    resolved = given_(node, now=moment(now), zone=zone)
    assert isinstance(resolved, Compare)
    assert resolved.operand == literal
    assert SCHEMA.info(resolved.collection).field(resolved.field).kind.fits(literal)


ZONES = st.sampled_from(
    [
        "UTC",
        "America/Havana",
        "America/Sao_Paulo",
        "Europe/Berlin",
        "Asia/Kathmandu",
        "Australia/Lord_Howe",
        "Africa/Cairo",
    ]
)


@given(st.integers(0, 4_000_000_000), st.integers(0, 90_000), ZONES, st.sampled_from(["day", "hour"]))
def test_time_never_runs_back_when_it_is_cut(now: int, later: int, zone: str, grain: str):
    start = cut(now, grain, zone)
    assert start.timestamp() <= now
    assert start.timestamp() <= cut(now + later, grain, zone).timestamp()
    assert now - start.timestamp() <= (90_000 if grain == "day" else 5400)
    assert cut(start.timestamp(), grain, zone).timestamp() == start.timestamp()


def test_day_on_which_midnight_comes_twice_has_one_start():
    moments = [moment(f"2024-11-03T0{hours}:30:00+00:00") for hours in (4, 5, 6)]
    starts = [cut(now, "day", "America/Havana").timestamp() for now in moments]
    assert starts == [moment("2024-11-03T04:00:00+00:00")] * 3


@given(st.integers(0, 4_000_000_000), ZONES, st.integers(-400, 400))
def test_day_is_the_date_on_the_wall_and_begins_when_it_begins(now: int, zone: str, offset: int):
    bounds = Bounds(now, zone)
    day = datetime.fromtimestamp(now, ZoneInfo(zone)).date() + timedelta(days=offset)
    assert bounds.literal(Moment("day", offset), "date") == day.isoformat()
    start = datetime.fromisoformat(bounds.literal(Moment("day", offset), "datetime")).replace(tzinfo=UTC)
    just_before = (start - timedelta(microseconds=1)).astimezone(ZoneInfo(zone))
    assert start.astimezone(ZoneInfo(zone)).date() == day
    assert just_before.date() < day


@pytest.mark.parametrize(("grain", "offset"), [("day", 10**7), ("day", -(10**6)), ("day", 10**12), ("hour", -(10**9))])
def test_time_outside_the_calendar_is_refused(grain: Any, offset: int):
    with pytest.raises(FilterError) as caught:
        given_(Order.placed >= Moment(grain, offset))
    assert str(caught.value) == f"{offset} {grain}s from now is outside the calendar"


@pytest.mark.parametrize("zone", ["Sao_Paulo", "", "../etc/passwd", "/etc/passwd", "a\0b", "Europe", "é" * 100])
def test_unknown_zone_is_refused(zone: str):
    with pytest.raises(FilterError) as caught:
        zone_of(zone)
    assert str(caught.value) == f"unknown time zone {zone!r:.60}; use a name such as 'America/Sao_Paulo' or 'UTC'"


def test_equal_bounds_have_equal_hashes_and_the_next_hour_another():
    node = Order.placed >= hour(-1)
    first, second, third = (given_(node, now=moment(f"2024-01-01T{t}+00:00")) for t in ("10:00", "10:59:59", "11:00"))
    assert filter_hash(first) == filter_hash(second) != filter_hash(third)


def test_list_of_floats_is_limited_because_each_is_a_binding():
    rates = [float(n) for n in range(10_001)]
    given_(Order.rate.is_in(param("x")), params={"x": rates[:-1]})
    with pytest.raises(LimitExceeded, match=r"values of param 'x': 10001 is more than the limit of 10000"):
        given_(Order.rate.is_in(param("x")), params={"x": rates})


# -- what a filter asks for


@pytest.mark.slow
@given(st.data(), st.sampled_from(["customer", "order", "line"]))
def test_filter_of_literals_is_its_own_resolution(data: st.DataObject, collection: str):
    node = data.draw(filters(collection))
    assert given_(node) == node
    assert names_used(node, Claim) == names_used(node, Param) == set()
    assert dependencies(node) <= set(SCHEMA.collections)


def test_names_and_collections_that_a_filter_uses_are_listed():
    node = And(
        (
            Customer.code == claim("a"),
            ~Customer.city.is_in(claim("b")),
            Customer.city.is_in([claim("c"), param("d"), "x"]),
            Customer.name.contains(param("e")),
            Order.customer.some(Line.order.some(Line.product == param("f"))),
        )
    )
    assert names_used(node, Claim) == {"a", "b", "c"}
    assert names_used(node, Param) == {"d", "e", "f"}
    assert dependencies(node) == {"order", "line"}
    assert dependencies(Order.customer.within(everything)) == {"customer"}
    assert dependencies(Customer.city.is_null()) == set()
