"""Spike: which file layout lets a replica take a large load while the application keeps saving and reading?

Run `python benchmarks/spikes/replica_layout.py [--rows N]`. Every layout receives the same catalogue from one SQLite
file, in an order shuffled by the seed, beside a thread that saves orders and a thread that reads. Prints a table and
writes `build/spikes/replica_layout.json`.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import datetime
import functools
import json
import pathlib
import platform
import random
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import apsw

SEED, CHUNK, HELD_BEFORE = 20260101, 10_000, 10_000  # a little is held before the first load, to be replaced
ROOT = pathlib.Path(__file__).resolve().parents[2]
OPEN = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI
PARTS = ["bo", "kra", "sté", "vel", "mun", "dor", "fi", "sål", "gel", "tru"]
COLUMNS = """ord INTEGER PRIMARY KEY, code TEXT NOT NULL, description TEXT NOT NULL, group_no INTEGER, unit TEXT,
 price INTEGER, stock INTEGER, barcode TEXT, brand TEXT, weight REAL, active INTEGER, updated_at TEXT, notes TEXT"""
INDEXES = (("code", "UNIQUE", "code"), ("group", "", "group_no, code"), ("brand", "", "brand"))
MAIN = """CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, at REAL);
 CREATE TABLE order_lines (id INTEGER PRIMARY KEY, order_id INTEGER, product INTEGER, quantity INTEGER);
 CREATE TABLE outbox (id INTEGER PRIMARY KEY, mutation BLOB);
 CREATE TABLE own_files (collection TEXT PRIMARY KEY, generation INTEGER NOT NULL)"""


def create_index(conn: apsw.Connection, number: int, table: str = "products") -> None:
    """Create one index. Index names are global in a file, so they carry the table's name."""
    name, unique, columns = INDEXES[number]
    conn.execute(f"CREATE {unique} INDEX main.{table}_{name} ON {table} ({columns})")


def create_search(conn: apsw.Connection, search: str = "products_fts") -> None:
    """Create the search index; its content is called `products` from the start, for FTS5 keeps this name for ever."""
    conn.execute(f"CREATE VIRTUAL TABLE main.{search} USING fts5(description, brand, content='products', "
                 "content_rowid='ord', prefix='2 3', tokenize='unicode61 remove_diacritics 2')")


def index_all(conn: apsw.Connection) -> None:
    """Create the indexes and fill the search index from the table."""
    for number in range(len(INDEXES)):
        create_index(conn, number)
    conn.execute("INSERT INTO products_fts (products_fts) VALUES ('rebuild')")


def code_of(ordinal: int) -> str:
    """Return a scrambled key, so that the key index is not filled in order."""
    return f"P{ordinal * 7_654_321 % 1_000_000_007:010d}"


def products(rows: int) -> Iterator[tuple[Any, ...]]:
    """Yield the seeded catalogue."""
    rng = random.Random(SEED)
    words = [a + b + c for a in PARTS for b in PARTS for c in PARTS]
    brands = [f"{word.title()} AG" for word in rng.sample(words, 400)]
    for n in range(1, rows + 1):
        yield (n, code_of(n), " ".join(rng.choices(words, k=5)), rng.randrange(2_000), "pc", rng.randrange(10**5),
               rng.randrange(500), str(4 * 10**12 + rng.randrange(10**12)), rng.choice(brands),
               rng.randrange(5_000) / 100, int(rng.random() < 0.97), "2026-01-01T00:00:00Z", None)


