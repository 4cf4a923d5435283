"""What devices may choose (the offer): declared once by the application, known to both sides, and readable by a front end.

    offer = Offer(
        Quick("mine", Customer, Customer.rep == claim("rep"), "My customers", explanation="those of my portfolio"),
        Quick("in_city", Customer, Customer.city == param("city"), "In a city", params=[QuickParam("city", "City")]),
        Include("orders", Customer, Order.customer, label="their orders"),
        advanced=[Advanced(Customer.city, label="City", choices=["Campinas", "Recife"])],
    )

Nothing here is text for a user but labels and explanations; a front end that speaks several languages translates by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
from attrs import frozen

from offlinekit.exceptions import FilterError, InvalidValue, LimitExceeded, SchemaError, nearest
from offlinekit.expr import Allowed, check, names_used
from offlinekit.nodes import And, Claim, Compare, Filter, IsIn, Not, Or, Param, Some, Text, Within, everything
from offlinekit.schema import Collection, Field, Schema, info_of

__all__ = [
    "OPERATORS",
    "Advanced",
    "Always",
    "Include",
    "IncludeStep",
    "Offer",
    "Offered",
    "Option",
    "PathStep",
    "Quick",
    "QuickParam",
]

PATH_MAX = 6
OPERATORS = ("=", "<", "<=", ">", ">=", "in", "null", "contains", "starts_with", "equals_folded")
_TEXT_ONLY = ("contains", "starts_with", "equals_folded")
_ORDERED = ("<", "<=", ">", ">=")

PathStep = Field[Any] | tuple[Field[Any], Filter]


@frozen
class Option:
    """One of the values that a front end proposes, with what to call it."""

    value: Any
    label: str


def _options(choices: Iterable[Any]) -> tuple[Option, ...]:
    """Choices are given as values or as (value, label)."""
    pairs = (c if isinstance(c, tuple) and len(c) == 2 else (c, c) for c in choices)
    return tuple(Option(value, str(label)) for value, label in pairs)


def _parse(f: Field[Any], text: str) -> Any:
    """The Python value that a form's text stands for in a field; raises InvalidValue."""
    try:
        return msgspec.convert(text, f.kind.python, strict=False)
    except (msgspec.ValidationError, TypeError) as error:
        raise InvalidValue(f.owner.name, f.name, text, f"it is no {f.kind.describe()}") from error


class QuickParam:
    """A value that a quick filter asks the user for. `choices` are proposals (values, or (value, label)), not a rule.

    Known once a replica or an authority has the offer: `field`, with which it is compared, and `many`, whether it is a list.
    """

    def __init__(self, name: str, label: str = "", *, explanation: str = "", choices: Iterable[Any] = ()) -> None:
        self.name, self.label, self.explanation, self.choices = name, label or name, explanation, _options(choices)

    def bind(self, field: Field[Any], many: bool) -> None:
        """Tells what it is compared with."""
        self.field, self.many = field, many

    @property
    def kind(self) -> str:
        """The kind of value: text, integer, real, decimal, bool, date, datetime, enum, uuid or bytes."""
        return self.field.kind.name

    def parse(self, text: str) -> Any:
        """The value that the text of a form stands for (dates in ISO form, a point in decimals); raises InvalidValue."""
        return _parse(self.field, text)


class Quick:
    """A ready-made filter that a device may choose by name; params that it names are asked for.

    `params` says more about them; one that is not described there is called by its name.
    """

    def __init__(self, name: str, collection: type[Collection], where: Filter, label: str = "", *, explanation: str = "",
                 params: Iterable[QuickParam] = ()) -> None:  # fmt: skip
        self.name, self.collection, self.where = name, info_of(collection).name, where
        self.label, self.explanation = label or name, explanation
        self.cls = info_of(collection).cls
        used, described = names_used(where, Param), {p.name: p for p in params}
        if unknown := sorted(set(described) - used):
            raise SchemaError(f"quick filter '{name}' has no param '{unknown[0]}'{nearest(unknown[0], used)}")
        self.params = described | {n: QuickParam(n) for n in sorted(used - set(described))}

    def bind(self, schema: Schema) -> None:
        """Finds the fields that the params are compared with."""
        for node in _leaves(self.where):
            named = node.operands if isinstance(node, IsIn) else (node.operand,)
            for operand in named if isinstance(named, tuple) else (named,):
                if isinstance(operand, Param):
                    self.params[operand.name].bind(schema.info(node.collection).field(node.field), operand is named)


