"""The kinds of value a field can hold, and how each is stored.

Storage values are what SQLite and the wire carry: text, integers, reals, bytes and null. Money is an integer and never a
float; dates and instants are fixed-width text, so that they sort, and so that any SQLite tool reads them.
"""

from __future__ import annotations

import enum
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Any, ClassVar
from uuid import UUID

import msgspec

from offlinekit.exceptions import SchemaError
from offlinekit.nodes import Value

__all__ = ["INT64_MAX", "INT64_MIN", "Json", "Kind", "Money", "kind_of"]

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
_UTC_FORMAT = "%Y-%m-%d %H:%M:%S.%f"
_UUID = re.compile("-".join(f"[0-9a-f]{{{n}}}" for n in (8, 4, 4, 4, 12)))
_EXACT = Context(prec=40, traps=[Inexact, InvalidOperation])  # the program's own context may round


class Kind:
    """How values of one Python type are stored; `store` raises ValueError with the reason, `load` trusts the store."""

    name: ClassVar[str]
    sqlite: ClassVar[str]
    python: type = object

    def store(self, value: Any) -> Value:
        """The storage value of a Python value; raises ValueError that says why it does not fit."""
        raise NotImplementedError

    def load(self, stored: Any) -> Any:
        """The Python value of a storage value."""
        return stored

    def fits(self, stored: Value) -> bool:
        """Whether a storage value, which may come from anywhere, is one of this kind."""
        try:
            return self.store(self.load(stored)) == stored
        except (ValueError, TypeError, AttributeError, ArithmeticError):
            return False

    def fit_sql(self, column: str) -> str:
        """`fits` as SQL over a column that is not null; exact wherever a plain program can write."""
        return f"typeof({column})='{self.sqlite.lower()}'"

    def describe(self) -> str:
        """A stable text for the schema's hash."""
        return self.name

    def _expect(self, value: Any, *allowed: type) -> None:
        if not isinstance(value, allowed) or isinstance(value, bool):
            raise ValueError(f"expected {' or '.join(t.__name__ for t in allowed)}, got {type(value).__name__}")


class _Text(Kind):
    name, sqlite, python = "text", "TEXT", str

    def store(self, value: Any) -> Value:
        self._expect(value, str)
        text = str.__str__(value)
        if "\0" in text:
            raise ValueError("text may not contain the character U+0000")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError("text may not contain lone surrogates") from error
        return text

    def fits(self, stored: Value) -> bool:
        return isinstance(stored, str) and (stored.isascii() or stored.encode(errors="replace").decode() == stored)


class _Integer(Kind):
    name, sqlite, python = "integer", "INTEGER", int

    def store(self, value: Any) -> Value:
        self._expect(value, int)
        if not INT64_MIN <= value <= INT64_MAX:
            raise ValueError("integers are of 64 bits")
        return int(value)


class _Real(Kind):
    name, sqlite, python = "real", "REAL", float

    def store(self, value: Any) -> Value:
        self._expect(value, float, int)
        number = float(value)
        if not math.isfinite(number):
            raise ValueError("NaN and infinity cannot be stored")
        return number

    def fits(self, stored: Value) -> bool:
        return type(stored) is float and not math.isnan(stored)  # SQLite would hold NaN as null


class _Bool(Kind):
    name, sqlite, python = "bool", "INTEGER", bool

    def store(self, value: Any) -> Value:
        if not isinstance(value, bool):
            raise ValueError(f"expected bool, got {type(value).__name__}")
        return int(value)

    def load(self, stored: Any) -> Any:
        return bool(stored)

    def fits(self, stored: Value) -> bool:
        return type(stored) is int and stored in (0, 1)

    def fit_sql(self, column: str) -> str:
        return f"typeof({column})='integer' AND {column} IN (0,1)"


class Money(Kind):
    """A decimal with a fixed number of digits after the point, stored as an integer of the smallest unit."""

    name, sqlite, python = "decimal", "INTEGER", Decimal

    def __init__(self, scale: int) -> None:
        if not 0 <= scale <= 15:
            raise SchemaError(f"scale must be 0 to 15 digits after the point, not {scale}")
        self.scale = scale

    def store(self, value: Any) -> Value:
        self._expect(value, Decimal, int)
        amount = Decimal(value)
        if not amount.is_finite():
            raise ValueError("NaN and infinity cannot be stored")
        if not amount:
            return 0
        if amount.adjusted() + self.scale > 18:  # before int() writes out a huge exponent
            raise ValueError("the amount is too large")
        try:
            units = int(amount.scaleb(self.scale, _EXACT).to_integral_exact(context=_EXACT))
        except ArithmeticError:
            why = f"expected a decimal with at most {self.scale} digits after the point; round it first"
            raise ValueError(why) from None
        if not INT64_MIN <= units <= INT64_MAX:
            raise ValueError("the amount is too large")
        return units

    def load(self, stored: Any) -> Any:
        return Decimal(stored).scaleb(-self.scale, _EXACT)

    def fits(self, stored: Value) -> bool:
        return type(stored) is int and INT64_MIN <= stored <= INT64_MAX

    def describe(self) -> str:
        return f"decimal({self.scale})"


class _Date(Kind):
    name, sqlite, python = "date", "TEXT", date

    def store(self, value: Any) -> Value:
        if type(value) is not date:
            raise ValueError(f"expected date, got {type(value).__name__}")
        return value.isoformat()

    def load(self, stored: Any) -> Any:
        return date.fromisoformat(stored)

    def fit_sql(self, column: str) -> str:
        return f"typeof({column})='text' AND date({column}) IS {column} AND substr({column},1,4)>'0000'"


