"""Filter expressions as immutable values: what a filter is, without what it means.

Descriptors (`schema.py`) build them, `expr/` checks, evaluates, compiles and encodes them. Literals are storage values
(`kinds.py`), so that an expression has one form for the database, the wire and the hash. Logic is three-valued, as in
SQL: a comparison with null is unknown, `~unknown` is unknown, and a record passes only when the result is true.
"""

from __future__ import annotations

from typing import Literal, NoReturn, TypeAlias

from attrs import frozen

from offlinekit.exceptions import FilterError

__all__ = [
    "And",
    "Claim",
    "Compare",
    "Const",
    "Filter",
    "Grain",
    "IsIn",
    "IsNull",
    "Moment",
    "Not",
    "Operand",
    "Or",
    "Param",
    "Some",
    "Text",
    "Value",
    "Within",
    "claim",
    "everything",
    "hour",
    "nothing",
    "param",
    "today",
]

Value: TypeAlias = str | int | float | bytes | None
Grain: TypeAlias = Literal["day", "hour"]


@frozen
class Claim:
    """A value that the authority takes from the verified identity; a device cannot choose it."""

    name: str


@frozen
class Param:
    """A value that the device chooses."""

    name: str


@frozen
class Moment:
    """A time bound: now, cut to the grain in the selection's zone, moved by `offset` grains."""

    grain: Grain
    offset: int = 0


Operand: TypeAlias = Value | Claim | Param | Moment


def claim(name: str) -> Claim:
    """The value of `name` in the verified identity of whoever asks."""
    return Claim(name)


def param(name: str) -> Param:
    """A value that the user of the device chooses when choosing the quick filter that names it."""
    return Param(name)


def today(offset: int = 0) -> Moment:
    """The day `offset` days from today, in the selection's zone; for date and UTC datetime fields."""
    return Moment("day", offset)


def hour(offset: int = 0) -> Moment:
    """The start of the hour `offset` hours from now; for UTC datetime fields."""
    return Moment("hour", offset)


class Filter:
    """A condition on the records of one collection; combine with `&`, `|` and `~`."""

    __slots__ = ()

    def __and__(self, other: Filter) -> Filter:
        return And((*_flat(And, self), *_flat(And, other)))

    def __or__(self, other: Filter) -> Filter:
        return Or((*_flat(Or, self), *_flat(Or, other)))

    def __invert__(self) -> Filter:
        return Not(self)

    def __bool__(self) -> NoReturn:
        raise FilterError("a filter has no truth value: use & | ~ instead of and, or, not, and is_in() instead of in")


@frozen(slots=True)
class Const(Filter):
    """True or false for every record."""

    value: bool


everything = Const(True)
nothing = Const(False)


@frozen(slots=True)
class Compare(Filter):
    """An exact comparison of a field with a value."""

    collection: str
    field: str
    op: Literal["=", "<", "<=", ">", ">="]
    operand: Operand


@frozen(slots=True)
class IsIn(Filter):
    """A field equals one of the values; a claim or param stands for a list of them."""

    collection: str
    field: str
    operands: tuple[Operand, ...] | Claim | Param


@frozen(slots=True)
class IsNull(Filter):
    """A field holds nothing."""

    collection: str
    field: str


@frozen(slots=True)
class Text(Filter):
    """A comparison of folded text: without accents and case, by the table of `expr/fold.py`."""

    collection: str
    field: str
    op: Literal["contains", "starts_with", "equals_folded"]
    operand: Operand


@frozen(slots=True)
class And(Filter):
    """All of the parts."""

    parts: tuple[Filter, ...]


@frozen(slots=True)
class Or(Filter):
    """Any of the parts."""

    parts: tuple[Filter, ...]


def _flat(kind: type[And] | type[Or], part: Filter) -> tuple[Filter, ...]:
    return part.parts if isinstance(part, kind) else (part,)  # so that a long chain of & is not deep


@frozen(slots=True)
class Not(Filter):
    """True where the part is false, unknown where it is unknown."""

    part: Filter


@frozen(slots=True)
class Within(Filter):
    """The record that `field` refers to exists and passes `part`."""

    collection: str
    field: str
    target: str
    part: Filter


@frozen(slots=True)
class Some(Filter):
    """Some record of `source` refers to this one by its `field` and passes `part`."""

    collection: str
    source: str
    field: str
    part: Filter
