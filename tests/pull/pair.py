"""An authority and two devices for tests of single rules."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from tests.pull.world import SCHEMA, Chosen, Dev, Head, VirtualClock, day_of

CLAIMS = {"rep": "r0", "hide": [], "region": "nowhere", "big": 50}
ALL_MINE: Chosen = {"customer": {"quick": {"mine": {}}}}


class Pair:
    """An authority with ten customers, half of them Ana's; her device, and Bob's."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, VirtualClock()
        self.head = Head(folder, random.Random(7), self.clock)
        self.head.claims = {"ana": dict(CLAIMS), "bob": {**CLAIMS, "rep": "r1"}}
        for n in range(10):
            self.customer(n, f"r{n % 2}")
        self.opened: list[Dev] = []
        self.ana, self.bob = self.device("ana"), self.device("bob")

    def device(self, identity: str, schema: Any = SCHEMA) -> Dev:
        """A device."""
        folder = self.folder / str(len(self.opened))
        folder.mkdir()
        self.opened.append(Dev(folder, self.head, identity, schema=schema))
        return self.opened[-1]

    def customer(self, n: int, rep: str) -> None:
        """Writes a customer."""
        self.head.sql("INSERT INTO customer VALUES(?,?,'c0',?,NULL,0,'')", f"k{n}", f"Name {n}", rep)

    def order(self, id_: str, customer: str, days: int = 0, total: int = 60) -> None:
        """Writes an order, placed so many days from today."""
        self.head.sql("""INSERT INTO "order" VALUES(?,?,?,'open',?)""", id_, customer, day_of(self.head, days), total)

    def products(self, count: int) -> None:
        """Writes products, each with a leaflet."""
        for n in range(count):
            self.head.sql("INSERT INTO product VALUES(?,'Cal','g0',1,1)", f"p{n}")
            self.head.sql("INSERT INTO leaflet VALUES(?,?,'t')", n, f"p{n}")

    def sync(self, dev: Dev) -> None:
        """Pulls until nothing moves."""
        for _ in range(6):
            if dev.pull().kind == "same":
                break
        dev.kinds()

    def close(self) -> None:
        """Closes all files."""
        for dev in self.opened:
            dev.store.close()
        self.head.stop()


def shown(dev: Dev, collection: str) -> set[Any]:
    """The first field of every visible record."""
    first = SCHEMA.info(collection).key[0]
    return {k for (k,) in dev.store.reader().execute(f'SELECT "{first}" FROM "{collection}"')}


def sell(dev: Dev, id_: str) -> None:
    """One local transaction that inserts an order."""
    assert dev.write(("""INSERT INTO "order"(id,customer,day,status,total) VALUES(?,'k0',?,'open',1)""", (id_, day_of(dev.head))))
