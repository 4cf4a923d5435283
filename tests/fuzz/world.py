"""What the fuzz targets work on: a schema with every kind of field, an authority with two tenants, and a replica to be reset."""

from __future__ import annotations

import atexit
import os
import random
import shutil
import tempfile
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from hashlib import sha256
from typing import Any
from uuid import UUID

import msgspec

from offlinekit import (
    Advanced,
    Always,
    Authority,
    Collection,
    Field,
    Include,
    Offer,
    Quick,
    Replica,
    Schema,
    SQLiteStore,
    claim,
    everything,
    field,
    param,
    today,
)
from offlinekit.exchange import Effect, Exchanger, Fetch, Send, Steps
from offlinekit.protocol import messages as m
from offlinekit.protocol.state import state_digest
from offlinekit.schema import projection_digest
from offlinekit.testing.pair import MovableClock

__all__ = ["ANA", "BOB", "OFFER", "SCHEMA", "Device", "Head", "repaired", "scratch"]

ANA, BOB = ("ana", {"rep": "a"}), ("bob", {"rep": "b"})


class Colour(Enum):
    """For a field of words."""

    RED = "red"
    BLUE = "blue"


class City(Collection):
    """Bounded by nothing."""

    code: Field[str] = field(key=True)
    name: Field[str] = field(search=True)


class Customer(Collection):
    """Bounded by a claim."""

    code: Field[str] = field(key=True)
    name: Field[str] = field(search=True)
    city: Field[str | None] = field(ref=City, default=None)
    rep: Field[str]
    since: Field[date | None] = field(default=None)
    blocked: Field[int] = field(online_only=True, default=0)


class Order(Collection, writable=True):
    """Bounded by its customer; has a field of every kind."""

    id: Field[str] = field(key=True)
    customer: Field[str] = field(ref=Customer)
    total: Field[Decimal] = field(scale=2, default=Decimal(0))
    weight: Field[float | None] = field(default=None)
    paid: Field[bool] = field(default=False)
    at: Field[datetime | None] = field(default=None)
    colour: Field[Colour | None] = field(default=None)
    ref: Field[UUID | None] = field(default=None)
    photo: Field[bytes | None] = field(default=None)
    extra: Field[list[int] | None] = field(default=None)


class Line(Collection, writable=True):
    """Has a key of two fields."""

    order: Field[str] = field(key=True, ref=Order)
    number: Field[int] = field(key=True)


class Part(Collection, own_file=True):
    """Stands in a file of its own."""

    sku: Field[str] = field(key=True)
    name: Field[str] = field(search=True)
    price: Field[int] = field(default=0)


SCHEMA = Schema(City, Customer, Order, Line, Part, intents=["sell"])
OFFER = Offer(
    Quick("mine", Customer, everything),
    Quick("in_city", Customer, Customer.city == param("city")),
    Quick("like", Customer, Customer.name.contains(param("text"))),
    Quick("new", Customer, Customer.since >= today(-30)),
    Quick("orders", Order, everything),
    Quick("parts", Part, Part.sku.is_in(param("skus"))),
    Include("of", Customer, Order.customer, Line.order),
    advanced=[Customer.city, Customer.name, Order.total, Order.at, Advanced(Part.price, operators=("<", ">="))],
    always=[Always(City)],
)
SCOPES = {
    City: everything,
    Customer: (Customer.rep == claim("rep")) & (Customer.blocked == 0),
    Order: Order.customer.within(everything),
    Line: Line.order.within(everything),
    Part: everything,
}
_MEMORY = "/dev/shm"


def scratch() -> str:
    """A folder in memory where there is one, removed at the end."""
    folder = tempfile.mkdtemp(prefix="offlinekit-fuzz-", dir=_MEMORY if os.path.isdir(_MEMORY) else None)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


