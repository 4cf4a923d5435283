"""A device of a benchmark, as a process: it takes one order a line on its standard input and prints what came of it as JSON.

    python -m benchmarks.device ours FOLDER http://127.0.0.1:8000 --identity=rep-1 --variant=full
    {"do": "load"}

What is timed stands between two looks at the clock in here, so that starting the process and importing are not part of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import aiohttp

from benchmarks import naive
from benchmarks.catalogue import VARIANTS, Customer, Draft, DraftLine, Line, Order, Product, group_names
from benchmarks.data import SEED, WORDS
from benchmarks.waiting import waits_beside
from offlinekit import Link, Replica, SyncReport, new_id
from offlinekit.replica import MutationHandle
from offlinekit.transport import Arrived
from offlinekit_adapters.http import HTTP

LINES = 10
PATIENCE_S = 900.0
LIMIT = 10_000


class Counted(HTTP):
    """The transport, which counts the bytes of bodies, and kills its process when so many have come."""

    calls = sent = come = 0
    kill_at: float | None = None

    async def exchange(self, request: bytes, arrived: Arrived | None = None) -> bytes:
        """Counts both bodies."""
        self.sent += len(request)
        answer = await super().exchange(request, self._watched(arrived))
        return self._count(answer)

    async def fetch(self, name: str, offset: int, arrived: Arrived | None = None) -> bytes:
        """Counts the part."""
        return self._count(await super().fetch(name, offset, self._watched(arrived)))

    def _count(self, body: bytes) -> bytes:
        self.calls += 1
        self.come += len(body)
        return body

    def _watched(self, arrived: Arrived | None) -> Arrived:
        def told(here: int, whole: int) -> None:
            if self.kill_at is not None and self.come + here >= self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if arrived is not None:
                arrived(here, whole)

        return told


def expect(found: Mapping[str, Any], truth: Mapping[str, Any]) -> None:
    """Raises where what is held is not what the authority holds."""
    if wrong := [f"{name}: {found[name]!r:.200} and not {truth[name]!r:.200}" for name in found if found[name] != truth[name]]:
        raise AssertionError("wrong data: " + "; ".join(wrong))


class Ours:
    """A replica."""

    def __init__(self, folder: str, url: str, identity: str, variant: str) -> None:
        self.path, self.identity, self.variant = f"{folder}/device.db", identity, VARIANTS[variant]
        self.url, self.http = url, Counted(f"{url}/sync", bearer=identity, answer=600)
        self.replica: Replica | None = None
        self.link: Link | None = None
        self.reports: list[SyncReport] = []

    def open(self) -> Replica:
        """The replica, opened when first needed."""
        if self.replica is None:
            self.replica = Replica.open(self.path, self.variant.schema, offer=self.variant.offer, identity=self.identity)
        return self.replica

    def choose(self, groups: list[int] | None) -> None:
        """Saves a selection: products of these groups, or all of them."""
        new = self.open().configure().until(None)
        (new.quick("all") if groups is None else new.quick("groups", groups=group_names(groups))).save()

    def sync(self) -> dict[str, Any]:
        """Syncs until all is there."""
        calls, before, started = self.http.calls, self.http.sent + self.http.come, time.perf_counter()
        if self.link is None:
            self.link = self.open().start_sync(self.http, every=3600)
            self.link.on_status(self._noted)
        self.link.wait_synced(timeout=PATIENCE_S)
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "bytes": self.http.sent + self.http.come - before, "calls": self.http.calls - calls}

    def _noted(self, _: object) -> None:
        """Keeps the report of each round."""
        if self.link is not None and not any(r is self.link.report for r in self.reports):
            self.reports.append(self.link.report)

    def stop(self) -> None:
        """Ends the sync."""
        if self.link is not None:
            self.link.stop()
            self.link = None

    # -- what is asked for

    def load(self, groups: list[int] | None = None, small: int = 0, kill_at: float | None = None) -> dict[str, Any]:
        """A new replica until everything is there; and when the small collection was."""
        self.http.kill_at = kill_at
        usable: list[float] = []
        started = time.perf_counter()
        replica = self.open()

        def looked(_: object) -> None:
            if replica.select(Customer).count() == small:
                usable.append(time.perf_counter() - started)

        replica.on_change(looked, Customer)
        self.choose(groups)
        found = self.sync()
        return {**found, "seconds": time.perf_counter() - started, "usable": usable[0] if usable else None}

    def edit(self, groups: list[int] | None = None) -> dict[str, Any]:
        """Chooses otherwise, and syncs; and how many records moved."""
        self.reports.clear()
        started = time.perf_counter()
        self.choose(groups)
        found = self.sync()
        seconds = time.perf_counter() - started
        name = self.variant.schema.info(self.variant.product).name
        put, drop = (sum(getattr(r, way).get(name, 0) for r in self.reports) for way in ("received", "dropped"))
        return {**found, "seconds": seconds, "put": put, "drop": drop}

    def check(self, truth: dict[str, Any]) -> None:
        """Compares what the public reads tell with the truth."""
        replica, product = self.open(), self.variant.product
        count, stock, price = replica.sql("SELECT count(*), sum(stock), sum(price) FROM product")[0]
        one = replica.get(product, truth["one"][0])
        found: dict[str, Any] = {
            "rows": count, "stock": stock, "price": price, "customers": replica.select(Customer).count(),
            "one": None if one is None else list(one._stored.values()),
            "brand": sorted(p.code for p in replica.select(product).where(product.brand == truth["of_brand"]).limit(LIMIT).all()),
        }  # fmt: skip
        if product is Product:
            found["search"] = sorted(p.code for p in replica.select(product).search(truth["text"]).limit(LIMIT).all())
        expect(found, truth)

    def during(self, groups: list[int] | None = None) -> dict[str, Any]:
        """Saves and reads while another selection is loaded; milliseconds of each."""
        self.choose(groups)
        replica, codes = self.open(), random.Random(SEED)
        held = [p.code for p in replica.select(Product).limit(LIMIT).all()]
        reads: list[Callable[[], object]] = [
            lambda: replica.get(Product, codes.choice(held)),
            lambda: replica.select(Product).where(Product.group == "g001").limit(20).all(),
            lambda: replica.select(Product).search("paraf chave").limit(20).all(),
        ]
        return waits_beside(self._save_order, reads, self.sync)

    def _save_order(self) -> MutationHandle:
        with self.open().transaction("order") as tx:
            order = tx.insert(Order(customer="C000001"))
            for n in range(LINES):
                tx.insert(Line(order=order.id, product=f"P{n:07}", quantity=n + 1, price=Decimal("1.50")))
        return tx.mutation

    def _save_draft(self) -> None:
        with self.open().transaction() as tx:
            draft = tx.insert(Draft(customer="C000001"))
            for n in range(LINES):
                tx.insert(DraftLine(order=draft.id, product=f"P{n:07}", quantity=n + 1, price=Decimal("1.50")))

    def push(self, orders: int) -> dict[str, Any]:
        """Writes orders while there is no line, then sends them: until all are answered, and until the sync is over."""
        self.stop()
        started = time.perf_counter()
        saved = [self._save_order() for _ in range(orders)]
        wrote, started = time.perf_counter() - started, time.perf_counter()
        replica = self.open()
        self.link = replica.start_sync(self.http, every=3600)
        saved[-1].settled(timeout=PATIENCE_S)
        answered = time.perf_counter() - started
        self.link.wait_synced(timeout=PATIENCE_S)
        synced = time.perf_counter() - started
        if left := [*replica.pending(), *replica.parked(), *replica.rejections()]:
            raise AssertionError(f"{len(left)} orders were not accepted")
        return {"seconds": answered, "synced_s": synced, "write_s": wrote}

    def capture(self, orders: int) -> dict[str, Any]:
        """Medians of the seconds of a transaction with and without capture, which take turns; nothing is sent."""
        took: dict[str, list[float]] = {"captured": [], "uncaptured": []}
        for _ in range(orders):
            for name, save in (("captured", self._save_order), ("uncaptured", self._save_draft)):
                started = time.perf_counter()
                save()
                took[name].append(time.perf_counter() - started)
        return {name: statistics.median(seconds) for name, seconds in took.items()}

    def idle(self, times: int) -> dict[str, Any]:
        """Pulls that find nothing, beside empty requests to the same server: medians in seconds, and bytes of one pull."""
        self.sync()
        assert self.link is not None
        pulls, rounds, found = [], [], {}
        for _ in range(times):
            found = self.sync()
            rounds.append(found["seconds"])
            pulls.append(self.link.report.seconds["pull"])
        floor = asyncio.run(self._floor(times))
        return {"pull_s": statistics.median(pulls), "round_s": statistics.median(rounds), "floor_s": floor,
                "bytes": found["bytes"], "calls": found["calls"]}  # fmt: skip

    async def _floor(self, times: int) -> float:
        took = []
        async with aiohttp.ClientSession() as session:
            for _ in range(times):
                started = time.perf_counter()
                async with session.post(f"{self.url}/bench/empty", data=b"") as response:
                    await response.read()
                took.append(time.perf_counter() - started)
        return statistics.median(took)

    def search(self, times: int) -> dict[str, float]:
        """Milliseconds of a search of two words as they are typed, the first twenty of what is found."""
        chance, took, replica = random.Random(SEED), [], self.open()
        for _ in range(times):
            text = f"{chance.choice(WORDS)[: chance.randrange(3, 6)]} {chance.choice(WORDS)[:3]}"
            started = time.perf_counter()
            replica.select(Product).search(text).limit(20).all()
            took.append(1000 * (time.perf_counter() - started))
        return {"p50_ms": statistics.median(took), "p95_ms": sorted(took)[int(times * 0.95)], "max_ms": max(took)}


class Naive:
    """The baseline's client."""

    def __init__(self, folder: str, url: str) -> None:
        self.client = naive.Client(f"{folder}/naive.db", url)

    def load(self) -> dict[str, Any]:
        """Everything; also when the rows were in place with their keys."""
        started = time.perf_counter()
        in_place = asyncio.run(self.client.load())
        return {"seconds": time.perf_counter() - started, "in_place": in_place}

    def pull(self) -> dict[str, Any]:
        """What changed."""
        started = time.perf_counter()
        count = asyncio.run(self.client.pull())
        return {"seconds": time.perf_counter() - started, "rows": count}

    def push(self, orders: int) -> dict[str, Any]:
        """Writes orders while there is no line, then sends them."""
        started = time.perf_counter()
        for _ in range(orders):
            order = str(new_id())
            lines = [{"id": str(new_id()), "order": order, "product": f"P{n:07}", "quantity": n + 1, "price": 150}
                     for n in range(LINES)]  # fmt: skip
            self.client.write({"id": order, "customer": "C000001", "placed": "2026-11-24", "note": "", "lines": lines})
        wrote, started = time.perf_counter() - started, time.perf_counter()
        count = asyncio.run(self.client.push())
        if count != orders:
            raise AssertionError(f"{count} orders were sent and not {orders}")
        return {"seconds": time.perf_counter() - started, "write_s": wrote}

    def check(self, truth: dict[str, Any]) -> None:
        """Compares what is held with the truth."""
        db = self.client.db
        count, stock, price = db.execute("SELECT count(*), sum(stock), sum(price) FROM product").fetchone()
        words = " ".join(f"{word}*" for word in truth["text"].split())
        searched = "SELECT code FROM product WHERE rowid IN (SELECT rowid FROM search WHERE search MATCH ?) ORDER BY 1"
        found = {
            "rows": count, "stock": stock, "price": price,
            "customers": db.execute("SELECT count(*) FROM customer").fetchone()[0],
            "one": list(db.execute("SELECT * FROM product WHERE code=?", (truth["one"][0],)).fetchone()),
            "brand": [r[0] for r in db.execute("SELECT code FROM product WHERE brand=? ORDER BY 1", (truth["of_brand"],))],
            "search": [r[0] for r in db.execute(searched, (words,))],
        }  # fmt: skip
        expect(found, truth)


def main() -> None:
    """Takes orders until there are no more."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=["ours", "naive"])
    parser.add_argument("folder")
    parser.add_argument("url")
    parser.add_argument("--identity", default="rep-1")
    parser.add_argument("--variant", choices=sorted(VARIANTS), default="full")
    options = parser.parse_args()
    device: Ours | Naive = (
        Naive(options.folder, options.url) if options.side == "naive"
        else Ours(options.folder, options.url, options.identity, options.variant)
    )  # fmt: skip
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(getattr(device, order.pop("do"))(**order)), flush=True)


if __name__ == "__main__":
    main()
