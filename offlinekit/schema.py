"""Declarations: collections as classes, fields as typed descriptors, and the schema that both sides share.

    class Customer(Collection):
        code: Field[str] = field(key=True)
        name: Field[str] = field(search=True)

`Customer.name` on the class is the field, from which filters are built; on a record it is the value. A record is a
value read from a store: it does not change when the store does, and assigning to it saves nothing (use `tx.update`).
"""

from __future__ import annotations

import copy
import inspect
import re
import sys
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, ClassVar, Generic, TypeVar, dataclass_transform, overload

import msgspec

from offlinekit.exceptions import FilterError, InvalidValue, SchemaError, StateError, nearest
from offlinekit.kinds import Kind, kind_of
from offlinekit.nodes import (
    Claim,
    Compare,
    Filter,
    IsIn,
    IsNull,
    Moment,
    Not,
    Operand,
    Param,
    Some,
    Text,
    Value,
    Within,
)

__all__ = ["NAME_MAX", "Collection", "CollectionInfo", "Field", "Schema", "field", "info_of", "projection_digest"]

T = TypeVar("T")
NAME_MAX = 200  # characters of the name of an intent, or of a program
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_]{0,62}")
_UNSET: Any = msgspec.UNSET
_SEARCH_TABLES = ("_config", "_content", "_data", "_docsize", "_idx")  # what SQLite adds to the name of a full-text index


