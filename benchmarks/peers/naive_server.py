"""The server of the naive baseline, in a process that talks."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from aiohttp import web

from benchmarks import naive
from benchmarks.data import CUSTOMER, customer, customers_of
from benchmarks.peers.talk import records, talk

LATER = "2027-01-01 00:00:00.000000"  # than everything in the data


async def main(folder: str, data: str) -> None:
    """Serves until nothing more is said."""
    path = f"{folder}/hq.db"
    db = naive.connect(path)
    with db:
        rows = db.executemany(naive.INSERT["product"], records(f"{data}/products.jsonl")).rowcount
        customers = (dict(zip(CUSTOMER, customer(n), strict=True)) for n in range(customers_of(rows)))
        db.executemany(naive.INSERT["customer"], customers)
    db.close()

    def change() -> dict[str, Any]:
        with naive.connect(path) as db:
            db.execute(f"UPDATE product SET stock=stock+1, updated_at='{LATER}' WHERE CAST(substr(code, 2) AS INT)%100=0")
        return {}

    def held() -> dict[str, Any]:
        orders, lines = (
            naive.connect(path).execute("SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM line)").fetchone()
        )
        return {"orders": orders, "lines": lines}

    runner = web.AppRunner(naive.serve(path), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    at = f"http://127.0.0.1:{runner.addresses[0][1]}"
    await asyncio.to_thread(talk, {"at": at}, {"change": change, "orders": held})
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
