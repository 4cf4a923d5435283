"""The world of the pull's oracle: a schema, scopes and an offer, an authority's file, and replicas that are driven by hand.

Nothing here decides what a device must hold; that is `oracle.py`. Choices are plain dictionaries (`Chosen`), which
this file turns
into selections and the oracle reads by itself.
"""

from __future__ import annotations

import copy
import os
import random
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import apsw

from offlinekit.authority import Authority
from offlinekit.authority.answering import STALE
from offlinekit.authority.files import at_once
from offlinekit.exceptions import OfflinekitError
from offlinekit.exchange import Effect, Exchanger, Fetch, Steps
from offlinekit.ids import uuid7
from offlinekit.nodes import Filter, claim, everything, param, today
from offlinekit.offer import Advanced, Always, Include, Offer, Quick
from offlinekit.protocol import messages as m
from offlinekit.protocol.codec import decode_answer
from offlinekit.schema import Collection, Field, Schema, field
from offlinekit.selection import Choice, Selection
from offlinekit.store.sqlite import SQLiteStore
from offlinekit.store.sqlite.groups import Group, groups_of
from offlinekit.store.sqlite.replica_store import APPLYING, CAPTURING, ReplicaStore

START = datetime(2031, 3, 14, 9, 0, tzinfo=UTC).timestamp()
DAY = 86_400.0
ZONES = ("UTC", "America/Sao_Paulo", "Asia/Tokyo")


class City(Collection):
    """Small, and partly held by everybody."""

    code: Field[str] = field(key=True)
    region: Field[str | None]


class Customer(Collection):
    """Bounded by a claim, and by a field that does not replicate."""

    code: Field[str] = field(key=True)
    name: Field[str] = field(search=True)
    city: Field[str | None] = field(ref=City)
    rep: Field[str]
    since: Field[date | None] = field(default=None)
    blocked: Field[int] = field(online_only=True, default=0)
    memo: Field[str] = field(online_only=True, default="")


class Order(Collection, writable=True):
    """Bounded by its customer."""

    id: Field[str] = field(key=True)
    customer: Field[str] = field(ref=Customer)
    day: Field[date] = field(index=True)
    status: Field[str | None] = field(default=None)
    total: Field[int] = field(default=0)


class Product(Collection, own_file=True):
    """Stands in a file of its own."""

    sku: Field[str] = field(key=True)
    name: Field[str] = field(search=True)
    grp: Field[str | None]
    price: Field[int] = field(default=0)
    cost: Field[int] = field(online_only=True, default=0)


class Item(Collection, writable=True):
    """Has a key of two fields, and is bounded by its order."""

    order: Field[str] = field(key=True, ref=Order)
    line: Field[int] = field(key=True)
    product: Field[str | None] = field(ref=Product)
    qty: Field[int]


class Leaflet(Collection, own_file=True):
    """A second file, bounded by the collection in the first."""

    id: Field[int] = field(key=True)
    product: Field[str | None] = field(ref=Product)
    text: Field[str]


class OldCustomer(Collection, name="customer"):
    """As an earlier version of the program declares it."""

    code: Field[str] = field(key=True)
    name: Field[str] = field(search=True)
    city: Field[str | None] = field(ref=City)
    rep: Field[str]


class OldOrder(Collection, name="order", writable=True):
    """Likewise."""

    id: Field[str] = field(key=True)
    customer: Field[str] = field(ref="customer")
    day: Field[date] = field(index=True)
    status: Field[str | None] = field(default=None)


class OldProduct(Collection, name="product", own_file=True):
    """Likewise."""

    sku: Field[str] = field(key=True)
    name: Field[str] = field(search=True)
    grp: Field[str | None]


SCHEMA = Schema(City, Customer, Order, Item, Product, Leaflet, intents=["sell"], version=2)
OLD = Schema(City, OldCustomer, OldOrder, OldProduct, Leaflet, intents=["sell"], version=1)  # without item
COLLECTIONS = tuple(SCHEMA.collections)
GROUPS = (("city", "customer", "item", "order"), ("product",), ("leaflet",))
SCOPES: dict[type[Collection], Filter] = {
    City: everything,
    Customer: (Customer.rep == claim("rep")) & (Customer.blocked == 0),
    Order: Order.customer.within(everything),
    Item: Item.order.within(everything),
    Product: ~Product.grp.is_in(claim("hide")),
    Leaflet: Leaflet.product.is_null() | Leaflet.product.within(everything),
}
OFFER = Offer(
    Quick("mine", Customer, everything),
    Quick("in_city", Customer, Customer.city == param("city")),
    Quick("in_region", Customer, Customer.city.within(City.region == param("region"))),
    Quick("has_open", Customer, Order.customer.some(Order.status == "open")),
    Quick("new", Customer, Customer.since >= today(-30)),
    Quick("recent", Order, Order.day.between(today(-3), today())),
    Quick("old", Order, Order.day < today(-3)),
    Quick("big", Order, Order.total >= claim("big")),
    Quick("regional", Order, Order.customer.within(Customer.city.within(City.region == param("region")))),
    Quick("without", Order, ~Item.order.some(Item.qty >= 2)),
    Quick("group", Product, Product.grp.is_in(param("groups"))),
    Quick("like", Product, Product.name.contains(param("text"))),
    Quick("any", Leaflet, everything),
    Include("orders", Customer, Order.customer, (Item.order, Item.qty >= 2)),
    Include("owner", Order, Order.customer, Customer.city),
    Include("goods", Order, Item.order, Item.product),
    Include("siblings", Order, Order.customer, (Order.customer, Order.day >= today(-3))),
    Include("leaflets", Product, Leaflet.product),
    advanced=[
        Customer.city,
        Customer.name,
        Order.status,
        Order.total,
        Order.day,
        Item.qty,
        Product.grp,
        Advanced(Product.price, operators=("<", ">=")),
    ],
    always=[Always(City, City.region == claim("region"), include=[Include("residents", City, (Customer.city, everything))])],
)