class IncludeStep:
    """A step of an include: along `field`, forward or back, to the records of `collection` that pass `where`."""

    def __init__(self, field: Field[Any], forward: bool, collection: str, where: Filter) -> None:
        self.field, self.forward, self.collection, self.where = field, forward, collection, where


class Include:
    """Related records: from a collection along references, in either direction, at most six steps.

    Each step is a reference field, or (field, filter on the collection it leads to). A field of the collection where the
    path stands leads to the record it names; a field that refers to that collection leads back to the records holding it.
    """

    def __init__(self, name: str, collection: type[Collection], *path: PathStep, label: str = "", explanation: str = "") -> None:
        self.name, self.collection, self.label = name, info_of(collection).name, label or name
        self.cls, self.explanation = info_of(collection).cls, explanation
        self.steps: list[IncludeStep] = []
        at = self.collection
        for part in path:
            f, where = part if isinstance(part, tuple) else (part, everything)
            forward = f.owner.name == at
            if not forward and f.target != at:
                raise SchemaError(f"include '{name}': {f} neither leads from '{at}' nor to it")
            at = f.target if forward else f.owner.name
            self.steps.append(IncludeStep(f, forward, at, where))
        if not 1 <= len(self.steps) <= PATH_MAX:
            raise LimitExceeded(f"steps of include '{name}'", PATH_MAX, len(self.steps))

    @property
    def reaches(self) -> tuple[str, ...]:
        """The collections whose records it adds, in the order of the path, each once."""
        return tuple(dict.fromkeys(step.collection for step in self.steps))


class Always:
    """What every device holds without choosing, and without expiry."""

    def __init__(self, collection: type[Collection], where: Filter = everything, *, include: Sequence[Include] = (),
                 label: str = "") -> None:  # fmt: skip
        self.collection, self.where, self.include = info_of(collection).name, where, tuple(include)
        self.label = label or self.collection


class Advanced:
    """A field that advanced conditions may name: with which operators (default: all that its kind has), proposing which
    `choices` (values, or (value, label))."""

    def __init__(self, field: Field[Any], *, operators: Sequence[str] | None = None, label: str = "", explanation: str = "",
                 choices: Iterable[Any] = ()) -> None:  # fmt: skip
        unknown = [o for o in operators or () if o not in OPERATORS]
        if unknown:
            raise SchemaError(f"unknown operator '{unknown[0]}'{nearest(unknown[0], OPERATORS)}")
        self.field, self.label, self.explanation = field, label or field.name, explanation
        self.operators = _operators_of(field) if operators is None else tuple(operators)
        self.choices = _options(choices)

    @property
    def kind(self) -> str:
        """The kind of value: text, integer, real, decimal, bool, date, datetime, enum, uuid, bytes or json."""
        return self.field.kind.name

    def parse(self, text: str) -> Any:
        """The value that the text of a form stands for (dates in ISO form, a point in decimals); raises InvalidValue."""
        return _parse(self.field, text)

    def filter(self, operator: str, value: Any = None) -> Filter:
        """The condition that compares the field; "in" takes a list, "null" nothing. Raises FilterError."""
        if operator not in self.operators:
            raise FilterError(f"{self.field} cannot be compared by '{operator}' here{nearest(operator, self.operators)}",
                              collection=self.field.owner.name, field=self.field.name)  # fmt: skip
        if operator == "null":
            return self.field.is_null()
        if operator == "in":
            return self.field.is_in(value)
        made = {
            "=": self.field.__eq__, "<": self.field.__lt__, "<=": self.field.__le__, ">": self.field.__gt__,
            ">=": self.field.__ge__, "contains": self.field.contains, "starts_with": self.field.starts_with,
            "equals_folded": self.field.equals_folded,
        }  # fmt: skip
        return made[operator](value)