def make_files(directory: pathlib.Path, rows: int) -> dict[str, pathlib.Path]:
    """Write what the authority sends (plain, ready, delta) and what a replica held before (small, ready)."""
    files = {name: directory / f"{name}.db" for name in ("plain", "ready", "delta", "small")}
    conn = apsw.Connection(str(files["plain"]), flags=OPEN)
    conn.execute("ATTACH ? AS delta", (str(files["delta"]),))
    conn.pragma("synchronous", "off")
    with conn:
        for db in ("main", "delta"):
            conn.execute(f"CREATE TABLE {db}.products ({COLUMNS}) STRICT")
        conn.executemany(f"INSERT INTO main.products VALUES ({','.join('?' * 13)})", products(rows))
        conn.execute("INSERT INTO delta.products SELECT * FROM main.products WHERE ord * 7 % 10 < 3")
        conn.execute("UPDATE delta.products SET description = description || ' revised', price = price + 1")
    conn.close()
    build(files["ready"], files["plain"]).close()
    build(files["small"], files["plain"], most=HELD_BEFORE).close()
    return files


def attach(conn: apsw.Connection, path: pathlib.Path, name: str, mode: str = "ro") -> None:
    """Attach by URI: a missing file is an error and not a new empty one, and BEGIN IMMEDIATE locks no `ro` file."""
    conn.execute("ATTACH ? AS " + name, (f"{path.absolute().as_uri()}?mode={mode}",))


def build(path: pathlib.Path, sent: pathlib.Path, old: pathlib.Path | None = None, most: int = -1) -> apsw.Connection:
    """Build a generation; the returned connection keeps others from discarding it: close it after the flip.

    `INSERT INTO empty SELECT *` without WHERE copies in C, page by page; REPLACE is cheap while there is no index.
    """
    conn = apsw.Connection(str(path), flags=OPEN)
    conn.execute("PRAGMA main.locking_mode = exclusive").fetchall()  # without `main.`, attached files inherit it
    conn.execute("PRAGMA main.journal_mode = off").fetchall()
    conn.execute("PRAGMA main.synchronous = off")
    conn.pragma("cache_size", -32_000)
    attach(conn, sent, "sent", "ro&immutable=1")
    if old is not None:
        attach(conn, old, "old")
    with conn:
        conn.execute(f"CREATE TABLE main.products ({COLUMNS}) STRICT")
        create_search(conn)
        if old is not None:
            conn.execute("INSERT INTO main.products SELECT * FROM old.products")
        conn.execute(f"INSERT {'' if old is None else 'OR REPLACE'} INTO main.products SELECT * FROM sent.products"
                     + (f" LIMIT {most}" if most >= 0 else ""))
        index_all(conn)
    seal(conn)
    return conn


def seal(conn: apsw.Connection) -> None:
    """Make a built or adopted generation durable: its pages, its cursor, view and token, its directory entry."""
    conn.execute("PRAGMA main.synchronous = full")
    conn.execute("PRAGMA main.locking_mode = normal").fetchall()
    assert conn.execute("PRAGMA main.journal_mode = wal").get == "wal"  # writes page 1, and so syncs the whole file
    with conn:  # the first commit of a new WAL syncs the directory too
        conn.execute("CREATE TABLE IF NOT EXISTS main.state (collection TEXT, cursor INTEGER, view BLOB, token BLOB);"
                     "DELETE FROM main.state; INSERT INTO main.state VALUES ('products', 1, x'00', x'00')")
    conn.execute("PRAGMA main.wal_checkpoint(TRUNCATE)").fetchall()


def own_path(main: pathlib.Path, generation: int) -> pathlib.Path:
    """Name the file of one generation."""
    return main.with_name(f"{main.name}.products.{generation}")


def flip(conn: apsw.Connection, main: pathlib.Path, old: int) -> None:
    """Make the next generation current by one row of the main file, if the old one is still what it was built from."""
    held = apsw.Connection(str(own_path(main, old)), flags=OPEN)
    with contextlib.closing(held), held:  # locks in this order everywhere: the own file, then the main file
        held.execute("UPDATE state SET token = token WHERE token = x'00'")
        with conn:
            conn.execute("UPDATE own_files SET generation = ? WHERE collection = 'products' AND generation = ?",
                         (old + 1, old))
            if held.changes() != 1 or conn.changes() != 1 or not own_path(main, old + 1).exists():
                raise RuntimeError("another answer was applied meanwhile, or the new generation was swept away")