class Head:
    """An authority with some records of ana's and of bob's, made if the folder has none; with the chances of one seed."""

    def __init__(self, folder: str) -> None:
        self.clock, chance = MovableClock(), random.Random(7).randbytes
        self.authority = Authority(
            SQLiteStore(os.path.join(folder, "head.db"), clock=self.clock, random=chance), SCHEMA, offer=OFFER, scopes=SCOPES,
            files=os.path.join(folder, "files"), snapshot_age_s=0, random=chance,
        )  # fmt: skip
        self.authority.allow("sell", writes={Order: ["insert", "update", "delete"], Line: ["insert", "update", "delete"]})
        if self.authority.select(City).count():
            return
        self.authority.load(City(code=c, name=n) for c, n in (("r", "Recife"), ("s", "São Paulo")))
        self.authority.load(
            Customer(code=f"{rep}{n}", name=f"{rep} {n}", city="rs"[n % 2], rep=rep) for rep in "ab" for n in range(4)
        )
        self.authority.load(Order(id=f"o{c}", customer=c, total=Decimal(5)) for c in ("a0", "a1", "b0"))
        self.authority.load(Part(sku=f"{n}", name="bolt", price=n) for n in range(6))

    def answer(self, effect: Effect, who: tuple[str, Mapping[str, Any]] = ANA) -> bytes:
        """What it gives back for an effect."""
        if isinstance(effect, Fetch):
            return self.authority.fetch(effect.name, effect.offset, who[0])
        return self.authority.handle(effect.body, *who)

    def run(self, steps: Steps, who: tuple[str, Mapping[str, Any]] = ANA) -> Any:
        """Drives an exchange to its end."""
        try:
            effect = next(steps)
            while True:
                effect = steps.send(self.answer(effect, who))
        except StopIteration as stop:
            return stop.value


class Device:
    """Ana's replica, with an order that is not sent yet, made if the folder has none; `reset` makes it what it was."""

    def __init__(self, folder: str, head: Head) -> None:
        self.folder, self.origin = os.path.join(folder, "device"), os.path.join(folder, "origin")
        self.clock = head.clock
        if os.path.isdir(self.origin):
            self.open()
            return
        os.mkdir(self.folder)
        self.open()
        self.replica.configure().quick("mine").quick("orders").quick("parts", skus=["1", "2"]).include("of").until(None).save()
        for load in (False, True, False):
            head.run(self.exchanger.pull(load=load))
        with self.replica.transaction("sell") as tx:
            tx.insert(Order(id="new", customer="a0"))
            tx.insert(Line(order="new", number=1))
        self.replica.close()
        shutil.copytree(self.folder, self.origin)
        self.open()

    def open(self) -> None:
        """Opens the files."""
        path = os.path.join(self.folder, "ana.db")
        self.replica = Replica.open(path, SCHEMA, offer=OFFER, identity="ana", zone="UTC", clock=self.clock)
        self.exchanger = Exchanger(self.replica.store)

    def reset(self) -> None:
        """As it was made."""
        self.replica.close()
        shutil.rmtree(self.folder)
        shutil.copytree(self.origin, self.folder)
        self.open()

    def ask(self, steps: Steps) -> m.Pull | m.Preview | m.Push | m.Query:
        """The first request of an exchange."""
        from offlinekit.protocol.codec import decode_request

        effect = next(steps)
        assert isinstance(effect, Send)
        return decode_request(effect.body)


def repaired(request: Any) -> Any:
    """A request whose digests fit its contents, so that what a mutation did to them is looked at."""
    fields: dict[bytes, dict[str, list[str]]] = {}
    for names in (request.fields or {}).values():
        fields[projection_digest(names)] = names
    changes: dict[str, Any] = {"fields": fields} if fields else {}
    if request.fields and request.projection in request.fields:
        changes["projection"] = projection_digest(request.fields[request.projection])
    if isinstance(request, m.Pull) and request.table is not None:
        table = request.table
        if request.selection is not None:
            table = msgspec.structs.replace(table, selection=sha256(request.selection).digest()[:16])
        changes |= {"table": table, "state": state_digest(table, changes.get("projection", request.projection))}
    return msgspec.structs.replace(request, **changes)
