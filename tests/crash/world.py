"""An authority and a device in two folders, what their user was told, and what an onlooker finds of it afterwards.

A mutation is known by the `mark` that all records it writes bear. The authority's hook notes the mark of every record that took
effect in a table of its own, so that "once" and "half" can be counted. The onlooker uses the public interface, and plain SQL on
the tables of the application.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar

import apsw
from attrs import Factory, evolve, frozen

from offlinekit import Always, Authority, Collection, Field, Offer, Quick, Replica, Schema, SQLiteStore, everything, field
from offlinekit.authority.files import at_once
from offlinekit.exceptions import ProtocolError, RecordNotFound, Reject
from offlinekit.exchange import Effect, Exchanger, Fetch
from offlinekit.replica import MutationHandle
from offlinekit.testing.crash import Disk
from offlinekit.testing.pair import MovableClock

T = TypeVar("T")
Fate: TypeAlias = tuple[str, int]
"""done, pending, rejected or parked, and how many records the mutation writes."""


class Customer(Collection):
    """Chosen by quick filters."""

    code: Field[str] = field(key=True)
    city: Field[str]
    name: Field[str] = field(search=True)


class Part(Collection, own_file=True):
    """Held by every device, in a file of its own."""

    sku: Field[str] = field(key=True)
    name: Field[str] = field(search=True)


class Order(Collection, writable=True):
    """Written on devices."""

    id: Field[str] = field(key=True)
    mark: Field[str] = field(default="")
    note: Field[str | None] = field(default=None)
    number: Field[int | None] = field(default=None)


class Draft(Collection, device_only=True):
    """Never sent."""

    id: Field[str] = field(key=True)
    text: Field[str] = field(default="")


class Grown:
    """The same, two versions later."""

    class Part(Collection, own_file=True, name="part"):
        """Gained a field and an index."""

        sku: Field[str] = field(key=True)
        name: Field[str] = field(search=True)
        maker: Field[str | None] = field(default=None, index=True)

    class Order(Collection, writable=True, name="order"):
        """Gained a field."""

        id: Field[str] = field(key=True)
        mark: Field[str] = field(default="")
        note: Field[str | None] = field(default=None)
        number: Field[int | None] = field(default=None)
        urgent: Field[bool] = field(default=False)

    class Visit(Collection, priority=1):
        """New."""

        id: Field[str] = field(key=True)


SCHEMA = Schema(Customer, Part, Order, Draft, intents=["sell"])
GROWN = Schema(Customer, Grown.Part, Grown.Order, Draft, Grown.Visit, intents=["sell"], version=3)
CITIES = ("north", "south")
QUICKS = [Quick(city, Customer, Customer.city == city) for city in CITIES]
OFFER = Offer(*QUICKS, always=[Always(Part), Always(Order)])
GROWN_OFFER = Offer(*QUICKS, always=[Always(Grown.Part), Always(Grown.Order), Always(Grown.Visit)])
SIDES = ("device", "head")


@frozen
class Expected:
    """What the user may count on: the fate of each mutation once all has settled, drafts, the selection, other writers' rows."""

    fates: dict[str, Fate] = Factory(dict)
    drafts: frozenset[str] = frozenset()
    cities: frozenset[str] = frozenset()
    written: frozenset[str] = frozenset()

    def but(self, *gone: str, **fates: Fate) -> Expected:
        """The same with other fates."""
        kept = {m: f for m, f in self.fates.items() if m not in gone}
        return evolve(self, fates={**kept, **fates})