class Field(Generic[T]):
    """A field of a collection: on the class it builds filters, on a record it is the value of type T."""

    name: str
    owner: CollectionInfo
    kind: Kind
    nullable: bool

    def __init__(self, *, key: bool, search: bool, index: bool, online_only: bool, scale: int | None,
                 ref: type[Collection] | str | None, default: Any, default_factory: Callable[[], Any] | None,
                 ge: Any, le: Any, max_length: int | None, check: Callable[[Any], bool] | None) -> None:  # fmt: skip
        self.key, self.search, self.index, self.online_only, self.scale = key, search, index, online_only, scale
        self.ref, self.default, self.default_factory = ref, default, default_factory
        self.ge, self.le, self.max_length, self.check = ge, le, max_length, check
        self._bounded = any(rule is not None for rule in (ge, le, max_length, check))

    @overload
    def __get__(self, record: None, owner: type[Any]) -> Field[T]: ...
    @overload
    def __get__(self, record: Collection, owner: type[Any]) -> T: ...
    def __get__(self, record: Collection | None, owner: type[Any]) -> Field[T] | T:
        if record is None:
            return self
        try:
            stored = record._stored[self.name]
        except KeyError:
            raise StateError(f"{self} is not held on the device (online_only); read it with replica.remote.select(...)") from None
        try:
            return typing.cast(T, None if stored is None else self.kind.load(stored))
        except (ValueError, TypeError, ArithmeticError) as error:
            why = f"this program cannot read it: {error}; update it, or tell the authority's operator"
            raise InvalidValue(self.owner.name, self.name, stored, why) from error

    def __set__(self, record: Collection, value: T) -> None:
        if not record._open:
            raise StateError(f"assigning to {self} saves nothing; use tx.update(record, {self.name}=...)")
        record._stored[self.name] = self.store(value)

    def __repr__(self) -> str:
        return f"{self.owner.name}.{self.name}" if hasattr(self, "owner") else "field"

    __hash__ = object.__hash__

    @property
    def required(self) -> bool:
        """Whether a new record must be given this field."""
        return self.default is _UNSET and self.default_factory is None

    def store(self, value: Any) -> Value:
        """The storage value, checked against the declaration; raises InvalidValue."""
        if value is None:
            if not self.nullable:
                raise InvalidValue(self.owner.name, self.name, value, "it may not be null")
            return None
        try:
            stored = self.kind.store(value)
        except (ValueError, TypeError, ArithmeticError, msgspec.MsgspecError) as error:
            raise InvalidValue(self.owner.name, self.name, value, str(error)) from error
        self._check(value)
        return stored

    def verify(self, stored: Value) -> None:
        """Checks a storage value that a peer sent; raises InvalidValue."""
        if stored is None:
            self.store(None)
        elif not self.kind.fits(stored):
            raise InvalidValue(self.owner.name, self.name, stored, f"it is no {self.kind.describe()}")
        elif self._bounded:
            self._check(self.kind.load(stored))

    def initial(self) -> Value:
        """The storage value that a new record gets when none is given."""
        return self.store(self.default_factory() if self.default_factory else self.default)

    def _check(self, value: Any) -> None:
        why = None
        if self.ge is not None and value < self.ge:
            why = f"it must be at least {self.ge}"
        elif self.le is not None and value > self.le:
            why = f"it must be at most {self.le}"
        elif self.max_length is not None and len(value) > self.max_length:
            why = f"it may have at most {self.max_length} characters"
        elif self.check is not None and not self.check(value):
            why = "it fails the declared check"
        if why:
            raise InvalidValue(self.owner.name, self.name, value, why)

    # -- filters

    def _operand(self, value: Any) -> Operand:
        if isinstance(value, Moment):
            if self.kind.name not in ("date", "datetime") or (self.kind.name == "date" and value.grain != "day"):
                raise FilterError(f"{self} is {self.kind.name}: a {value.grain} cannot be compared with it",
                                  collection=self.owner.name, field=self.name)  # fmt: skip
            return value
        if isinstance(value, Claim | Param):
            return value
        if value is None:
            raise FilterError(f"comparing {self} with None is never true; use .is_null()",
                              collection=self.owner.name, field=self.name)  # fmt: skip
        if self.kind.name == "json":
            raise FilterError(f"{self} is JSON, which filters cannot look into; declare a field of its own",
                              collection=self.owner.name, field=self.name)  # fmt: skip
        try:
            return self.kind.store(value)
        except (ValueError, TypeError, ArithmeticError) as error:
            raise FilterError(f"{self} cannot be compared with {value!r:.80}: {error}",
                              collection=self.owner.name, field=self.name) from error  # fmt: skip

    def __eq__(self, other: T | Claim | Param | Moment) -> Filter:  # type: ignore[override]
        return Compare(self.owner.name, self.name, "=", self._operand(other))

    def __ne__(self, other: T | Claim | Param | Moment) -> Filter:  # type: ignore[override]
        return Not(self.__eq__(other))

    def __lt__(self, other: T | Claim | Param | Moment) -> Filter:
        return Compare(self.owner.name, self.name, "<", self._operand(other))

    def __le__(self, other: T | Claim | Param | Moment) -> Filter:
        return Compare(self.owner.name, self.name, "<=", self._operand(other))

    def __gt__(self, other: T | Claim | Param | Moment) -> Filter:
        return Compare(self.owner.name, self.name, ">", self._operand(other))

    def __ge__(self, other: T | Claim | Param | Moment) -> Filter:
        return Compare(self.owner.name, self.name, ">=", self._operand(other))

    def between(self, low: T | Claim | Param | Moment, high: T | Claim | Param | Moment) -> Filter:
        """From `low` to `high`, both included."""
        return (self >= low) & (self <= high)

    def is_in(self, values: Iterable[T | Claim | Param] | Claim | Param) -> Filter:
        """One of the values; a claim or param stands for a list."""
        if isinstance(values, Claim | Param):
            return IsIn(self.owner.name, self.name, values)
        if isinstance(values, str | bytes):
            raise FilterError(f"{self}.is_in() takes a list, not {values!r:.80}; use == for one value",
                              collection=self.owner.name, field=self.name)  # fmt: skip
        return IsIn(self.owner.name, self.name, tuple(self._operand(v) for v in values))

    def is_null(self) -> Filter:
        """The field holds nothing."""
        return IsNull(self.owner.name, self.name)

    def _text(self, op: typing.Literal["contains", "starts_with", "equals_folded"], text: str | Claim | Param) -> Filter:
        if self.kind.name != "text":
            raise FilterError(f"{self} is {self.kind.name}: {op} is for text",
                              collection=self.owner.name, field=self.name)  # fmt: skip
        return Text(self.owner.name, self.name, op, self._operand(text))

    def contains(self, text: str | Claim | Param) -> Filter:
        """The text occurs somewhere, accents and case aside."""
        return self._text("contains", text)

    def starts_with(self, text: str | Claim | Param) -> Filter:
        """The field begins with the text, accents and case aside."""
        return self._text("starts_with", text)

    def equals_folded(self, text: str | Claim | Param) -> Filter:
        """The field equals the text, accents and case aside."""
        return self._text("equals_folded", text)

    def within(self, part: Filter) -> Filter:
        """The record that this reference names exists and passes `part`."""
        return Within(self.owner.name, self.name, self.target, part)

    def some(self, part: Filter) -> Filter:
        """For records of the referenced collection: one that refers to it by this field passes `part`."""
        return Some(self.target, self.owner.name, self.name, part)

    @property
    def target(self) -> str:
        """The name of the collection that this field refers to."""
        if self.ref is None:
            raise FilterError(f"{self} is no reference; declare it with field(ref=...)",
                              collection=self.owner.name, field=self.name)  # fmt: skip
        return self.ref if isinstance(self.ref, str) else info_of(self.ref).name


