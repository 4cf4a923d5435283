"""The replica of offlinekit, in a process that talks: two indexes and a full-text index, durable."""

from __future__ import annotations

import sys
from typing import Any

from benchmarks.device import Ours
from benchmarks.peers.talk import records, talk
from offlinekit import new_id


def main(at: str, folder: str, data: str) -> None:
    """Loads, follows, sends."""
    device = Ours(folder, at, f"rep-{new_id()}", "full")

    def check() -> dict[str, Any]:
        rows, stock = device.open().sql("SELECT count(*), sum(stock) FROM product")[0]
        return {"rows": rows, "stock": stock}

    orders = sum(1 for _ in records(f"{data}/orders.jsonl"))
    talk({}, {"initial": device.load, "delta": device.sync, "push": lambda: device.push(orders), "check": check})
    device.stop()
    device.open().close()


if __name__ == "__main__":
    main(*sys.argv[1:])
