"""The collections, records and filters of the suite for stores, and how its tests say what they do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Generic, TypeVar

from offlinekit.nodes import Filter, Value, everything, nothing
from offlinekit.query import Query
from offlinekit.schema import Collection, Field, Schema, field, info_of
from offlinekit.store.port import AuthorityStore, Receipt, Snapshot, Unit
from offlinekit.view import View

E = TypeVar("E", bound=BaseException)


class Shop(Collection):
    """A collection that others refer to."""

    code: Field[str] = field(key=True)
    name: Field[str] = field(search=True)
    city: Field[str | None]
    credit: Field[Decimal | None] = field(scale=2, online_only=True)
    since: Field[date | None]


class Sale(Collection):
    """A collection that refers to another."""

    id: Field[int] = field(key=True)
    shop: Field[str | None] = field(ref=Shop)
    total: Field[Decimal] = field(scale=2)
    rate: Field[float | None]
    paid: Field[bool | None]
    at: Field[datetime | None]
    image: Field[bytes | None]


class Place(Collection):
    """A collection with a key of two fields."""

    aisle: Field[str] = field(key=True)
    shelf: Field[int] = field(key=True)
    note: Field[str | None]


SCHEMA = Schema(Shop, Sale, Place)
SHOP, SALE, PLACE = map(info_of, (Shop, Sale, Place))
ALL: Mapping[str, Filter] = {c.name: everything for c in SCHEMA}
SHOPS: list[dict[str, Value]] = [
    SHOP.store(dict(zip(SHOP.fields, row, strict=True)))
    for row in [
        ("a", "Padaria São Bento", "Recife", Decimal("10.00"), date(2024, 2, 29)),
        ("A", "ótica sol", "recife", Decimal("-0.01"), date(2025, 1, 1)),
        ("b", "Sao Benedito 100%", None, None, None),
        ("c ", 'Łódź & "O\'Neil"', "", Decimal("10.00"), date(1, 1, 1)),
        ("ç", "Straße_😀", "Campinas", Decimal("0.00"), date(9999, 12, 31)),
        ("字", "Mercado Norte", "Campinas", Decimal("92233720368547758.07"), None),
    ]
]
SALES: list[dict[str, Value]] = [
    SALE.store(dict(zip(SALE.fields, row, strict=True)))
    for row in [
        (1, "a", Decimal("1.00"), 0.1, True, datetime(2024, 1, 1, tzinfo=UTC), b""),
        (2, "a", Decimal("20.00"), None, False, datetime(2024, 1, 1, 0, 0, 0, 1, tzinfo=UTC), b"\0\xff"),
        (3, "A", Decimal("1.00"), -1e308, None, None, None),
        (4, None, Decimal("0.00"), 0.0, True, None, b"x"),
        (5, "nobody", Decimal("7.00"), 1e308, True, None, None),
        (2**63 - 1, "ç", Decimal("-5.00"), 2.5, False, datetime(9999, 12, 31, tzinfo=UTC), b"x" * 1000),
    ]
]
FILTERS: list[tuple[type[Collection], Filter]] = [
    (Shop, everything),
    (Shop, nothing),
    (Shop, Shop.code == "a"),
    (Shop, Shop.code == "c "),
    (Shop, Shop.code > "b"),
    (Shop, Shop.city == "Recife"),
    (Shop, ~(Shop.city == "Recife")),
    (Shop, Shop.city.is_null()),
    (Shop, ~Shop.city.is_null() & (Shop.city != "")),
    (Shop, (Shop.city == "Recife") | (Shop.credit == Decimal(0))),
    (Shop, ~((Shop.city == "Recife") | (Shop.credit == Decimal(0)))),
    (Shop, Shop.city.is_in(["Recife", "Campinas"])),
    (Shop, Shop.city.is_in([])),
    (Shop, Shop.credit.between(Decimal("-0.01"), Decimal("10.00"))),
    (Shop, Shop.credit >= Decimal("92233720368547758.07")),
    (Shop, Shop.since < date(2025, 1, 1)),
    (Shop, Shop.city.equals_folded("RECIFE")),
    (Shop, Shop.name.contains("sao ben")),
    (Shop, Shop.name.contains("0%")),
    (Shop, Shop.name.contains("_")),
    (Shop, Shop.name.contains("'")),
    (Shop, Shop.name.starts_with("Ó")),
    (Shop, Sale.shop.some(Sale.total > Decimal(5))),
    (Shop, ~Sale.shop.some(everything)),
    (Sale, Sale.shop.within(Shop.city == "Recife")),
    (Sale, ~Sale.shop.within(Shop.city == "Recife")),
    (Sale, Sale.shop.is_null() | (Sale.rate < 0.0)),
    (Sale, Sale.rate == 0.1),
    (Sale, Sale.paid == False),  # noqa: E712
    (Sale, ~(Sale.paid == True)),  # noqa: E712
    (Sale, Sale.at > datetime(2024, 1, 1, tzinfo=UTC)),
    (Sale, Sale.image == b""),
    (Sale, Sale.id == 2**63 - 1),
    (Sale, Sale.shop.within(Sale.shop.some(Sale.total < Decimal(0)))),
]


def place(aisle: str, shelf: int, note: str | None = None) -> dict[str, Value]:
    """A record of the collection that most tests use."""
    return {"aisle": aisle, "shelf": shelf, "note": note}


def put(store: AuthorityStore, *places: dict[str, Value]) -> None:
    """Inserts in one transaction."""
    with store.unit() as unit:
        for values in places:
            unit.insert(PLACE, values)


def remove(store: AuthorityStore, aisle: str, shelf: int) -> None:
    """Deletes in one transaction."""
    with store.unit() as unit:
        unit.delete(PLACE, (aisle, shelf))


def fill(store: AuthorityStore) -> None:
    """Inserts the data set for reading."""
    with store.unit() as unit:
        for name in ("shop", "sale"):
            for values in records(name):
                unit.insert(SCHEMA.info(name), values)


def placed(unit: Unit, aisle: str, shelf: int) -> tuple[int, int]:
    """(ordinal, version) of a key that is there."""
    found = unit.place(PLACE, (aisle, shelf))
    assert found is not None
    return found


def ordinals(store: AuthorityStore, shelves: Iterable[int]) -> list[int]:
    """The ordinals of shelves of aisle a."""
    with store.unit() as unit:
        return [placed(unit, "a", shelf)[0] for shelf in shelves]


def cursor(store: AuthorityStore) -> bytes:
    """Where the store stands."""
    with store.snapshot() as snapshot:
        return snapshot.cursor


def holding(aisle: str, shelf: int) -> Callable[[Snapshot], bool]:
    """Whether a snapshot holds a place."""
    return lambda snapshot: bool(snapshot.ordinals("place", [(aisle, shelf)]))


def contents(snapshot: Snapshot, collection: str, view: View) -> dict[int, Any]:
    """The rows of a view by ordinal."""
    return {int(row[0] or 0): tuple(row) for row in snapshot.rows(collection, list(SCHEMA.info(collection).fields), view)}


def rows(snapshot: Snapshot, query: Query, fields: Iterable[str]) -> list[list[Value]]:
    """The rows of a query over everything."""
    return [list(row) for row in snapshot.query(query, list(fields), ALL)[0]]


class Raises(Generic[E]):
    """Expects the block to raise an error of that kind, and keeps it as `caught`."""

    caught: E

    def __init__(self, kind: type[E]) -> None:
        self._kind = kind

    def __enter__(self) -> Raises[E]:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        assert error is not None, f"no {self._kind.__name__} was raised"
        if isinstance(error, self._kind):
            self.caught = error
            return True
        return False


def together(*works: Callable[[], None]) -> None:
    """Runs them at once in threads of their own, and raises the first error of any."""
    errors: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def fail_inside(store: AuthorityStore, work: Callable[[Unit], Any]) -> Any:
    """Does the work in a transaction that is rolled back by an error; returns its result."""
    with Raises(KeyError), store.unit() as unit:
        result = work(unit)
        raise KeyError
    return result


def both_claim(one: AuthorityStore, two: AuthorityStore, id_: bytes) -> list[Receipt | None]:
    """Two transactions claim a mutation at once; returns what each found, in the order in which they came."""
    met, found = threading.Barrier(2), list[Receipt | None]()

    def claim(store: AuthorityStore, code: str) -> None:
        met.wait(10)
        with store.unit() as unit:
            found.append(unit.begin_receipt(id_, "rep"))
            if found[-1] is None:
                unit.complete_receipt(Receipt(id_, "rep", "rejected", unit.position, code, b"\0body"))

    together(lambda: claim(one, "one"), lambda: claim(two, "two"))
    return found


def all_of(snapshot: Snapshot, since: bytes, id_: bytes) -> list[Any]:
    """Everything that can be asked of a snapshot about the collection that most tests use."""
    view = snapshot.evaluate("place", everything, ALL)
    return [
        snapshot.cursor, view, contents(snapshot, "place", view), snapshot.touched("place", since),
        snapshot.any_touched(["place"], since), rows(snapshot, Query("place"), PLACE.fields),
        snapshot.query(Query("place", limit=0, total=True), ["note"], ALL)[1], snapshot.ordinals("place", [("a", 3)]),
        snapshot.receipts([id_]), snapshot.device(b"d"),
    ]  # fmt: skip


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def records(collection: str) -> list[dict[str, Value]]:
    return SHOPS if collection == "shop" else SALES


def related(collection: str, name: str, value: Value) -> Sequence[Mapping[str, Value]]:
    return [r for r in records(collection) if value is not None and r[name] == value]


def in_order(by: tuple[tuple[str, bool], ...]) -> list[Value]:
    """The keys of the shops in the order that Python gives them."""
    found = sorted(SHOPS, key=lambda r: str(r["code"]))
    for name, down in reversed(by):
        found.sort(key=lambda r: (r[name] is not None, r[name]), reverse=down)
    return [r["code"] for r in found]