class _Instant(Kind):
    name, sqlite, python = "datetime", "TEXT", datetime

    def store(self, value: Any) -> Value:
        if not isinstance(value, datetime) or value.tzinfo is None:
            raise ValueError("expected a datetime with a time zone; use datetime.now(UTC)")
        return value.astimezone(UTC).isoformat(" ", "microseconds")[:26]

    def load(self, stored: Any) -> Any:
        return datetime.strptime(stored, _UTC_FORMAT).replace(tzinfo=UTC)

    def fits(self, stored: Value) -> bool:
        try:  # a tenth of the time that strptime takes; whatever else it reads is written differently
            return self.store(datetime.fromisoformat(stored).replace(tzinfo=UTC)) == stored  # type: ignore[arg-type]
        except (ValueError, TypeError):
            return False

    def fit_sql(self, column: str) -> str:
        return (
            f"typeof({column})='text' AND strftime('%Y-%m-%d %H:%M:%S',substr({column},1,19))||substr({column},20) IS {column}"
            f" AND substr({column},20) GLOB '.[0-9][0-9][0-9][0-9][0-9][0-9]' AND substr({column},1,4)>'0000'"
        )


class _Enum(Kind):
    name, sqlite = "enum", "TEXT"

    def __init__(self, python: type[enum.Enum]) -> None:
        self.python = python
        self.values = [member.value for member in python]
        if not all(isinstance(v, str) and "\0" not in v for v in self.values):
            raise SchemaError(f"the values of {python.__name__} must be text to be stored")

    def store(self, value: Any) -> Value:
        if not isinstance(value, self.python):
            raise ValueError(f"expected {self.python.__name__}, got {type(value).__name__}")
        return str(typing.cast(enum.Enum, value).value)

    def load(self, stored: Any) -> Any:
        return self.python(stored)

    def fit_sql(self, column: str) -> str:
        quoted = ",".join("'" + v.replace("'", "''") + "'" for v in self.values)
        return f"typeof({column})='text' AND {column} COLLATE BINARY IN ({quoted})"

    def describe(self) -> str:
        return "enum"  # a new member is an additive change


class Json(Kind):
    """Anything that msgspec encodes as JSON, typed."""

    name, sqlite = "json", "TEXT"

    def __init__(self, annotation: Any) -> None:
        self.annotation = annotation
        try:
            self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(annotation)
            if isinstance(msgspec.inspect.type_info(annotation), msgspec.inspect.CustomType):
                raise TypeError("msgspec cannot decode it")
        except TypeError as error:
            raise SchemaError(f"{annotation!r} is no type that a field can hold: {error}") from error
        self._encoder = msgspec.json.Encoder(order="deterministic")

    def store(self, value: Any) -> Value:
        try:
            encoded = self._encoder.encode(value)
            self._decoder.decode(encoded)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ValueError(str(error)) from error
        return encoded.decode()

    def load(self, stored: Any) -> Any:
        return self._decoder.decode(stored)

    def fits(self, stored: Value) -> bool:
        try:
            self._decoder.decode(stored)  # type: ignore[arg-type]
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError):
            return False
        return isinstance(stored, str)

    def fit_sql(self, column: str) -> str:
        return f"typeof({column})='text' AND json_valid({column})"


class _Bytes(Kind):
    name, sqlite, python = "bytes", "BLOB", bytes

    def store(self, value: Any) -> Value:
        self._expect(value, bytes)
        return bytes(value)


class _Uuid(Kind):
    name, sqlite, python = "uuid", "TEXT", UUID

    def store(self, value: Any) -> Value:
        self._expect(value, UUID)
        return str(value)

    def load(self, stored: Any) -> Any:
        return UUID(stored)

    def fits(self, stored: Value) -> bool:
        return isinstance(stored, str) and _UUID.fullmatch(stored) is not None

    def fit_sql(self, column: str) -> str:
        glob = "-".join("[0-9a-f]" * n for n in (8, 4, 4, 4, 12))
        return f"typeof({column})='text' AND {column} GLOB '{glob}' AND instr({column},char(0))=0"


_SIMPLE: Mapping[type, Callable[[], Kind]] = {
    str: _Text, int: _Integer, float: _Real, bool: _Bool, date: _Date, datetime: _Instant, bytes: _Bytes, UUID: _Uuid,
}  # fmt: skip


def kind_of(annotation: Any, *, scale: int | None = None) -> tuple[Kind, bool]:
    """The kind of a type annotation, and whether it may be null. Raises SchemaError for what cannot be stored."""
    nullable = False
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        members = typing.get_args(annotation)
        nullable = types.NoneType in members
        rest = [m for m in members if m is not types.NoneType]
        if len(rest) == 1:
            annotation = rest[0]
    while hasattr(annotation, "__supertype__"):  # a NewType is stored as what it stands for
        annotation = annotation.__supertype__
    if annotation is Decimal:
        if scale is None:
            raise SchemaError("a Decimal field needs its number of digits after the point: field(scale=2)")
        return Money(scale), nullable
    if scale is not None:
        raise SchemaError("scale is for Decimal fields")
    if annotation in _SIMPLE:
        return _SIMPLE[annotation](), nullable
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return _Enum(annotation), nullable
    if annotation is Any:
        raise SchemaError("a field needs a type; Any cannot be checked")
    return Json(annotation), nullable
