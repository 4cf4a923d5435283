"""The authority of the benchmarks, as a process.

    python -m benchmarks.serve hq.db --make 100000                  makes the authority's file, with the data of the seed
    python -m benchmarks.serve hq.db --files FOLDER                 serves it; the first line that it prints is its port

Beside the routes of the sync it has `/bench/counts`, what the authority counted, and `/bench/empty`, the least that a request
costs. A device's bearer token is its identity.
"""

from __future__ import annotations

import argparse
import asyncio

from aiohttp import web

from benchmarks.catalogue import VARIANTS, Customer, Line, Order, Variant
from benchmarks.data import CUSTOMER, PRODUCT, customer, customers_of, products
from offlinekit import Authority, Collection, Filter, SQLiteStore, everything
from offlinekit_adapters.aiohttp_server import Verified, sync_routes

__all__ = ["authority_of"]


def authority_of(path: str, variant: Variant, files: str | None = None) -> Authority:
    """The authority over a file."""
    scopes: dict[type[Collection], Filter]
    scopes = {variant.product: everything, Customer: everything, Order: everything, Line: everything}
    authority = Authority(SQLiteStore(path), variant.schema, offer=variant.offer, scopes=scopes, files=files)
    authority.allow("order", writes={Order: "insert", Line: "insert"})
    return authority


def make(path: str, rows: int) -> None:
    """Fills a new file, as any program may that writes the authority's tables."""
    authority = authority_of(path, VARIANTS["full"])
    with authority.transaction() as tx:
        for table, fields, records in (
            ("product", PRODUCT, products(rows)),
            ("customer", CUSTOMER, map(customer, range(customers_of(rows)))),
        ):
            columns, marks = ",".join(f'"{name}"' for name in fields), ",".join("?" * len(fields))
            tx.connection.executemany(f"INSERT INTO {table}({columns}) VALUES({marks})", records)
    authority.close()


def identified(request: web.Request) -> Verified:
    """Who asks: whoever the token says."""
    return request.headers.get("Authorization", "").removeprefix("Bearer ") or "nobody", {}


async def serve(path: str, variant: Variant, files: str) -> None:
    """Serves until it is killed."""
    authority = authority_of(path, variant, files)

    async def counts(_: web.Request) -> web.Response:
        return web.json_response(authority.puller.counts)

    async def empty(request: web.Request) -> web.Response:
        await request.read()
        return web.Response()

    app = web.Application()
    app.add_routes(sync_routes(authority, authenticate=identified))
    app.add_routes([web.get("/bench/counts", counts), web.post("/bench/empty", empty)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Makes or serves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path")
    parser.add_argument("--make", type=int)
    parser.add_argument("--files", default="")
    parser.add_argument("--variant", choices=sorted(VARIANTS), default="full")
    options = parser.parse_args()
    if options.make:
        make(options.path, options.make)
    else:
        asyncio.run(serve(options.path, VARIANTS[options.variant], options.files or f"{options.path}.files"))


if __name__ == "__main__":
    main()
