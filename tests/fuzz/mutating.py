"""Mutations of MessagePack by its structure: a value becomes another, a part is repeated, left out, nested or exchanged."""

from __future__ import annotations

import random
from typing import Any

import msgspec

__all__ = ["mutated"]

_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 255, 2**31, 2**32 - 1, 2**32, 2**63 - 1, -(2**63), 2**64 - 1, 0.0, -0.0, 1.5, 1e308,
    float("inf"), float("-inf"), float("nan"), "", "a", "a0", "\0", "é", "'", '"', "%", "_", "*", "a" * 300, "NULL", "1;--",
    '"x" OR 1', "NEAR(a b)", "../x", b"", b"\0", b"\xff" * 16, b"x" * 12, [], {}, [[]], [0], [None], {"claim": "rep"},
    {"day": 10**9}, "customer", "order", "city", "part", "line", "rep", "blocked", "_ordinal", "ok_meta",
)  # fmt: skip


def _places(value: Any, found: list[tuple[Any, Any]]) -> None:
    """Every (container, index or key) below a value."""
    if isinstance(value, list | dict):
        for at in range(len(value)) if isinstance(value, list) else value:
            found.append((value, at))
            _places(value[at], found)


def _deep(value: Any, rng: random.Random) -> Any:
    for _ in range(rng.choice((3, 40, 600))):
        value = [value] if rng.random() < 0.5 else {"x": value}
    return value


def _changed(value: Any, rng: random.Random) -> Any:
    """One value, otherwise."""
    kind = rng.randrange(6)
    if kind == 0 and isinstance(value, int) and not isinstance(value, bool):
        return max(-(2**63), min(2**64 - 1, value + rng.choice((-1, 1, 2**32))))
    if kind == 1 and isinstance(value, bytes) and value:
        at = rng.randrange(len(value))
        return value[:at] + bytes([rng.randrange(256)]) + value[at + rng.randrange(2) :]
    if kind == 2 and isinstance(value, list) and value:
        return value * rng.choice((2, 3, 50))
    if kind == 3:
        return _deep(value, rng)
    if kind == 4 and isinstance(value, bytes):  # what is packed within
        try:
            return msgspec.msgpack.encode(_once(msgspec.msgpack.decode(value), rng))
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return value[: rng.randrange(len(value) + 1)]
    return rng.choice(_VALUES)


def _once(whole: Any, rng: random.Random) -> Any:
    places: list[tuple[Any, Any]] = []
    _places(whole, places)
    if not places:
        return _changed(whole, rng)
    container, at = rng.choice(places)
    kind = rng.randrange(8)
    if kind == 0:
        del container[at]
    elif kind == 1 and isinstance(container, list):
        container.insert(at, container[at])
    elif kind == 2:
        other, there = rng.choice(places)
        container[at] = msgspec.msgpack.decode(msgspec.msgpack.encode(other[there]), strict=False)
    elif kind == 3 and isinstance(container, dict):
        value = container.pop(at)
        container[rng.choice((*[v for v in _VALUES if isinstance(v, str | bytes | int | float)], "selection", "views"))] = value
    else:
        container[at] = _changed(container[at], rng)
    return whole


def mutated(data: bytes, seed: int) -> bytes:
    """The MessagePack of `data`, changed in a few places by chance; raises ValueError where it is none."""
    rng = random.Random(seed)
    try:
        whole = msgspec.msgpack.decode(data)
        for _ in range(rng.choice((1, 1, 2, 3))):
            whole = _once(whole, rng)
        return msgspec.msgpack.encode(whole)
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, IndexError, RecursionError, OverflowError, TypeError) as error:
        raise ValueError(str(error)) from error
