"""The canonical form of filters as bytes: for the wire, the database and hashes.

Nodes are arrays that start with a word. `and` and `or` are flattened, sorted by their bytes and freed of repetitions, and so
are lists of values, so that filters which differ only in that have one form. Operands are values; a claim, param or moment is
a one-entry map. Collections are not named: the root's is known and references lead to the rest.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import msgspec

from offlinekit.exceptions import FilterError, LimitExceeded, SchemaError, shown
from offlinekit.expr.check import DEPTH_MAX
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
from offlinekit.schema import Schema

__all__ = ["decode_filter", "encode_filter", "filter_hash", "from_plain", "to_plain"]

_pack = msgspec.msgpack.encode
_COMPARE = ("=", "<", "<=", ">", ">=")
_TEXT = ("contains", "starts_with", "equals_folded")


def encode_filter(node: Filter) -> bytes:
    """Canonical bytes; equal for filters that differ only in the order and repetition of their parts."""
    return _pack(to_plain(node))


def filter_hash(node: Filter) -> bytes:
    """16 bytes of SHA-256 over the canonical bytes."""
    return sha256(encode_filter(node)).digest()[:16]


def _operand(value: Operand) -> Any:
    if isinstance(value, Claim):
        return {"claim": value.name}
    if isinstance(value, Param):
        return {"param": value.name}
    if isinstance(value, Moment):
        return {value.grain: value.offset}
    return value


def _sorted(parts: list[Any]) -> list[Any]:
    return [part for _, part in sorted({_pack(p): p for p in parts}.items())]


def to_plain(node: Filter) -> Any:
    """The filter as arrays, maps and values."""
    if isinstance(node, Const):
        return ["const", node.value]
    if isinstance(node, And | Or):
        word = "and" if isinstance(node, And) else "or"
        parts: list[Any] = []
        for part in map(to_plain, node.parts):
            parts += part[1:] if part[0] == word else [part]
        parts = _sorted(parts)
        return parts[0] if len(parts) == 1 else [word, *parts]
    if isinstance(node, Not):
        return ["not", to_plain(node.part)]
    if isinstance(node, Within):
        return ["within", node.field, to_plain(node.part)]
    if isinstance(node, Some):
        return ["some", node.source, node.field, to_plain(node.part)]
    if isinstance(node, IsNull):
        return ["null", node.field]
    if isinstance(node, IsIn):
        if isinstance(node.operands, tuple):
            return ["in", node.field, _sorted([_operand(o) for o in node.operands])]
        return ["in", node.field, _operand(node.operands)]
    if isinstance(node, Compare | Text):
        return [node.op, node.field, _operand(node.operand)]
    raise FilterError(f"{node!r:.80} is no filter")


def decode_filter(data: bytes, schema: Schema, collection: str) -> Filter:
    """The filter of canonical bytes; raises FilterError for anything else. `check` it before use."""
    try:
        plain = msgspec.msgpack.decode(data)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:  # also for text that is not UTF-8
        raise FilterError(f"not an encoded filter: {error}") from error
    return from_plain(plain, schema, collection)


def from_plain(plain: Any, schema: Schema, collection: str) -> Filter:
    """The filter of what `to_plain` returned; raises FilterError for anything else."""
    try:
        return _node(plain, schema, collection, 1)
    except (FilterError, LimitExceeded):
        raise
    except SchemaError as error:
        raise FilterError(str(error)) from error
    except (ValueError, TypeError) as error:
        raise FilterError(f"not an encoded filter: {shown(plain, 120)}") from error


def _node(plain: Any, schema: Schema, at: str, depth: int) -> Filter:
    if depth > DEPTH_MAX:
        raise LimitExceeded("depth of a filter", DEPTH_MAX, depth)
    word, *rest = _list(plain)
    if word == "const":
        (value,) = rest
        if not isinstance(value, bool):
            raise ValueError("a constant is true or false")
        return Const(value)
    if word in ("and", "or"):
        parts = tuple(_node(p, schema, at, depth + 1) for p in rest)
        return And(parts) if word == "and" else Or(parts)
    if word == "not":
        (part,) = rest
        return Not(_node(part, schema, at, depth + 1))
    if word == "within":
        name, part = rest
        target = schema.info(at).field(name).target
        return Within(at, name, target, _node(part, schema, target, depth + 1))
    if word == "some":
        source, name, part = rest
        beyond = schema.info(source)
        return Some(at, beyond.name, beyond.field(name).name, _node(part, schema, source, depth + 1))
    if word == "null":
        (name,) = rest
        return IsNull(at, schema.info(at).field(name).name)
    name, value = rest
    name = schema.info(at).field(name).name
    if word == "in":
        if isinstance(value, dict):
            operand = _decode_operand(value)
            if isinstance(operand, Claim | Param):
                return IsIn(at, name, operand)
            raise FilterError("is_in needs a list, a claim or a param")
        return IsIn(at, name, tuple(map(_decode_operand, _list(value))))
    if word in _COMPARE:
        return Compare(at, name, word, _decode_operand(value))
    if word in _TEXT:
        return Text(at, name, word, _decode_operand(value))
    raise FilterError(f"unknown kind of filter {shown(word, 40)}")


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("expected an array")
    return value


def _decode_operand(value: Any) -> Operand:
    if isinstance(value, dict):
        ((word, argument),) = value.items()
        if word == "claim" and isinstance(argument, str):
            return Claim(argument)
        if word == "param" and isinstance(argument, str):
            return Param(argument)
        if word in ("day", "hour") and type(argument) is int and abs(argument) <= 1_000_000:
            return Moment(word, argument)
        raise FilterError(f"unknown operand {shown(word, 40)}")
    if isinstance(value, list):
        raise FilterError("a value may not be a list")
    return value  # type: ignore[no-any-return]