def field(
    *, key: bool = False, search: bool = False, index: bool = False, online_only: bool = False,
    scale: int | None = None, ref: type[Collection] | str | None = None,
    default: Any = _UNSET, default_factory: Callable[[], Any] | None = None,
    ge: Any = None, le: Any = None, max_length: int | None = None, check: Callable[[Any], bool] | None = None,
) -> Any:  # fmt: skip
    """Declares more about a field than its type.

    `key`: part of the record's key, which never changes. `search`: full-text search covers it. `index`: replicas index
    it. `online_only`: never leaves the authority by replication; remote reads show it. `scale`: digits after the point
    of a Decimal. `ref`: the collection, or its name, whose key this field holds. `default`, `default_factory`: for new
    records. `ge`, `le`, `max_length`, `check`: refused at the local write as advice, and again by the authority.
    """
    return Field(key=key, search=search, index=index, online_only=online_only, scale=scale, ref=ref, default=default,
                 default_factory=default_factory, ge=ge, le=le, max_length=max_length, check=check)  # fmt: skip


class CollectionInfo:
    """What is declared of one collection: names, fields in order, key, flags, indexes."""

    def __init__(self, cls: type[Collection], name: str, fields: Mapping[str, Field[Any]], *, writable: bool,
                 device_only: bool, own_file: bool, priority: int, indexes: Sequence[Sequence[str]]) -> None:  # fmt: skip
        self.cls, self.name, self.fields = cls, name, dict(fields)
        self.writable, self.device_only, self.own_file, self.priority = writable, device_only, own_file, priority
        self.key = tuple(n for n, f in fields.items() if f.key)
        self.replicated = tuple(n for n, f in fields.items() if not f.online_only)
        self.search = tuple(n for n, f in fields.items() if f.search)
        self.indexes = tuple(tuple(i) for i in indexes) + tuple((n,) for n, f in fields.items() if f.index)
        self.refs = {n: f for n, f in fields.items() if f.ref is not None}

    def __repr__(self) -> str:
        return f"<collection {self.name}>"

    def field(self, name: str) -> Field[Any]:
        """The field of that name; raises SchemaError with the nearest one."""
        try:
            return self.fields[name]
        except KeyError:
            raise SchemaError(f"unknown field '{name}' in collection '{self.name}'{nearest(name, self.fields)}") from None

    def key_of(self, record: Collection) -> tuple[Value, ...]:
        """The key of a record as storage values."""
        return tuple(record._stored[k] for k in self.key)

    def store_key(self, key: Any) -> tuple[Value, ...]:
        """A key given by a program (one value, or a tuple in the order of declaration) as storage values."""
        parts = key if isinstance(key, tuple) else (key,)
        if len(parts) != len(self.key):
            raise InvalidValue(self.name, ", ".join(self.key), key, f"the key has {len(self.key)} fields")
        return tuple(self.fields[n].store(v) for n, v in zip(self.key, parts, strict=True))

    def load_key(self, stored: Sequence[Value]) -> Any:
        """The inverse of `store_key`."""
        parts = tuple(self.fields[n].kind.load(v) for n, v in zip(self.key, stored, strict=True))
        return parts[0] if len(parts) == 1 else parts

    def record(self, stored: Mapping[str, Value], *, open_: bool = False) -> Collection:
        """A record of storage values, without checking them."""
        record = self.cls.__new__(self.cls)
        object.__setattr__(record, "_stored", dict(stored))
        object.__setattr__(record, "_open", open_)
        return record

    def store(self, values: Mapping[str, Any]) -> dict[str, Value]:
        """Python values by field name as storage values; raises for unknown fields and values that do not fit."""
        return {name: self.field(name).store(value) for name, value in values.items()}

    def describe(self) -> dict[str, Any]:
        """What makes two declarations the same, as plain data; not the priority, of which no file and no answer knows."""
        fields = {
            n: [f.kind.describe(), f.nullable, f.key, f.online_only, f.search, f.target if f.ref is not None else None,
                None if f.default is _UNSET or f.default is None else str(f.initial())]
            for n, f in self.fields.items()
        }  # fmt: skip
        return {"fields": fields, "key": list(self.key), "indexes": sorted(map(list, self.indexes)),
                "own_file": self.own_file, "writable": self.writable, "device_only": self.device_only}  # fmt: skip


