"""Spike: which file layout lets a replica take a large load while the application keeps saving and reading?

Run `python benchmarks/spikes/replica_layout.py [--rows N]`. Every layout receives the same catalogue from one SQLite
file, in an order shuffled by the seed, beside a thread that saves orders and a thread that reads. Prints a table and
small checks (flip under a reader, locks, SIGKILL); writes `build/spikes/replica_layout.json`.
"""

import argparse
import collections
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
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

import apsw

SEED = 20260101
OPEN = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI
CHUNK = 10_000
HELD_BEFORE_FIRST = 10_000  # a little is held before the load, so that reads and the replacement are real
COLUMNS = """ord INTEGER PRIMARY KEY, code TEXT NOT NULL, description TEXT NOT NULL, group_no INTEGER, unit TEXT,
 price INTEGER, stock INTEGER, barcode TEXT, brand TEXT, weight REAL, active INTEGER, updated_at TEXT, notes TEXT"""
INDEXES = (("code", "UNIQUE", "code"), ("group", "", "group_no, code"), ("brand", "", "brand"))
STATE = "CREATE TABLE {db}.state (collection TEXT PRIMARY KEY, cursor INTEGER, view BLOB, token BLOB) STRICT"
ORDERS = """CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, at REAL) STRICT;
 CREATE TABLE order_lines (id INTEGER PRIMARY KEY, order_id INTEGER, product INTEGER, quantity INTEGER) STRICT;
 CREATE TABLE outbox (id INTEGER PRIMARY KEY, mutation BLOB) STRICT;
 CREATE TABLE own_files (collection TEXT PRIMARY KEY, generation INTEGER NOT NULL) STRICT;"""


def create_table(conn: apsw.Connection, db: str = "main", table: str = "products") -> None:
    """Create the catalogue's table, without indexes."""
    conn.execute(f"CREATE TABLE {db}.{table} ({COLUMNS}) STRICT")


def create_index(conn: apsw.Connection, number: int, db: str = "main", table: str = "products") -> None:
    """Create one of the catalogue's indexes; index names are global in a file, so they carry the table's name."""
    name, unique, columns = INDEXES[number]
    conn.execute(f"CREATE {unique} INDEX {db}.{table}_{name} ON {table} ({columns})")


def create_search(conn: apsw.Connection, db: str = "main", search: str = "products_fts") -> None:
    """Create the search index. Its content is always called `products`: FTS5 keeps this name through a rename."""
    conn.execute(f"CREATE VIRTUAL TABLE {db}.{search} USING fts5(description, brand, content='products', "
                 "content_rowid='ord', prefix='2 3', tokenize='unicode61 remove_diacritics 2')")


def products(rows: int) -> Iterator[tuple]:
    """Yield the seeded catalogue; codes are scrambled, so that the key index is not filled in order."""
    rng = random.Random(SEED)
    heads, tails = ("bo kra sté vel mun dor fi sål ge tru".split(), "lt nka rre sko mbo ne va tz ch pan".split())
    words = [a + b + c for a in heads for b in tails for c in heads]
    brands = [f"{word.title()} AG" for word in rng.sample(words, 400)]
    for ordinal in range(1, rows + 1):
        yield (ordinal, f"P{ordinal * 7_654_321 % 1_000_000_007:010d}", " ".join(rng.choices(words, k=5)),
               rng.randrange(2_000), "pc", rng.randrange(100, 100_000), rng.randrange(500),
               str(4_000_000_000_000 + rng.randrange(10**12)), rng.choice(brands), rng.randrange(5_000) / 100,
               int(rng.random() < 0.97), "2026-01-01T00:00:00Z", None)