def prioritised(schema: Schema, priorities: Mapping[str, int]) -> Schema:
    """The schema as if it were declared with these priorities."""
    other = copy.copy(schema)
    other.collections = {name: copy.copy(info) for name, info in schema.collections.items()}
    for name, info in other.collections.items():
        info.priority = priorities.get(name, 0)
    return other


Condition = tuple[Any, ...]
Chosen = dict[str, dict[str, Any]]  # collection -> quick: {name: params}, where: Condition, picks, unpicks, includes


def condition(collection: str, c: Condition) -> Filter:
    """A plain condition as a filter."""
    if c[0] == "not":
        return ~condition(collection, c[1])
    if c[0] in ("and", "or"):
        one, two = condition(collection, c[1]), condition(collection, c[2])
        return one & two if c[0] == "and" else one | two
    f = SCHEMA.info(collection).fields[c[1]]
    value: Any = c[2] if len(c) > 2 else None
    if f.kind.name == "date":
        value = date.fromisoformat(value)
    made: dict[str, Callable[[], Filter]] = {
        "=": lambda: f == value,
        "<": lambda: f < value,
        ">=": lambda: f >= value,
        "null": f.is_null,
        "in": lambda: f.is_in(value),
        "starts": lambda: f.starts_with(value),
    }
    return made[c[0]]()


def selection_of(chosen: Chosen, identity: str, zone: str = "UTC", until: float | None = None) -> Selection:
    """Plain choices as a selection."""
    choices = tuple(
        Choice(
            name,
            tuple((q, tuple(params.items())) for q, params in c.get("quick", {}).items()),
            condition(name, c["where"]) if c.get("where") else None,
            tuple(c.get("picks", ())),
            tuple(c.get("unpicks", ())),
            tuple(c.get("includes", ())),
        )
        for name, c in chosen.items()
    )
    return Selection("s", identity, 0.0, until, zone, choices)


class VirtualClock:
    """Time that only moves when told; `ahead` is the error of this clock."""

    def __init__(self, base: VirtualClock | None = None, ahead: float = 0.0) -> None:
        self.base, self.seconds, self.ahead = base, START, ahead

    def now(self) -> float:
        """Seconds since 1970."""
        return (self.base.now() if self.base else self.seconds) + self.ahead

    def monotonic(self) -> float:
        """The same."""
        return self.now()


class Head:
    """An authority's file and the process that serves it, which may be restarted, and restored from a copy."""

    def __init__(self, folder: Path, rng: random.Random, clock: VirtualClock, schema: Schema = SCHEMA) -> None:
        self.folder, self.rng, self.clock, self.schema = folder, rng, clock, schema
        self.path = folder / "head.db"
        self.copies: list[tuple[float, Path]] = []
        self.counts: dict[str, int] = {}
        self.claims: dict[str, dict[str, Any]] = {}
        self.trace = sha256()
        self.scopes, self.inline_rows, self.guard_held = dict(SCOPES), 5000, 1000
        self.images = 20_000, 2  # records and askers from which on one is made
        self.snapshot_age_s = 0.0
        self.after_answer: Callable[[], None] = lambda: None
        self.start()

    def start(self) -> None:
        """Opens the file, as a new process does."""
        self.store = SQLiteStore(self.path, clock=self.clock, random=self.rng.randbytes)
        self.authority = Authority(
            self.store, self.schema, offer=OFFER, scopes=self.scopes, files=str(self.folder / "files"),
            snapshot_age_s=self.snapshot_age_s, random=self.rng.randbytes, background=at_once,
        )  # fmt: skip
        self.authority.allow("sell", writes={Order: ["insert", "update", "delete"], Item: ["insert", "update", "delete"]})
        self.puller = self.authority.puller
        self.puller.inline_rows, self.puller.guard_held = self.inline_rows, self.guard_held
        images = self.puller.answering.images
        images.least, images.asked_least = self.images
        self.puller.answering.stale = 1 if images.least == 1 else STALE
        self.db = apsw.Connection(str(self.path))  # another program's
        self.db.set_busy_timeout(5000)

    def stop(self) -> None:
        """Closes everything; what was counted is kept."""
        for kind, n in self.puller.counts.items():
            self.counts[kind] = self.counts.get(kind, 0) + n
        self.db.close()
        self.authority.close()

    def restart(self) -> None:
        """A new process on the same file."""
        self.stop()
        self.start()

    def twin(self) -> Head:
        """Another process on the same file."""
        other = copy.copy(self)
        other.start()
        return other

    def sql(self, sql: str, *bindings: Any) -> None:
        """A plain write by another program; what the tables refuse does not happen."""
        with suppress(apsw.ConstraintError):
            self.db.execute(sql, bindings)

    def copy(self) -> None:
        """Takes a backup."""
        path = self.folder / f"copy{len(self.copies)}.db"
        target = apsw.Connection(str(path))
        with target.backup("main", self.db, "main") as backup:
            while not backup.done:
                backup.step(1000)
        target.close()
        self.copies.append((self.clock.now(), path))

    def restore(self, n: int) -> None:
        """Puts a backup in the place of the file; later backups are forgotten."""
        self.stop()
        for tail in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.remove(f"{self.path}{tail}")
        shutil.copyfile(self.copies[n][1], self.path)
        del self.copies[n + 1 :]
        self.start()

    def handle(self, body: bytes, identity: str) -> bytes:
        """Answers a request; every byte of both goes into the trace."""
        answer = self.authority.handle(body, identity, self.claims[identity])
        self.trace.update(body + answer)
        self.after_answer()
        return answer