def info_of(collection: type[Collection] | Collection) -> CollectionInfo:
    """What is declared of a collection class, or of a record's class."""
    info = getattr(collection, "__collection__", None)
    if not isinstance(info, CollectionInfo):
        raise SchemaError(f"{collection!r} is no collection: declare it as class Name(Collection)")
    return info


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(field,))
class Collection:
    """The base of declared record types.

    Class arguments: `name` (default: the class name in snake case), `writable` (intents may change it on devices),
    `device_only` (never leaves the device), `own_file` (a large catalogue: replicas hold it in a file of its own, so that
    loading it makes nobody wait), `priority` (a first load brings collections in rising order; those of one number come
    together), `indexes` (tuples of field names).
    """

    __collection__: ClassVar[CollectionInfo]
    _stored: dict[str, Value]
    _open: bool

    def __init_subclass__(cls, *, name: str = "", writable: bool = False, device_only: bool = False,
                          own_file: bool = False, priority: int = 0,
                          indexes: Sequence[Sequence[str]] = ()) -> None:  # fmt: skip
        name = name or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
        hints = typing.get_type_hints(cls, localns=dict(sys._getframe(1).f_locals))
        fields: dict[str, Field[Any]] = {}
        for attribute, hint in hints.items():
            if typing.get_origin(hint) is not Field:
                continue
            declared = inspect.getattr_static(cls, attribute, None)  # may be inherited, with its flags
            made: Field[Any] = copy.copy(declared) if isinstance(declared, Field) else field()
            made.name = attribute
            try:
                made.kind, made.nullable = kind_of(typing.get_args(hint)[0], scale=made.scale)
            except SchemaError as error:
                raise SchemaError(f"{cls.__name__}.{attribute}: {error}") from None
            fields[attribute] = made
        for attribute, declared in vars(cls).items():
            if isinstance(declared, Field) and attribute not in fields:
                raise SchemaError(f"{cls.__name__}.{attribute} has no type: declare it as {attribute}: Field[...]")
        info = CollectionInfo(cls, name, fields, writable=writable, device_only=device_only, own_file=own_file,
                              priority=priority, indexes=indexes)  # fmt: skip
        for attribute, made in fields.items():
            made.owner = info
            setattr(cls, attribute, made)
        cls.__collection__ = info
        _check_declaration(info)

    def __init__(self, **values: Any) -> None:
        info = info_of(self)
        stored = info.store(values)
        missing = [n for n, f in info.fields.items() if n not in stored and f.required]
        if missing:
            raise SchemaError(f"a new {info.name} needs {', '.join(missing)}")
        object.__setattr__(self, "_open", False)
        object.__setattr__(self, "_stored", {n: stored[n] if n in stored else f.initial() for n, f in info.fields.items()})

    if not typing.TYPE_CHECKING:  # checkers would take it as leave to assign to any name

        def __setattr__(self, name: str, value: Any) -> None:
            info_of(self).field(name)
            object.__setattr__(self, name, value)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._stored == self._stored

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{n}={v!r}' for n, v in self.as_dict().items())})"

    def as_dict(self) -> dict[str, Any]:
        """The Python values that this record holds, by field name."""
        return {n: getattr(self, n) for n in info_of(self).fields if n in self._stored}


def _check_declaration(info: CollectionInfo) -> None:
    for name in (info.name, *info.fields):
        if not _NAME.fullmatch(name) or name.lower().startswith(("ok_", "sqlite_")):
            raise SchemaError(f"'{name}' cannot be a name in '{info.name}': letters, digits and _, at most 63, no ok_")
    for name in info.fields:
        if name in vars(Collection):
            raise SchemaError(f"'{name}' cannot be a field of '{info.name}': records have a method of that name")
    if len({n.lower() for n in info.fields}) != len(info.fields):
        raise SchemaError(f"two fields of '{info.name}' differ by case only, which SQL does not see")
    if not info.key:
        raise SchemaError(f"'{info.name}' has no key: declare one field with field(key=True)")
    for name in info.key:
        f = info.fields[name]
        if f.nullable or f.online_only or f.kind.name in ("json", "real"):
            raise SchemaError(f"{f} is part of the key, so it may not be nullable, online_only, JSON or real")
        if name.lower() in ("ordinal", "version") and not info.device_only:
            raise SchemaError(f"{f} cannot be part of the key: an authority notes keys beside a column of that name; rename it")
    for names in info.indexes:
        for name in names:
            if info.field(name).online_only:
                raise SchemaError(f"{info.name}.{name} is online_only, so a replica cannot index it")
    for f in info.fields.values():
        if f.search and (f.kind.name != "text" or f.online_only):
            raise SchemaError(f"{f} cannot be searched: search is for replicated text")
        if f.search and f.name.lower() in ("rank", "rowid"):
            raise SchemaError(f"{f} cannot be searched: SQLite's full-text index has a column of that name; rename it")
        if f.default is not _UNSET and f.default_factory is not None:
            raise SchemaError(f"{f} has both default and default_factory")
        if f.default is not _UNSET:
            f.initial()
    if info.own_file and (info.writable or info.device_only):
        raise SchemaError(f"'{info.name}' cannot be own_file: devices write it, so it belongs in the main file")
    if info.device_only and info.writable:
        raise SchemaError(f"'{info.name}' is device_only, which is always writable and never sent: leave out writable")