class World:
    """Both sides in one process, driven by hand."""

    def __init__(self, folder: str, *, seed: int = 0) -> None:
        self.folder, self.schema, self.rng = folder, SCHEMA, random.Random(seed)
        self.disk: Disk | None = None
        self.clock = MovableClock()
        self.expected = Expected()
        self.attempt: Callable[[Callable[[], Any]], Any] = lambda step: step()
        """How a step is done: by default once, and what it raises passes."""
        self.answers: list[str] = []
        self.history = ""
        """The answer that is expected once although it is none of the usual ones."""
        self.closing = False
        self._head: Authority | None = None
        self._replica: Replica | None = None

    # -- the two programs

    @property
    def head(self) -> Authority:
        """The authority, opened when first needed."""
        if self._head is None:
            self._head = self.attempt(self._open_head)
        return self._head

    def _open_head(self) -> Authority:
        os.makedirs(os.path.join(self.folder, "head"), exist_ok=True)
        store = SQLiteStore(os.path.join(self.folder, "head", "head.db"), clock=self.clock, random=self.rng.randbytes)
        try:
            scopes = dict.fromkeys((Customer, Grown.Part, Grown.Order, Grown.Visit), everything)
            made = Authority(store, GROWN, offer=GROWN_OFFER, scopes=scopes, files=os.path.join(self.folder, "head", "files"),
                             snapshot_age_s=0, random=self.rng.randbytes, background=at_once)  # fmt: skip
            with made.transaction() as tx:
                tx.connection.execute("CREATE TABLE IF NOT EXISTS effect(mark TEXT NOT NULL)")
        except BaseException:
            store.close()
            raise
        made.intent("sell", writes={Grown.Order: ("insert", "update", "delete")})(_sell)
        made.puller.inline_rows = 6
        return made

    @property
    def replica(self) -> Replica:
        """The device's, opened when first needed."""
        if self._replica is None:
            self._replica = self.attempt(self._open_replica)
            self.exchanger = Exchanger(self._replica.store)
        return self._replica

    def _open_replica(self) -> Replica:
        os.makedirs(os.path.join(self.folder, "device"), exist_ok=True)
        path = os.path.join(self.folder, "device", "replica.db")
        offer = OFFER if self.schema is SCHEMA else GROWN_OFFER
        made = Replica.open(path, self.schema, offer=offer, identity="ana", zone="UTC", clock=self.clock,
                            random=self.rng.randbytes)  # fmt: skip
        made.store.load_least = 1  # few records are a load here
        return made

    def close_replica(self) -> None:
        """Ends the device's program."""
        if self._replica is not None:
            self._close(self._replica.close)
            self._replica = None

    def close_head(self) -> None:
        """Ends the authority's."""
        if self._head is not None:
            self._close(self._head.close)
            self._head = None

    def _close(self, step: Callable[[], None]) -> None:
        self.closing = True
        self.attempt(step)
        self.closing = False

    def close(self) -> None:
        """Ends both."""
        self.close_replica()
        self.close_head()

    # -- what people do

    def does(self, expected: Expected, step: Callable[[], T]) -> T:
        """Somebody makes a call that leads to this; when it returns, they count on it."""
        self._note("doing", expected)
        done: T = self.attempt(step)
        self.expected = expected
        self._note("told", expected)
        return done

    def _note(self, kind: str, expected: Expected) -> None:
        if self.disk is not None:
            self.disk.note((kind, expected))

    def sell(self, mark: str, *ids: str, note: str | None = None, fate: str = "done") -> None:
        """A transaction that inserts orders."""

        def step() -> None:
            with self.replica.transaction("sell") as tx:
                for id_ in ids:
                    tx.insert(self.order(id=id_, mark=mark, note=note))

        self.does(self.expected.but(**{mark: (fate, len(ids))}), step)

    def change(self, mark: str, *ids: str, fate: str = "done") -> None:
        """A transaction that changes orders."""

        def step() -> None:
            with self.replica.transaction("sell") as tx:
                for id_ in ids:
                    tx.update(self.order(id=id_), mark=mark)

        self.does(self.expected.but(**{mark: (fate, len(ids))}), step)

    def draft(self, id_: str) -> None:
        """A transaction that is never sent."""

        def step() -> None:
            with self.replica.transaction() as tx:
                tx.insert(Draft(id=id_, text="x" * 200))

        self.does(evolve(self.expected, drafts=self.expected.drafts | {id_}), step)

    def choose(self, *cities: str) -> None:
        """Another selection."""

        def step() -> None:
            config = self.replica.configure().clear(Customer).until(None)
            for city in cities:
                config.quick(city)
            config.save()

        self.does(evolve(self.expected, cities=frozenset(cities)), step)

    def write(self, sku: str, *statements: str) -> None:
        """Another program writes at the authority, and with it one part."""

        def step() -> None:
            with self.head.transaction() as tx:
                for statement in statements:
                    tx.connection.execute(statement)
                tx.connection.execute("INSERT INTO part(sku,name) VALUES(?,?)", (sku, f"part {sku}"))

        self.does(evolve(self.expected, written=self.expected.written | {sku}), step)

    def rejected(self, mark: str) -> Any:
        """The refusal of a mutation."""
        return next(r for r in self.replica.rejections() if mark in marks_of(r))

    @property
    def order(self) -> Any:
        """The class of orders that the device's program knows."""
        return self.schema.collections["order"].cls

    # -- the line between them

    def drive(self, steps: Generator[Effect, bytes, T]) -> T:
        """Carries an exchange to the authority and back."""
        try:
            effect = next(steps)
            while True:
                if isinstance(effect, Fetch):
                    try:
                        answer = self.head.fetch(effect.name, effect.offset, "ana")
                    except RecordNotFound:  # the file went with the disk of head office
                        effect = steps.throw(Expired("the file has expired; ask again"))
                else:
                    answer = self.head.handle(effect.body, "ana", {})
                effect = steps.send(answer)
        except StopIteration as stop:
            done: T = stop.value
            return done
        finally:
            steps.close()

    def push(self) -> str:
        """One push."""
        _ = self.replica
        return self._said(self.attempt(lambda: self.drive(self.exchanger.push())).kind)

    def pull(self, *, load: bool = False) -> bool:
        """One pull; whether there is more to load."""
        _ = self.replica
        try:
            moved = self.attempt(lambda: self.drive(self.exchanger.pull(load=load)))
        except ProtocolError:  # the file is gone, or another one since head office lost its disk: it was thrown away
            moved = self.attempt(lambda: self.drive(self.exchanger.pull(load=load)))
        self._said(moved.kind)
        return bool(moved.more)

    def _said(self, kind: str) -> str:
        self.answers.append(kind)
        return kind

    def settle(self, rounds: int = 12) -> None:
        """Until nothing is left to do."""
        load = False
        for _ in range(rounds):
            if self.push() != "nothing":
                continue
            load = self.pull(load=load)
            if self.answers[-1] == "same" and not load:
                return
        raise AssertionError(f"not settled: {self.answers}")


