"""A small company whose device lives through everything by chance, for recordings: its schema, and sessions from seeds."""

from __future__ import annotations

import random
import shutil
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

from offlinekit.authority import Authority, Changes, Context
from offlinekit.conflict import MergeFields
from offlinekit.exceptions import AlreadySent, ConstraintViolated, OfflinekitError, Reject, SelectionExpired, TransportError
from offlinekit.exchange import Effect, Exchanger, Fetch
from offlinekit.nodes import claim, everything, param
from offlinekit.offer import Offer, Quick
from offlinekit.replica import Replica
from offlinekit.schema import Collection, Field, Schema, field
from offlinekit.store.sqlite import SQLiteStore
from offlinekit.testing.pair import MovableClock

IDENTITY, REP = "identity-of-anna", "claim-of-anna"


class Customer(Collection, writable=True):
    """Has everything that can be masked."""

    code: Field[str] = field(key=True)
    name: Field[str] = field(search=True, max_length=40)
    mail: Field[str | None] = field(default=None, check=lambda v: v.endswith("@example.org"))
    rep: Field[str]
    notes: Field[dict[str, list[str]]] = field(default_factory=dict)
    photo: Field[bytes | None] = field(default=None)
    rank: Field[float] = field(default=0.5)


class Order(Collection, writable=True, priority=1):
    """Refers to a customer; in conflicts the authority's version wins."""

    id: Field[int] = field(key=True)
    customer: Field[str | None] = field(ref=Customer)
    text: Field[str] = field(default="")
    qty: Field[int] = field(default=1)


class Product(Collection, own_file=True):
    """Stands in a file of its own."""

    sku: Field[str] = field(key=True)
    name: Field[str] = field(search=True)


class Draft(Collection, device_only=True):
    """Is never recorded."""

    id: Field[int] = field(key=True)
    text: Field[str]


SCHEMA = Schema(Customer, Order, Product, Draft, intents=["sell", "care"])
SCOPES = {Customer: Customer.rep == claim("rep"), Order: everything, Product: everything}
OFFER = Offer(
    Quick("mine", Customer, everything), Quick("named", Customer, Customer.name.contains(param("text"))),
    Quick("any", Order, everything), Quick("few", Order, Order.qty < param("qty")),
    Quick("products", Product, everything), Quick("some", Product, Product.name.contains(param("text"))),
)  # fmt: skip
WORDS = ("Ávila", "Bento", "Łódź", "字号店", "Zé da Silva", "O'Neil")


def decide(changes: Changes, ctx: Context) -> None:
    """Refuses, corrects and fails by what is in the records."""
    for order in [*changes.inserted(Order), *(u.record for u in changes.updated(Order))]:
        if order.qty == 13:
            raise Reject("unlucky", f"nobody orders 13: {order.text}", fields=["qty"])
        if order.qty == 7:
            order.text = f"corrected {order.text}"[:40]
        if order.qty == 11:
            raise ZeroDivisionError("a bug in a hook")


class Head:
    """The authority in a folder, which can be restored from a copy."""

    def __init__(self, folder: Path, clock: MovableClock) -> None:
        self.folder, self.clock = folder, clock
        folder.mkdir()
        self.open()

    def open(self) -> None:
        """Starts it."""
        store = SQLiteStore(self.folder / "head.db", clock=self.clock)
        self.authority = Authority(store, SCHEMA, offer=OFFER, scopes=SCOPES, files=str(self.folder / "files"), snapshot_age_s=0,
                                   conflicts={Order: "authority_wins", Customer: MergeFields({"name"})})  # fmt: skip
        self.authority.puller.inline_rows = 6
        everything_of = ["insert", "update", "delete"]
        self.authority.intent("sell", writes={Order: everything_of, Customer: everything_of})(decide)
        self.authority.allow("care", writes={Customer: everything_of})

    def keep(self) -> None:
        """Makes a backup."""
        self.authority.close()
        shutil.copy(self.folder / "head.db", self.folder / "backup")
        self.open()

    def restore(self) -> None:
        """Goes back to the backup, if there is one."""
        if (self.folder / "backup").exists():
            self.authority.close()
            for tail in ("-wal", "-shm"):
                (self.folder / f"head.db{tail}").unlink(missing_ok=True)
            shutil.copy(self.folder / "backup", self.folder / "head.db")
            self.open()