def make_files(directory: pathlib.Path, rows: int) -> dict[str, pathlib.Path]:
    """Write what the authority sends (plain, ready, delta) and what a replica held before (small, ready)."""
    files = {name: directory / f"{name}.db" for name in ("plain", "ready", "delta", "small")}
    conn = apsw.Connection(str(files["plain"]), flags=OPEN)
    conn.pragma("journal_mode", "off")
    conn.pragma("synchronous", "off")
    with conn:
        create_table(conn)
        conn.executemany(f"INSERT INTO products VALUES ({','.join('?' * 13)})", products(rows))
    conn.execute("ATTACH ? AS delta", (str(files["delta"]),))
    with conn:
        create_table(conn, "delta")
        conn.execute("INSERT INTO delta.products SELECT * FROM main.products WHERE ord * 7 % 10 < 3")
        conn.execute("UPDATE delta.products SET description = description || ' revised', price = price + 1")
    conn.close()
    build(files["ready"], lambda c: copy_first(c, rows), files["plain"]).close()
    build(files["small"], lambda c: copy_first(c, HELD_BEFORE_FIRST), files["plain"]).close()
    return files


def copy_first(conn: apsw.Connection, rows: int) -> None:
    """Copy the first records of the sent file."""
    conn.execute("INSERT INTO main.products SELECT * FROM sent.products WHERE ord <= ?", (rows,))


def attach(conn: apsw.Connection, path: pathlib.Path, name: str, mode: str = "ro") -> None:
    """Attach by URI, so that a missing file is an error and not a new empty file, and devices cannot write it."""
    conn.execute("ATTACH ? AS " + name, (f"{path.absolute().as_uri()}?mode={mode}",))


def build(path: pathlib.Path, copy: Callable[[apsw.Connection], None], sent: pathlib.Path) -> apsw.Connection:
    """Build a generation; the returned connection keeps others from discarding it: close it after the flip."""
    conn = apsw.Connection(str(path), flags=OPEN)
    conn.execute("PRAGMA main.locking_mode = exclusive").fetchall()  # without `main.`, attached files inherit it
    conn.execute("PRAGMA main.journal_mode = off").fetchall()
    conn.execute("PRAGMA main.synchronous = off")
    conn.pragma("cache_size", -32_000)
    attach(conn, sent, "sent", "ro&immutable=1")
    with conn:
        create_table(conn)
        copy(conn)
    for number in range(len(INDEXES)):
        with conn:
            create_index(conn, number)
    with conn:
        create_search(conn)
        conn.execute("INSERT INTO products_fts (products_fts) VALUES ('rebuild')")
    conn.execute("DETACH sent")
    seal(conn)
    return conn


def seal(conn: apsw.Connection) -> None:
    """Make a built or adopted generation durable: file, directory entry, and its own cursor, view and token."""
    conn.execute("PRAGMA main.synchronous = full")
    conn.execute("PRAGMA main.locking_mode = normal").fetchall()
    assert conn.execute("PRAGMA main.journal_mode = wal").get == "wal"  # writes the header, and with it syncs the whole file
    with conn:  # the first commit of a WAL syncs the directory too
        conn.execute(STATE.format(db="main").replace("TABLE", "TABLE IF NOT EXISTS"))
        conn.execute("INSERT OR REPLACE INTO state VALUES ('products', 1, x'00', x'00')")
    conn.execute("PRAGMA main.wal_checkpoint(TRUNCATE)").fetchall()


def own_path(main: pathlib.Path, generation: int) -> pathlib.Path:
    """Name the file of one generation."""
    return main.with_name(f"{main.name}.products.{generation}")


def flip(main: apsw.Connection, path: pathlib.Path, old: int) -> None:
    """Make the next generation current: one row of the main file, if nobody was faster and the file is there."""
    with main:
        main.execute("UPDATE own_files SET generation = ? WHERE collection = 'products' AND generation = ?",
                     (old + 1, old))
        if main.changes() != 1 or not path.exists():
            raise RuntimeError("another generation became current, or this one was swept away")


def discard(path: pathlib.Path) -> bool:
    """Delete a generation if nobody has it open, in any process: leaving WAL mode needs it exclusively."""
    if path.exists():
        conn = apsw.Connection(str(path), flags=OPEN)
        try:
            conn.pragma("locking_mode", "exclusive")
            if conn.pragma("journal_mode", "delete") != "delete":
                return False
            conn.execute("BEGIN EXCLUSIVE")
        except apsw.BusyError:
            return False
        except apsw.NotADBError:
            pass  # a build that was killed
        finally:
            conn.close()
    for suffix in ("", "-wal", "-shm", "-journal"):
        try:
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        except PermissionError:  # Windows: open elsewhere; the next sweep tries again
            return False
    return True


