"""The world of the push's oracle: an authority, two devices driven by hand, and a naive model of what each device must show.

The model knows nothing of bases, touches or sequence numbers: it keeps, for each device, the authority's records at the last pull
that went through, and a list of mutations as plain dictionaries. What a device shows is the one with the other played over it.
"""

from __future__ import annotations

import copy
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import Factory, mutable

from offlinekit.authority import Authority
from offlinekit.authority.pushing import FORGOTTEN
from offlinekit.exceptions import ConstraintViolated, Reject, StateError
from offlinekit.exchange import Exchanger, Fetch, Steps
from offlinekit.nodes import everything
from offlinekit.offer import Offer, Quick
from offlinekit.protocol import messages as m
from offlinekit.protocol.codec import decode_answer, decode_request
from offlinekit.replica import MutationHandle, Replica, Transaction
from offlinekit.schema import Collection, Field, Schema, field
from offlinekit.store.sqlite import SQLiteStore
from offlinekit.testing.pair import MovableClock


class Order(Collection, writable=True):
    """Changed by everybody; conflicts are refused."""

    id: Field[str] = field(key=True)
    qty: Field[int] = field(default=1)
    note: Field[str | None] = field(default=None)
    mark: Field[str] = field(default="")
    number: Field[int | None] = field(default=None)


class Line(Collection, writable=True):
    """Refers to an order; in conflicts the authority's version wins."""

    id: Field[str] = field(key=True)
    order: Field[str] = field(ref=Order)
    qty: Field[int] = field(default=1)
    mark: Field[str] = field(default="")


INTENTS = ("any", "place", "change", "remove", "unknown")
SCHEMA = Schema(Order, Line, intents=INTENTS)
OFFER = Offer(Quick("orders", Order, everything), Quick("lines", Line, everything))
NAMES = {"order": ("id", "qty", "note", "mark", "number"), "line": ("id", "order", "qty", "mark")}
EFFECTS = "CREATE TABLE IF NOT EXISTS effect(n INTEGER PRIMARY KEY AUTOINCREMENT, mark TEXT NOT NULL)"

Place = tuple[str, str]  # collection, key
Row = dict[str, Any]
Rows = dict[Place, Row]


@mutable
class Sent:
    """A committed mutation as the model knows it."""

    id: bytes
    intent: str
    changes: dict[Place, tuple[str, Row]]
    after: set[bytes]
    state: str = "pending"
    shown: dict[Place, tuple[str, Row]] = Factory(dict)
    settled: bool = False
    given_up: bool = False  # refused here alone, because what it waited for was given up


def rows_of(db: Any) -> Rows:
    """All records that a database shows."""
    found: Rows = {}
    for table, names in NAMES.items():
        columns = ",".join(f'"{n}"' for n in names)
        for row in db.execute(f'SELECT {columns} FROM "{table}"'):
            found[table, row[0]] = dict(zip(names, row, strict=True))
    return found


def difference(before: Rows, after: Rows) -> dict[Place, tuple[str, Row]]:
    """What turns one into the other: (insert, all fields), (update, the fields that differ), (delete, none)."""
    found: dict[Place, tuple[str, Row]] = {}
    for place in before.keys() | after.keys():
        if place not in before:
            found[place] = ("insert", after[place])
        elif place not in after:
            found[place] = ("delete", {})
        elif changed := {n: v for n, v in after[place].items() if v != before[place][n]}:
            found[place] = ("update", changed)
    return found


