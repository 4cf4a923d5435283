"""Declarations: what they say, what they refuse and in which words, how records behave, what the hash sees."""

from __future__ import annotations

import enum
import types
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest

from offlinekit.exceptions import InvalidValue, OfflinekitError, SchemaError, StateError
from offlinekit.ids import new_id
from offlinekit.schema import Collection, Field, Schema, field, info_of


class Status(enum.Enum):
    """How a visit went."""

    OPEN = "open"
    DONE = "done"


class Address(msgspec.Struct):
    """Where somebody lives."""

    street: str


class Customer(Collection, writable=True, indexes=[("city", "name")]):
    """Every kind of field, and every flag."""

    code: Field[str] = field(key=True, max_length=9)
    name: Field[str] = field(search=True)
    city: Field[str | None] = field(default=None, index=True)
    visits: Field[int] = field(default=0, ge=0, le=1000)
    rate: Field[float | None]
    active: Field[bool] = field(default=True)
    credit: Field[Decimal] = field(scale=2, online_only=True, default=Decimal(0))
    since: Field[date | None] = field(ge=date(2000, 1, 1), default=None)
    seen: Field[datetime | None] = field(default=None)
    status: Field[Status] = field(default=Status.OPEN)
    home: Field[Address | None] = field(default=None)
    tags: Field[list[str]] = field(default_factory=list, check=lambda tags: len(tags) < 3)
    photo: Field[bytes | None] = field(default=None, max_length=4)
    mark: Field[UUID] = field(default_factory=new_id)
    parent: Field[str | None] = field(ref="customer", default=None)


class OrderLine(Collection, own_file=True):
    """A key of two fields, declared in an order that is not that of the alphabet."""

    order: Field[int] = field(key=True)
    line: Field[int] = field(key=True)
    customer: Field[str] = field(ref=Customer)


class Draft(Collection, name="drafts", device_only=True):
    """Never leaves the device."""

    id: Field[int] = field(key=True)
    customer: Field[str] = field(ref=Customer)


SCHEMA = Schema(Customer, OrderLine, Draft, intents=["place_order", "cancel_order"], version=3)


def customer(**values: Any) -> Customer:
    """A customer with as little said as possible."""
    return Customer(**{"code": "a", "name": "Ana", "rate": None, "mark": UUID(int=7)} | values)


def test_flags_are_read_from_the_declaration():
    info = info_of(Customer)
    assert (info.name, info_of(OrderLine).name, info_of(Draft).name) == ("customer", "order_line", "drafts")
    assert (info.writable, info.own_file, info.device_only) == (True, False, False)
    assert info_of(OrderLine).own_file
    assert info_of(Draft).device_only
    assert info.key == ("code",)
    assert info_of(OrderLine).key == ("order", "line")
    assert info.search == ("name",)
    assert set(info.indexes) == {("city", "name"), ("city",)}
    assert set(info.fields) - set(info.replicated) == {"credit"}
    assert set(info.refs) == {"parent"}
    assert info.fields["parent"].target == info_of(OrderLine).fields["customer"].target == "customer"
    assert [c.name for c in SCHEMA.replicated] == ["customer", "order_line"]
    assert [n for n, f in info.fields.items() if f.required] == ["code", "name", "rate"]
    assert [n for n, f in info.fields.items() if f.nullable] == [
        "city",
        "rate",
        "since",
        "seen",
        "home",
        "photo",
        "parent",
    ]
    assert repr(Customer.city) == "customer.city"


def test_record_holds_python_values_and_stores_storage_values():
    record = customer(
        credit=Decimal("1.50"), since=date(2024, 2, 29), seen=datetime(2024, 1, 1, tzinfo=UTC),
        home=Address("x"), photo=b"\0", rate=2,
    )  # fmt: skip
    assert record._stored == {
        "code": "a", "name": "Ana", "city": None, "visits": 0, "rate": 2.0, "active": 1, "credit": 150,
        "since": "2024-02-29", "seen": "2024-01-01 00:00:00.000000", "status": "open", "home": '{"street":"x"}',
        "tags": "[]", "photo": b"\0", "mark": "00000000-0000-0000-0000-000000000007", "parent": None,
    }  # fmt: skip
    assert record.as_dict() == {
        "code": "a", "name": "Ana", "city": None, "visits": 0, "rate": 2.0, "active": True, "credit": Decimal("1.50"),
        "since": date(2024, 2, 29), "seen": datetime(2024, 1, 1, tzinfo=UTC), "status": Status.OPEN,
        "home": Address("x"), "tags": [], "photo": b"\0", "mark": UUID(int=7), "parent": None,
    }  # fmt: skip
    assert info_of(Customer).record(record._stored) == record
    assert record != customer()
    assert record != 1
    assert repr(record).startswith("Customer(code='a', name='Ana', city=None, visits=0, rate=2.0, active=True, credit=")


