"""The baseline: what a good engineer writes in an afternoon. Pages of JSON by key, `executemany`, and one POST an order.

    python -m benchmarks.naive hq.db           serves; the first line that it prints is its port

Frozen: a test compares this file with a hash. Whoever changes it says why in docs/performance.md.

The client holds the same two secondary indexes and the same full-text index as a replica, made after the load, because that
is faster; from then on triggers keep the full-text index. At the end everything is on the disk. It knows no deletions, no filters
and no conflicts, and it loads what is loaded from the start when it is interrupted.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from typing import Any

import aiohttp
from aiohttp import web

PAGE = 10_000
PRODUCT = (
    "code", "description", "group", "unit", "price", "stock", "barcode", "brand", "weight", "active", "updated_at", "notes",
)  # fmt: skip
TABLES = """
PRAGMA journal_mode=wal;
PRAGMA synchronous=normal;
CREATE TABLE IF NOT EXISTS product(code TEXT PRIMARY KEY, description TEXT NOT NULL, "group" TEXT NOT NULL, unit TEXT NOT NULL,
  price INTEGER NOT NULL, stock INTEGER NOT NULL, barcode TEXT NOT NULL, brand TEXT NOT NULL, weight REAL NOT NULL,
  active INTEGER NOT NULL, updated_at TEXT NOT NULL, notes TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS customer(code TEXT PRIMARY KEY, name TEXT NOT NULL, city TEXT NOT NULL, phone TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS orders(id TEXT PRIMARY KEY, customer TEXT NOT NULL, placed TEXT NOT NULL, note TEXT NOT NULL,
  sent INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS mark(id INTEGER PRIMARY KEY CHECK(id=1), updated_at TEXT NOT NULL, code TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS line(id TEXT PRIMARY KEY, "order" TEXT NOT NULL, product TEXT NOT NULL, quantity INTEGER NOT NULL,
  price INTEGER NOT NULL);
"""
SERVER_INDEXES = """
CREATE INDEX IF NOT EXISTS product_updated ON product(updated_at, code);
"""
CLIENT_INDEXES = """
CREATE INDEX product_group ON product("group");
CREATE INDEX product_brand ON product(brand);
CREATE INDEX line_order ON line("order");
CREATE VIRTUAL TABLE search USING fts5(description, content='product', content_rowid='rowid', prefix='2 3',
  tokenize='unicode61 remove_diacritics 2');
INSERT INTO search(search) VALUES('rebuild');
CREATE TRIGGER search_insert AFTER INSERT ON product BEGIN
  INSERT INTO search(rowid, description) VALUES(NEW.rowid, NEW.description);
END;
CREATE TRIGGER search_update AFTER UPDATE ON product WHEN OLD.description<>NEW.description BEGIN
  INSERT INTO search(search, rowid, description) VALUES('delete', OLD.rowid, OLD.description);
  INSERT INTO search(rowid, description) VALUES(NEW.rowid, NEW.description);
END;
"""
INSERT = {
    "product": f"INSERT INTO product VALUES({','.join(f':{name}' for name in PRODUCT)})",
    "customer": "INSERT INTO customer VALUES(:code, :name, :city, :phone)",
}
CHANGE = f"{INSERT['product']} ON CONFLICT(code) DO UPDATE SET " + ",".join(f'"{n}"=excluded."{n}"' for n in PRODUCT[1:])
MARK = "INSERT OR REPLACE INTO mark"  # instant and key of the newest product that is held
ORDER = "INSERT OR IGNORE INTO orders(id, customer, placed, note) VALUES(:id, :customer, :placed, :note)"
LINE = "INSERT OR IGNORE INTO line VALUES(:id, :order, :product, :quantity, :price)"


def connect(path: str) -> sqlite3.Connection:
    """Opens the database of either side, and makes its tables."""
    db = sqlite3.connect(path)
    db.row_factory = sqlite3.Row
    db.executescript(TABLES)
    return db


# -- the server


def serve(path: str) -> web.Application:
    """The routes over one database."""
    db = connect(path)
    db.executescript(SERVER_INDEXES)

    async def page(request: web.Request) -> web.Response:
        """A page of a table, by key."""
        table = request.match_info["table"]
        if table not in INSERT:
            raise web.HTTPNotFound
        rows = db.execute(f"SELECT * FROM {table} WHERE code>? ORDER BY code LIMIT ?", (request.query["after"], PAGE))
        return web.json_response([dict(row) for row in rows])

    async def changes(request: web.Request) -> web.Response:
        """A page of the products that changed after an instant; those of one instant by key."""
        since, after = request.query["since"], request.query["after"]
        rows = db.execute("SELECT * FROM product WHERE (updated_at, code)>(?, ?) ORDER BY updated_at, code LIMIT ?",
                          (since, after, PAGE))  # fmt: skip
        return web.json_response([dict(row) for row in rows])

    async def order(request: web.Request) -> web.Response:
        """An order with its lines; one that was sent before changes nothing."""
        sent = await request.json()
        with db:
            db.execute(ORDER, sent)
            db.executemany(LINE, sent["lines"])
        return web.json_response({})

    app = web.Application(client_max_size=1 << 20)
    app.add_routes([web.get("/pages/{table}", page), web.get("/changes", changes), web.post("/orders", order)])
    return app


async def main(path: str) -> None:
    """Serves until it is killed."""
    runner = web.AppRunner(serve(path), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


# -- the client


class Client:
    """A device's copy of it all."""

    def __init__(self, path: str, url: str) -> None:
        self.db, self.url = connect(path), url

    async def load(self) -> float:
        """Everything, for the first time; returns after how many seconds the rows were in place with their keys."""
        started = time.perf_counter()
        async with aiohttp.ClientSession(self.url) as session:
            for table in ("customer", "product"):
                after = ""
                while rows := await self._get(session, f"/pages/{table}", after=after):
                    with self.db:
                        self.db.executemany(INSERT[table], rows)
                    after = rows[-1]["code"]
        in_place = time.perf_counter() - started
        self.db.executescript(CLIENT_INDEXES)
        with self.db:
            self.db.execute(f"{MARK} SELECT 1, updated_at, code FROM product ORDER BY updated_at DESC, code DESC LIMIT 1")
        self.db.execute("PRAGMA wal_checkpoint(truncate)").fetchall()
        return in_place

    async def pull(self) -> int:
        """What changed; returns how many products did."""
        count = 0
        since, after = self.db.execute("SELECT updated_at, code FROM mark").fetchone()
        async with aiohttp.ClientSession(self.url) as session:
            while rows := await self._get(session, "/changes", since=since, after=after):
                since, after = rows[-1]["updated_at"], rows[-1]["code"]
                with self.db:
                    self.db.executemany(CHANGE, rows)
                    self.db.execute(f"{MARK} VALUES(1, ?, ?)", (since, after))
                count += len(rows)
        return count

    def write(self, order: dict[str, Any]) -> None:
        """Keeps an order with its lines, to be sent later."""
        with self.db:
            self.db.execute(ORDER, order)
            self.db.executemany(LINE, order["lines"])

    async def push(self) -> int:
        """Sends the orders that are not sent yet, one by one; returns how many."""
        waiting = self.db.execute("SELECT * FROM orders WHERE NOT sent").fetchall()
        async with aiohttp.ClientSession(self.url) as session:
            for order in waiting:
                lines = self.db.execute('SELECT * FROM line WHERE "order"=?', (order["id"],))
                await self._post(session, "/orders", {**dict(order), "lines": [dict(line) for line in lines]})
                with self.db:
                    self.db.execute("UPDATE orders SET sent=1 WHERE id=?", (order["id"],))
        return len(waiting)

    async def _get(self, session: aiohttp.ClientSession, path: str, **query: str) -> list[dict[str, Any]]:
        async with session.get(path, params=query, raise_for_status=True) as response:
            rows: list[dict[str, Any]] = await response.json()
            return rows

    async def _post(self, session: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> None:
        async with session.post(path, json=body, raise_for_status=True) as response:
            await response.read()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
