"""The authority of offlinekit, in a process that talks; without preparation until devices have asked for the same twice."""

from __future__ import annotations

import asyncio
import inspect
import sys
import time
from typing import Any

from aiohttp import web

from benchmarks.catalogue import VARIANTS, Line, Order
from benchmarks.peers.talk import records, talk
from benchmarks.serve import authority_of, identified, make
from offlinekit import Authority
from offlinekit_adapters.aiohttp_server import sync_routes

IMAGE_S = 30.0


async def main(folder: str, data: str) -> None:
    """Serves until nothing more is said."""
    path = f"{folder}/hq.db"
    make(path, sum(1 for _ in records(f"{data}/products.jsonl")))
    authority = authority_of(path, VARIANTS["full"], f"{folder}/files")
    age_s: float = inspect.signature(Authority).parameters["snapshot_age_s"].default

    def change() -> dict[str, Any]:
        with authority.transaction() as tx:
            tx.connection.execute("UPDATE product SET stock=stock+1 WHERE CAST(substr(code, 2) AS INT)%100=0")
        time.sleep(age_s)  # a pull may miss what is younger
        return {}

    def held() -> dict[str, Any]:
        return {"orders": authority.select(Order).count(), "lines": authority.select(Line).count()}

    def prepared() -> dict[str, Any]:
        """Whether an image was made, once it is or nobody can expect it any more."""
        until = time.monotonic() + IMAGE_S
        while not (made := authority.puller.counts.get("image made", 0)) and time.monotonic() < until:
            time.sleep(0.1)
        return {"image": made > 0}

    app = web.Application()
    app.add_routes(sync_routes(authority, authenticate=identified))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    at = f"http://127.0.0.1:{runner.addresses[0][1]}"
    await asyncio.to_thread(talk, {"at": at}, {"change": change, "orders": held, "prepared": prepared})
    await runner.cleanup()
    authority.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