class Expired(ProtocolError):
    """What a transport raises when the authority has a file no longer."""


def _sell(changes: Any, ctx: Any) -> None:
    """Notes each record, numbers it, and refuses what says so."""
    records = [*changes.inserted(Grown.Order), *(u.record for u in changes.updated(Grown.Order))]
    for record in (*records, *changes.deleted(Grown.Order)):
        ctx.connection.execute("INSERT INTO effect VALUES(?)", (record.mark,))
    for record in records:
        if record.note == "refuse":
            raise Reject("refused", "as asked", fields=["note"])


def marks_of(handle: MutationHandle) -> list[str]:
    """The mark of each record that a mutation writes."""
    return [str(c.after["mark"]) for c in handle.changes if "mark" in c.after]


def dump(db: apsw.Connection, table: str, names: list[str]) -> set[tuple[Any, ...]]:
    """The rows of a table, as they are stored."""
    return set(db.execute(f'SELECT {",".join(names)} FROM "{table}"'))


def damaged(folder: str) -> list[str]:
    """The databases of a folder that are not sound; what was on its way to be sent is asked for anew."""
    found = []
    for place, _, names in os.walk(folder):
        for name in (n for n in names if not n.endswith(".tmp")):
            path = os.path.join(place, name)
            with open(path, "rb") as source:
                if source.read(16) != b"SQLite format 3\0":
                    continue
            db = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
            with suppress(apsw.Error):
                for function in ("contains", "starts_with", "equals_folded", "words", "utf8"):
                    db.create_scalar_function(f"ok_{function}", lambda *args: None, -1, deterministic=True)
            try:
                said = [row[0] for row in db.execute("PRAGMA integrity_check")]
            except apsw.Error as error:
                said = [str(error)]
            finally:
                db.close()
            if said != ["ok"]:
                found.append(f"{name}: {said[0]}")
    return found


# -- the onlooker


def unsettled(world: World) -> list[str]:
    """What is wrong on a device that was just opened: a mutation of which records and outbox do not agree.

    An authority that was restored does not know what the device rightly shows, so there is nothing to compare yet.
    """
    if world.history:
        return []
    with world.head.transaction() as tx:
        effects = {row[0] for row in tx.connection.execute("SELECT DISTINCT mark FROM effect")}
    changes = [c for handle in world.replica.pending() for c in handle.changes if "mark" in c.after]
    waiting = {str(c.key[0]): str(c.after["mark"]) for c in changes}  # the last change of each order
    shown = {order.id: order.mark for order in world.replica.select(world.order).all() if order.mark}
    shown, waiting = ({id_: m for id_, m in those.items() if m not in effects} for those in (shown, waiting))
    return [] if shown == waiting else [f"half: shows {shown}, keeps {waiting}"]


def found(world: World) -> Expected:
    """What the user finds when all has settled."""
    replica = world.replica
    with world.head.transaction() as tx:
        effects = Counter(row[0] for row in tx.connection.execute("SELECT mark FROM effect"))
        written = {row[0] for row in tx.connection.execute("SELECT sku FROM part WHERE sku LIKE 'w%'")}
    fates: dict[str, Fate] = {mark: ("done", n) for mark, n in effects.items()}
    for kind, handles in (("pending", replica.pending()), ("parked", replica.parked()), ("rejected", replica.rejections())):
        for handle in handles:
            known = handle.now
            if kind == "rejected" and (known.code, known.message, known.fields) != ("refused", "as asked", ("note",)):
                kind = f"rejected without its reason: {known}"
            marks = marks_of(handle)
            fates[marks[0]] = (f"both done and {kind}" if marks[0] in effects else kind, len(marks))
    return Expected(fates, frozenset(d.id for d in replica.select(Draft).all()),
                    frozenset(name for name, _ in replica.selection.choice("customer").quick), frozenset(written))  # fmt: skip


def differences(world: World) -> list[str]:
    """What the replica holds and should not, or the other way round; by its tables, and by its searches."""
    wrong = []
    cities = {name for name, _ in world.replica.selection.choice("customer").quick}
    with world.head.transaction() as tx:
        for info in world.schema.replicated:
            names = list(info.replicated)
            there = dump(tx.connection, info.name, names)
            if info.name == "customer":
                there = {row for row in there if row[names.index("city")] in cities}
            here = set(world.replica.sql(f'SELECT {",".join(names)} FROM "{info.name}"'))
            if here != there:
                wrong.append(f"{info.name}: more {sorted(here - there)[:3]}, less {sorted(there - here)[:3]}")
            if info.search:
                hits = {r._stored[names[0]] for r in world.replica.select(info.cls).search("part").all()}
                if hits != {row[0] for row in there if "part" in row[names.index("name")]}:
                    wrong.append(f"{info.name}: its search finds {len(hits)}")
    return wrong