def discard(path: pathlib.Path) -> bool:
    """Delete a generation if nobody has it open, in any process: leaving WAL mode needs it exclusively."""
    conn = apsw.Connection(str(path), flags=OPEN)
    try:
        with contextlib.suppress(apsw.NotADBError):  # a build that was killed
            conn.execute("PRAGMA main.locking_mode = exclusive").fetchall()
            conn.execute("PRAGMA main.journal_mode = delete").fetchall()
            conn.execute("BEGIN EXCLUSIVE")
        conn.close()
        for suffix in ("-wal", "-shm", "-journal", ""):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    except (apsw.BusyError, PermissionError):  # Windows deletes no open file
        return False
    finally:
        conn.close()
    return True


def open_main(main: pathlib.Path) -> apsw.Connection:
    """Open the main file as a replica does. Checkpoints are the loader's business, not the user's commit's."""
    conn = apsw.Connection(str(main), flags=OPEN)
    conn.set_busy_timeout(30_000)
    conn.pragma("journal_mode", "wal")
    conn.pragma("synchronous", "full")
    conn.pragma("wal_autocheckpoint", 0)
    conn.pragma("cache_size", -32_000)
    return conn


class Follower:
    """A connection to the main file that follows the current generation, and is told nothing."""

    def __init__(self, main: pathlib.Path) -> None:
        self.main, self.conn, self.generation = main, open_main(main), 0

    def refresh(self) -> apsw.Connection:
        """Attach the current generation; called outside a transaction, before each use."""
        query = "SELECT generation FROM own_files WHERE collection = 'products'"
        while (current := self.conn.execute(query).get or 0) != self.generation:
            if self.generation:
                self.conn.execute("DETACH own_products")
            self.generation = 0
            with contextlib.suppress(apsw.CantOpenError):  # flipped and discarded since that SELECT: look again
                attach(self.conn, own_path(self.main, current), "own_products")
                self.generation = current
        return self.conn


class Application:
    """Saves about 50 orders of 1 + 10 rows with an outbox row a second, and reads by key, by index and by search."""

    def __init__(self, main: pathlib.Path, turn: threading.Lock) -> None:
        self.main, self.turn, self._stop = main, turn, threading.Event()
        self.writes: list[tuple[float, float]] = []
        self.reads: list[tuple[float, float]] = []
        self._pool = concurrent.futures.ThreadPoolExecutor(2)
        self._work = [self._pool.submit(self._save), self._pool.submit(self._read)]

    def stop(self) -> None:
        """Stop both threads and raise what went wrong in them."""
        self._stop.set()
        for future in self._work:
            future.result()

    def _save(self) -> None:
        follower = Follower(self.main)
        while not self._stop.wait(0.02):
            began = time.perf_counter()
            with self.turn:
                save_order(follower.refresh())
            self.writes.append((began, time.perf_counter() - began))
        follower.conn.close()

    def _read(self) -> None:
        follower, rng = Follower(self.main), random.Random(SEED)
        queries = (("SELECT * FROM products WHERE code = ?", code_of),
                   ("SELECT * FROM products WHERE group_no = ? ORDER BY code LIMIT 20", lambda n: n % 2_000),
                   ("SELECT p.* FROM products_fts f JOIN products p ON p.ord = f.rowid WHERE products_fts MATCH ? "
                    "LIMIT 20", lambda n: f"{PARTS[n % 10]}* ge*"))
        while not self._stop.wait(0.01):
            for query, argument in queries:
                began = time.perf_counter()
                follower.refresh().execute(query, (argument(rng.randrange(1, HELD_BEFORE)),)).fetchall()
                self.reads.append((began, time.perf_counter() - began))
        follower.conn.close()