def sweep(main: pathlib.Path) -> tuple[list[str], list[str]]:
    """At open: discard every generation that is not current. Returns the names (discarded, left in use)."""
    done: list[str] = []
    left: list[str] = []
    conn = open_main(main)
    with contextlib.closing(conn):
        conn.execute("BEGIN IMMEDIATE")  # no flip meanwhile
        current = conn.execute("SELECT generation FROM own_files WHERE collection = 'products'").get or 0
        found = {f.name.split(".products.")[1].split("-")[0] for f in main.parent.glob(f"{main.name}.products.*")}
        for generation in sorted(int(text) for text in found if text.isdigit() and int(text) != current):
            path = own_path(main, generation)
            (done if discard(path) else left).append(path.name)
        conn.execute("ROLLBACK")
    return done, left


class Follower:
    """A connection to the main file that follows the current generation, and is told nothing."""

    def __init__(self, main: pathlib.Path) -> None:
        self.main, self.conn, self.generation = main, open_main(main), 0

    def refresh(self) -> int:
        """Attach the current generation; called outside a transaction, before each use."""
        for _ in range(10):
            current = self.conn.execute("SELECT generation FROM own_files WHERE collection = 'products'").get or 0
            if current == self.generation:
                return current
            if self.generation:
                self.conn.execute("DETACH own_products")
                self.generation = 0
            try:
                if current:
                    attach(self.conn, own_path(self.main, current), "own_products")
                self.generation = current
            except apsw.CantOpenError:
                continue  # flipped and discarded between the two statements: look again
        raise RuntimeError("the current generation is missing")


def open_main(main: pathlib.Path) -> apsw.Connection:
    """Open the main file as a replica does. Checkpoints are the loader's business, not the user's commit's."""
    conn = apsw.Connection(str(main), flags=OPEN)
    conn.set_busy_timeout(30_000)
    conn.pragma("journal_mode", "wal")
    conn.pragma("synchronous", "full")
    conn.pragma("wal_autocheckpoint", 0)
    return conn


class Turn:
    """The process's one writer, first come first served (a plain lock starves the user behind a busy loader)."""

    def __init__(self) -> None:
        self._mutex, self._queue = threading.Lock(), collections.deque[threading.Event]()

    def __enter__(self) -> None:
        mine = threading.Event()
        with self._mutex:
            self._queue.append(mine)
            if len(self._queue) == 1:
                mine.set()
        mine.wait()

    def __exit__(self, *_: object) -> None:
        with self._mutex:
            self._queue.popleft()
            if self._queue:
                self._queue[0].set()


class Application:
    """Saves about 50 orders of 1 + 10 rows with an outbox row a second, and reads by key, by index and by search."""

    def __init__(self, main: pathlib.Path, turn: Turn, rows: int) -> None:
        self.main, self.turn, self.rows = main, turn, rows
        self.writes: list[tuple[float, float]] = []
        self.reads: list[tuple[float, float]] = []
        self.errors: list[BaseException] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._guard, args=(f,)) for f in (self._save, self._read)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop both threads and raise what went wrong in them."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self.errors:
            raise self.errors[0]

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self.errors.append(error)

    def _save(self) -> None:
        follower, rng = Follower(self.main), random.Random(SEED)
        while not self._stop.wait(0.02):
            began = time.perf_counter()
            with self.turn:
                follower.refresh()
                save_order(follower.conn, rng.randrange(1, HELD_BEFORE_FIRST))
            self.writes.append((began, time.perf_counter() - began))
        follower.conn.close()

    def _read(self) -> None:
        follower, rng = Follower(self.main), random.Random(SEED + 1)
        queries = (("SELECT * FROM products WHERE code = ?", lambda n: f"P{n * 7_654_321 % 1_000_000_007:010d}"),
                   ("SELECT * FROM products WHERE group_no = ? ORDER BY code LIMIT 20", lambda n: n % 2_000),
                   ("SELECT p.* FROM products_fts f JOIN products p ON p.ord = f.rowid WHERE products_fts MATCH ? "
                    "LIMIT 20", lambda n: f"{'bo kra ste vel mun'.split()[n % 5]}* ge*"))
        while not self._stop.wait(0.01):
            for query, argument in queries:
                began = time.perf_counter()
                follower.refresh()
                follower.conn.execute(query, (argument(rng.randrange(1, HELD_BEFORE_FIRST)),)).fetchall()
                self.reads.append((began, time.perf_counter() - began))
        follower.conn.close()


