"""The client of the naive baseline, in a process that talks."""

from __future__ import annotations

import sys
from typing import Any

from benchmarks.device import Naive
from benchmarks.peers.talk import records, talk


def main(at: str, folder: str, data: str) -> None:
    """Loads, follows, sends."""
    device = Naive(folder, at)

    def check() -> dict[str, Any]:
        rows, stock = device.client.db.execute("SELECT count(*), sum(stock) FROM product").fetchone()
        return {"rows": rows, "stock": stock}

    orders = sum(1 for _ in records(f"{data}/orders.jsonl"))
    talk({}, {"initial": device.load, "delta": device.pull, "push": lambda: device.push(orders), "check": check})


if __name__ == "__main__":
    main(*sys.argv[1:])
