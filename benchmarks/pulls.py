"""What a shared snapshot is worth: pulls a second, idle and beside a steady writer, against a snapshot for each pull.

    python benchmarks/pulls.py                 prints ratios and writes build/pulls.json

Devices pull as fast as they can, in this process and without a network, from an authority of 100,000 products that all of
them hold; another process changes 100 products a second. Both ways of answering take turns, three times; the median counts.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from offlinekit import Always, Authority, Collection, Field, Offer, Schema, SQLiteStore, everything, field
from offlinekit.exchange import Exchanger, Fetch
from offlinekit.store.sqlite.replica_store import ReplicaStore


class Product(Collection):
    """The catalogue."""

    sku: Field[int] = field(key=True)
    stock: Field[int]
    active: Field[bool]


SCHEMA = Schema(Product)
OFFER = Offer(always=[Always(Product, Product.active == True)])  # noqa: E712
WRITER = """
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
started = time.perf_counter()
for n in range(10**9):
    db.execute("UPDATE product SET stock=stock+1 WHERE sku=?", (n * 7919 % int(sys.argv[2]),))
    time.sleep(max(0.0, started + n / 100 - time.perf_counter()))
"""


def pull(authority: Authority, device: ReplicaStore) -> str:
    """One pull; its kind."""
    steps = Exchanger(device).pull()
    try:
        effect = next(steps)
        while True:
            if isinstance(effect, Fetch):
                effect = steps.send(authority.fetch(effect.name, effect.offset, device.identity))
            else:
                effect = steps.send(authority.handle(effect.body, device.identity, {}))
    except StopIteration as stop:
        return str(stop.value.kind)


def rate(authority: Authority, devices: list[ReplicaStore], seconds: float) -> float:
    """Pulls a second."""
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        pull(authority, devices[count % len(devices)])
        count += 1
    return count / (time.perf_counter() - started)


def measure(rows: int, seconds: float, turns: int) -> dict[str, Any]:
    """Both ways by turns, without and with a writer."""
    found: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/hq.db"
        ways = {
            name: Authority(SQLiteStore(path), SCHEMA, offer=OFFER, scopes={Product: everything}, files=f"{folder}/files",
                            snapshot_age_s=age_s)
            for name, age_s in (("each", 0.0), ("shared", 0.25))
        }  # fmt: skip
        ways["each"].load(Product(sku=n, stock=n % 500, active=n % 10 > 0) for n in range(rows))
        devices = [ReplicaStore(f"{folder}/{n}.db", SCHEMA, f"rep-{n}") for n in range(8)]
        for device in devices:
            pull(ways["each"], device)
        for load in ("idle", "100 changes/s"):
            writer = None if load == "idle" else subprocess.Popen([sys.executable, "-c", WRITER, path, str(rows)])
            for _ in range(turns):
                for name, authority in ways.items():
                    rate(authority, devices, 0.5)
                    found.setdefault(load, {}).setdefault(name, []).append(rate(authority, devices, seconds))
            if writer is not None:
                writer.kill()
                writer.wait()
        for device in devices:
            device.close()
        for authority in ways.values():
            authority.close()
    medians = {load: {name: statistics.median(rates) for name, rates in by.items()} for load, by in found.items()}
    return {load: {**by, "ratio": by["shared"] / by["each"]} for load, by in medians.items()}


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    result: dict[str, Any] = {"rows": args.rows, **measure(args.rows, args.seconds, args.turns)}
    result |= {"python": platform.python_version(), "date": datetime.now(UTC).isoformat(timespec="seconds")}
    report = Path(__file__).parent.parent / "build" / "pulls.json"
    report.parent.mkdir(exist_ok=True)
    report.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