def test_default_is_made_anew_for_each_record():
    first, second = Customer(code="a", name="", rate=None), Customer(code="b", name="", rate=None)
    assert first.mark != second.mark
    assert first.tags is not second.tags


def test_fields_are_inherited_with_their_flags():
    class Stamped:
        id: Field[int] = field(key=True)
        secret: Field[Decimal] = field(scale=2, online_only=True)

    class First(Stamped, Collection):
        name: Field[str]

    class Second(First):
        other: Field[str]

    assert (info_of(First).key, info_of(First).replicated) == (("id",), ("id", "name"))
    assert (info_of(Second).key, info_of(Second).replicated) == (("id",), ("id", "name", "other"))
    assert (repr(First.id), repr(Second.id)) == ("first.id", "second.id")


def test_online_only_field_that_is_not_held_says_where_to_read_it():
    record: Any = info_of(Customer).record({"code": "a", "name": "Ana"})
    with pytest.raises(StateError) as caught:
        _ = record.credit
    assert str(caught.value) == (
        "customer.credit is not held on the device (online_only); read it with replica.remote.select(...)"
    )
    assert record.as_dict() == {"code": "a", "name": "Ana"}


def test_assigning_to_a_record_that_was_read_is_refused():
    record = customer()
    with pytest.raises(StateError) as caught:
        record.name = "Eva"
    assert str(caught.value) == "assigning to customer.name saves nothing; use tx.update(record, name=...)"
    assert record.name == "Ana"


def test_open_record_takes_checked_values():
    record: Any = info_of(Customer).record(customer()._stored, open_=True)
    record.visits = 5
    assert record.visits == 5
    with pytest.raises(InvalidValue):
        record.visits = -1
    with pytest.raises(SchemaError) as caught:
        record.nmae = "x"
    assert str(caught.value) == "unknown field 'nmae' in collection 'customer'; did you mean 'name'?"


def test_record_cannot_be_hashed_because_it_is_a_value_that_may_be_open():
    with pytest.raises(TypeError):
        hash(customer())


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"cty": "x"}, SchemaError, "unknown field 'cty' in collection 'customer'; did you mean 'city'?"),
        ({"name": None}, InvalidValue, "customer.name cannot hold None: it may not be null"),
        ({"name": 5}, InvalidValue, "customer.name cannot hold 5: expected str, got int"),
        ({"name": "\0"}, InvalidValue, "customer.name cannot hold '\\x00': text may not contain the character U+0000"),
        ({"code": "a" * 10}, InvalidValue, "customer.code cannot hold 'aaaaaaaaaa': it may have at most 9 characters"),
        ({"visits": -1}, InvalidValue, "customer.visits cannot hold -1: it must be at least 0"),
        ({"visits": 1001}, InvalidValue, "customer.visits cannot hold 1001: it must be at most 1000"),
        ({"visits": True}, InvalidValue, "customer.visits cannot hold True: expected int, got bool"),
        (
            {"since": date(1999, 12, 31)},
            InvalidValue,
            "customer.since cannot hold datetime.date(1999, 12, 31): it must be at least 2000-01-01",
        ),
        (
            {"credit": Decimal("0.001")},
            InvalidValue,
            "customer.credit cannot hold Decimal('0.001'):"
            " expected a decimal with at most 2 digits after the point; round it first",
        ),
        (
            {"seen": datetime(2024, 1, 1)},
            InvalidValue,
            "customer.seen cannot hold datetime.datetime(2024, 1, 1, 0, 0):"
            " expected a datetime with a time zone; use datetime.now(UTC)",
        ),
        ({"tags": ["a"] * 3}, InvalidValue, "customer.tags cannot hold ['a', 'a', 'a']: it fails the declared check"),
        ({"tags": [object]}, InvalidValue, None),
        ({"photo": b"12345"}, InvalidValue, "customer.photo cannot hold b'12345': it may have at most 4 characters"),
        ({"rate": 10**400}, InvalidValue, None),
    ],
)  # fmt: skip
def test_value_that_does_not_fit_is_refused(values: dict[str, Any], error: type[Exception], message: str | None):
    with pytest.raises(error) as caught:
        customer(**values)
    assert message is None or str(caught.value) == message
    if isinstance(caught.value, InvalidValue):
        assert (caught.value.collection, [caught.value.field]) == ("customer", list(values))


