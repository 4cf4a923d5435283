"""How long a save and a read wait while a catalogue arrives: a head office in one process, a device in this one, over HTTP.

    python benchmarks/waits.py --rows 1000000          prints a table and writes build/waits_1000000.json

The catalogue is declared `own_file=True`: two indexes and a full-text index are made for it. Meanwhile one thread commits orders
of one record, another reads by key, by index and by search. The same is measured idle before, so that figures have something
to be compared with.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import apsw
from aiohttp import web

from offlinekit import Always, Authority, Collection, Field, Offer, Replica, Schema, SQLiteStore, everything, field, new_id
from offlinekit_adapters.aiohttp_server import sync_routes
from offlinekit_adapters.http import HTTP

SEED = 20261124
WORDS = [
    "parafuso",
    "porca",
    "arruela",
    "bucha",
    "chave",
    "alicate",
    "martelo",
    "trena",
    "tinta",
    "verniz",
    "rolo",
    "cabo",
    "disjuntor",
    "tomada",
    "lâmpada",
    "broca",
]


class Product(Collection, own_file=True):
    """The catalogue."""

    sku: Field[str] = field(key=True)
    name: Field[str] = field(search=True)
    group: Field[str] = field(index=True)
    brand: Field[str] = field(index=True)
    price: Field[Decimal] = field(scale=2)
    stock: Field[int]
    active: Field[bool]


class Order(Collection, writable=True, name="orders"):
    """What is saved meanwhile."""

    id: Field[UUID] = field(key=True, default_factory=new_id)
    total: Field[int]


SCHEMA = Schema(Product, Order, intents=["order"])
OFFER = Offer(always=[Always(Product)])


def make(chance: random.Random, n: int) -> Product:
    """The n-th product of the seed."""
    words = " ".join(chance.choice(WORDS) for _ in range(3))
    name, brand = f"{words} {chance.randrange(200)} mm", f"b{chance.randrange(400)}"
    return Product(sku=f"{n:07}", name=name, group=f"g{n % 50:02}", brand=brand,
                   price=Decimal(chance.randrange(100, 99_999)) / 100, stock=chance.randrange(500), active=True)  # fmt: skip


def serve(folder: str, port: int, rows: int) -> None:
    """The head office's process."""
    authority = Authority(SQLiteStore(f"{folder}/hq.db"), SCHEMA, offer=OFFER, scopes={Product: everything, Order: everything},
                          files=f"{folder}/files")  # fmt: skip
    authority.allow("order", writes={Order: "insert"})
    chance = random.Random(SEED)
    authority.load(make(chance, n) for n in range(rows))
    app = web.Application()
    app.add_routes(sync_routes(authority, authenticate=lambda request: ("bench", {})))
    web.run_app(app, host="127.0.0.1", port=port, print=None)


class Timed(threading.Thread):
    """Does something again and again, and notes how long each time took."""

    def __init__(self, work: Callable[[], object], pause: float) -> None:
        super().__init__(daemon=True)
        self.work, self.pause, self.waits = work, pause, [0.0]
        self.over = threading.Event()

    def run(self) -> None:
        """Until it is over."""
        while not self.over.wait(self.pause):
            started = time.perf_counter()
            self.work()
            self.waits.append(time.perf_counter() - started)

    def end(self) -> dict[str, float]:
        """Milliseconds: median, 99th percentile, worst; and how often."""
        self.over.set()
        self.join()
        waits = sorted(self.waits[1:]) or [0.0]
        return {
            "n": len(waits), "p50_ms": 1000 * statistics.median(waits), "p99_ms": 1000 * waits[int(len(waits) * 0.99)],
            "max_ms": 1000 * waits[-1],
        }  # fmt: skip


def beside(replica: Replica, during: Callable[[], object]) -> dict[str, Any]:
    """Saves and reads while something happens."""
    chance = random.Random(SEED)

    def save() -> None:
        with replica.transaction("order") as tx:
            tx.insert(Order(total=chance.randrange(9999)))

    def read() -> None:
        replica.get(Product, f"{chance.randrange(1000):07}")
        replica.select(Product).where(Product.group == "g07").limit(20).all()
        replica.select(Product).search("paraf chave").limit(20).all()

    saves, reads = Timed(save, 0.02), Timed(read, 0.01)
    saves.start()
    reads.start()
    started = time.perf_counter()
    during()
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "save": saves.end(), "read": reads.end()}


def searches(replica: Replica) -> dict[str, float]:
    """Milliseconds of a search of two words as they are typed, the first twenty of many."""
    chance, took = random.Random(SEED), []
    for _ in range(200):
        text = f"{chance.choice(WORDS)[: chance.randrange(3, 6)]} {chance.choice(WORDS)[:3]}"
        started = time.perf_counter()
        replica.select(Product).search(text).limit(20).all()
        took.append(1000 * (time.perf_counter() - started))
    return {"n": len(took), "p50_ms": statistics.median(took), "p95_ms": sorted(took)[190], "max_ms": max(took)}


def measure(rows: int) -> dict[str, Any]:
    """Runs both processes."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
        probe.close()
        office = subprocess.Popen([sys.executable, __file__, "--serve", folder, str(port), "--rows", str(rows)])
        try:
            while True:
                with suppress(subprocess.TimeoutExpired):
                    raise SystemExit(f"the head office ended with {office.wait(timeout=0.2)}")
                with socket.socket() as look:
                    if look.connect_ex(("127.0.0.1", port)) == 0:
                        break
            with Replica.open(f"{folder}/device.db", SCHEMA, offer=OFFER, identity="bench") as replica:
                idle = beside(replica, lambda: time.sleep(3))
                link = replica.start_sync(HTTP(f"http://127.0.0.1:{port}/sync", answer=600), every=600)
                load = beside(replica, lambda: link.wait_synced(timeout=900))
                held = replica.select(Product).count()
                return {"rows": held, "idle": idle, "load": load, "search": searches(replica)}
        finally:
            office.kill()
            office.wait()


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--serve", nargs=2, metavar=("FOLDER", "PORT"))
    options = parser.parse_args()
    if options.serve:
        serve(options.serve[0], int(options.serve[1]), options.rows)
        return
    found = measure(options.rows)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    found |= {
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "seed": SEED, "commit": commit,
        "date": datetime.now(UTC).isoformat(timespec="seconds"), "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
    }  # fmt: skip
    report = Path(__file__).parent.parent / "build" / f"waits_{options.rows}.json"
    report.parent.mkdir(exist_ok=True)
    report.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(f"{found['rows']:,} records in {found['load']['seconds']:.1f} s, device peak {found['peak_mb']:.0f} MB")
    for name in ("idle", "load"):
        for what in ("save", "read"):
            w = found[name][what]
            print(
                f"{name:5} {what}: p50 {w['p50_ms']:7.1f}  p99 {w['p99_ms']:7.1f}  worst {w['max_ms']:7.1f} ms  ({w['n']} times)"
            )
    s = found["search"]
    print(f"search: p50 {s['p50_ms']:.2f}  p95 {s['p95_ms']:.2f}  worst {s['max_ms']:.2f} ms")


if __name__ == "__main__":
    main()