class Session:
    """A device with its authority and a bad line between them; everything by chance from a seed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.rng, self.clock = random.Random(seed), MovableClock()
        self.head = Head(folder / "head", self.clock)
        self.replica = Replica.open(folder / "replica.db", SCHEMA, offer=OFFER, identity=IDENTITY, zone="UTC", clock=self.clock)
        self.replica.store.db.pragma("synchronous", "off")
        self.exchanger = Exchanger(self.replica.store)
        self.under_way: dict[str, tuple[Generator[Effect, bytes, Any], Effect]] = {}
        self.old: list[bytes] = []
        self.serial, self.done = 0, set[str]()
        for _ in range(12):
            self.elsewhere()
        self.select()

    def close(self) -> None:
        """Closes both sides."""
        for steps, _ in self.under_way.values():
            steps.close()
        self.exchanger.arrivals.forget_all()
        self.replica.close()
        self.head.authority.close()

    def run(self, steps: int) -> None:
        """So many steps."""
        acts = (
            [self.write] * 6
            + [self.exchange] * 14
            + [self.resolve] * 3
            + [self.elsewhere] * 3
            + [self.select, self.trouble, self.move]
        )
        for _ in range(steps):
            self.rng.choice(acts)()

    # -- what its user does

    def word(self) -> str:
        """A text that no other record has."""
        self.serial += 1
        return f"{self.rng.choice(WORDS)} nr{self.serial:05}"

    def values(self, cls: type[Collection]) -> dict[str, Any]:
        """Some new values."""
        r = self.rng
        if cls is Order:
            keys: list[str | None] = [None, *(c.code for c in self.replica.select(Customer).all())]
            all_: dict[str, Any] = {"customer": r.choice(keys), "text": self.word(), "qty": r.choice([1, 2, 7, 13, 11, 40])}
        else:
            all_ = {"name": self.word(), "mail": f"{self.word().replace(' ', '.')}@example.org", "notes": {"seen": [self.word()]},
                    "photo": self.word().encode(), "rank": r.choice([0.1, -0.0, 1e300])}  # fmt: skip
        return {n: v for n, v in all_.items() if r.random() < 0.5}

    def write(self) -> None:
        """A local transaction of some changes."""
        intent = self.rng.choice(["sell", "care"])
        with suppress(SelectionExpired, ConstraintViolated), self.replica.transaction(intent) as tx:
            self.changes(tx)

    def changes(self, tx: Any) -> None:
        """Some changes in a transaction."""
        for _ in range(self.rng.randrange(1, 4)):
            cls = self.rng.choice([Customer, Order, Order])
            held = tx.select(cls).all()
            act = self.rng.random()
            if act < 0.35 or not held:
                self.serial += 1
                own: dict[str, Any] = {"code": f"K{self.serial:04}", "name": self.word(), "rep": REP}
                if cls is Order:
                    own = {"id": self.serial, "customer": None}
                tx.insert(cls(**{**own, **self.values(cls)}))
            elif act < 0.9:
                tx.update(self.rng.choice(held), **self.values(cls))
            else:
                tx.delete(self.rng.choice(held))

    def resolve(self) -> None:
        """A refusal is corrected, sent again or given up; an unsent change is edited or withdrawn."""
        refused, waiting = self.replica.rejections(), self.replica.pending()
        with suppress(AlreadySent, ConstraintViolated, SelectionExpired, OfflinekitError):
            if refused and self.rng.random() < 0.7:
                rejection = self.rng.choice(refused)
                how = self.rng.choice(["edit", "resend", "discard"])
                if how == "edit":
                    with rejection.edit() as tx:
                        for order in tx.select(Order).where(Order.qty == 13).all():
                            tx.update(order, qty=2)
                        self.changes(tx)
                else:
                    getattr(rejection, how)()
                self.done.add(how)
            elif waiting:
                mutation = self.rng.choice(waiting)
                if self.rng.random() < 0.5:
                    mutation.withdraw()
                    self.done.add("withdraw")
                else:
                    with mutation.edit() as tx:
                        self.changes(tx)
                    self.done.add("edit unsent")

    def select(self) -> None:
        """A selection is saved."""
        configuration = self.replica.configure()
        for all_, some, params in (
            ("mine", "named", {"text": ["a", "ben", "nr0001"]}), ("any", "few", {"qty": [2, 12, 30]}),
            ("products", "some", {"text": ["a", "ben", "nr0002"]}),
        ):  # fmt: skip
            if self.rng.random() < 0.8:
                if self.rng.random() < 0.6:
                    configuration.quick(all_)
                else:
                    configuration.quick(some, **{n: self.rng.choice(values) for n, values in params.items()})
        configuration.save()

    def move(self) -> None:
        """Time passes; selections end with the day."""
        self.clock.move(hours=self.rng.choice([0.1, 3, 20, 400]))

    # -- what happens elsewhere

    def elsewhere(self) -> None:
        """Somebody else writes."""
        r = self.rng
        with suppress(ConstraintViolated), self.head.authority.transaction() as hq:
            for _ in range(r.choice([1, 2, 12])):
                self.serial += 1
                cls = r.choice([Customer, Order, Product])
                held: list[Any] = hq.select(cls).all()
                if r.random() < 0.5 or not held:
                    key = {Customer: "code", Order: "id", Product: "sku"}[cls]
                    values: dict[str, Any] = {key: self.serial if cls is Order else f"H{self.serial:04}"}
                    values |= {"customer": None, "text": self.word()} if cls is Order else {"name": self.word()}
                    values |= {"rep": REP} if cls is Customer else {}
                    hq.insert(cls(**values))
                elif r.random() < 0.7:
                    name = "text" if cls is Order else "name"
                    hq.update(r.choice(held), **{name: self.word()})
                else:
                    hq.delete(r.choice(held))

    def trouble(self) -> None:
        """Something that seldom happens."""
        what = self.rng.choice(["keep", "restore", "fork", "caches", "verify", "rights", "draft"])
        self.done.add(what)
        if what in ("keep", "restore"):
            getattr(self.head, what)()
        elif what == "fork":  # somebody has used the turn of this device
            with self.head.authority.store.unit() as unit:
                device = unit.device(self.replica.store.meta("device"))
                if device is not None:
                    unit.connection.execute("UPDATE ok_device SET turn=x'00', previous=x'00'")
        elif what == "caches":
            self.head.authority.puller.forget()
        elif what == "verify":
            self.replica.want_verification()
        elif what == "rights":
            with self.head.authority.transaction() as hq:
                hq.connection.execute(
                    "UPDATE customer SET rep=? WHERE code=(SELECT min(code) FROM customer)", (self.rng.choice([REP, "x"]),)
                )
        else:
            with self.replica.transaction() as tx:
                tx.execute("INSERT OR REPLACE INTO draft VALUES(1,?)", ("never recorded",))

    # -- the line

    def exchange(self) -> None:
        """One message of an exchange: delivered, lost, answered late, twice or by somebody else."""
        kind = self.rng.choice(["push", "pull", "pull"])
        if kind not in self.under_way:
            steps: Any = self.exchanger.push() if kind == "push" else self.exchanger.pull(load=self.rng.random() < 0.5)
            self._take(kind, steps, lambda: next(steps))
            return
        steps, effect = self.under_way.pop(kind)
        fate = self.rng.random()
        if fate < 0.08:
            self.done.add("request lost")
            steps.close()
            return
        if isinstance(effect, Fetch):
            with suppress(OfflinekitError):
                data = self.head.authority.fetch(effect.name, effect.offset, IDENTITY)
                part = data[: self.rng.choice([50, 500, len(data)])] if data else data
                if fate < 0.3:
                    self.done.add("cut")
                    self._take(kind, steps, lambda: steps.throw(TransportError("cut")))
                else:
                    self.done.add("part")
                    self._take(kind, steps, lambda: steps.send(part))
            return
        answer = self.head.authority.handle(effect.body, IDENTITY, {"rep": REP})
        self.old.append(answer)
        if fate < 0.16:
            self.done.add("answer lost")
            steps.close()
            return
        if fate < 0.2:
            answer = self.rng.choice(self.old[-8:])
        elif fate < 0.22:
            answer = b"<html>sign in"
        self._take(kind, steps, lambda: steps.send(answer))

    def _take(self, kind: str, steps: Any, take: Any) -> None:
        try:
            self.under_way[kind] = steps, take()
        except StopIteration as stop:
            self.done.add(f"{kind} {stop.value.kind}")
        except OfflinekitError as error:
            self.done.add(f"{kind} {type(error).__name__}")
