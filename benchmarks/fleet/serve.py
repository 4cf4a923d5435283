"""An authority's process of the fleet: `python -m benchmarks.fleet.serve hq.db`; the first line that it prints is its port.

`/bench/counts` tells what it counted, the seconds of CPU that it took and its memory. A device's bearer token is its number.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from aiohttp import web

from benchmarks.fleet.company import authority_of
from offlinekit_adapters.aiohttp_server import Verified, sync_routes


def identified(request: web.Request) -> Verified:
    """Who asks: whoever the token says."""
    number = request.headers.get("Authorization", "").removeprefix("Bearer ")
    return (f"rep-{number}", {"rep": int(number)}) if number.isdecimal() else None


def resident_mb() -> float | None:
    """The memory of this process; None where the system does not tell."""
    status = Path("/proc/self/status")
    found = [line for line in status.read_text().splitlines() if line.startswith("VmRSS")] if status.exists() else []
    return int(found[0].split()[1]) / 1024 if found else None


async def serve(path: str) -> None:
    """Serves until it is killed."""
    authority = authority_of(path, f"{path}.files")

    async def counts(_: web.Request) -> web.Response:
        told = {"counts": authority.puller.counts, "cpu_s": time.process_time(), "rss_mb": resident_mb()}
        return web.json_response(told)

    app = web.Application()
    app.add_routes(sync_routes(authority, authenticate=identified))
    app.add_routes([web.get("/bench/counts", counts)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
