"""Resolving a filter: claims, params and time bounds become literals, so that equal filters have equal hashes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from attrs import evolve, frozen

from offlinekit.exceptions import FilterError, LimitExceeded
from offlinekit.expr.check import OPERANDS_MAX
from offlinekit.nodes import (
    And,
    Claim,
    Compare,
    Filter,
    IsIn,
    Moment,
    Not,
    Operand,
    Or,
    Param,
    Some,
    Text,
    Value,
    Within,
)
from offlinekit.schema import Field, Schema

__all__ = ["Bounds", "cut", "dependencies", "names_used", "resolve", "zone_of"]

# What a param or claim that travelled as JSON is made of again, where its text is not the storage value.
_AS_TEXT: Mapping[str, Callable[[str], Any]] = {"decimal": Decimal, "datetime": datetime.fromisoformat}


def zone_of(name: str) -> ZoneInfo:
    """The time zone of that name; raises FilterError for unknown ones."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise FilterError(f"unknown time zone {name!r:.60}; use a name such as 'America/Sao_Paulo' or 'UTC'") from error


@frozen
class Bounds:
    """The moment that time bounds are cut from (seconds since 1970) and the zone that days begin in."""

    now: float
    zone: str = "UTC"

    def literal(self, moment: Moment, kind: str) -> str:
        """The storage value of a moment for a date or datetime field; raises FilterError outside the calendar."""
        try:
            return self._literal(moment, kind)
        except OverflowError as error:
            raise FilterError(f"{moment.offset} {moment.grain}s from now is outside the calendar") from error

    def _literal(self, moment: Moment, kind: str) -> str:
        start = cut(self.now, moment.grain, self.zone)
        if moment.grain == "hour":
            return (start.astimezone(UTC) + timedelta(hours=moment.offset)).isoformat(" ", "microseconds")[:26]
        day = start.date() + timedelta(days=moment.offset)
        if kind == "date":
            return day.isoformat()
        midnight = datetime(day.year, day.month, day.day, tzinfo=zone_of(self.zone))
        return midnight.astimezone(UTC).isoformat(" ", "microseconds")[:26]


def cut(now: float, grain: str, zone: str) -> datetime:
    """`now` cut to the start of its day or hour in the zone."""
    local = datetime.fromtimestamp(now, zone_of(zone))
    if grain == "hour":
        return local.replace(minute=0, second=0, microsecond=0)
    return local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)  # where midnight comes twice: the first


def resolve(filter_: Filter, schema: Schema, *, claims: Mapping[str, Any], params: Mapping[str, Any], bounds: Bounds) -> Filter:
    """The same filter with literals only; raises FilterError for a missing or unfitting claim or param."""

    def value_of(operand: Operand, f: Field[Any]) -> Value:
        if isinstance(operand, Claim):
            return _given("claim", operand.name, claims, f)
        if isinstance(operand, Param):
            return _given("param", operand.name, params, f)
        if isinstance(operand, Moment):
            return bounds.literal(operand, f.kind.name)
        return operand

    def go(node: Filter) -> Filter:
        if isinstance(node, And | Or):
            return evolve(node, parts=tuple(map(go, node.parts)))
        if isinstance(node, Not | Within | Some):
            return evolve(node, part=go(node.part))
        if isinstance(node, Compare | Text):
            return evolve(node, operand=value_of(node.operand, schema.info(node.collection).field(node.field)))
        if isinstance(node, IsIn):
            f = schema.info(node.collection).field(node.field)
            if isinstance(node.operands, Claim | Param):
                word, given = ("claim", claims) if isinstance(node.operands, Claim) else ("param", params)
                if node.operands.name not in given:
                    raise FilterError(f"{word} '{node.operands.name}' is missing; {f} is compared with it",
                                      collection=f.owner.name, field=f.name)  # fmt: skip
                values = given[node.operands.name]
                if not isinstance(values, list | tuple | set | frozenset):
                    raise FilterError(f"{word} '{node.operands.name}' must be a list for {f}.is_in()",
                                      collection=f.owner.name, field=f.name)  # fmt: skip
                if f.kind.sqlite == "REAL" and len(values) > OPERANDS_MAX:  # each is a binding of a statement
                    raise LimitExceeded(f"values of {word} '{node.operands.name}'", OPERANDS_MAX, len(values))
                return evolve(node, operands=tuple(_stored(word, node.operands.name, v, f) for v in values))
            return evolve(node, operands=tuple(value_of(o, f) for o in node.operands))
        return node

    return go(filter_)


def _given(word: str, name: str, given: Mapping[str, Any], f: Field[Any]) -> Value:
    if name not in given:
        raise FilterError(f"{word} '{name}' is missing; {f} is compared with it",
                          collection=f.owner.name, field=f.name)  # fmt: skip
    return _stored(word, name, given[name], f)


def _stored(word: str, name: str, value: Any, f: Field[Any]) -> Value:
    try:
        if isinstance(value, str) and f.kind.name in _AS_TEXT:
            return f.kind.store(_AS_TEXT[f.kind.name](value))
        return f.kind.store(value)
    except (ValueError, TypeError, ArithmeticError) as error:
        if value is not None and f.kind.fits(value):  # identities often arrive as JSON, with dates and UUIDs as text
            return value  # type: ignore[no-any-return]
        raise FilterError(f"{word} '{name}' does not fit {f}: {error}",
                          collection=f.owner.name, field=f.name) from error  # fmt: skip


def _nodes(node: Filter) -> Iterator[Filter]:
    yield node
    for part in node.parts if isinstance(node, And | Or) else (node.part,) if isinstance(node, Not | Within | Some) else ():
        yield from _nodes(part)


def dependencies(filter_: Filter) -> set[str]:
    """The other collections that a filter reaches through references."""
    return {n.target if isinstance(n, Within) else n.source for n in _nodes(filter_) if isinstance(n, Within | Some)}


def names_used(filter_: Filter, kind: type[Claim] | type[Param]) -> set[str]:
    """The names of the claims, or of the params, in a filter."""
    found: set[str] = set()
    for node in _nodes(filter_):
        if isinstance(node, Compare | Text) and isinstance(node.operand, kind):
            found.add(node.operand.name)
        elif isinstance(node, IsIn):
            operands = node.operands if isinstance(node.operands, tuple) else (node.operands,)
            found |= {o.name for o in operands if isinstance(o, kind)}
    return found
