"""Every kind of value: what it stores, what it refuses and why, and that SQL judges stored values as Python does."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal, localcontext
from typing import Any, NewType
from uuid import UUID

import apsw
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offlinekit.exceptions import SchemaError
from offlinekit.kinds import INT64_MAX, INT64_MIN, Kind, kind_of

Code = NewType("Code", str)


class Status(enum.Enum):
    """Values that want quoting, folding or nothing."""

    OPEN = "open"
    MAYBE = "it's"
    ACCENT = "às"
    EMPTY = ""


class Level(enum.StrEnum):
    """An enum whose members are text themselves."""

    LOW = "low"


class Number(enum.Enum):
    """An enum that cannot be stored."""

    ONE = 1


class Address(msgspec.Struct):
    """What a JSON field may hold."""

    street: str
    numbers: list[int] = []


class Plain:
    """A class that JSON does not know."""


KINDS: dict[str, Kind] = {
    "text": kind_of(str)[0],
    "integer": kind_of(int)[0],
    "real": kind_of(float)[0],
    "bool": kind_of(bool)[0],
    "decimal": kind_of(Decimal, scale=2)[0],
    "date": kind_of(date)[0],
    "datetime": kind_of(datetime)[0],
    "enum": kind_of(Status)[0],
    "json": kind_of(Address)[0],
    "bytes": kind_of(bytes)[0],
    "uuid": kind_of(UUID)[0],
}

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
ZONES = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "text": TEXTS,
    "integer": st.integers(INT64_MIN, INT64_MAX),
    "real": st.floats(allow_nan=False, allow_infinity=False),
    "bool": st.booleans(),
    "decimal": st.integers(INT64_MIN, INT64_MAX).map(lambda units: Decimal(f"{units}E-2")),
    "date": st.dates(),
    "datetime": st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=ZONES | st.just(UTC)),
    "enum": st.sampled_from(Status),
    "json": st.builds(Address, street=TEXTS, numbers=st.lists(st.integers(INT64_MIN, INT64_MAX), max_size=3)),
    "bytes": st.binary(),
    "uuid": st.uuids(),
}
UUID_TEXT = "12345678-9abc-def0-1234-56789abcdef0"
# Storage values that some engine, parser or affinity takes for what they are not.
NASTY: list[str | int | float | bytes] = [
    "", "a\0b", "\0", "0", "1", "true", "now", "null", "{}", '{"street":"x"}', '{"street":1}', "[",
    '{"street":"x"}\0', "NaN", "1E999999999999", "12.34", " 12", "0000-01-01", "0001-01-01", "2024-02-29",
    "2023-02-29", "2024-13-01", "2024-1-1", "20240101", "2024-W01-1", "2024-01-01 ", "2024-01-01\0", "2024-01-01\0x",
    "-001-01-01", "٢٠٢٤-٠١-٠١", "2460310.5", "10000-01-01", "2024-01-01 00:00:00", "2024-01-01 00:00:00.000000",
    "2024-01-01 24:00:00.000000", "2024-01-01 00:00:60.000000", "2024-01-01T00:00:00.000000",
    "2024-01-01 00:00:00.00000", "2024-01-01 00:00:00.0000000", "2024-01-01 00:00:00.00000x",
    "2024-01-01 00:00:00.000000Z", "2024-01-01 00:00:00.000000\0", "0000-01-01 00:00:00.000000",
    "2024-02-30 00:00:00.000000", "2024-01-01 00:00:00,000000", "2024-01-01 00:00:00+00:00.000000", UUID_TEXT,
    UUID_TEXT.upper(), UUID_TEXT.replace("-", ""), "{" + UUID_TEXT + "}", UUID_TEXT + "\0", UUID_TEXT + "\0x",
    "urn:uuid:" + UUID_TEXT, "open", "OPEN", "open ", "it's", "ÀS", "a\u0300s", 0, 1, -1, 2, 20240101, 2460310,
    1704067200, INT64_MIN, INT64_MAX, 0.0, -0.0, 1.0, 0.5, 2460310.5, 1e308, -1e308, 1.7976931348623157e308, 5e-324,
    math.inf, -math.inf, 2.0**63, b"", b"\0", b"0", b"open", b"2024-01-01", b"{}", UUID_TEXT.encode(),
    UUID(UUID_TEXT).bytes,
]  # fmt: skip


@st.composite
def nearly_fitting(draw: st.DrawFn) -> Any:
    """A storage value of some kind, most often with one character changed."""
    name = draw(st.sampled_from(sorted(KINDS)))
    stored = KINDS[name].store(draw(VALUES[name]))
    if not isinstance(stored, str) or draw(st.booleans()):
        return stored
    at = draw(st.integers(0, len(stored)))
    return stored[:at] + draw(st.sampled_from(["", "0", "9", " ", "\0", "a", "Z", "-", "'", "é"])) + stored[at + 1 :]


STORED = (
    st.sampled_from(NASTY)
    | nearly_fitting()
    | TEXTS
    | st.binary(max_size=20)
    | st.integers(INT64_MIN, INT64_MAX)
    | st.floats(allow_nan=False)
)
# What programs declare their columns as; "ANY" stands in a STRICT table.
COLUMNS = ["ANY", "TEXT COLLATE NOCASE", "VARCHAR(20)", "INTEGER", "REAL", "NUMERIC", "DATE", "BLOB"]


@pytest.fixture(scope="module")
def db() -> Iterator[apsw.Connection]:
    """One table for each way to declare a column."""
    connection = apsw.Connection(":memory:")
    for number, column in enumerate(COLUMNS):
        connection.execute(f"CREATE TABLE c{number} (x {column}){'STRICT' if column == 'ANY' else ''}")
    yield connection
    connection.close()


def judge(db: apsw.Connection, column: str, kind: Kind, value: Any) -> tuple[bool, Any]:
    """Write a value as any program may, and return what SQL says of it and the value that a reader then gets."""
    table = f"c{COLUMNS.index(column)}"
    db.execute(f"DELETE FROM {table}")
    db.execute(f"INSERT INTO {table} VALUES (?)", (value,))
    verdict, stored = db.execute(f"SELECT {kind.fit_sql(f't.{chr(34)}x{chr(34)}')}, x FROM {table} t").get
    return bool(verdict), stored


def check_agreement(db: apsw.Connection, name: str, value: Any) -> None:
    """SQL agrees with Python on the value, in every column; for JSON it may only be more lenient."""
    for column in COLUMNS:
        verdict, stored = judge(db, column, KINDS[name], value)
        fits = KINDS[name].fits(stored)
        if name == "json":  # SQL sees that it is JSON, not that it is an Address; the library checks that when it loads
            assert verdict or not fits, (column, stored)
        else:
            assert verdict == fits, (column, stored)


@pytest.mark.parametrize("name", KINDS)
def test_sql_and_python_agree_on_nasty_values(db: apsw.Connection, name: str):
    for value in NASTY:
        check_agreement(db, name, value)


@given(st.sampled_from(sorted(KINDS)), STORED)
def test_sql_and_python_agree_on_any_stored_value(db: apsw.Connection, name: str, value: Any):
    check_agreement(db, name, value)


@given(st.data())
@pytest.mark.parametrize("name", KINDS)
def test_value_comes_back_as_it_was_given(db: apsw.Connection, name: str, data: st.DataObject):
    value, kind = data.draw(VALUES[name]), KINDS[name]
    stored = kind.store(value)
    assert {"TEXT": str, "INTEGER": int, "REAL": float, "BLOB": bytes}[kind.sqlite] is type(stored)
    assert kind.fits(stored)
    verdict, read = judge(db, "ANY", kind, stored)
    assert verdict
    assert read == stored
    loaded = kind.load(read)
    assert loaded == value
    assert type(loaded) is type(value)


@given(st.data())
@pytest.mark.parametrize("name", ["text", "integer", "real", "bool", "decimal", "date", "datetime", "bytes", "uuid"])
def test_stored_values_are_ordered_like_the_values(name: str, data: st.DataObject):
    low, high = sorted([data.draw(VALUES[name]), data.draw(VALUES[name])])
    stored: list[Any] = [KINDS[name].store(low), KINDS[name].store(high)]
    assert stored == sorted(stored)


@given(st.sampled_from(sorted(KINDS)), STORED | st.none() | st.integers() | st.booleans() | st.text() | st.floats())
def test_what_fits_is_a_storage_value_that_can_be_loaded(name: str, value: Any):
    if KINDS[name].fits(value):  # which never raises, whatever a peer sent
        assert type(value) in (str, int, float, bytes)
        loaded = KINDS[name].load(value)
        if name not in ("text", "real"):  # the other kinds take nothing that they would not write themselves
            KINDS[name].store(loaded)


def test_text_and_reals_that_another_program_wrote_fit_if_the_database_can_hold_them():
    assert KINDS["text"].fits("a\0b")
    assert KINDS["real"].fits(math.inf)
    assert not KINDS["real"].fits(math.nan)  # SQLite makes it null
    assert not KINDS["text"].fits("\ud800")  # not UTF-8


@pytest.mark.parametrize(
    ("name", "value", "stored"),
    [
        ("text", "São\u2028 😀", "São\u2028 😀"),
        ("text", Level.LOW, "low"),
        ("integer", INT64_MIN, INT64_MIN),
        ("real", 3, 3.0),
        ("bool", True, 1),
        ("decimal", Decimal("12.3"), 1230),
        ("decimal", Decimal("1.2300000000000000000000000000000000000000000000000"), 123),
        ("decimal", Decimal("-0.00"), 0),
        ("decimal", Decimal("0E+999999"), 0),
        ("decimal", Decimal("92233720368547758.07"), INT64_MAX),
        ("decimal", Decimal("-92233720368547758.08"), INT64_MIN),
        ("decimal", 5, 500),
        ("date", date(1, 1, 1), "0001-01-01"),
        ("datetime", datetime(2024, 1, 1, tzinfo=UTC), "2024-01-01 00:00:00.000000"),
        ("datetime", datetime(2024, 1, 1, 1, tzinfo=timezone(timedelta(hours=-3))), "2024-01-01 04:00:00.000000"),
        ("datetime", datetime(1, 1, 1, tzinfo=UTC), "0001-01-01 00:00:00.000000"),
        ("enum", Status.MAYBE, "it's"),
        ("json", Address("x", [1]), '{"street":"x","numbers":[1]}'),
        ("bytes", b"\0\xff", b"\0\xff"),
        ("uuid", UUID(UUID_TEXT), UUID_TEXT),
    ],
)
def test_value_is_stored_as(name: str, value: Any, stored: Any):
    assert KINDS[name].store(value) == stored
    assert type(KINDS[name].store(value)) is type(stored)


DIGITS = "expected a decimal with at most 2 digits after the point; round it first"


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("text", 5, "expected str, got int"),
        ("text", b"x", "expected str, got bytes"),
        ("text", "a\0", "text may not contain the character U+0000"),
        ("text", "\ud800", "text may not contain lone surrogates"),
        ("integer", True, "expected int, got bool"),
        ("integer", 1.0, "expected int, got float"),
        ("integer", 2**63, "integers are of 64 bits"),
        ("integer", -(2**63) - 1, "integers are of 64 bits"),
        ("real", "1", "expected float or int, got str"),
        ("real", math.nan, "NaN and infinity cannot be stored"),
        ("real", -math.inf, "NaN and infinity cannot be stored"),
        ("bool", 1, "expected bool, got int"),
        ("decimal", 1.5, "expected Decimal or int, got float"),
        ("decimal", "1.50", "expected Decimal or int, got str"),
        ("decimal", Decimal("1.005"), DIGITS),
        ("decimal", Decimal("1.00000000000000000000000000000000000000000000001"), DIGITS),
        ("decimal", Decimal("1E-999999999"), DIGITS),
        ("decimal", Decimal("1E+999999999999"), "the amount is too large"),
        ("decimal", Decimal("92233720368547758.08"), "the amount is too large"),
        ("decimal", Decimal("sNaN"), "NaN and infinity cannot be stored"),
        ("decimal", Decimal("-Infinity"), "NaN and infinity cannot be stored"),
        ("date", datetime(2024, 1, 1), "expected date, got datetime"),
        ("date", "2024-01-01", "expected date, got str"),
        ("datetime", datetime(2024, 1, 1), "expected a datetime with a time zone; use datetime.now(UTC)"),
        ("datetime", date(2024, 1, 1), "expected a datetime with a time zone; use datetime.now(UTC)"),
        ("enum", "open", "expected Status, got str"),
        ("enum", Level.LOW, "expected Status, got Level"),
        ("json", {"street": 5}, "Expected `str`, got `int` - at `$.street`"),
        ("json", {}, "Object missing required field `street`"),
        ("bytes", "x", "expected bytes, got str"),
        ("uuid", UUID_TEXT, "expected UUID, got str"),
    ],
)
def test_value_is_refused_with_the_reason(name: str, value: Any, why: str):
    with pytest.raises(ValueError) as caught:
        KINDS[name].store(value)
    assert str(caught.value) == why


@pytest.mark.parametrize(("name", "stored"), [("real", 1), ("decimal", 1.0), ("bool", 1.0), ("integer", 1.0)])
def test_equal_number_of_another_type_does_not_fit(name: str, stored: Any):
    assert not KINDS[name].fits(stored)
    assert not KINDS[name].fits(True)


def test_money_is_exact_whatever_the_decimal_context_of_the_program():
    with localcontext() as context:
        context.prec = 3
        assert KINDS["decimal"].store(Decimal("1234.56")) == 123456
        assert str(KINDS["decimal"].load(-123456)) == "-1234.56"


@pytest.mark.parametrize("stored", ["[" * 100_000, "[" * 2000 + "]" * 2000, '"\ud800"'])
def test_json_that_no_program_can_read_does_not_fit(stored: str):
    assert not kind_of(list[Any])[0].fits(stored)


def test_json_nested_too_deeply_is_refused():
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(ValueError, match="recursion"):
        kind_of(list[Any])[0].store(nested)


def test_json_is_the_same_text_whatever_the_order_of_keys():
    kind = kind_of(dict[str, int])[0]
    assert kind.store({"b": 1, "a": 2}) == kind.store({"a": 2, "b": 1}) == '{"a":2,"b":1}'


@pytest.mark.parametrize(
    ("annotation", "name", "nullable"),
    [
        (str, "text", False),
        (int | None, "integer", True),
        (float, "real", False),
        (bool, "bool", False),
        (date | None, "date", True),
        (datetime, "datetime", False),
        (Status | None, "enum", True),
        (bytes, "bytes", False),
        (UUID, "uuid", False),
        (Code, "text", False),
        (Code | None, "text", True),
        (dict[str, int], "json", False),
        (Address | None, "json", True),
        (int | str, "json", False),
        (int | str | None, "json", True),
    ],
)
def test_annotation_has_its_kind(annotation: Any, name: str, nullable: bool):
    kind, may_be_null = kind_of(annotation)
    assert (kind.name, may_be_null) == (name, nullable)


def test_decimal_may_be_null_and_says_its_scale():
    kind, nullable = kind_of(Decimal | None, scale=4)
    assert (kind.describe(), nullable) == ("decimal(4)", True)


@pytest.mark.parametrize(
    ("annotation", "scale", "message"),
    [
        (Decimal, None, "a Decimal field needs its number of digits after the point: field(scale=2)"),
        (Decimal, 16, "scale must be 0 to 15 digits after the point, not 16"),
        (Decimal, -1, "scale must be 0 to 15 digits after the point, not -1"),
        (int, 2, "scale is for Decimal fields"),
        (Any, None, "a field needs a type; Any cannot be checked"),
        (Any | None, None, "a field needs a type; Any cannot be checked"),
        (Number, None, "the values of Number must be text to be stored"),
        (Plain, None, f"{Plain!r} is no type that a field can hold: msgspec cannot decode it"),
        (Plain | None, None, f"{Plain!r} is no type that a field can hold: msgspec cannot decode it"),
    ],
)
def test_annotation_that_cannot_be_stored_is_refused(annotation: Any, scale: int | None, message: str):
    with pytest.raises(SchemaError) as caught:
        kind_of(annotation, scale=scale)
    assert str(caught.value) == message
