"""A client of Kinto, in a process that talks: what Kinto leaves to its users in Python, written with the baseline's tables.

Pages of 10,000 records as JSON go into SQLite, with the same indexes and full-text index as the baseline's; orders are sent
25 a request, which is what Kinto takes.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import aiohttp

from benchmarks import naive
from benchmarks.peers.talk import records, talk, timed

RECORDS = "/buckets/bench/collections/{}/records"
PAGE = 10_000
BATCH = 25  # kinto.batch_max_requests


class Client:
    """A device's copy."""

    def __init__(self, at: str, folder: str) -> None:
        self.at, self.db, self.since = at, naive.connect(f"{folder}/device.db"), ""

    def session(self) -> aiohttp.ClientSession:
        """A connection as the only user that there is."""
        return aiohttp.ClientSession(auth=aiohttp.BasicAuth("bench", "bench"), raise_for_status=True)

    async def pull(self, statement: str, **query: str) -> None:
        """All pages of records; what changes meanwhile comes with the next pull."""
        url: str | None = self.at + RECORDS.format("products")
        params: dict[str, str] | None = {"_limit": str(PAGE), **query}
        since = ""
        async with self.session() as session:
            while url:
                async with session.get(url, params=params) as response:
                    rows = (await response.json())["data"]
                    since = since or response.headers["ETag"]
                    url, params = response.headers.get("Next-Page"), None
                with self.db:
                    self.db.executemany(statement, rows)
        self.since = since

    def initial(self) -> None:
        """Everything, for the first time."""
        asyncio.run(self.pull(naive.INSERT["product"]))
        self.db.executescript(naive.CLIENT_INDEXES)
        self.db.execute("PRAGMA wal_checkpoint(truncate)").fetchall()

    def delta(self) -> None:
        """What changed."""
        asyncio.run(self.pull(naive.CHANGE, _since=self.since))

    async def push(self, orders: list[dict[str, Any]]) -> None:
        """Sends orders, each of which is created once, however often it is sent."""
        path = "/v1" + RECORDS.format("orders")
        async with self.session() as session:
            for n in range(0, len(orders), BATCH):
                batch = {
                    "defaults": {"method": "PUT", "headers": {"If-None-Match": "*"}},
                    "requests": [{"path": f"{path}/{order['id']}", "body": {"data": order}} for order in orders[n : n + BATCH]],
                }
                async with session.post(f"{self.at}/batch", json=batch) as response:
                    answers = (await response.json())["responses"]
                assert all(answer["status"] == 201 for answer in answers), answers

    def check(self) -> dict[str, Any]:
        """What is held."""
        rows, stock = self.db.execute("SELECT count(*), sum(stock) FROM product").fetchone()
        return {"rows": rows, "stock": stock}


def main(at: str, folder: str, data: str) -> None:
    """Loads, follows, sends."""
    client, orders = Client(at, folder), list(records(f"{data}/orders.jsonl"))
    talk({}, {
        "initial": lambda: timed(client.initial), "delta": lambda: timed(client.delta), "check": client.check,
        "push": lambda: timed(lambda: asyncio.run(client.push(orders))),
    })  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