class Schema:
    """The collections, intents and version that both sides share; raise `version` with every change."""

    def __init__(self, *collections: type[Collection], intents: Iterable[str] = (), version: int = 1) -> None:
        self.collections: dict[str, CollectionInfo] = {}
        for cls in collections:
            info = info_of(cls)
            if info.name.lower() in {n.lower() for n in self.collections}:
                raise SchemaError(f"two collections are named '{info.name}'")
            self.collections[info.name] = info
        searched = {n.lower() for n, info in self.collections.items() if info.search}
        for name in searched:
            if taken := [name + tail for tail in _SEARCH_TABLES if name + tail in searched]:
                raise SchemaError(f"'{name}' and '{taken[0]}' cannot both be searched: SQLite's index of the one has a table"
                                  " that is named as that of the other; rename one")  # fmt: skip
        if version < 1:
            raise SchemaError("a schema's version is 1 or more")
        self.intents = tuple(intents)
        if long := [name for name in self.intents if len(name) > NAME_MAX]:
            raise SchemaError(f"the name of an intent has at most {NAME_MAX} characters, not {max(map(len, long))}")
        self.version = version
        self._check_references()

    def _check_references(self) -> None:
        for info in self.collections.values():
            for f in info.refs.values():
                target = self.collections.get(f.target)
                if target is None:
                    raise SchemaError(f"{f} refers to '{f.target}', which is not in the schema"
                                      f"{nearest(f.target, self.collections)}")  # fmt: skip
                if len(target.key) != 1:
                    raise SchemaError(f"{f} refers to '{f.target}', whose key has several fields; only one can be named")
                if target.fields[target.key[0]].kind.describe() != f.kind.describe():
                    raise SchemaError(f"{f} is {f.kind.describe()}, the key of '{f.target}' is not")
                if target.device_only != info.device_only and target.device_only:
                    raise SchemaError(f"{f} refers to '{f.target}', which never leaves the device")

    def __iter__(self) -> Iterator[CollectionInfo]:
        return iter(self.collections.values())

    def info(self, collection: type[Collection] | Collection | str) -> CollectionInfo:
        """What is declared of a collection of this schema; raises SchemaError with the nearest name."""
        name = collection if isinstance(collection, str) else info_of(collection).name
        try:
            return self.collections[name]
        except KeyError:
            raise SchemaError(f"unknown collection '{name}'{nearest(name, self.collections)}") from None

    def intent(self, name: str) -> str:
        """The name itself if it is a declared intent; raises SchemaError with the nearest one."""
        if name not in self.intents:
            raise SchemaError(f"unknown intent '{name}'{nearest(name, self.intents)}")
        return name

    @property
    def replicated(self) -> list[CollectionInfo]:
        """The collections that are not device-only."""
        return [c for c in self if not c.device_only]

    def describe(self) -> dict[str, Any]:
        """The declaration as plain data; equal data, equal schema."""
        return {c.name: c.describe() for c in self}

    @property
    def hash(self) -> bytes:
        """16 bytes that differ when the declaration does."""
        return sha256(msgspec.json.encode(self.describe(), order="sorted")).digest()[:16]

    @property
    def projection(self) -> dict[str, list[str]]:
        """The fields that a replica holds, by collection."""
        return {info.name: list(info.replicated) for info in self.replicated}


def projection_digest(fields: Mapping[str, Sequence[str]]) -> bytes:
    """16 bytes of SHA-256 that name field lists."""
    return sha256(msgspec.msgpack.encode([[n, list(f)] for n, f in sorted(fields.items())])).digest()[:16]