def test_new_record_needs_what_has_no_default():
    with pytest.raises(SchemaError) as caught:
        Customer(code="a")  # type: ignore[call-arg]
    assert str(caught.value) == "a new customer needs name, rate"


@pytest.mark.parametrize(
    ("name", "stored", "why"),
    [
        ("name", None, "customer.name cannot hold None: it may not be null"),
        ("name", b"x", "customer.name cannot hold b'x': it is no text"),
        ("credit", 1.5, "customer.credit cannot hold 1.5: it is no decimal(2)"),
        ("visits", 1001, "customer.visits cannot hold 1001: it must be at most 1000"),
        ("active", 2, "customer.active cannot hold 2: it is no bool"),
        ("home", "{}", "customer.home cannot hold '{}': it is no json"),
        (
            "since",
            "1999-12-31",
            "customer.since cannot hold datetime.date(1999, 12, 31): it must be at least 2000-01-01",
        ),
        ("status", "OPEN", "customer.status cannot hold 'OPEN': it is no enum"),
        ("rate", 1, "customer.rate cannot hold 1: it is no real"),
    ],
)
def test_storage_value_of_a_peer_is_checked_as_well(name: str, stored: Any, why: str):
    with pytest.raises(InvalidValue) as caught:
        info_of(Customer).field(name).verify(stored)
    assert str(caught.value) == why


def test_storage_values_of_a_record_pass_the_check_of_a_peer():
    record = customer(home=Address("x"), photo=b"\0", city="x", tags=["a"])
    for name, stored in record._stored.items():
        info_of(Customer).field(name).verify(stored)


def test_key_of_several_fields_is_a_tuple_in_the_order_of_declaration():
    info = info_of(OrderLine)
    assert info.store_key((7, 1)) == (7, 1)
    assert info.load_key((7, 1)) == (7, 1)
    assert info.key_of(OrderLine(line=1, order=7, customer="a")) == (7, 1)
    assert (info_of(Customer).store_key("a"), info_of(Customer).load_key(("a",))) == (("a",), "a")


@pytest.mark.parametrize("key", [7, (7,), (7, 1, 2)])
def test_key_of_another_length_is_refused(key: Any):
    with pytest.raises(InvalidValue) as caught:
        info_of(OrderLine).store_key(key)
    assert str(caught.value) == f"order_line.order, line cannot hold {key!r}: the key has 2 fields"


# -- declarations that are refused


# Any type goes in; checkers would want to know it.
FIELD: Any = Field


def declare(fields: dict[str, tuple[Any, Any]], **options: Any) -> type[Collection]:
    """Declare a collection named Made."""
    body: dict[str, Any] = {"__annotations__": {n: FIELD[hint] for n, (hint, _) in fields.items()}}
    body |= {n: made for n, (_, made) in fields.items() if made is not None}
    return types.new_class("Made", (Collection,), options, lambda namespace: namespace.update(body))


def key() -> dict[str, tuple[Any, Any]]:
    """A key alone; a field belongs to one collection, so it is made anew."""
    return {"id": (int, field(key=True))}


IN_KEY = "made.k is part of the key, so it may not be nullable, online_only, JSON or real"
NO_SEARCH = "made.x cannot be searched: search is for replicated text"
NO_INDEX = "made.x is online_only, so a replica cannot index it"
NO_OWN_FILE = "'made' cannot be own_file: devices write it, so it belongs in the main file"
NOT_WRITABLE = "'made' is device_only, which is always writable and never sent: leave out writable"
NO_SCALE = "Made.total: a Decimal field needs its number of digits after the point: field(scale=2)"
NAMES = "letters, digits and _, at most 63, no ok_"