def save_order(conn: apsw.Connection) -> None:
    """One local transaction."""
    conn.execute("BEGIN IMMEDIATE; INSERT INTO orders (customer, at) VALUES ('C1', 0)")
    order = conn.last_insert_rowid()
    conn.executemany("INSERT INTO order_lines (order_id, product, quantity) VALUES (?, ?, 1)",
                     [(order, product) for product in range(10)])
    conn.execute("INSERT INTO outbox (mutation) VALUES (zeroblob(600)); COMMIT")


@dataclasses.dataclass
class Load:
    """What one layout is given, and when it passed which step."""

    main: pathlib.Path
    sent: pathlib.Path
    rows: int
    turn: threading.Lock = dataclasses.field(default_factory=threading.Lock)  # the process's one writer
    began: float = 0.0
    steps: dict[str, float] = dataclasses.field(default_factory=dict)

    def step(self, name: str) -> None:
        """Note that a step ended; the step called `visible` is when readers see the new records."""
        self.steps[name] = time.perf_counter() - self.began

    @contextlib.contextmanager
    def writing(self, conn: apsw.Connection) -> Iterator[None]:
        """One transaction of the loader; the log is copied back outside the lock, so that the user's turn comes."""
        with self.turn, conn:
            yield
        conn.execute("PRAGMA main.wal_checkpoint(PASSIVE)").fetchall()


def one_transaction(load: Load, *, own: bool, rebuild: bool) -> None:
    """A, C3: one transaction on the main file or on the collection's own; search and indexes rebuilt, or row by row."""
    conn, mine = open_main(own_path(load.main, 1) if own else load.main), "IN (SELECT ord FROM sent.products)"
    attach(conn, load.sent, "sent", "ro&immutable=1")
    with contextlib.nullcontext() if own else load.turn, conn:
        if rebuild:
            for name, _, _ in INDEXES:
                conn.execute(f"DROP INDEX products_{name}")
        else:
            conn.execute("INSERT INTO products_fts (products_fts, rowid, description, brand) SELECT 'delete', "
                         f"ord, description, brand FROM main.products WHERE ord {mine}")
        conn.execute(f"DELETE FROM main.products WHERE ord {mine}")
        conn.execute("INSERT INTO main.products SELECT * FROM sent.products")
        if rebuild:
            index_all(conn)
        else:
            conn.execute("INSERT INTO products_fts (rowid, description, brand) "
                         "SELECT ord, description, brand FROM sent.products")
    load.step("visible")
    conn.execute("PRAGMA main.wal_checkpoint(PASSIVE)").fetchall()


def shadow(load: Load, *, indexes_first: bool, kept: bool) -> None:
    """B: shadow tables in short transactions, then a swap by rename in one."""
    conn = open_main(load.main)
    attach(conn, load.sent, "sent", "ro&immutable=1")
    with load.writing(conn):
        conn.execute(f"CREATE TABLE main.products_new ({COLUMNS}) STRICT")
        create_search(conn, "products_fts_new")
        for number in range(len(INDEXES) if indexes_first else 0):
            create_index(conn, number, "products_new")
    for low in range(1, load.rows + 1, CHUNK):
        span = f"ord BETWEEN {low} AND {low + CHUNK - 1}"
        with load.writing(conn):
            if kept:
                conn.execute(f"INSERT INTO products_new SELECT * FROM main.products WHERE {span}")
            conn.execute(f"INSERT OR REPLACE INTO products_new SELECT * FROM sent.products WHERE {span}")
        with load.writing(conn):
            conn.execute("INSERT INTO products_fts_new (rowid, description, brand) SELECT ord, description, brand "
                         f"FROM products_new WHERE {span}")
    load.step("rows and search")
    for number in range(0 if indexes_first else len(INDEXES)):
        with load.writing(conn):
            create_index(conn, number, "products_new")
    load.step("indexes")
    with load.writing(conn):
        for name in ("products", "products_fts"):
            conn.execute(f"ALTER TABLE main.{name} RENAME TO {name}_old; ALTER TABLE {name}_new RENAME TO {name}")
    load.step("visible")
    with load.writing(conn):
        conn.execute("DROP TABLE main.products_fts_old; DROP TABLE main.products_old")
    load.step("drop old")