def save_order(conn: apsw.Connection, number: int) -> None:
    """One local transaction."""
    conn.execute("BEGIN IMMEDIATE")
    conn.execute("INSERT INTO orders (customer, at) VALUES (?, ?)", (f"C{number}", time.time()))
    order = conn.last_insert_rowid()
    conn.executemany("INSERT INTO order_lines (order_id, product, quantity) VALUES (?, ?, ?)",
                     [(order, number + line, line) for line in range(10)])
    conn.execute("INSERT INTO outbox (mutation) VALUES (?)", (b"m" * 600,))
    conn.execute("COMMIT")


@dataclasses.dataclass
class Load:
    """What one layout is given, and when it passed which step."""

    main: pathlib.Path
    sent: pathlib.Path
    ready: pathlib.Path
    turn: Turn
    rows: int
    began: float = 0.0
    steps: list[tuple[str, float]] = dataclasses.field(default_factory=list)

    def step(self, name: str) -> None:
        """Note that a step ended; the step called `visible` is when readers see the new records."""
        self.steps.append((name, time.perf_counter() - self.began))

    def connect(self) -> apsw.Connection:
        """Open the loader's own connection to the main file, with the sent file attached."""
        conn = open_main(self.main)
        conn.pragma("cache_size", -32_000)
        attach(conn, self.sent, "sent", "ro&immutable=1")
        return conn

    @contextlib.contextmanager
    def writing(self, conn: apsw.Connection) -> Iterator[None]:
        """One transaction of the loader, in its turn; the log is copied back outside it."""
        with self.turn, conn:
            yield
        conn.execute("PRAGMA main.wal_checkpoint(PASSIVE)").fetchall()


def one_transaction(load: Load, *, rebuild: bool) -> None:
    """A: everything in one transaction, indexes and search rebuilt, or kept up row by row."""
    conn = load.connect()
    with load.turn:
        conn.execute("BEGIN IMMEDIATE")
        replace_rows(conn, rebuild=rebuild)
        load.step("rows and indexes")
        conn.execute("COMMIT")
    load.step("visible")
    conn.execute("PRAGMA main.wal_checkpoint(PASSIVE)").fetchall()
    load.step("checkpoint")


def replace_rows(conn: apsw.Connection, *, rebuild: bool) -> None:
    """Replace the records of the sent file in `products`, inside the caller's transaction."""
    fields = "ord, description, brand"
    if rebuild:
        for name, _, _ in INDEXES:
            conn.execute(f"DROP INDEX products_{name}")
    else:
        conn.execute(f"INSERT INTO products_fts (products_fts, {fields.replace('ord', 'rowid')}) SELECT 'delete', "
                     f"{fields} FROM main.products WHERE ord IN (SELECT ord FROM sent.products)")
    conn.execute("DELETE FROM main.products WHERE ord IN (SELECT ord FROM sent.products)")
    conn.execute("INSERT INTO main.products SELECT * FROM sent.products")
    if rebuild:
        for number in range(len(INDEXES)):
            create_index(conn, number)
        conn.execute("INSERT INTO products_fts (products_fts) VALUES ('rebuild')")
    else:
        conn.execute(f"INSERT INTO products_fts ({fields.replace('ord', 'rowid')}) SELECT {fields} FROM sent.products")