class Dev:
    """A replica's file and the process that uses it."""

    def __init__(self, folder: Path, head: Head, identity: str, ahead: float = 0.0, schema: Schema = SCHEMA) -> None:
        self.path, self.head, self.identity, self.schema = folder / f"{identity}.db", head, identity, schema
        self.clock = VirtualClock(head.clock, ahead)
        self.chosen: Chosen = {}
        self.zone = "UTC"
        self.until: float | None = None
        self.answers: list[m.Answer] = []
        self.open()

    def open(self) -> None:
        """Opens the file, as a new process does."""
        self.store = ReplicaStore(self.path, self.schema, self.identity, clock=self.clock, random=self.head.rng.randbytes)
        self.exchanger = Exchanger(self.store)

    def reopen(self, schema: Schema | None = None) -> None:
        """A new process on the same file."""
        self.exchanger.arrivals.release()
        self.store.close()
        self.schema = schema or self.schema
        self.open()

    def select(self, chosen: Chosen, zone: str = "UTC", until: float | None = None) -> None:
        """Saves a selection."""
        self.chosen, self.zone, self.until = chosen, zone, until
        with self.store.write(0):
            self.store.set_meta("selection", self.selection().encode())

    def selection(self) -> Selection:
        """What is chosen."""
        return selection_of(self.chosen, self.identity, self.zone, self.until)

    def serve(self, effect: Effect) -> bytes:
        """What the authority gives back."""
        if isinstance(effect, Fetch):
            return self.head.authority.fetch(effect.name, effect.offset, self.identity)
        body = self.head.handle(effect.body, self.identity)
        self.answers.append(decode_answer(body))
        return body

    def run(self, steps: Steps) -> Any:
        """Drives an exchange to its end."""
        try:
            effect = next(steps)
            while True:
                effect = steps.send(self.serve(effect))
        except StopIteration as stop:
            return stop.value

    def pull(self, *, report: bool = False, load: bool = False) -> Any:
        """One pull."""
        return self.run(self.exchanger.pull(report=report, load=load))

    def groups(self) -> list[Group]:
        """The groups as they stand."""
        return groups_of(self.store, self.store.reader())

    def push(self) -> Any:
        """One push."""
        return self.run(self.exchanger.push())

    def kinds(self) -> list[str]:
        """The kinds of the answers since the last call."""
        found = [type(a).__name__ for a in self.answers]
        self.answers.clear()
        return found

    def write(self, *statements: tuple[str, tuple[Any, ...]]) -> bool:
        """One local transaction; False when the statements changed nothing or were refused."""
        try:
            with self.store.write(CAPTURING) as db:
                for sql, bindings in statements:
                    db.execute(sql, bindings)
                self.store.gate(APPLYING)
                id_ = uuid7(int(self.clock.now() * 1000), self.head.rng.randbytes(10))
                made = self.store.outbox.capture(id_, "sell", self.clock.now())
                return made is not None
        except (apsw.ConstraintError, OfflinekitError):
            return False

    def outbox(self) -> int:
        """How many mutations wait."""
        return int(self.store.reader().execute("SELECT count(*) FROM ok_mutation WHERE state='pending'").get)


def day_of(head: Head, days: int = 0) -> str:
    """The day by the authority's clock, moved."""
    return (datetime.fromtimestamp(head.clock.now(), UTC).date() + timedelta(days=days)).isoformat()


def claims_of(rng: random.Random, rep: str) -> Mapping[str, Any]:
    """Claims as an identity provider might give them, with one that nothing names."""
    return {
        "rep": rep,
        "hide": rng.choice([[], ["g0"], ["g1"], ["g0", "g2"]]),
        "region": rng.choice(["north", "south"]),
        "big": rng.choice([50, 80]),
        "exp": rng.randrange(10**6),
    }
