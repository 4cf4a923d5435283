"""Evaluating a resolved filter on one record in Python, with SQL's three-valued logic."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import eq, ge, gt, le, lt
from typing import Any

from offlinekit.expr import fold
from offlinekit.nodes import And, Compare, Const, Filter, IsIn, IsNull, Not, Or, Some, Text, Value, Within
from offlinekit.schema import Schema

__all__ = ["Related", "Row", "evaluate"]

Row = Mapping[str, Value]
Related = Callable[[str, str, Value], Iterable[Row]]
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {"=": eq, "<": lt, "<=": le, ">": gt, ">=": ge}
_TEXT = {"contains": fold.contains, "starts_with": fold.starts_with, "equals_folded": fold.equals_folded}


def evaluate(node: Filter, row: Row, schema: Schema, related: Related) -> bool | None:
    """True, False, or None for unknown; a record passes only when the result is True.

    `row` maps field names to storage values. `related(collection, field, value)` yields the records of another collection
    whose field equals the value.
    """
    if isinstance(node, Const):
        return node.value
    if isinstance(node, And):
        results = [evaluate(p, row, schema, related) for p in node.parts]
        return False if False in results else None if None in results else True
    if isinstance(node, Or):
        results = [evaluate(p, row, schema, related) for p in node.parts]
        return True if True in results else None if None in results else False
    if isinstance(node, Not):
        result = evaluate(node.part, row, schema, related)
        return None if result is None else not result
    if isinstance(node, Within):
        value = row[node.field]
        return value is not None and _any(
            node.part, related(node.target, schema.info(node.target).key[0], value), schema, related
        )
    if isinstance(node, Some):
        value = row[schema.info(node.collection).key[0]]
        return _any(node.part, related(node.source, node.field, value), schema, related)
    return _leaf(node, row)


def _any(part: Filter, rows: Iterable[Row], schema: Schema, related: Related) -> bool:
    return any(evaluate(part, r, schema, related) is True for r in rows)


def _leaf(node: Filter, row: Row) -> bool | None:
    if isinstance(node, IsNull):
        return row[node.field] is None
    if isinstance(node, Compare):
        value = row[node.field]
        return None if value is None else _COMPARE[node.op](value, node.operand)
    if isinstance(node, IsIn) and isinstance(node.operands, tuple):
        value = row[node.field]
        if not node.operands:
            return False
        return None if value is None else value in node.operands
    if isinstance(node, Text) and isinstance(node.operand, str):
        return _TEXT[node.op](row[node.field], fold.fold(node.operand))  # type: ignore[arg-type]
    raise TypeError(f"{node!r:.80} is not resolved")
