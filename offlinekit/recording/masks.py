"""Masks: pseudonyms in the place of personal data.

The key of the hash is made for each recording and never written, so that nobody can try out values. The same value of a
recording is always the same pseudonym, as long as the original in characters and in bytes, and of the same kinds of characters:
a capital stays a capital, a digit a digit, and punctuation and spaces stay what they are.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, Literal, TypeAlias, TypeVar

import msgspec

from offlinekit.exceptions import LimitExceeded, SchemaError
from offlinekit.nodes import Value
from offlinekit.schema import CollectionInfo, Field, Schema

__all__ = ["Mask", "Masks"]

Mask: TypeAlias = Literal["text"] | Iterable[Field[Any]] | None
SOMEBODY = "somebody"
_MASKABLE = ("text", "json", "bytes")
_TURNS_MAX = 10_000
_SHORT = 4  # characters
T = TypeVar("T", str, bytes)


class Masks:
    """What is masked in a recording, and by what.

    "text": every text, JSON and bytes field but keys and references; or the fields given, of these kinds. With a key, every
    reference to it is masked too. Identities and claims are masked always.
    """

    def __init__(self, schema: Schema, mask: Mask = None) -> None:
        self.schema, self._secret = schema, secrets.token_bytes(32)
        self._known: dict[str | bytes, str | bytes] = {}  # those that must not be the same for two values
        self._used: set[str | bytes] = set()
        chosen = set(_texts(schema) if mask == "text" else () if mask is None else map(self._checked, mask))
        referring = {
            (info.name, n) for info in schema for n, f in info.refs.items()
            if (f.target, schema.info(f.target).key[0]) in chosen
        }  # fmt: skip
        self.fields = frozenset(chosen | referring)
        self._by = {place: self._how(*place) for place in self.fields}
        self._defaults = {place: self._default(*place) for place in self.fields}  # nobody's, and filled in by the library
        self._used |= {d for d in self._defaults.values() if d is not None}

    def _default(self, collection: str, name: str) -> Any:
        f = self.schema.info(collection).fields[name]
        return None if f.required or f.default_factory is not None else f.initial()

    def _checked(self, f: Field[Any]) -> tuple[str, str]:
        if not isinstance(f, Field):
            raise SchemaError(f'mask is "text", or fields such as Customer.name; {f!r:.60} is neither')
        info = self.schema.info(f.owner.cls)
        if f.kind.name not in _MASKABLE:
            raise SchemaError(f"{f} is {f.kind.describe()}: only {', '.join(_MASKABLE)} can be masked")
        if f.ref is not None:
            raise SchemaError(f"{f} is masked by masking the key that it refers to, in '{f.target}'")
        return info.name, f.name

    def _how(self, collection: str, name: str) -> Callable[[Any], Value]:
        f = self.schema.info(collection).fields[name]
        if f.key or f.ref is not None:
            return self._key
        return self._json if f.kind.name == "json" else self.pseudonym

    # -- pseudonyms

    def _stream(self, value: bytes, turn: int = 0) -> Iterator[int]:
        block = 0
        while True:
            yield from hmac.digest(self._secret, b"%d %d " % (turn, block) + value, sha256)
            block += 1

    def _made(self, value: T, turn: int = 0) -> T:
        if isinstance(value, bytes):
            return bytes(n for n, _ in zip(self._stream(value, turn), value, strict=False))
        numbers = self._stream(value.encode(errors="surrogatepass"), turn)
        return "".join(_character(c, next(numbers) << 8 | next(numbers)) for c in value)

    def _distinct(self, value: T) -> T | None:
        """A pseudonym that no other value has which was given one here; None when none is left."""
        if value not in self._known:
            found = next((m for n in range(_TURNS_MAX) if (m := self._made(value, n)) not in self._used), None)
            if found is None:
                return None
            self._known[value] = found
            self._used.add(found)
        return self._known[value]  # type: ignore[return-value]

    def pseudonym(self, value: T) -> T:
        """The pseudonym of a text, or of bytes; short ones are kept apart, for else a change could seem to change nothing."""
        masked = len(value) if isinstance(value, bytes) else sum(map(str.isalnum, value))  # the rest stays as it is
        found = self._distinct(value) if masked <= _SHORT else None
        return self._made(value) if found is None else found

    def _key(self, value: T) -> T:
        """The pseudonym of a key, which no other key may have: two records must not become one."""
        found = self._distinct(value)
        if found is None:
            raise LimitExceeded("attempts at a pseudonym", _TURNS_MAX, _TURNS_MAX + 1, "keys this short cannot be masked")
        return found

    def _json(self, value: str) -> str:
        return msgspec.json.encode(self.leaves(msgspec.json.decode(value)), order="deterministic").decode()

    def leaves(self, value: Any) -> Any:
        """A JSON value, or claims, with every text in it masked; names and numbers stay."""
        if isinstance(value, str):
            return self.pseudonym(value)
        if isinstance(value, Mapping):
            return {name: self.leaves(v) for name, v in value.items()}
        return [self.leaves(v) for v in value] if isinstance(value, list | tuple) else value

    def opaque(self, value: bytes) -> bytes:
        """A label for a token, a cursor, a device: equal for equal ones, and empty for empty ones."""
        return hmac.digest(self._secret, value, sha256)[:8] if value else b""

    # -- what recordings hold

    def message(self, value: str) -> str:
        """What is said to people of a record, which may name it."""
        return self.pseudonym(value) if self.fields else value

    def value(self, collection: str, name: str, value: Value) -> Value:
        """A field's value."""
        by = self._by.get((collection, name))
        return value if by is None or value is None or value == self._defaults[collection, name] else by(value)

    def values(self, collection: str, values: Mapping[str, Value]) -> dict[str, Value]:
        """Fields by name."""
        return {n: self.value(collection, n, v) for n, v in values.items()}

    def key(self, info: CollectionInfo, key: Sequence[Value]) -> list[Value]:
        """A key."""
        return [self.value(info.name, n, v) for n, v in zip(info.key, key, strict=True)]

    def row(self, collection: str, names: Sequence[str], row: Sequence[Value]) -> list[Value]:
        """A row of (ordinal, field, …)."""
        return [row[0], *(self.value(collection, n, v) for n, v in zip(names, row[1:], strict=True))]

    def selection(self, data: bytes) -> bytes:
        """An encoded selection without its user; with masks a label for what was chosen, which may be anybody's name."""
        id_, _, since, until, zone, choices = msgspec.msgpack.decode(data)
        if self.fields:
            id_, choices = f"{id_} {self.opaque(msgspec.msgpack.encode(choices)).hex()}", []
        return msgspec.msgpack.encode([id_, SOMEBODY, since, until, zone, choices])


def _texts(schema: Schema) -> Iterator[tuple[str, str]]:
    for info in schema:
        for name, f in info.fields.items():
            if f.kind.name in _MASKABLE and not f.key and f.ref is None:
                yield info.name, name


def _character(c: str, number: int) -> str:
    """A character of the same kind, and of as many bytes in UTF-8."""
    code = ord(c)
    if code < 0x80:
        if c.isdigit():
            return chr(0x30 + number % 10)
        return chr((0x41 if c.isupper() else 0x61) + number % 26) if c.isalpha() else c
    if code < 0x800:
        return chr((0x410 if c.isupper() else 0x430) + number % 32)
    return chr(0x4E00 + number % 0x5000 if code < 0x10000 else 0x20000 + number % 0xA000)