class Head:
    """The authority's file and the process that serves it."""

    def __init__(self, folder: Path, rng: random.Random, *, compacts: bool = False) -> None:
        self.folder, self.rng, self.clock, self.compacts = folder, rng, MovableClock(), compacts
        self.path = folder / "head.db"
        self.requests: list[tuple[bytes, str]] = []
        self.hiccups: dict[str, int] = {}
        self.serial = 0
        self.open()

    def open(self) -> None:
        """Starts the process."""
        store = SQLiteStore(self.path, clock=self.clock)
        self.authority = Authority(store, SCHEMA, offer=OFFER, scopes={Order: everything, Line: everything},
                                   conflicts={Line: "authority_wins"}, files=str(self.folder / "files"),
                                   snapshot_age_s=0)  # fmt: skip
        if self.compacts:  # a push makes the receipts of all pushes before it compact
            self.authority.pusher.compact_after_s = -60.0
        with self.authority.transaction() as tx:
            tx.connection.execute(EFFECTS)
        for name, writes in (
            ("any", {Order: ("insert", "update", "delete"), Line: ("insert", "update", "delete")}),
            ("place", {Order: "insert", Line: "insert"}),
            ("change", {Order: {"update": ["qty", "note", "mark"]}, Line: {"update": ["qty", "mark"], "insert": None}}),
            ("remove", {Order: "delete", Line: "delete"}),
        ):
            self.authority.intent(name, writes=writes)(self.hook)

    def hook(self, changes: Any, ctx: Any) -> None:
        """Notes the effect, and then accepts, transforms, refuses or fails, by what the records say."""
        records = [*changes.inserted(Order), *(u.record for u in changes.updated(Order))]
        for record in (*records, *changes.inserted(Line), *(u.record for u in changes.updated(Line))):
            ctx.connection.execute("INSERT INTO effect(mark) VALUES(?)", (record.mark,))
        for record in (*changes.deleted(Order), *changes.deleted(Line)):
            ctx.connection.execute("INSERT INTO effect(mark) VALUES(?)", (f"gone {record.id}",))
        for record in records:
            if record.note == "refuse":
                raise Reject("refused", "as asked", fields=["note"])
            if record.note == "fail":
                raise RuntimeError("as asked")
            if record.note == "hiccup":
                self.hiccups[record.mark] = self.hiccups.get(record.mark, 0) + 1
                if self.hiccups[record.mark] < 3:
                    raise RuntimeError("for now")
            if record.qty > 50:
                record.qty = 50
        for record in changes.inserted(Order):
            if record.note == "number":
                record.number = len(record.id)
        for record in changes.inserted(Line):
            if ctx.get(Order, record.order) is None:
                ctx.flush()
                if ctx.get(Order, record.order) is None:
                    raise Reject("no_order", "the order of the line is not here")

    def restart(self) -> None:
        """Another process on the same file."""
        self.authority.close()
        self.open()

    def copy(self) -> None:
        """A backup."""
        self.authority.close()
        shutil.copy(self.path, self.folder / "backup.db")
        self.open()

    def restore(self) -> bool:
        """The backup is put back, if there is one."""
        if not (self.folder / "backup.db").exists():
            return False
        self.authority.close()
        for ending in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                (self.folder / f"head.db{ending}").unlink()
        shutil.copy(self.folder / "backup.db", self.path)
        self.open()
        return True

    def handle(self, body: bytes, identity: str) -> bytes:
        """Answers, and remembers the request for a replay."""
        self.requests.append((body, identity))
        return self.authority.handle(body, identity, {})

    def rows(self) -> Rows:
        """Its records."""
        with self.authority.transaction() as tx:
            return rows_of(tx.connection)

    def effects(self) -> list[str]:
        """The marks of what took effect, in order."""
        with self.authority.transaction() as tx:
            return [row[0] for row in tx.connection.execute("SELECT mark FROM effect ORDER BY n")]

    def write(self) -> None:
        """Somebody else writes, by plain SQL."""
        self.serial += 1
        rows = self.rows()
        orders, lines = [p[1] for p in sorted(rows) if p[0] == "order"], [p[1] for p in sorted(rows) if p[0] == "line"]
        with suppress(ConstraintViolated), self.authority.transaction() as tx:
            kind = self.rng.randrange(4)
            if kind == 0 or not orders:
                tx.connection.execute('INSERT INTO "order"(id,qty,mark) VALUES(?,?,?)', (f"h{self.serial}", 3, "head"))
            elif kind == 1:
                tx.connection.execute('UPDATE "order" SET qty=? WHERE id=?', (self.rng.randrange(40), self.rng.choice(orders)))
            elif kind == 2 and lines:
                tx.connection.execute("UPDATE line SET qty=? WHERE id=?", (self.rng.randrange(40), self.rng.choice(lines)))
            elif lines:
                tx.connection.execute("DELETE FROM line WHERE id=?", (self.rng.choice(lines),))
            else:
                tx.connection.execute('DELETE FROM "order" WHERE id=?', (self.rng.choice(orders),))


