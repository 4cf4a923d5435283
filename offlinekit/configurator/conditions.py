"""An advanced condition as a list of single comparisons, which a front end shows as chips and changes one by one.

A condition is kept in one form: groups that must all hold, each a single comparison or several joined by any (or, where a
program wrote it so, something deeper). Negations stand at the comparisons alone, which in three-valued logic changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any, Literal

from attrs import frozen

from offlinekit.expr import encode_filter
from offlinekit.nodes import And, Compare, Const, Filter, IsIn, IsNull, Moment, Not, Or, Text, Value
from offlinekit.offer import Offer
from offlinekit.schema import CollectionInfo

__all__ = ["Condition", "Joined", "conditions_of", "joined", "leaves", "normal", "replaced"]

Joined = Literal["all", "any", "mixed"]


@frozen
class Condition:
    """One comparison of an advanced condition: field, operator, value (a tuple for "in", None for "null").

    Those of one `group` are joined by any, the groups by all. `id` names it in a form or an address, whatever becomes of the
    others. `negated`: the comparison must not hold. `label` is the offer's for the field.
    """

    id: str
    collection: str
    field: str
    operator: str
    value: Any
    label: str
    filter: Filter
    negated: bool = False
    group: int = 0


def normal(node: Filter, negate: bool = False) -> Filter:
    """The same condition with negations at the leaves, nothing nested without need and nothing twice."""
    if isinstance(node, Not):
        return normal(node.part, not negate)
    if isinstance(node, Const):
        return Const(node.value is not negate)
    if not isinstance(node, And | Or):
        return Not(node) if negate else node
    kind = And if isinstance(node, And) is not negate else Or
    parts: dict[Filter, None] = {}
    for part in (normal(p, negate) for p in node.parts):
        parts.update(dict.fromkeys(part.parts if isinstance(part, kind) else (part,)))
    return next(iter(parts)) if len(parts) == 1 else kind(tuple(parts))


def _groups(condition: Filter | None) -> tuple[Filter, ...]:
    return () if condition is None else condition.parts if isinstance(condition, And) else (condition,)


def leaves(node: Filter) -> Iterator[Filter]:
    """The single comparisons of a condition in its normal form."""
    if isinstance(node, And | Or):
        for part in node.parts:
            yield from leaves(part)
    elif not isinstance(node, Const):
        yield node


def joined(condition: Filter | None) -> Joined:
    """How the comparisons are joined; a single one, or none, counts as all."""
    groups = _groups(condition)
    flat = [not isinstance(g, And | Or) for g in groups]
    if all(flat):
        return "all"
    alternatives = groups[0].parts if isinstance(groups[0], Or) else ()
    return "any" if len(groups) == 1 and not any(isinstance(p, And | Or) for p in alternatives) else "mixed"


def conditions_of(condition: Filter | None, info: CollectionInfo, offer: Offer) -> tuple[Condition, ...]:
    """The comparisons of a condition in its normal form."""
    found = []
    for id_, n, leaf in _named(condition):
        bare = leaf.part if isinstance(leaf, Not) else leaf
        assert isinstance(bare, Compare | IsIn | IsNull | Text), "conditions compare fields of their own collection"
        advanced = offer.advanced.get((info.name, bare.field))
        label = bare.field if advanced is None else advanced.label
        found.append(
                Condition(id_, info.name, bare.field, _operator(bare), _value(bare, info), label, leaf,
                          isinstance(leaf, Not), n)
            )  # fmt: skip
    return tuple(found)


def replaced(condition: Filter | None, id_: str, new: Filter | None) -> Filter | None:
    """The condition with one comparison replaced, or left out; None when none is left. Raises KeyError for an unknown id."""
    groups = list(_groups(condition))
    n, leaf = next(((n, leaf) for name, n, leaf in _named(condition) if name == id_), (-1, None))
    if leaf is None:
        raise KeyError(id_)
    put = _put(groups[n], leaf, new)
    groups[n : n + 1] = [] if put is None else [put]
    return normal(And(tuple(groups))) if groups else None


def _put(node: Filter, leaf: Filter, new: Filter | None) -> Filter | None:
    if node == leaf:
        return new
    if not isinstance(node, And | Or):
        return node
    parts = tuple(put for p in node.parts if (put := _put(p, leaf, new)) is not None)
    return type(node)(parts) if parts else None


def _named(condition: Filter | None) -> Iterator[tuple[str, int, Filter]]:
    """Each comparison with its id and its group; one that stands in several groups is numbered."""
    seen: dict[Filter, int] = {}
    for n, group in enumerate(_groups(condition)):
        for leaf in leaves(group):
            seen[leaf] = seen.get(leaf, 0) + 1
            name = sha256(encode_filter(leaf)).hexdigest()[:12]
            yield (name if seen[leaf] == 1 else f"{name}-{seen[leaf]}"), n, leaf


def _operator(node: Compare | IsIn | IsNull | Text) -> str:
    return "in" if isinstance(node, IsIn) else "null" if isinstance(node, IsNull) else node.op


def _value(node: Compare | IsIn | IsNull | Text, info: CollectionInfo) -> Any:
    def load(operand: Any) -> Any:
        return operand if isinstance(operand, Moment) else kind.load(operand)

    if isinstance(node, IsNull):
        return None
    kind = info.fields[node.field].kind
    if isinstance(node, IsIn):
        operands: tuple[Value, ...] = node.operands  # type: ignore[assignment]  # a condition names no claim and no param
        return tuple(load(o) for o in operands)
    return load(node.operand)
