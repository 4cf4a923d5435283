"""Checks a filter against a schema: names, types, limits, and what may be referred to where it stands."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from offlinekit.exceptions import FilterError, LimitExceeded, SchemaError, nearest, shown
from offlinekit.nodes import (
    And,
    Claim,
    Compare,
    Const,
    Filter,
    IsIn,
    IsNull,
    Moment,
    Not,
    Operand,
    Or,
    Param,
    Some,
    Text,
    Within,
)
from offlinekit.schema import CollectionInfo, Field, Schema

__all__ = ["DEPTH_MAX", "NODES_MAX", "OPERANDS_MAX", "Allowed", "check"]

DEPTH_MAX = 32
NODES_MAX = 256
OPERANDS_MAX = 10_000


@frozen
class Allowed:
    """What a filter may refer to where it stands, named by `place` in errors."""

    place: str
    claims: bool = False
    params: frozenset[str] = frozenset()
    online_only: bool = False
    folding: bool = True


def check(filter_: Filter, schema: Schema, collection: CollectionInfo, allowed: Allowed) -> None:
    """Raises FilterError or LimitExceeded for what does not fit; returns when every name, type and limit does."""
    operands = 0
    for nodes, (node, at, depth) in enumerate(_walk(filter_, schema, collection, 1), start=1):
        if depth > DEPTH_MAX:
            raise LimitExceeded(f"depth of a filter in {allowed.place}", DEPTH_MAX, depth, "flatten or split it")
        if nodes > NODES_MAX:
            raise LimitExceeded(f"nodes of a filter in {allowed.place}", NODES_MAX, nodes, "use is_in() or picks")
        if isinstance(node, IsIn) and isinstance(node.operands, tuple):
            operands += len(node.operands)
            if operands > OPERANDS_MAX:
                raise LimitExceeded(f"values of is_in() in {allowed.place}", OPERANDS_MAX, operands, "use a reference")
        if isinstance(node, Compare | IsIn | IsNull | Text):
            _check_leaf(node, at, allowed)


def _walk(node: Filter, schema: Schema, at: CollectionInfo, depth: int) -> Iterator[tuple[Filter, CollectionInfo, int]]:
    yield node, at, depth
    if isinstance(node, And | Or):
        for part in node.parts:
            yield from _walk(part, schema, at, depth + 1)
    elif isinstance(node, Not):
        yield from _walk(node.part, schema, at, depth + 1)
    elif isinstance(node, Within):
        f = _field(node, at)
        if f.ref is None or f.target != node.target:
            raise FilterError(f"{f} does not refer to '{node.target}'", collection=at.name, field=f.name)
        yield from _walk(node.part, schema, schema.info(node.target), depth + 1)
    elif isinstance(node, Some):
        try:
            source = schema.info(node.source)
            f = source.field(node.field)
        except SchemaError as error:
            raise FilterError(str(error), collection=at.name) from error
        if node.collection != at.name or f.ref is None or f.target != at.name:
            raise FilterError(f"{f} does not refer to '{at.name}'", collection=at.name, field=f.name)
        yield from _walk(node.part, schema, source, depth + 1)
    elif not isinstance(node, Const | Compare | IsIn | IsNull | Text):
        raise FilterError(f"{node!r:.80} is no filter")


def _field(node: Within | Compare | IsIn | IsNull | Text, at: CollectionInfo) -> Field[object]:
    if node.collection != at.name:
        raise FilterError(f"a filter on '{node.collection}' stands where one on '{at.name}' is needed; reach another"
                          " collection with reference.within(...)", collection=at.name, field=node.field)  # fmt: skip
    if node.field not in at.fields:
        raise FilterError(f"unknown field '{node.field}' in collection '{at.name}'{nearest(node.field, at.fields)}",
                          collection=at.name, field=node.field)  # fmt: skip
    return at.fields[node.field]


def _check_leaf(node: Compare | IsIn | IsNull | Text, at: CollectionInfo, allowed: Allowed) -> None:
    f = _field(node, at)

    def refuse(why: str) -> None:
        raise FilterError(f"{f} {why} in {allowed.place}", collection=at.name, field=f.name)

    if f.online_only and not allowed.online_only:
        refuse("is online_only and may not decide what a device holds")
    if f.kind.name == "json" and not isinstance(node, IsNull):
        refuse("is JSON, which filters cannot look into,")
    if isinstance(node, IsNull):
        return
    if isinstance(node, Text):
        if not allowed.folding:
            refuse(f"may not be compared folded ({node.op})")
        if f.kind.name != "text":
            refuse("is no text and cannot be folded")
    operands = (node.operand,) if not isinstance(node, IsIn) else (
        node.operands if isinstance(node.operands, tuple) else (node.operands,))  # fmt: skip
    for operand in operands:
        _check_operand(operand, f, node, allowed)


def _check_operand(operand: Operand, f: Field[object], node: Filter, allowed: Allowed) -> None:
    def refuse(why: str) -> None:
        raise FilterError(f"{f}: {why} in {allowed.place}", collection=f.owner.name, field=f.name)

    if isinstance(operand, Claim):
        if not allowed.claims:
            refuse(f"claim '{operand.name}' may not stand")
    elif isinstance(operand, Param):
        if operand.name not in allowed.params:
            refuse(f"param '{operand.name}' may not stand{nearest(operand.name, allowed.params)}")
    elif isinstance(operand, Moment):
        if not isinstance(node, Compare):
            refuse("a time bound needs a comparison")
        if f.kind.name not in ("date", "datetime") or (f.kind.name == "date" and operand.grain != "day"):
            refuse(f"is {f.kind.name}: a {operand.grain} cannot be compared with it")
    elif operand is None or not f.kind.fits(operand):
        refuse(f"{shown(operand, 80)} is no {f.kind.describe()}")
