"""A simulated device: a replica's files, the process that uses them, and what its user does there through the public API."""

from __future__ import annotations

import os
import random
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw

from offlinekit.exceptions import AlreadySent, ConstraintViolated, OfflinekitError, RecordNotFound, StoreFull
from offlinekit.exchange import Exchanger
from offlinekit.replica import Replica, Transaction
from offlinekit.testing.simulation.breaking import Breaker, CrashError
from offlinekit.testing.simulation.contract import OFFER, OLD, SCHEMA, Chosen, selection_of
from offlinekit.testing.simulation.head import Clock
from offlinekit.testing.simulation.model import Flat, Model, difference
from offlinekit.testing.simulation.oracle import KEYS, Place, Row
from offlinekit.testing.simulation.promises import Promise

__all__ = ["Device", "Writing"]


class _AppError(Exception):
    """The application's own error inside a transaction."""


class Writing:
    """What a local transaction was to do, and how its call ended: `done`, `refused`, `crashed`."""

    def __init__(self, intent: str) -> None:
        self.intent, self.ended = intent, "done"
        self.inside: Flat | None = None
        self.id = b""
        self.why = ""


class Device:
    """One device in the hands of one identity."""

    def __init__(self, folder: Path, identity: str, time: Clock, ids: random.Random, *, old: bool) -> None:
        self.folder, self.name, self.identity, self.ids = folder, folder.name, identity, ids
        self.clock = Clock(time)
        self.path = str(folder / "replica.db")
        self.models = [Model(old)]  # more than one while nobody can know how a call ended
        self.chosen: Chosen = {}
        self.zone = "UTC"
        self.until: float | None = None
        self.exchanges: dict[str, Any] = {}  # under way, by kind
        self.promises: dict[bytes, Promise] = {}
        self.pushed: dict[bytes, int] = {}  # by answer: the version of the records that it left
        self.views: dict[str, set[int]] = {}
        self.strays: dict[str, list[bytes]] = {"push": [], "pull": []}
        self.copied = False
        self.cut_off = 0  # the step until which no message passes
        folder.mkdir(exist_ok=True)
        self.open()

    @property
    def model(self) -> Model:
        """What its user knows."""
        return self.models[0]

    def open(self) -> None:
        """Starts the process."""
        self.replica = Replica.open(self.path, OLD if self.model.old else SCHEMA, offer=OFFER, identity=self.identity,
                                    zone="UTC", clock=self.clock, random=self.ids.randbytes)  # fmt: skip
        self.replica.store.db.pragma("synchronous", "off")  # processes end here, power does not
        self.exchanger = Exchanger(self.replica.store)

    def kill(self) -> None:
        """Ends the process, wherever it is."""
        for exchange in self.exchanges.values():
            with suppress(Exception, CrashError):
                exchange.steps.close()
        self.exchanges.clear()
        with suppress(Exception, CrashError):
            self.exchanger.arrivals.release()
        with suppress(Exception):
            self.replica.close()
        for db in apsw.connections():
            if db.filename.startswith(os.path.join(self.folder, "")):
                db.close(True)

    def copy_to(self, folder: Path) -> None:
        """The files, as somebody copies them while the program is closed."""
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.folder, folder)

    # -- what its user sees

    def visible(self) -> Flat:
        """All replicated records, by SQL."""
        found: Flat = {}
        for name, fields in self.model.fields.items():
            columns = ",".join(f'"{f}"' for f in fields)
            for values in self.replica.sql(f'SELECT {columns} FROM "{name}"'):
                row = dict(zip(fields, values, strict=True))
                found[name, tuple(row[k] for k in KEYS[name])] = row
        return found

    def _inside(self, tx: Transaction) -> Flat:
        found: Flat = {}
        for name in ("customer", "order", "line"):
            fields = self.model.fields[name]
            for values in tx.execute(f'SELECT {",".join(f"{chr(34)}{f}{chr(34)}" for f in fields)} FROM "{name}"'):
                row: Row = dict(zip(fields, values, strict=True))
                found[name, tuple(row[k] for k in KEYS[name])] = row
        return found

    def drafts(self) -> dict[int, str]:
        """What never leaves the device."""
        return {int(str(n)): str(text) for n, text in self.replica.sql("SELECT id,text FROM draft")}

    def states(self) -> dict[str, list[bytes]]:
        """The mutations that the device still lists, by state, oldest first."""
        replica = self.replica
        return {
            "pending": [m.id.bytes for m in replica.pending()], "parked": [m.id.bytes for m in replica.parked()],
            "rejected": [m.id.bytes for m in replica.rejections()],
        }  # fmt: skip

    # -- what its user does

    def select(self, chosen: Chosen, zone: str, until: float | None = None) -> None:
        """Saves a selection."""
        self.replica.save_selection(selection_of(chosen, self.identity, zone, until))
        self.chosen, self.zone, self.until = chosen, zone, until

    def selection(self) -> bytes:
        """The saved selection."""
        return self.replica.selection.encode()

    def act(self, tx: Transaction, what: str, place: Place, values: Row) -> None:
        """One write, typed or by SQL."""
        collection, key = place
        info = self.replica.schema.info(collection)
        known = {n: v for n, v in values.items() if n in self.model.fields[collection]}
        where = " AND ".join(f'"{k}"=?' for k in KEYS[collection])
        if what == "insert":
            tx.insert(info.record({**{n: f.initial() for n, f in info.fields.items() if n not in known}, **known}))
        elif what == "replace":
            columns = ",".join(f'"{n}"' for n in known)
            tx.execute(f'INSERT OR REPLACE INTO "{collection}"({columns}) VALUES({",".join("?" * len(known))})',
                       list(known.values()))  # fmt: skip
        elif what == "update":
            sets = ",".join(f'"{n}"=?' for n in known)
            tx.execute(f'UPDATE "{collection}" SET {sets} WHERE {where}', [*known.values(), *key])
        elif what == "delete":
            found = tx.get(info.cls, key[0] if len(key) == 1 else key)
            if found is not None:
                tx.delete(found)

    def write(self, writing: Writing, acts: list[tuple[str, Place, Row]], *, breaker: Breaker | None = None,
              fails: bool = False, mutation: Any = None) -> None:  # fmt: skip
        """One local transaction, or a correction of `mutation`; how its call ended is noted in `writing`."""

        def run() -> None:
            with mutation.edit() if mutation is not None else self.replica.transaction(writing.intent) as tx:
                for what, place, values in acts:
                    self.act(tx, what, place, values)
                writing.inside = self._inside(tx)
                if fails:
                    raise _AppError
            writing.id = tx.mutation.id.bytes

        try:
            if breaker is not None:
                with breaker.armed():
                    run()
            else:
                run()
        except (ConstraintViolated, RecordNotFound, _AppError, StoreFull) as error:
            writing.ended, writing.why = "refused", str(error)
        except CrashError:
            writing.ended = "crashed"
            self.kill()
            self.open()
        except AlreadySent:
            writing.ended = "already sent"
        except OfflinekitError as error:
            if "changed nothing" not in str(error) and "changes nothing" not in str(error):
                raise
            writing.ended, writing.why = "refused", str(error)

    def changes(self, writing: Writing, before: Flat) -> dict[Place, tuple[str, Row]]:
        """What the transaction did, from what its user saw inside it."""
        assert writing.inside is not None
        writable = {p: r for p, r in before.items() if p[0] in ("customer", "order", "line")}
        return difference(writable, writing.inside)

    def draft(self, n: int, text: str) -> None:
        """Writes into a collection that never leaves the device."""
        with self.replica.transaction() as tx:
            tx.execute("INSERT OR REPLACE INTO draft VALUES(?,?)", (n, text))
