"""The simulated head office: the authority's file, the processes that serve it, plain writers beside them, and backups."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw
from attrs import frozen

from offlinekit.authority import Authority
from offlinekit.authority.files import at_once
from offlinekit.store.sqlite import SQLiteStore
from offlinekit.testing.simulation.breaking import Breaker, CrashError
from offlinekit.testing.simulation.contract import CONFLICTS, EFFECTS, NARROW, OFFER, SCHEMA, SCOPES, declare
from offlinekit.testing.simulation.oracle import FIELDS, KEYS, History, Rows

__all__ = ["DAY", "START", "Backup", "Clock", "Head"]

START = datetime(2031, 3, 14, 9, 0, tzinfo=UTC).timestamp()
DAY = 86_400.0


class Clock:
    """A clock of the simulation; `ahead` is its error."""

    def __init__(self, base: Clock | None = None, ahead: float = 0.0) -> None:
        self.base, self.seconds, self.ahead = base, START, ahead

    def now(self) -> float:
        """Seconds since 1970."""
        return (self.base.now() if self.base else self.seconds) + self.ahead

    def monotonic(self) -> float:
        """Seconds that no error of a clock touches."""
        return self.base.monotonic() if self.base else self.seconds


@frozen
class Backup:
    """A copy of the file, with what the oracle knows of it, and when it was really taken."""

    taken: float
    path: Path
    history: History


class Head:
    """The authority's side of a simulation."""

    def __init__(self, folder: Path, rng: random.Random, ids: random.Random, clock: Clock, *, age_s: float) -> None:
        self.folder, self.rng, self.ids, self.age_s = folder, rng, ids, age_s
        self.time, self.clock = clock, Clock(clock)
        self.path = str(folder / "head.db")
        self.claims: dict[str, dict[str, Any]] = {}
        self.attempts: dict[str, int] = {}
        self.history = History()
        self.backups: list[Backup] = []
        self.taken = 0
        self.epoch = 0  # how often a backup was put back
        self.narrow = False  # whether the narrow scopes are declared
        self.last: dict[str, Authority] = {}  # by identity: the process that answered before
        self.others = self.compacted = 0  # answers of another process than the last one's; receipts made compact
        self.processes: list[Authority] = []
        self.rows: Rows = {}
        self.effects: list[str] = []
        self.serial = 0  # of the newest version of the records
        self.versions: list[tuple[float, int, Rows]] = []
        self.tags = 0
        self.start()
        self.db.execute("CREATE UNIQUE INDEX product_label ON product(name,price)")  # so that REPLACE deletes others
        for process in self.processes:
            process.store.reconcile()  # type: ignore[attr-defined]
        self.dump()

    # -- processes

    def start(self) -> None:
        """Starts two processes, and opens another program's connection."""
        self.processes = [self._process() for _ in range(2)]
        self.db = apsw.Connection(self.path)
        self.db.set_busy_timeout(5000)
        self.db.execute(EFFECTS)

    def _process(self) -> Authority:
        store = SQLiteStore(self.path, clock=self.clock, random=self.ids.randbytes)
        store._publisher._watch = lambda age_s: None  # type: ignore[method-assign]  # real time has no part in a simulation
        store._writer.pragma("synchronous", "off")  # processes end here, power does not
        authority = Authority(
            store, SCHEMA, offer=OFFER, scopes=NARROW if self.narrow else SCOPES, conflicts=CONFLICTS,
            files=str(self.folder / "files"), snapshot_age_s=self.age_s,
            random=self.ids.randbytes, background=at_once,
        )  # fmt: skip
        authority.puller.inline_rows = 9
        authority.puller.answering.images.least = 3
        authority.puller.answering.images.asked_least = 1
        declare(authority, self.attempts)
        return authority

    def stop(self) -> None:
        """Ends all processes, wherever they are."""
        for process in self.processes:
            self.compacted += process.pusher.counts.get("compacted", 0)
            with suppress(Exception):
                process.close()
        for db in apsw.connections():
            if db.filename == self.path:
                db.close(True)

    def restart(self) -> None:
        """New processes on the same file."""
        self.stop()
        self.start()

    def handle(self, body: bytes, identity: str, *, breaker: Breaker | None = None) -> bytes | None:
        """Lets some process answer a request; None when it ended on the way."""
        process = self.rng.choice(self.processes)
        self.others += process is not self.last.get(identity, process)
        self.last[identity] = process
        claims = self.claims[identity]
        try:
            if breaker is not None:
                with breaker.armed():
                    return process.handle(body, identity, claims)
            return process.handle(body, identity, claims)
        except CrashError:
            self.restart()
            return None

    def rights(self, identity: str) -> dict[str, Any]:
        """What the oracle must know of an asker: claims, and which scopes are declared."""
        return {**self.claims[identity], "narrow": self.narrow}

    def change_scopes(self) -> None:
        """A new version of the service declares other scopes."""
        self.narrow = not self.narrow
        self.restart()

    def fetch(self, name: str, offset: int, identity: str) -> bytes:
        """A piece of a file, from some process."""
        return self.rng.choice(self.processes).fetch(name, offset, identity)

    # -- what the oracle may see: the application's own tables

    def dump(self) -> Rows:
        """The records, as any program reads them."""
        rows: Rows = {}
        self.db.execute("BEGIN")
        for name, fields in FIELDS.items():
            at = [fields.index(k) for k in KEYS[name]]
            found = self.db.execute(f'SELECT {",".join(chr(34) + f + chr(34) for f in fields)} FROM "{name}"')
            rows[name] = {tuple(r[n] for n in at): dict(zip(fields, r, strict=True)) for r in found}
        self.effects = [r[0] for r in self.db.execute("SELECT tag FROM effect ORDER BY n")]
        self.db.execute("COMMIT")
        self.rows = rows
        self.serial += 1
        self.versions.append((self.clock.monotonic(), self.serial, rows))
        return rows

    def candidates(self) -> list[tuple[int, Rows]]:
        """What a pull may be answered from now, by number, the newest first: what was current within the age of a snapshot."""
        oldest = self.clock.monotonic() - self.age_s
        found = [self.versions[-1]]
        for older, newer in zip(self.versions[-2::-1], self.versions[:0:-1], strict=False):
            if not self.age_s or newer[0] <= oldest:
                break
            found.append(older)
        self.versions = found[::-1]
        return [(serial, rows) for _, serial, rows in found]

    def forget_versions(self) -> None:
        """The file is another: only what is there now counts."""
        self.versions = self.versions[-1:]

    # -- plain writers

    def tag(self) -> str:
        """A mark that no other write has."""
        self.tags += 1
        return f"<t{self.tags}>"

    def sql(self, sql: str, *bindings: Any) -> None:
        """A plain write by another program; what the tables refuse does not happen."""
        try:
            self.db.execute(sql, bindings)
        except apsw.ConstraintError as error:
            if "UNIQUE" not in str(error) and "PRIMARY KEY" not in str(error):
                raise

    def day(self, days: int = 0) -> str:
        """A day by the authority's clock, moved."""
        return (datetime.fromtimestamp(self.clock.now(), UTC).date() + timedelta(days=days)).isoformat()

    def write(self) -> None:
        """A plain write by a program that knows nothing of replication."""
        r, tag = self.rng, self.tag()
        city, cust, order, sku = f"c{r.randrange(4)}", f"k{r.randrange(8)}", f"o{r.randrange(14)}", f"p{r.randrange(9)}"
        verb = r.choice(["INSERT", "INSERT OR IGNORE", "INSERT OR REPLACE", "REPLACE"])
        writes: list[tuple[int, Callable[[], None]]] = [
            (1, lambda: self.sql(f"{verb} INTO city VALUES(?,?,?)", city, r.choice(["north", "south", None]), tag)),
            (4, lambda: self.sql(
                f"{verb} INTO customer(code,name,city,rep,orders,tag,since,blocked,memo) VALUES(?,?,?,?,0,?,?,?,?)", cust,
                r.choice(["Zé", "Ana", "ANA", "Bo"]), r.choice([city, city, None]), r.choice(["r0", "r0", "r1"]), tag,
                r.choice([None, self.day(-r.randrange(60))]), int(r.random() < 0.1), f"HUSH{r.random()}")),
            (4, lambda: self.sql(
                f'{verb} INTO "order"(id,customer,day,note,qty,tag,extra) VALUES(?,?,?,?,?,?,?)', order, cust,
                self.day(r.randrange(-9, 3)), r.choice(["open", "done", None]), r.randrange(60), tag, r.choice("xyz"))),
            (4, lambda: self.sql(f"{verb} INTO line VALUES(?,?,?,?,?)", order, r.randrange(3), r.choice([sku, None]),
                                 r.randrange(5), tag)),
            (4, lambda: self.sql(f"{verb} INTO product VALUES(?,?,?,?,?,?)", sku, r.choice(["Pá", "pa", "Cal", "SAL"]),
                                 r.choice(["g0", "g1", "g2", None]), r.randrange(3), tag, r.randrange(9))),
            (1, lambda: self.sql('DELETE FROM "order" WHERE id=?', order)),
            (1, lambda: self.sql("DELETE FROM customer WHERE code=?", f"k{r.randrange(14)}")),
            (1, lambda: self.sql("DELETE FROM product WHERE sku=?", sku)),
            (1, lambda: self.sql('DELETE FROM line WHERE line=? AND "order"=?', r.randrange(3), order)),
            (2, lambda: self.sql("UPDATE customer SET rep=?,tag=? WHERE code=?", f"r{r.randrange(2)}", tag, cust)),
            (1, lambda: self.sql('UPDATE "order" SET customer=?,tag=? WHERE id=?', cust, tag, order)),
            (2, lambda: self.sql('UPDATE "order" SET qty=?,note=?,tag=? WHERE id=?', r.randrange(60),
                                 r.choice(["open", None]), tag, order)),
            (1, lambda: self.sql("UPDATE OR REPLACE product SET sku=?,tag=? WHERE sku=?", f"p{r.randrange(9)}", tag, sku)),
            (1, lambda: self.sql("UPDATE product SET grp=?,tag=? WHERE sku=?", r.choice(["g0", "g1", None]), tag, sku)),
            (1, lambda: self.sql("UPDATE product SET cost=cost+1 WHERE sku=?", sku)),
            (1, lambda: self.sql("UPDATE customer SET memo=? WHERE code=?", f"HUSH{r.random()}", cust)),
            (1, lambda: self.sql("UPDATE customer SET blocked=1-blocked WHERE code=?", cust)),
            (1, lambda: self.sql("UPDATE customer SET city=?,tag=? WHERE code=?", r.choice([city, None]), tag, cust)),
            (1, lambda: self.sql("UPDATE city SET region=?,tag=? WHERE code=?", r.choice(["north", "south", None]), tag, city)),
        ]  # fmt: skip
        r.choices([w for _, w in writes], [n for n, _ in writes])[0]()

    # -- backups

    def backup(self) -> None:
        """Takes a copy of the file while it is served."""
        self.taken += 1
        path = self.folder / f"backup{self.taken}.db"
        target = apsw.Connection(str(path))
        with target.backup("main", self.db, "main") as copying:
            while not copying.done:
                copying.step(1000)
        target.close()
        self.backups.append(Backup(self.time.now(), path, self.history.copy()))

    def restore(self, n: int) -> None:
        """Puts a copy in the place of the file; later ones are forgotten."""
        self.stop()
        for tail in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.remove(self.path + tail)
        shutil.copyfile(self.backups[n].path, self.path)
        self.history = self.backups[n].history.copy()
        del self.backups[n + 1 :]
        self.epoch += 1
        self.start()
        self.dump()
        self.forget_versions()