def shadow(load: Load, *, indexes_first: bool, kept: bool) -> None:
    """B: shadow tables in short transactions, then a swap by rename in one."""
    conn, fields = load.connect(), "ord, description, brand"
    with load.writing(conn):
        create_table(conn, table="products_new")
        create_search(conn, search="products_fts_new")
        for number in range(len(INDEXES) if indexes_first else 0):
            create_index(conn, number, table="products_new")
    for low in range(1, load.rows + 1, CHUNK):
        span = f"ord BETWEEN {low} AND {low + CHUNK - 1}"
        with load.writing(conn):
            if kept:
                conn.execute(f"INSERT INTO products_new SELECT * FROM main.products WHERE {span} "
                             "AND ord NOT IN (SELECT ord FROM sent.products)")
            conn.execute(f"INSERT INTO products_new SELECT * FROM sent.products WHERE {span}")
        with load.writing(conn):
            conn.execute(f"INSERT INTO products_fts_new (rowid, description, brand) SELECT {fields} "
                         f"FROM products_new WHERE {span}")
    load.step("rows and search")
    for number in range(0 if indexes_first else len(INDEXES)):
        with load.writing(conn):
            create_index(conn, number, table="products_new")
    load.step("indexes")
    with load.writing(conn):
        for name in ("products", "products_fts"):
            conn.execute(f"ALTER TABLE main.{name} RENAME TO {name}_old")
            conn.execute(f"ALTER TABLE main.{name}_new RENAME TO {name}")
    load.step("visible")
    for name in ("products_fts_old", "products_old"):
        with load.writing(conn):
            conn.execute(f"DROP TABLE main.{name}")
    load.step("drop old")


def own_file(load: Load, *, kept: bool) -> None:
    """C: a new generation beside, made current by one row."""
    def copy(conn: apsw.Connection) -> None:
        if kept:
            attach(conn, own_path(load.main, 1), "old")
            conn.execute("INSERT INTO main.products SELECT * FROM old.products")
        conn.execute("INSERT OR REPLACE INTO main.products SELECT * FROM sent.products" if kept
                     else "INSERT INTO main.products SELECT * FROM sent.products")

    path = own_path(load.main, 2)
    conn = build(path, copy, load.sent)
    load.step("build and sync")
    finish_flip(load, path, conn)


def finish_flip(load: Load, path: pathlib.Path, builder: apsw.Connection) -> None:
    """Flip to generation 2, then discard the old one as soon as the other threads have moved on."""
    main = open_main(load.main)
    with load.turn:
        flip(main, path, 1)
    builder.close()
    load.step("visible")
    deadline = time.perf_counter() + 5
    while not discard(own_path(load.main, 1)) and time.perf_counter() < deadline:
        time.sleep(0.05)
    load.step("discard old")


def adopted(load: Load, *, check: bool) -> None:
    """C2: the authority's file has indexes and search inside: copied, checked, adopted whole."""
    path = own_path(load.main, 2)
    shutil.copyfile(load.ready, path)  # stands for the download
    load.step("copy")
    conn = apsw.Connection(str(path), flags=OPEN)
    conn.pragma("cache_size", -32_000)
    if check:
        assert conn.pragma("quick_check") == "ok"
        load.step("quick_check")
    seal(conn)
    load.step("seal")
    finish_flip(load, path, conn)


def own_transaction(load: Load, *, rebuild: bool) -> None:
    """C3: an ordinary transaction on the own file's own connection; nobody else ever writes that file."""
    conn = apsw.Connection(str(own_path(load.main, 1)), flags=OPEN)
    conn.pragma("wal_autocheckpoint", 0)
    conn.pragma("synchronous", "full")
    conn.pragma("cache_size", -32_000)
    attach(conn, load.sent, "sent", "ro&immutable=1")
    with conn:
        replace_rows(conn, rebuild=rebuild)
    load.step("visible")
    conn.execute("PRAGMA main.wal_checkpoint(PASSIVE)").fetchall()
    load.step("checkpoint")