@pytest.mark.parametrize(
    ("fields", "options", "message"),
    [
        ({}, {}, "'made' has no key: declare one field with field(key=True)"),
        ({"total": (Decimal, None)}, {}, NO_SCALE),
        ({"x": (str, field(scale=2))}, {}, "Made.x: scale is for Decimal fields"),
        ({"x": (Any, None)}, {}, "Made.x: a field needs a type; Any cannot be checked"),
        ({"ok_x": (str, None)}, {}, f"'ok_x' cannot be a name in 'made': {NAMES}"),
        ({"OK_x": (str, None)}, {}, f"'OK_x' cannot be a name in 'made': {NAMES}"),
        ({"_x": (str, None)}, {}, f"'_x' cannot be a name in 'made': {NAMES}"),
        ({"é": (str, None)}, {}, f"'é' cannot be a name in 'made': {NAMES}"),
        ({"x" * 64: (str, None)}, {}, f"'{'x' * 64}' cannot be a name in 'made': {NAMES}"),
        ({}, {"name": "sqlite_x"}, f"'sqlite_x' cannot be a name in 'sqlite_x': {NAMES}"),
        ({}, {"name": "a b"}, f"'a b' cannot be a name in 'a b': {NAMES}"),
        ({"as_dict": (str, None)}, {}, "'as_dict' cannot be a field of 'made': records have a method of that name"),
        ({"x": (str, None), "X": (str, None)}, {}, "two fields of 'made' differ by case only, which SQL does not see"),
        ({"k": (str | None, field(key=True))}, {}, IN_KEY),
        ({"k": (str, field(key=True, online_only=True))}, {}, IN_KEY),
        ({"k": (float, field(key=True))}, {}, IN_KEY),
        ({"k": (list[int], field(key=True))}, {}, IN_KEY),
        ({"x": (int, field(search=True))}, {}, NO_SEARCH),
        ({"x": (str, field(search=True, online_only=True))}, {}, NO_SEARCH),
        ({"x": (int, field(default=1, default_factory=int))}, {}, "made.x has both default and default_factory"),
        ({"x": (int, field(default="1"))}, {}, "made.x cannot hold '1': expected int, got str"),
        ({"x": (int, field(default=None))}, {}, "made.x cannot hold None: it may not be null"),
        ({"x": (int, field(default=-1, ge=0))}, {}, "made.x cannot hold -1: it must be at least 0"),
        ({"xy": (str, None)}, {"indexes": [("xz",)]}, "unknown field 'xz' in collection 'made'; did you mean 'xy'?"),
        ({"x": (str, field(online_only=True))}, {"indexes": [("id", "x")]}, NO_INDEX),
        ({"x": (str, field(online_only=True, index=True))}, {}, NO_INDEX),
        ({}, {"own_file": True, "writable": True}, NO_OWN_FILE),
        ({}, {"own_file": True, "device_only": True}, NO_OWN_FILE),
        ({}, {"device_only": True, "writable": True}, NOT_WRITABLE),
    ],
)  # fmt: skip
def test_wrong_declaration_is_refused(fields: dict[str, tuple[Any, Any]], options: dict[str, Any], message: str):
    wanted = fields if "has no key" in message or "k" in fields else key() | fields
    with pytest.raises(OfflinekitError) as caught:
        declare(wanted, **options)
    assert str(caught.value) == message


def test_field_without_a_type_is_refused_and_not_forgotten():
    with pytest.raises(SchemaError) as caught:

        class Made(Collection):
            id: Field[int] = field(key=True)
            city = field()

    assert str(caught.value) == "Made.city has no type: declare it as city: Field[...]"
    with pytest.raises(SchemaError, match=r"Made2\.total has no type"):

        class Made2(Collection):
            id: Field[int] = field(key=True)
            total: Decimal = field(scale=2)


def test_what_is_no_collection_is_named():
    with pytest.raises(SchemaError) as caught:
        Schema(str)  # type: ignore[arg-type]
    assert str(caught.value) == "<class 'str'> is no collection: declare it as class Name(Collection)"


@pytest.mark.parametrize(
    ("collections", "message"),
    [
        ([Draft], "drafts.customer refers to 'customer', which is not in the schema; known: drafts"),
        ([Customer, declare(key(), name="CUSTOMER")], "two collections are named 'CUSTOMER'"),
        (
            [declare(key() | {"x": (str, field(ref="custmer"))}), Customer],
            "made.x refers to 'custmer', which is not in the schema; did you mean 'customer'?",
        ),
        (
            [declare(key() | {"x": (int, field(ref=Customer))}), Customer],
            "made.x is integer, the key of 'customer' is not",
        ),
        (
            [declare(key() | {"x": (int, field(ref=OrderLine))}), OrderLine, Customer],
            "made.x refers to 'order_line', whose key has several fields; only one can be named",
        ),
        (
            [declare(key() | {"x": (int, field(ref=Draft))}), Draft, Customer],
            "made.x refers to 'drafts', which never leaves the device",
        ),
    ],
)
def test_schema_that_does_not_hold_together_is_refused(collections: list[type[Collection]], message: str):
    with pytest.raises(SchemaError) as caught:
        Schema(*collections)
    assert str(caught.value) == message


