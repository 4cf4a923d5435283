"""A small head office and devices of its representatives, for the tests of this folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from attrs import define

from offlinekit import Authority, Link, Rejection, Replica
from offlinekit.clock import Clock
from offlinekit.transport import Memory
from offlinekit_portal.company import Company
from offlinekit_portal.contract import Customer, Order, OrderItem, Price, Product, offer, schema
from offlinekit_portal.office import DATABASE, PASSWORD_VARIABLE, build, open_authority
from offlinekit_portal.places import REPS
from offlinekit_portal.refusals import facts_of

TODAY = date(2026, 11, 24)
PASSWORD = "correct-horse"
PATIENCE_S = 30
CLAIMS: dict[str, Mapping[str, Any]] = {rep.code: {"rep": rep.code, "price_lists": list(rep.lists)} for rep in REPS}


def build_office(folder: Path, products: int = 210, customers: int = 100, prospects: int = 20) -> Path:
    """Makes a small company's database in a folder."""
    before = os.environ.get(PASSWORD_VARIABLE)
    os.environ[PASSWORD_VARIABLE] = PASSWORD
    try:
        build(folder, Company(TODAY, products=products, customers=customers, prospects=prospects))
    finally:
        if before is None:
            del os.environ[PASSWORD_VARIABLE]
        else:
            os.environ[PASSWORD_VARIABLE] = before
    return folder


@contextmanager
def office_from(template: Path, folder: Path, clock: Clock | None = None) -> Iterator[Authority]:
    """An authority over a copy of the database."""
    shutil.copy(template / DATABASE, folder / DATABASE)
    authority = open_authority(folder / DATABASE, folder / "files", clock)
    authority.puller.snapshot_age_s = 0  # the clock stands still, so that a shared snapshot would never grow old
    try:
        yield authority
    finally:
        authority.close()


@define
class Line:
    """A line of an order to be placed."""

    product: str
    price: Decimal
    quantity: int = 1
    discount: Decimal = Decimal(0)


@define
class Device:
    """A representative's device."""

    replica: Replica
    link: Link

    def customers(self) -> list[Customer]:
        return self.replica.select(Customer).order_by(Customer.code).all()

    def prices(self, customer: Customer, count: int = 3) -> list[Line]:
        """Lines over the first products, at the list's price."""
        found = self.replica.select(Price).where(Price.price_list == customer.price_list).order_by(Price.product).limit(count)
        return [Line(price.product, price.price) for price in found.all()]

    def order(self, customer: Customer, lines: Sequence[Line], /, **changes: Any) -> UUID:
        """Places an order whose totals are nonsense, which the head office must not believe."""
        values: dict[str, Any] = {"customer": customer.code, "price_list": customer.price_list, "term": customer.term}
        values |= {"placed": TODAY} | changes
        with self.replica.transaction("place_order") as tx:
            order = tx.insert(Order(**values, total=Decimal("0.01")))
            for n, line in enumerate(lines, 1):
                tx.insert(OrderItem(order=order.id, line=n, product=line.product, quantity=line.quantity, price=line.price,
                                    discount=line.discount, total=Decimal("0.02")))  # fmt: skip
        self.sync()
        return order.id

    def sync(self) -> None:
        self.link.wait_synced(timeout=PATIENCE_S)

    def refusal(self) -> tuple[Rejection, dict[str, str | int]]:
        """The only rejection, and its figures."""
        (rejection,) = self.replica.rejections()
        return rejection, facts_of(rejection.message)[1]


@contextmanager
def device_of(rep: str, authority: Authority, path: Path, transport: Any = None) -> Iterator[Device]:
    """A device with all of a representative's customers, all products and their history."""
    replica = Replica.open(path, schema, offer=offer, identity=rep)
    try:
        replica.configure().quick("my_customers").quick("catalogue").include("prices").include("history").save()
        link = replica.start_sync(transport or Memory(authority, lambda: (rep, CLAIMS[rep])), every=3600)
        link.wait_synced(timeout=PATIENCE_S)
        yield Device(replica, link)
    finally:
        replica.close()


def stock(authority: Authority, product: str) -> int:
    found = authority.get(Product, product)
    assert found is not None
    return found.stock


def customer(authority: Authority, code: str) -> Customer:
    found = authority.get(Customer, code)
    assert found is not None
    return found