P = functools.partial
CASES: dict[str, dict[str, tuple[bool, Callable[[Load], None]]]] = {  # scenario: layout: (own file, load)
    "first": {
        "idle": (False, lambda load: time.sleep(3)),
        "A one transaction": (False, P(one_transaction, rebuild=True)),
        "B shadow, indexes first": (False, P(shadow, indexes_first=True, kept=False)),
        "B shadow, indexes last": (False, P(shadow, indexes_first=False, kept=False)),
        "C own file": (True, P(own_file, kept=False)),
        "C2 adopted, checked": (True, P(adopted, check=True)),
        "C2 adopted, unchecked": (True, P(adopted, check=False)),
    },
    "replace 30 %": {
        "A rebuilt": (False, P(one_transaction, rebuild=True)),
        "A row by row": (False, P(one_transaction, rebuild=False)),
        "B shadow, indexes last": (False, P(shadow, indexes_first=False, kept=True)),
        "C new generation": (True, P(own_file, kept=True)),
        "C3 own transaction": (True, P(own_transaction, rebuild=False)),
        "C3 own transaction, rebuilt": (True, P(own_transaction, rebuild=True)),
    },
}


def run_case(scenario: str, layout: str, files: dict[str, pathlib.Path], directory: pathlib.Path, rows: int) -> dict:
    """Run one layout beside the application and return its figures."""
    own, action = CASES[scenario][layout]
    main = directory / "replica.db"
    held = files["small" if scenario == "first" else "ready"]
    shutil.copyfile(held, own_path(main, 1) if own else main)
    conn = open_main(main)
    conn.execute(ORDERS)
    if own:
        conn.execute("INSERT INTO own_files VALUES ('products', 1)")
    load = Load(main, files["plain" if scenario == "first" else "delta"], files["ready"], Turn(), rows)
    application = Application(main, load.turn, rows)
    time.sleep(0.5)
    load.began = time.perf_counter()
    try:
        action(load)
        seconds = time.perf_counter() - load.began
        time.sleep(0.3)
    finally:
        application.stop()
    if layout != "idle":
        verify(main, scenario, rows)
    size = sum(f.stat().st_size for f in main.parent.glob("replica.db*"))
    conn.close()
    for file in main.parent.glob("replica.db*"):
        file.unlink()
    return figures(load, application, seconds, size)


def verify(main: pathlib.Path, scenario: str, rows: int) -> None:
    """Check on a fresh connection that every record, index and search entry is there."""
    follower = Follower(main)
    follower.refresh()
    conn = follower.conn
    assert conn.execute("SELECT count(*) FROM products").get == rows
    for where in ("code > ''", "group_no >= 0", "brand > ''"):
        assert conn.execute(f"SELECT count(*) FROM products WHERE {where}").get == rows
    assert conn.execute("SELECT count(*) FROM products_fts").get == rows
    revised = conn.execute("SELECT count(*) FROM products_fts WHERE products_fts MATCH 'revised'").get
    assert revised == (0 if scenario == "first" else sum(n * 7 % 10 < 3 for n in range(1, rows + 1))), revised
    assert conn.execute("SELECT 10 * count(*) FROM orders").get == conn.execute("SELECT count(*) FROM order_lines").get
    conn.close()


def figures(load: Load, application: Application, seconds: float, size: int) -> dict:
    """Reduce the samples taken during the load."""
    writes, reads = ([(at - load.began, wait) for at, wait in samples if load.began <= at + wait
                      and at <= load.began + seconds] for samples in (application.writes, application.reads))
    at, worst = max(writes, key=lambda sample: sample[1])
    during = next((name for name, end in load.steps if end >= at + worst / 2), "end")
    visible = dict(load.steps).get("visible", seconds)
    return {
        "visible_s": visible, "all_s": seconds, "steps_s": dict(load.steps),
        "write_worst_ms": 1e3 * worst, "write_worst_during": during,
        "write_p99_ms": 1e3 * percentile([wait for _, wait in writes], 0.99),
        "write_p50_ms": 1e3 * percentile([wait for _, wait in writes], 0.5),
        "blocked_share": sum(max(0.0, wait - 0.1) for _, wait in writes) / seconds,
        "read_p99_ms": 1e3 * percentile([wait for _, wait in reads], 0.99),
        "read_worst_ms": 1e3 * max(wait for _, wait in reads),
        "writes": len(writes), "reads": len(reads), "disk_mb": size / 1e6,
    }


def percentile(values: list[float], share: float) -> float:
    """Nearest rank."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