def test_schema_names_the_nearest_of_what_it_knows():
    for wrong, message in [
        (lambda: SCHEMA.info("custmer"), "unknown collection 'custmer'; did you mean 'customer'?"),
        (lambda: SCHEMA.intent("place_ordr"), "unknown intent 'place_ordr'; did you mean 'place_order'?"),
        (lambda: SCHEMA.intent("zzz"), "unknown intent 'zzz'; known: cancel_order, place_order"),
        (lambda: Schema(Customer).intent("x"), "unknown intent 'x'; none is declared"),
        (lambda: Schema(Customer, version=0), "a schema's version is 1 or more"),
        (lambda: Schema(Customer, intents=["x" * 201]), "the name of an intent has at most 200 characters, not 201"),
    ]:
        with pytest.raises(SchemaError) as caught:
            wrong()
        assert str(caught.value) == message
    assert SCHEMA.info(Customer) is SCHEMA.info("customer") is SCHEMA.info(customer())
    assert SCHEMA.intent("place_order") == "place_order"


# -- the hash


def made_hash(fields: dict[str, tuple[Any, Any]], **options: Any) -> bytes:
    """The hash of a schema of one collection."""
    return Schema(declare(fields, **options)).hash


def plain() -> dict[str, tuple[Any, Any]]:
    """The declaration that the others are compared with."""
    return key() | {"name": (str, field()), "total": (Decimal, field(scale=2)), "city": (str | None, field())}


def test_hash_is_pinned_because_devices_in_the_field_compare_it():
    assert made_hash(plain()).hex() == "e028e493956185d5f0891ab521138ab3"


def test_hash_is_the_same_for_what_changes_nothing_on_the_wire():
    expected = made_hash(plain())
    assert made_hash(dict(reversed(plain().items()))) == expected
    assert made_hash(plain() | {"name": (str, field(max_length=5, check=bool))}) == expected
    assert made_hash(plain() | {"city": (str | None, field(default=None))}) == expected
    assert Schema(Customer, OrderLine, Draft).hash == Schema(Draft, OrderLine, Customer, version=9).hash
    first, second = declare(plain(), indexes=[("name",), ("city",)]), declare(plain(), indexes=[("city",), ("name",)])
    assert Schema(first).hash == Schema(second).hash


def test_hash_differs_for_every_other_change():
    other: list[dict[str, tuple[Any, Any]]] = [
        plain() | {"more": (str, field())},
        {n: f for n, f in plain().items() if n != "city"},
        plain() | {"city": (str, field())},
        plain() | {"city": (bytes | None, field())},
        plain() | {"total": (Decimal, field(scale=3))},
        plain() | {"name": (str, field(search=True))},
        plain() | {"name": (str, field(index=True))},
        plain() | {"name": (str, field(online_only=True))},
        plain() | {"name": (str, field(key=True))},
        plain() | {"name": (str, field(default="x"))},
        plain() | {"city": (int | None, field())},
        plain() | {"city": (int | None, field(ref="made"))},
    ]
    hashes = [made_hash(fields) for fields in [plain(), *other]]
    hashes += [
        made_hash(plain(), writable=True),
        made_hash(plain(), own_file=True),
        made_hash(plain(), device_only=True),
    ]
    hashes += [made_hash(plain(), indexes=[("name", "city")]), made_hash(plain(), indexes=[("city", "name")])]
    hashes += [made_hash(plain(), name="other")]
    assert len(set(hashes)) == len(hashes)
    assert all(len(h) == 16 for h in hashes)


def test_hash_sees_the_order_of_the_fields_of_a_key():
    two = {"a": (int, field(key=True)), "b": (int, field(key=True))}
    swapped = {"b": (int, field(key=True)), "a": (int, field(key=True))}
    assert made_hash(two) != made_hash(swapped)
