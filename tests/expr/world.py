"""Three collections that refer to each other, in a circle, with strategies for their records and for filters on them.

Values come from small pools, so that records and filters meet; the pools hold what engines are known to disagree about.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from hypothesis import strategies as st

from offlinekit.kinds import INT64_MAX, INT64_MIN
from offlinekit.nodes import And, Compare, Const, Filter, IsIn, IsNull, Not, Or, Some, Text, Value, Within
from offlinekit.schema import Collection, Field, Schema, field

Rows = dict[str, list[dict[str, Value]]]


class Status(enum.Enum):
    """How an order stands."""

    OPEN = "open"
    ACCENT = "às"
    MAYBE = "it's"


class Customer(Collection):
    """Refers to an order, which refers to a customer."""

    code: Field[str] = field(key=True)
    name: Field[str]
    city: Field[str | None]
    credit: Field[Decimal | None] = field(scale=2)
    since: Field[date | None]
    parent: Field[str | None] = field(ref="customer")
    best: Field[int | None] = field(ref="order")


class Order(Collection):
    """Has a field of most kinds."""

    id: Field[int] = field(key=True)
    customer: Field[str] = field(ref=Customer)
    total: Field[Decimal] = field(scale=2)
    number: Field[int | None]
    rate: Field[float | None]
    urgent: Field[bool | None]
    placed: Field[datetime | None]
    status: Field[Status | None]
    note: Field[str | None]


class Line(Collection):
    """Has a key of another kind, and two references to one collection."""

    id: Field[UUID] = field(key=True)
    order: Field[int] = field(ref=Order)
    instead_of: Field[int | None] = field(ref=Order)
    product: Field[str | None]
    image: Field[bytes | None]


SCHEMA = Schema(Customer, Order, Line)

# Letters that fold, letters that do not, marks that vanish, and what SQL or LIKE could take for its own.
ALPHABET = "aAàÁeÉcÇnÑßẞiİıIσςΣёЁйЙ łŁø😀字%_'\"*?\u0301\u0327\u0345"
CODES = ["a", "A", "á", "a\u0301", "a ", "b", "1", "01", "1.0", "", "😀", "字", "\uffff", "ß", "null"]
TEXTS = st.sampled_from(CODES) | st.text(ALPHABET, max_size=6)
NEEDLES = TEXTS | st.text(ALPHABET, min_size=1, max_size=2)
INSTANTS = [
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(2024, 1, 1, tzinfo=UTC),
    datetime(2024, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
    datetime(9999, 12, 31, tzinfo=UTC),
]
POOLS: dict[str, list[Any]] = {
    "decimal": [Decimal(0), Decimal("0.01"), Decimal("-0.01"), Decimal(1), Decimal(100), Decimal(INT64_MAX).scaleb(-2)],
    "date": [date(1, 1, 1), date(2024, 2, 29), date(2024, 3, 1), date(9999, 12, 31)],
    "datetime": INSTANTS,
    "integer": [INT64_MIN, -1, 0, 1, 2, 3, 2**53, 2**53 + 1, INT64_MAX - 1, INT64_MAX],
    "real": [-1e308, -0.0, 0.0, 0.1, 0.30000000000000004, 1.0, 2.0**53, 1e308],
    "bool": [False, True],
    "enum": list(Status),
    "bytes": [b"", b"\0", b"a", b"\xff", b"1"],
    "uuid": [UUID(int=0), UUID(int=1), UUID("abcdef00-0000-4000-8000-000000000000")],
}
KEYS: dict[str, list[Any]] = {"code": CODES[:6], "id": [1, 2, 3, INT64_MAX], "order": [1, 2, 3, INT64_MAX]}
KEYS |= {"customer": CODES[:6], "parent": CODES[:6], "best": KEYS["id"], "instead_of": KEYS["id"]}


def values(f: Field[Any]) -> st.SearchStrategy[Value]:
    """Storage values of a field, null excluded."""
    pool = KEYS.get(f.name) if f.kind.name in ("text", "integer") else None
    if pool is None and f.kind.name == "text":
        return TEXTS
    return st.sampled_from([f.kind.store(v) for v in pool or POOLS[f.kind.name]])


def records(collection: str) -> st.SearchStrategy[dict[str, Value]]:
    """Records of a collection as storage values."""
    fields = SCHEMA.info(collection).fields
    return st.fixed_dictionaries({n: st.none() | values(f) if f.nullable else values(f) for n, f in fields.items()})


ROWS: st.SearchStrategy[Rows] = st.fixed_dictionaries({c.name: st.lists(records(c.name), max_size=5) for c in SCHEMA})


def needles(f: Field[Any]) -> st.SearchStrategy[Value]:
    """What a field may be compared with."""
    return values(f) | TEXTS if f.kind.name == "text" else values(f)


@st.composite
def leaves(draw: st.DrawFn, collection: str, operand: Any = needles, texts: Any = NEEDLES) -> Filter:
    """A filter on one field; `operand` makes what stands beside it."""
    f = draw(st.sampled_from(list(SCHEMA.info(collection).fields.values())))
    kinds = ["compare", "in", "null", "text"] if f.kind.name == "text" else ["compare", "compare", "in", "null"]
    match draw(st.sampled_from(kinds)):
        case "compare":
            ops: list[Literal["=", "<", "<=", ">", ">="]] = ["=", "<", "<=", ">", ">="]
            return Compare(collection, f.name, draw(st.sampled_from(ops)), draw(operand(f)))
        case "in":
            return IsIn(collection, f.name, tuple(draw(st.lists(operand(f), max_size=3))))
        case "null":
            return IsNull(collection, f.name)
        case _:
            folded: list[Literal["contains", "starts_with", "equals_folded"]] = [
                "contains",
                "starts_with",
                "equals_folded",
            ]
            return Text(collection, f.name, draw(st.sampled_from(folded)), draw(texts))


def relations(collection: str) -> list[tuple[type[Within] | type[Some], str, str, str]]:
    """The steps from a collection to another: the kind, its two names after the collection, and where it leads."""
    refs = [(info.name, f) for info in SCHEMA for f in info.refs.values()]
    steps: list[Any] = [(Within, f.name, f.target, f.target) for name, f in refs if name == collection]
    return steps + [(Some, name, f.name, name) for name, f in refs if f.target == collection]


@st.composite
def filters(draw: st.DrawFn, collection: str, depth: int = 4, leaf: Any = leaves) -> Filter:
    """Filters on a collection, through its references and those that lead to it."""
    kinds = ["leaf", "not", "and", "or", "step", "step"] if depth else ["const", "leaf", "leaf", "leaf"]
    match draw(st.sampled_from(kinds)):
        case "const":
            return Const(draw(st.booleans()))
        case "leaf":
            return draw(leaf(collection))  # type: ignore[no-any-return]
        case "not":
            return Not(draw(filters(collection, depth - 1, leaf)))
        case "step":
            kind, first, second, beyond = draw(st.sampled_from(relations(collection)))
            return kind(collection, first, second, draw(filters(beyond, depth - 1, leaf)))
        case word:
            parts = tuple(draw(filters(collection, depth - 1, leaf)) for _ in range(draw(st.integers(0, 3))))
            return And(parts) if word == "and" else Or(parts)


def related_in(rows: Rows) -> Any:
    """What `evaluate` asks for the records that a reference leads to."""

    def related(collection: str, name: str, value: Value) -> Iterable[dict[str, Value]]:
        return [row for row in rows[collection] if row[name] is not None and row[name] == value]

    return related