class Device:
    """A replica that is driven by hand, and the model of it."""

    def __init__(self, head: Head, name: str, rng: random.Random) -> None:
        self.head, self.name, self.rng = head, name, rng
        self.path = head.folder / f"{name}.db"
        self.base: Rows = {}
        self.left: Rows = {}  # gone from the authority, and shown as long as a pending change touches them
        self.sent: list[Sent] = []
        self.resolved: set[bytes] = set()
        self.after: dict[bytes, set[bytes]] = {}
        self.marks: dict[bytes, dict[Place, str]] = {}
        self.counts: dict[str, int] = {}
        self.open()
        self.replica.configure().quick("orders").quick("lines").until(None).save()

    def open(self) -> None:
        """Starts the process."""
        self.replica = Replica.open(self.path, SCHEMA, offer=OFFER, identity=self.name, zone="UTC",
                                    clock=self.head.clock, random=self.rng.randbytes)  # fmt: skip
        self.exchanger = Exchanger(self.replica.store)

    def restart(self) -> None:
        """Another process on the same file."""
        self.replica.close()
        self.open()

    # -- the model

    def shown(self) -> Rows:
        """What the device must show."""
        found = {place: dict(row) for place, row in {**self.left, **self.base}.items()}
        for mutation in self.sent:
            if mutation.state in ("rejected", "parked") or mutation.settled:
                continue
            for place, (op, values) in mutation.shown.items():
                if op == "insert":
                    found[place] = dict(values)
                elif op == "delete":
                    found.pop(place, None)
                elif place in found:
                    found[place].update(values)
        return found

    def live(self) -> set[Place]:
        """The places that changes lie over."""
        return {p for s in self.sent if s.state not in ("rejected", "parked") and not s.settled for p in s.shown}

    def move_base(self, rows: Rows) -> None:
        """A pull went through: the authority's records are these; what left stays while it is touched."""
        live = self.live()
        gone = {p: r for p, r in {**self.left, **self.base}.items() if p not in rows and p in live}
        self.base, self.left = rows, gone

    def tidy(self) -> None:
        """Nothing touches a record that left: it goes."""
        live = self.live()
        self.left = {p: r for p, r in self.left.items() if p in live}

    def changes_since(self, before: Rows) -> dict[Place, tuple[str, Row]]:
        """What a local transaction changed."""
        return difference(before, self.visible())

    def note(self, id_: bytes, intent: str, changes: dict[Place, tuple[str, Row]]) -> None:
        """A new mutation at the end of the outbox."""
        after = set()
        for other in self.sent:
            if other.state == "pending":
                inserted = {p for p, (op, _) in other.shown.items() if op == "insert"}
                refers = {("order", v["order"]) for p, (_, v) in changes.items() if p[0] == "line" and "order" in v}
                if other.shown.keys() & changes.keys() or inserted & refers:
                    after.add(other.id)
        self.sent.append(Sent(id_, intent, changes, after, shown=dict(changes)))
        self.marks[id_] = {p: v["mark"] for p, (_, v) in changes.items() if "mark" in v}

    def visible(self) -> Rows:
        """What the device shows."""
        return rows_of(self.replica.store.reader())

    def dependents(self, id_: bytes) -> list[Sent]:
        """What waits for a mutation, directly or not."""
        found, grown = {id_}, True
        while grown:
            more = {s.id for s in self.sent if s.state in ("pending", "parked") and s.after & found} - found
            found, grown = found | more, bool(more)
        return [s for s in self.sent if s.id in found - {id_}]

    def answered(self, answer: m.Pushed) -> None:
        """The device took these answers in."""
        for receipt in answer.results:
            mutation = next((s for s in self.sent if s.id == receipt.id and s.state == "pending"), None)
            if mutation is None:
                continue
            mutation.state = receipt.outcome
            self.counts["heard late"] = self.counts.get("heard late", 0) + (receipt.message == FORGOTTEN)
            if receipt.outcome == "rejected":
                for waiting in self.dependents(receipt.id):
                    waiting.state = "parked"
            for record in receipt.records:
                place = (record.collection, str(record.key[0]))
                if record.gone:
                    mutation.shown.pop(place, None)
                elif record.values is not None:
                    mutation.shown[place] = ("insert", dict(record.values))
        self.tidy()

    def unanswered(self) -> None:
        """The history is another one."""
        for mutation in self.sent:
            if not mutation.given_up:
                mutation.state, mutation.settled, mutation.shown = "pending", False, dict(mutation.changes)

    def check(self) -> None:
        """The device shows what the model says, and has lost nothing."""
        assert self.visible() == self.shown(), self.name
        held = {r["id"]: r["state"] for r in self.replica.store.outbox.rows("1")}
        assert held == {s.id: s.state for s in self.sent}
        needs: dict[bytes, set[bytes]] = {}
        sql = "SELECT m.id,a.needs FROM ok_after a JOIN ok_mutation m ON m.seq=a.mutation WHERE m.state<>'rejected'"
        for id_, needed in self.replica.store.reader().execute(sql):
            needs.setdefault(id_, set()).add(needed)
        assert needs == {s.id: s.after for s in self.sent if s.after and s.state != "rejected"}

    # -- resolving

    def give_up(self, id_: bytes) -> None:
        """A mutation was discarded or withdrawn."""
        for waiting in self.dependents(id_):
            waiting.state, waiting.given_up = "rejected", True
        self.forget(id_)
        self.tidy()

    def forget(self, id_: bytes) -> None:
        """The app resolved a mutation, and it is here no more."""
        self.sent = [s for s in self.sent if s.id != id_]
        self.resolved.add(id_)

    def correct(self, mutation: MutationHandle, change: Callable[[Transaction], object]) -> None:
        """Edits and sends again: what waited for the old one follows the new one. What changes nothing stays as it was."""
        old = mutation.id.bytes
        intent = next(s.intent for s in self.sent if s.id == old)
        state, refused = mutation.state, False
        try:
            with mutation.edit() as tx:
                change(tx)
                inside = rows_of(self.replica.store.db)
        except StateError as error:
            if "changes nothing" not in str(error):
                raise
            refused = True
        kept, resolved = copy.deepcopy(self.sent), set(self.resolved)
        moved = self.dependents(old)
        self.forget(old)
        for waiting in moved:
            waiting.state = "parked"
        self.tidy()
        changes = difference(self.shown(), inside)
        assert refused == (not changes), "only what changes nothing is refused"
        if refused:
            self.sent, self.resolved = kept, resolved
            assert mutation.state == state
            return
        self.note(tx.mutation.id.bytes, intent, changes)
        self.sent = [s for s in self.sent if s not in moved] + moved
        for waiting in moved:
            waiting.state, waiting.shown = "pending", dict(waiting.changes)
            waiting.after = (waiting.after - {old}) | ({tx.mutation.id.bytes} if old in waiting.after else set())
        self.tidy()

    # -- exchanges

    def walk(self, steps: Steps, fault: str) -> Iterator[Any]:
        """Drives an exchange with a fault; yields each answer that the device is given."""
        self.result: Any = None
        try:
            effect = next(steps)
            while True:
                assert not isinstance(effect, Fetch)
                if fault == "lost":
                    steps.close()
                    return
                self.rows_then = self.head.rows()
                body = self.head.handle(effect.body, self.name)
                if fault == "doubled":
                    body = self.rng.choice([body, self.head.handle(effect.body, self.name)])
                if fault == "answer lost":
                    steps.close()
                    return
                if fault == "server restarts":
                    self.head.restart()
                self.answer = decode_answer(body)
                effect = steps.send(body)
        except StopIteration as stop:
            self.result = stop.value
            yield self.answer if self.result.kind != "nothing" else None

    def push(self, fault: str = "") -> str:
        """One push; the kind of its result, or the fault."""
        for answer in self.walk(self.exchanger.push(), fault):
            if isinstance(answer, m.Pushed):
                self.answered(answer)
            elif isinstance(answer, m.NewHistory):
                self.unanswered()
            return str(self.result.kind)
        return fault

    def pull(self, fault: str = "") -> str:
        """One pull; the kind of its result, or the fault."""
        for answer in self.walk(self.exchanger.pull(), fault):
            if isinstance(answer, m.Delta | m.Same) and self.result.kind in ("delta", "same"):
                for mutation in self.sent:
                    mutation.settled = mutation.settled or mutation.id in answer.receipts
                if isinstance(answer, m.Delta):
                    self.move_base(self.rows_then)
                self.tidy()
            elif isinstance(answer, m.NewHistory):
                self.unanswered()
            return str(self.result.kind)
        return fault


def is_push(body: bytes) -> bool:
    """Whether a request is a push."""
    return isinstance(decode_request(body), m.Push)