def _operators_of(f: Field[Any]) -> tuple[str, ...]:
    """The operators that make sense for a kind of value."""
    without: set[str] = set() if f.kind.name == "text" else set(_TEXT_ONLY)
    if f.kind.name in ("bool", "enum", "uuid", "bytes"):
        without |= set(_ORDERED)
    if f.kind.name == "json":
        without = set(OPERATORS) - {"null"}
    if not f.nullable:
        without.add("null")
    return tuple(o for o in OPERATORS if o not in without)


@frozen
class Offered:
    """What may be chosen in one collection, as a front end shows it."""

    collection: str
    cls: type[Collection]
    quick: tuple[Quick, ...]
    advanced: tuple[Advanced, ...]
    includes: tuple[Include, ...]
    always: tuple[Always, ...]


class Offer:
    """What the authority lets devices choose from; both sides know it."""

    def __init__(self, *items: Quick | Include, advanced: Iterable[Field[Any] | Advanced] = (),
                 always: Iterable[Always] = ()) -> None:  # fmt: skip
        self.quick: dict[str, Quick] = {}
        self.includes: dict[str, Include] = {}
        for item in items:
            into: dict[str, Any] = self.quick if isinstance(item, Quick) else self.includes
            if item.name in into:
                raise SchemaError(f"the offer names '{item.name}' twice")
            into[item.name] = item
        fields = [a if isinstance(a, Advanced) else Advanced(a) for a in advanced]
        self.advanced = {(a.field.owner.name, a.field.name): a for a in fields}
        self.always = tuple(always)

    # -- for front ends

    @property
    def configurable(self) -> tuple[type[Collection], ...]:
        """The collections in which there is something to choose, in the order of declaration."""
        offered = [*(q.cls for q in self.quick.values()), *(i.cls for i in self.includes.values())]
        return tuple(dict.fromkeys([*offered, *(a.field.owner.cls for a in self.advanced.values())]))

    def of(self, collection: type[Collection]) -> Offered:
        """What may be chosen in a collection, in the order of declaration."""
        info = info_of(collection)
        return Offered(
            info.name,
            info.cls,
            tuple(q for q in self.quick.values() if q.collection == info.name),
            tuple(a for (owner, _), a in self.advanced.items() if owner == info.name),
            tuple(i for i in self.includes.values() if i.collection == info.name),
            tuple(a for a in self.always if a.collection == info.name),
        )

    # -- for both sides

    def check(self, schema: Schema) -> None:
        """Raises SchemaError when something in the offer does not fit the schema."""
        for quick in self.quick.values():
            place = Allowed(f"quick filter '{quick.name}'", claims=True, params=frozenset(quick.params))
            check(quick.where, schema, schema.info(quick.collection), place)
            quick.bind(schema)
        for item in self.always:
            check(item.where, schema, schema.info(item.collection), Allowed("always", claims=True))
        for include in [*self.includes.values(), *(i for a in self.always for i in a.include)]:
            for step in include.steps:
                schema.info(step.field.owner.cls).field(step.field.name)
                check(step.where, schema, schema.info(step.collection), Allowed(f"include '{include.name}'", claims=True))
        for (collection, name), advanced in self.advanced.items():
            if schema.info(collection).field(name).online_only:
                raise SchemaError(f"{advanced.field} is online_only and may not decide what a device holds")

    def claims(self) -> set[str]:
        """The names of the claims that the offer's filters mention."""
        filters = [q.where for q in self.quick.values()] + [a.where for a in self.always]
        includes = [*self.includes.values(), *(i for a in self.always for i in a.include)]
        filters += [step.where for i in includes for step in i.steps]
        return {name for f in filters for name in names_used(f, Claim)}


def _leaves(node: Filter) -> Iterator[Compare | Text | IsIn]:
    if isinstance(node, Compare | Text | IsIn):
        yield node
    for part in node.parts if isinstance(node, And | Or) else (node.part,) if isinstance(node, Not | Within | Some) else ():
        yield from _leaves(part)
