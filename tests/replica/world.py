"""What the replica's tests share: a small schema, an authority with one intent for everything, and how to open the two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from offlinekit.authority import Authority
from offlinekit.conflict import Policy
from offlinekit.nodes import claim, everything
from offlinekit.offer import Advanced, Always, Offer, Quick
from offlinekit.schema import Collection, Field, Schema, field
from offlinekit.testing.pair import Pair, linked_pair

ALL = ("insert", "update", "delete")


class City(Collection):
    """Held by everybody, never written on devices."""

    code: Field[str] = field(key=True)
    name: Field[str] = field(search=True)


class Order(Collection, writable=True):
    """Written on devices."""

    id: Field[str] = field(key=True)
    rep: Field[str] = field(default="r")
    city: Field[str | None] = field(ref=City, default=None)
    total: Field[Decimal] = field(scale=2, default=Decimal(0), ge=0)
    note: Field[str | None] = field(default=None, search=True)
    number: Field[int | None] = field(default=None)
    cost: Field[int] = field(online_only=True, default=0)


class Line(Collection, writable=True):
    """Refers to an order, and has a key of two fields."""

    order: Field[str] = field(key=True, ref=Order)
    n: Field[int] = field(key=True)
    qty: Field[int] = field(default=1)


class Draft(Collection, device_only=True):
    """Never leaves the device."""

    id: Field[str] = field(key=True)
    text: Field[str] = field(default="", search=True)


SCHEMA = Schema(City, Order, Line, Draft, intents=["sell", "other"])
OFFER = Offer(Quick("orders", Order, everything), Quick("lines", Line, everything),
              advanced=[Order.note, Order.total, Advanced(Order.rep)], always=[Always(City, everything)])  # fmt: skip
SCOPES = {City: everything, Order: Order.rep == claim("rep"), Line: everything}


def allow(authority: Authority, hook: Any = None) -> None:
    """Lets devices write everything."""
    authority.intent("sell", writes={Order: ALL, Line: ALL})(hook or (lambda changes, ctx: None))


@contextmanager
def opened(*, hook: Any = None, conflicts: Mapping[type[Collection], Policy] | None = None, folder: str | None = None,
           until: bool = False) -> Iterator[Pair]:  # fmt: skip
    """A pair that has chosen everything and is in sync; with `until` the selection ends with the day."""
    with linked_pair(SCHEMA, offer=OFFER, scopes=SCOPES, identity="rep", claims={"rep": "r"}, conflicts=conflicts,
                     folder=folder) as pair:  # fmt: skip
        allow(pair.authority, hook)
        pair.authority.load([City(code="C", name="São Paulo"), Order(id="a", total=Decimal(1)), Order(id="b", note="Águas")])
        take = pair.replica.configure().quick("orders").quick("lines")
        (take if until else take.until(None)).save()
        pair.sync()
        yield pair
