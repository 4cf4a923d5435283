"""SQL and Python give the same answer, true, false or unknown, to any filter on any record; a third opinion agrees.

The third opinion is an oracle of a few lines that knows neither storage values, nor the folding table, nor SQL. It is
here because two evaluators that are wrong alike agree as well.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offlinekit.expr import fold
from offlinekit.expr.evaluate import evaluate
from offlinekit.expr.sql import Compiler, quote
from offlinekit.nodes import And, Compare, Const, Filter, IsIn, IsNull, Not, Or, Some, Text, Value, Within, nothing
from offlinekit.schema import Collection, Field, Schema, field
from tests.expr.world import ROWS, SCHEMA, Customer, Line, Order, Rows, Status, filters, related_in

# How the columns of a kind may be declared: by offlinekit, by a program that folds case, by one that ignores blanks at
# the end, and as the usual mappers do it.
LAYOUTS: dict[str, Callable[[str, str], str]] = {
    "strict": lambda kind, sqlite: sqlite,
    "nocase": lambda kind, sqlite: f"{sqlite} COLLATE NOCASE",
    "rtrim": lambda kind, sqlite: f"{sqlite} COLLATE RTRIM",
    "mapper": lambda kind, sqlite: {
        "text": "VARCHAR(40) COLLATE NOCASE", "integer": "BIGINT", "real": "FLOAT", "bool": "BOOLEAN", "date": "DATE",
        "datetime": "DATETIME", "decimal": "NUMERIC(12, 2)", "enum": "VARCHAR(4)", "uuid": "CHAR(36)", "bytes": "BLOB",
    }[kind],
}  # fmt: skip


def register(db: apsw.Connection) -> None:
    """Give a connection the functions that folded comparisons call; what is no text is unknown."""

    def safe(function: Callable[[str, str], bool | None]) -> Any:
        return lambda text, folded: function(text, folded) if isinstance(text, str) else None

    for function in (fold.contains, fold.starts_with, fold.equals_folded):
        db.create_scalar_function(f"ok_{function.__name__}", safe(function), 2, deterministic=True)


@pytest.fixture(scope="module", params=LAYOUTS)
def db(request: pytest.FixtureRequest) -> Iterator[apsw.Connection]:
    """Empty tables of the schema in one of the layouts."""
    connection = apsw.Connection(":memory:")
    register(connection)
    for info in SCHEMA:
        declared = LAYOUTS[request.param]
        columns = (f"{quote(n)} {declared(f.kind.name, f.kind.sqlite)}" for n, f in info.fields.items())
        connection.execute(f"CREATE TABLE {quote(info.name)} ({', '.join(columns)}){_strict(request.param)}")
    yield connection
    connection.close()


def _strict(layout: str) -> str:
    return "" if layout == "mapper" else "STRICT"


def fill(db: apsw.Connection, rows: Rows) -> None:
    """Make the tables hold these records and no others."""
    for collection, records in rows.items():
        db.execute(f"DELETE FROM {quote(collection)}")
        names = list(SCHEMA.info(collection).fields)
        insert = f"INSERT INTO {quote(collection)} VALUES ({','.join('?' * len(names))})"
        db.executemany(insert, [[record[name] for name in names] for record in records])


def by_sql(db: apsw.Connection, node: Filter, collection: str, guard: Any = None) -> list[bool | None]:
    """What SQL says of each record."""
    compiler = Compiler(SCHEMA, guard)
    alias = compiler.alias()
    condition = compiler.condition(node, alias)
    statement = f"SELECT {condition} FROM {quote(collection)} {alias} ORDER BY {alias}.rowid"
    return [None if answer is None else bool(answer) for (answer,) in db.execute(statement, compiler.bindings)]


# Folding as a person would do it, for the letters that the records here are made of.
LETTERS = {"AÀÁàá": "a", "B": "b", "ÇCç": "c", "EÉé": "e", "Iİı": "i", "ł": "l", "ÑNñ": "n", "ø": "o", "Sßẞ": "s"}
LETTERS |= {"Σς": "σ", "ЁёЕ": "е", "Йй": "и", "\u0301\u0327\u0345": ""}
PLAIN = str.maketrans({letter: to for letters, to in LETTERS.items() for letter in letters})
ORDER = {"=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def oracle(node: Filter, record: dict[str, Any], world: dict[str, list[dict[str, Any]]]) -> float:
    """1 for true, 0 for false, 0.5 for unknown: `and` is the least, `or` the greatest, `not` the rest up to 1."""
    match node:
        case Const(value):
            return float(value)
        case And(parts):
            return min([1.0, *(oracle(p, record, world) for p in parts)])
        case Or(parts):
            return max([0.0, *(oracle(p, record, world) for p in parts)])
        case Not(part):
            return 1 - oracle(part, record, world)
        case Within(_, name, target, part):
            (key,) = SCHEMA.info(target).key
            return float(any(record[name] == o[key] and oracle(part, o, world) == 1 for o in world[target]))
        case Some(collection, source, name, part):
            (key,) = SCHEMA.info(collection).key
            return float(any(record[key] == o[name] and oracle(part, o, world) == 1 for o in world[source]))
        case IsNull(_, name):
            return float(record[name] is None)
        case IsIn(_, name, ()):
            return 0.0
        case Compare(_, name, _, _) | IsIn(_, name, _) | Text(_, name, _, _) if record[name] is None:
            return 0.5
        case Compare(collection, name, op, operand):
            return float(ORDER[op](record[name], loaded(collection, name, operand)))
        case IsIn(collection, name, tuple(operands)):
            return float(any(record[name] == loaded(collection, name, o) for o in operands))
        case Text(_, name, op, str(operand)):
            text, folded = record[name].translate(PLAIN), operand.translate(PLAIN)
            found = {"contains": text.find(folded) >= 0, "starts_with": text[: len(folded)] == folded}
            return float(found.get(op, text == folded))
    raise AssertionError(node)


def loaded(collection: str, name: str, stored: Any) -> Any:
    """The Python value of a storage value; members of an enum are ordered by their text."""
    value = None if stored is None else SCHEMA.info(collection).fields[name].kind.load(stored)
    return value.value if isinstance(value, Status) else value


def agree(db: apsw.Connection, rows: Rows, node: Filter, collection: str) -> list[bool | None]:
    """Ask all three and return the answer that they share."""
    fill(db, rows)
    in_python = [evaluate(node, record, SCHEMA, related_in(rows)) for record in rows[collection]]
    assert by_sql(db, node, collection) == in_python
    world = {c: [{n: loaded(c, n, v) for n, v in r.items()} for r in records] for c, records in rows.items()}
    opinions = {0.0: False, 0.5: None, 1.0: True}
    assert [opinions[oracle(node, record, world)] for record in world[collection]] == in_python
    return in_python


@pytest.mark.slow
@given(st.data(), ROWS, st.sampled_from(["customer", "order", "line"]))
def test_sql_and_python_and_the_oracle_agree(db: apsw.Connection, data: st.DataObject, rows: Rows, collection: str):
    agree(db, rows, data.draw(filters(collection)), collection)


@pytest.mark.slow
@given(st.data(), ROWS, st.integers(0, 3))
def test_guard_applies_to_every_step_and_not_to_the_root(db: apsw.Connection, data: st.DataObject, rows: Rows, least: int):
    node = data.draw(filters("order"))
    fill(db, rows)

    def guard(compiler: Compiler, collection: str, alias: str) -> str:
        return "1" if collection != "order" else f"({alias}.{quote('id')} > {compiler.bind(least)})"

    def related(collection: str, name: str, value: Value) -> list[dict[str, Value]]:
        found = related_in(rows)(collection, name, value)
        return [r for r in found if collection != "order" or r["id"] > least]

    expected = [evaluate(node, record, SCHEMA, related) for record in rows["order"]]
    assert by_sql(db, node, "order", guard) == expected


def customer(**values: Any) -> dict[str, Value]:
    """A customer as storage values, null where nothing is said."""
    record: dict[str, Any] = dict.fromkeys(SCHEMA.info("customer").fields)
    return record | {"code": "a", "name": ""} | values


def order(**values: Any) -> dict[str, Value]:
    """An order as storage values, null where nothing is said."""
    record: dict[str, Any] = dict.fromkeys(SCHEMA.info("order").fields)
    return record | {"id": 1, "customer": "a", "total": 0} | values


UNKNOWN = Customer.city == "x"  # of a customer in no city


@pytest.mark.parametrize(
    ("node", "answer"),
    [
        (UNKNOWN, None),
        (~UNKNOWN, None),
        (Customer.city != "x", None),
        (Customer.city.is_in([]), False),
        (~Customer.city.is_in([]), True),
        (Customer.city.is_in(["x"]), None),
        (~Customer.city.is_in(["x"]), None),
        (Customer.city.contains(""), None),
        (~Customer.city.contains("x"), None),
        (Customer.city.is_null(), True),
        (~Customer.city.is_null(), False),
        (And(()), True),
        (Or(()), False),
        (Not(And(())), False),
        (UNKNOWN & nothing, False),
        (UNKNOWN | ~nothing, True),
        (UNKNOWN & ~nothing, None),
        (UNKNOWN | nothing, None),
        (Customer.parent.within(~nothing), False),
        (~Customer.parent.within(~nothing), True),
        (Customer.best.within(UNKNOWN_ORDER := Order.number == 1), False),
        (~Customer.best.within(UNKNOWN_ORDER), True),
        (Order.customer.some(UNKNOWN_ORDER), False),
        (~Order.customer.some(UNKNOWN_ORDER), True),
        (Order.customer.some(~UNKNOWN_ORDER), False),
        (Order.customer.some(Order.number.is_null()), True),
        (Order.customer.some(Order.customer.within(Order.customer.some(~nothing))), True),
    ],
)
def test_logic_of_nulls_is_that_of_the_standard(db: apsw.Connection, node: Filter, answer: bool | None):
    rows: Rows = {"customer": [customer()], "order": [order()], "line": []}
    assert agree(db, rows, node, "customer") == [answer]


@pytest.mark.parametrize(
    ("text", "node", "answer"),
    [
        ("A", Customer.name == "a", False),
        ("a ", Customer.name == "a", False),
        ("é", Customer.name == "e\u0301", False),
        ("É", Customer.name.is_in(["é"]), False),
        ("É", Customer.name.equals_folded("é"), True),
        ("e\u0301", Customer.name.equals_folded("É"), True),
        ("İstanbul", Customer.name.starts_with("i"), True),
        ("ısı", Customer.name.equals_folded("ISI"), True),
        ("Straße", Customer.name.contains("ASE"), True),
        ("Straße", Customer.name.contains("ss"), False),
        ("ΟΔΟΣ", Customer.name.equals_folded("οδος"), True),
        ("Ёлка", Customer.name.starts_with("елк"), True),
        ("a%b", Customer.name.contains("a_b"), False),
        ("100%", Customer.name.contains("%"), True),
        ("a*", Customer.name.equals_folded("a?"), False),
        ("x", Customer.name.contains("\u0301"), True),
        ("😀字", Customer.name.contains("字"), True),
        ("\uffff", Customer.name < "😀", True),
        ("Z", Customer.name < "a", True),
        ("01", Customer.name == "1", False),
        ("1", Customer.name == "1.0", False),
    ],
)
def test_text_compares_exactly_unless_folding_is_asked_for(db: apsw.Connection, text: str, node: Filter, answer: bool):
    rows: Rows = {"customer": [customer(name=text)], "order": [], "line": []}
    fill(db, rows)
    assert by_sql(db, node, "customer") == [answer]
    assert evaluate(node, rows["customer"][0], SCHEMA, related_in(rows)) is answer


def test_reference_matches_exactly_in_columns_that_do_not(db: apsw.Connection):
    rows: Rows = {
        "customer": [customer(code="a"), customer(code="A"), customer(code="a ")],
        "order": [order()],
        "line": [],
    }
    assert agree(db, rows, Order.customer.some(~nothing), "customer") == [True, False, False]
    rows["order"] = [order(customer=code) for code in ("a", "A", "a ")]
    rows["customer"] = [customer(code="A")]
    assert agree(db, rows, Order.customer.within(~nothing), "order") == [False, True, False]


def test_integers_beyond_what_a_float_can_tell_apart_are_told_apart(db: apsw.Connection):
    big = 2**63 - 1
    rows: Rows = {
        "customer": [],
        "order": [order(number=big), order(number=big - 1), order(number=-(2**63))],
        "line": [],
    }
    assert agree(db, rows, Order.number == big, "order") == [True, False, False]
    assert agree(db, rows, Order.number < big, "order") == [False, True, True]


def test_lists_longer_than_a_statement_has_bindings_compare_exactly(db: apsw.Connection):
    many = 40_000
    line: dict[str, Any] = {"id": str(UUID(int=1)), "order": 1, "instead_of": None, "product": None}
    texts, numbers = [f"t{n}" for n in range(many)], [2**63 - 1 - n for n in range(many)]
    images = [n.to_bytes(3, "big") for n in range(many)]
    rows: Rows = {
        "customer": [customer(code=c) for c in ("t39999", "T1", "t1 ", "t40000")],
        "order": [order(number=n) for n in (2**63 - many, 2**63 - 1 - many)],
        "line": [line | {"image": b} for b in ((7).to_bytes(3, "big"), b"\0", b"000007")],
    }
    assert agree(db, rows, IsIn("customer", "code", tuple(texts)), "customer") == [True, False, False, False]
    assert agree(db, rows, IsIn("order", "number", tuple(numbers)), "order") == [True, False]
    assert agree(db, rows, IsIn("line", "image", tuple(images)), "line") == [True, False, False]


class Odd(Collection, name="Select"):
    """Names that SQL knows as its own."""

    Group: Field[str] = field(key=True)


def test_names_that_are_words_of_sql_are_quoted(db: apsw.Connection):
    assert quote('a"b') == '"a""b"'
    compiler = Compiler(Schema(Odd))
    condition = compiler.condition(Odd.Group.contains("x"), "t")
    with db:
        db.execute('CREATE TABLE "Select" ("Group" TEXT)')
        db.execute("INSERT INTO \"Select\" VALUES ('XY')")
        assert db.execute(f'SELECT {condition} FROM "Select" t', compiler.bindings).get == 1
        db.execute('DROP TABLE "Select"')


def test_values_are_bound_and_never_part_of_the_statement():
    compiler = Compiler(SCHEMA)
    injection = "'; DROP TABLE customer; --"
    condition = compiler.condition(
        (Customer.name == injection) | Customer.city.is_in([injection]) | Customer.name.contains(injection), "t"
    )
    assert "DROP" not in condition
    assert compiler.bindings == [injection, json.dumps([[injection]]), injection.lower()]


@pytest.mark.parametrize("node", [Customer.name.is_in(["x"]), Order.status == Status.OPEN, Line.image == b"x"])
def test_every_alias_of_a_statement_is_its_own(node: Filter):
    compiler = Compiler(SCHEMA)
    assert len({compiler.alias() for _ in range(5)}) == 5
    assert compiler.condition(node, "t").count("?") == len(compiler.bindings) == 1