def own_file(load: Load, *, kept: bool) -> None:
    """C: a new generation beside, made current by one row; what the old one keeps is copied whole, then replaced."""
    finish(load, build(own_path(load.main, 2), load.sent, own_path(load.main, 1) if kept else None))


def adopted(load: Load, *, check: str) -> None:
    """C2: the authority's file has indexes and search inside: copied, checked, adopted whole."""
    shutil.copyfile(load.sent.with_name("ready.db"), own_path(load.main, 2))  # stands for the download
    load.step("copy")
    conn = open_main(own_path(load.main, 2))
    tables = [name for (name,) in conn.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0")]
    for argument in {"all": [""], "tables": [f"('{name}')" for name in tables], "none": []}[check]:
        assert conn.execute(f"PRAGMA main.quick_check{argument}").get == "ok"
    load.step("check")
    seal(conn)
    finish(load, conn)


def finish(load: Load, builder: apsw.Connection) -> None:
    """Flip to generation 2, then discard the old one as soon as the other threads have moved on."""
    load.step("build")
    with load.turn:
        flip(open_main(load.main), load.main, 1)
    builder.close()
    load.step("visible")
    while not discard(own_path(load.main, 1)):
        time.sleep(0.02)


P = functools.partial
CASES: list[tuple[str, str, bool, Callable[[Load], None]]] = [  # scenario, layout, own file?, load
    ("first", "nothing (idle)", False, lambda load: time.sleep(3)),
    ("first", "A one transaction", False, P(one_transaction, own=False, rebuild=True)),
    ("first", "B shadow, indexes first", False, P(shadow, indexes_first=True, kept=False)),
    ("first", "B shadow, indexes last", False, P(shadow, indexes_first=False, kept=False)),
    ("first", "C own file", True, P(own_file, kept=False)),
    ("first", "C2 adopted, all checked", True, P(adopted, check="all")),
    ("first", "C2 adopted, tables checked", True, P(adopted, check="tables")),
    ("first", "C2 adopted, unchecked", True, P(adopted, check="none")),
    ("replace", "A rebuilt", False, P(one_transaction, own=False, rebuild=True)),
    ("replace", "A row by row", False, P(one_transaction, own=False, rebuild=False)),
    ("replace", "B shadow, indexes last", False, P(shadow, indexes_first=False, kept=True)),
    ("replace", "C new generation", True, P(own_file, kept=True)),
    ("replace", "C3 own file, row by row", True, P(one_transaction, own=True, rebuild=False)),
    ("replace", "C3 own file, rebuilt", True, P(one_transaction, own=True, rebuild=True)),
]


def run_case(case: tuple[str, str, bool, Callable[[Load], None]], files: dict[str, pathlib.Path], rows: int) -> Any:
    """Run one layout beside the application and return its figures."""
    (scenario, layout, own, action), main = case, files["plain"].with_name("replica.db")
    shutil.copyfile(files["small" if scenario == "first" else "ready"], own_path(main, 1) if own else main)
    conn = open_main(main)
    conn.execute(MAIN)
    if own:
        conn.execute("INSERT INTO own_files VALUES ('products', 1)")
    load = Load(main, files["plain" if scenario == "first" else "delta"], rows)
    application = Application(main, load.turn)
    time.sleep(0.5)
    load.began = time.perf_counter()
    try:
        action(load)
        seconds = time.perf_counter() - load.began
        time.sleep(0.3)
    finally:
        application.stop()
    verify(Follower(main).refresh(), scenario, HELD_BEFORE if "idle" in layout else rows)
    disk = sum(file.stat().st_size for file in main.parent.glob("replica.db*"))
    conn.close()
    for file in main.parent.glob("replica.db*"):
        file.unlink()
    return {"scenario": scenario, "layout": layout, **figures(load, application, seconds), "disk_mb": disk / 1e6}


def verify(conn: apsw.Connection, scenario: str, rows: int) -> None:
    """Check on a fresh connection that every record, index and search entry is there."""
    for where in ("ord > 0", "code > ''", "group_no >= 0", "brand > ''"):
        assert conn.execute(f"SELECT count(*) FROM products WHERE {where}").get == rows
    revised = sum(ordinal * 7 % 10 < 3 for ordinal in range(1, rows + 1)) if scenario == "replace" else 0
    assert conn.execute("SELECT count(*) FROM products_fts WHERE products_fts MATCH 'revised'").get == revised
    assert conn.execute("SELECT 10 * count(*) FROM orders").get == conn.execute("SELECT count(*) FROM order_lines").get


def figures(load: Load, application: Application, seconds: float) -> dict[str, Any]:
    """Reduce the samples taken during the load; a save that waits counts once, so `blocked` tells more than its p99."""
    ms: dict[str, Any] = {}
    for name, samples in (("save", application.writes), ("read", application.reads)):
        inside = [(w, at - load.began) for at, w in samples if at + w >= load.began and at - load.began <= seconds]
        waits = sorted(wait for wait, _ in inside)
        wait, at = max(inside)
        ms |= {f"{name}_worst_ms": 1e3 * waits[-1], f"{name}_p99_ms": 1e3 * waits[int(0.99 * len(waits))],
               f"{name}_p50_ms": 1e3 * waits[len(waits) // 2], f"{name}s": len(waits),
               f"{name}_blocked": sum(max(0.0, wait - 0.1) for wait in waits) / seconds,
               f"{name}_worst_during": next((step for step, end in load.steps.items() if end >= at + wait / 2), "end")}
    return {"visible_s": load.steps.get("visible", seconds), "all_s": seconds, "steps_s": load.steps, **ms}


def main() -> None:
    """Run every case once, print the table, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, check=False, capture_output=True, text=True)
    (out := ROOT / "build" / "spikes").mkdir(parents=True, exist_ok=True)
    results, began = [], time.perf_counter()
    with tempfile.TemporaryDirectory(dir=out) as name:  # beside the result: temporary folders may be memory
        files = make_files(pathlib.Path(name), rows)
        for case in random.Random(SEED).sample(CASES, len(CASES)):
            results.append(run_case(case, files, rows))
    results.sort(key=lambda r: [case[:2] for case in CASES].index((r["scenario"], r["layout"])))
    print(f"{'':36}visible    × A  save worst    p99  blocked  read p99    disk  worst save during")
    for r in results:
        base = next(x for x in results if x["scenario"] == r["scenario"] and x["layout"].startswith("A"))["visible_s"]
        print(f"{r['scenario']:8}{r['layout']:27}{r['visible_s']:6.2f} s{r['visible_s'] / base:7.2f}"
              f"{r['save_worst_ms']:9.0f} ms{r['save_p99_ms']:7.0f}{r['save_blocked']:9.0%}{r['read_p99_ms']:10.1f}"
              f"{r['disk_mb']:8.0f}  {r['save_worst_during']}")
    about = {"rows": rows, "seed": SEED, "commit": git.stdout.strip() or None, "seconds": time.perf_counter() - began,
             "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
             "python": platform.python_version(), "apsw": apsw.apsw_version(), "sqlite": apsw.sqlite_lib_version()}
    (out / "replica_layout.json").write_text(json.dumps(about | {"results": results}, indent=1))
    print(f"{about['seconds']:.0f} s, SQLite {about['sqlite']}, commit {about['commit']}")


if __name__ == "__main__":
    main()
