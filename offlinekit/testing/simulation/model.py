"""What a device's user was told, and what the device must therefore show. Knows nothing of bases, touches or ordinals.

The model keeps the authority's records at the last answer that was applied, and the mutations that calls have returned, as plain
dictionaries. What a device shows is the one with the other played over it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from attrs import Factory, mutable

from offlinekit.testing.simulation.oracle import DEFAULTS, FIELDS, HIDDEN, KEYS, Place, Row, Rows

__all__ = ["Model", "Told", "difference", "fields_of"]

PRIORITY = {"city": 0, "customer": 0, "product": 0, "order": 1, "line": 2}
REFS = {"order": (("customer", "customer"),), "line": (("order", "order"),)}
LATER = {"customer": ("since",), "order": ("extra",)}  # fields that an older program does not know

Flat = dict[Place, Row]
Change = tuple[str, Row]


def fields_of(old: bool) -> dict[str, tuple[str, ...]]:
    """The fields of each collection that a device holds."""
    return {
        c: tuple(n for n in names if n not in HIDDEN.get(c, ()) and not (old and n in LATER.get(c, ())))
        for c, names in FIELDS.items()
    }


def difference(before: Flat, after: Flat) -> dict[Place, Change]:
    """What turns one into the other: (insert, all fields), (update, the fields that differ), (delete, none)."""
    found: dict[Place, Change] = {}
    for place in sorted(before.keys() | after.keys(), key=repr):
        if place not in before:
            found[place] = ("insert", after[place])
        elif place not in after:
            found[place] = ("delete", {})
        elif changed := {n: v for n, v in after[place].items() if v != before[place][n]}:
            found[place] = ("update", changed)
    return found


@mutable
class Told:
    """A committed mutation as its user knows it; `seen`: its records as they were shown before."""

    id: bytes
    intent: str
    changes: dict[Place, Change]
    seen: dict[Place, Row | None]
    after: set[bytes]
    fields: dict[str, tuple[str, ...]]
    state: str = "pending"
    shown: dict[Place, Change] = Factory(dict)
    settled: bool = False
    given_up: bool = False  # refused here alone, because what it waited for was given up
    durable: bool = False  # the authority's promise has let it out of the journal
    sent: bool = False
    position: int = 0

    def copy(self) -> Told:
        """As it is now; contents are never changed in place."""
        made = copy.copy(self)
        made.shown, made.after = dict(self.shown), set(self.after)
        return made


class Model:
    """One device as its user knows it."""

    def __init__(self, old: bool) -> None:
        self.old, self.fields = old, fields_of(old)
        self.base: Rows = {c: {} for c in FIELDS}
        self.left: Flat = {}  # gone from the authority, and shown as long as a change touches them
        self.told: list[Told] = []
        self.created: dict[Place, tuple[float, bytes]] = {}
        self.drafts: dict[int, str] = {}
        self.bounds: dict[str, float] = {}  # by loaded collection: when the bounds of its last answer were cut
        self.since = 0  # the number of the newest version of the authority's records of which it has seen anything
        self.ever: set[bytes] = set()

    def copy(self) -> Model:
        """As it is now; rows are never changed in place."""
        made = copy.copy(self)
        made.base = {c: dict(rows) for c, rows in self.base.items()}
        made.left, made.created, made.drafts = dict(self.left), dict(self.created), dict(self.drafts)
        made.bounds, made.ever = dict(self.bounds), set(self.ever)
        made.told = [t.copy() for t in self.told]
        return made

    def same_as(self, other: Model) -> bool:
        """Whether nothing will ever tell the two apart."""
        return (
            self.base == other.base and self.left == other.left and self.created == other.created
            and self.bounds == other.bounds and self.told == other.told and self.drafts == other.drafts
        )  # fmt: skip

    def cut(self, collection: str, row: Mapping[str, Any]) -> Row:
        """The fields that the device holds."""
        return {n: row[n] for n in self.fields[collection]}

    def upgrade(self) -> None:
        """A newer program: fields that nobody has told it of hold their defaults."""
        self.old, self.fields = False, fields_of(False)

        def filled(collection: str, row: Row) -> Row:
            return {n: row[n] if n in row else DEFAULTS[collection][n] for n in self.fields[collection]}

        self.base = {c: {k: filled(c, r) for k, r in rows.items()} for c, rows in self.base.items()}
        self.left = {p: filled(p[0], r) for p, r in self.left.items()}

    def asked(self, *, load: bool) -> set[str]:
        """The collections that a pull asks for: what is loaded, or to `load` and at first what comes next by priority."""
        waiting = PRIORITY.keys() - self.bounds.keys()
        if not waiting or (self.bounds and not load):
            return set(self.bounds)
        first = min(PRIORITY[c] for c in waiting)
        return {c for c in waiting if PRIORITY[c] == first}

    def file_unloaded(self) -> None:
        """The history is another one, and the process ended when only the file of its own knew."""
        self.bounds.pop("product", None)

    # -- what is shown

    def shown(self) -> Flat:
        """What the device must show."""
        found: Flat = {(c, k): r for c, rows in self.base.items() for k, r in rows.items()}
        found = {**self.left, **found}
        for mutation in self.told:
            if mutation.state in ("rejected", "parked") or mutation.settled:
                continue
            for place, (op, values) in mutation.shown.items():
                if op == "insert":
                    found[place] = {n: values[n] if n in values else DEFAULTS[place[0]][n] for n in self.fields[place[0]]}
                elif op == "delete":
                    found.pop(place, None)
                elif place in found:
                    found[place] = {**found[place], **values}
        return found

    def _live(self) -> set[Place]:
        return {p for t in self.told if t.state not in ("rejected", "parked") and not t.settled for p in t.shown}

    def move_base(self, rows: Mapping[str, Mapping[tuple[Any, ...], Row]]) -> None:
        """An answer was applied: the authority's records in these collections; what left stays while it is touched."""
        live = self._live()
        for collection, of in rows.items():
            was = {**{p: r for p, r in self.left.items() if p[0] == collection},
                   **{(collection, k): r for k, r in self.base[collection].items()}}  # fmt: skip
            gone = {p: r for p, r in was.items() if p[1] not in of and p in live}
            self.left = {**{p: r for p, r in self.left.items() if p[0] != collection}, **gone}
            self.base[collection] = {k: self.cut(collection, r) for k, r in of.items()}

    def tidy(self) -> None:
        """Nothing touches a record that left: it goes."""
        live = self._live()
        self.left = {p: r for p, r in self.left.items() if p in live}

    # -- mutations

    def find(self, id_: bytes) -> Told | None:
        """A mutation that is still known here."""
        return next((t for t in self.told if t.id == id_), None)

    def in_state(self, *states: str) -> list[bytes]:
        """The ids of the mutations in one of these states, oldest first."""
        return [t.id for t in self.told if t.state in states and not t.durable]

    def note(self, id_: bytes, intent: str, changes: dict[Place, Change], before: Flat) -> Told:
        """A call has returned: a new mutation at the end of the outbox."""
        after = set()
        for other in self.told:
            if other.state == "pending":
                inserted = {p for p, (op, _) in other.shown.items() if op == "insert"}
                refers = {
                    (there, (v[n],)) for p, (_, v) in changes.items() for n, there in REFS.get(p[0], ()) if v.get(n) is not None
                }  # fmt: skip
                if other.shown.keys() & changes.keys() or inserted & refers:
                    after.add(other.id)
        told = Told(id_, intent, changes, {p: before.get(p) for p in changes}, after, self.fields, shown=dict(changes))
        self.told.append(told)
        self.ever.add(id_)
        return told

    def dependents(self, id_: bytes) -> list[Told]:
        """What waits for a mutation, directly or not."""
        found, grown = {id_}, True
        while grown:
            more = {t.id for t in self.told if t.state in ("pending", "parked") and t.after & found} - found
            found, grown = found | more, bool(more)
        return [t for t in self.told if t.id in found - {id_}]

    def answered(self, results: Iterable[Any], now: float) -> None:
        """The device took these answers in."""
        for receipt in results:
            told = self.find(receipt.id)
            if told is None or told.state != "pending":
                continue
            told.state, told.position = receipt.outcome, receipt.position
            if receipt.outcome == "rejected":
                for waiting in self.dependents(receipt.id):
                    waiting.state = "parked"
            for record in receipt.records:
                place = (record.collection, tuple(record.key))
                if record.ordinal:
                    self.created[place] = (now, told.id)
                if record.gone:
                    told.shown.pop(place, None)
                elif record.values is not None:
                    told.shown[place] = ("insert", dict(record.values))
        self.tidy()

    def settle(self, receipts: Iterable[bytes]) -> None:
        """A pulled answer holds what these mutations did."""
        for id_ in receipts:
            told = self.find(id_)
            if told is not None and told.state in ("accepted", "transformed"):
                told.settled = True
        self.tidy()

    def forget_durable(self, through: int) -> None:
        """The authority calls everything up to a position safe."""
        for told in self.told:
            if told.settled and told.state in ("accepted", "transformed") and told.position <= through:
                told.durable = True

    def unanswered(self) -> None:
        """The history is another one."""
        for told in self.told:
            if not told.given_up and not told.durable:
                told.state, told.settled, told.shown, told.position = "pending", False, dict(told.changes), 0
        known = {t.id for t in self.told if not t.durable and not t.given_up}
        self.created = {p: (at, id_) for p, (at, id_) in self.created.items() if id_ not in known}
        self.bounds = {}

    def give_up(self, id_: bytes) -> None:
        """A mutation was discarded or withdrawn."""
        for waiting in self.dependents(id_):
            waiting.state, waiting.given_up = "rejected", True
        self.forget(id_)

    def forget(self, id_: bytes) -> None:
        """The app resolved a mutation, and it is here no more."""
        self.told = [t for t in self.told if t.id != id_]
        self.tidy()

    def correct(self, old: bytes) -> tuple[list[Told], Callable[[Told], None]]:
        """The old mutation is taken away for its correction; the second result puts what waited for it behind the new one."""
        moved = self.dependents(old)
        self.forget(old)
        for waiting in moved:
            waiting.state = "parked"
        self.tidy()

        def follow(new: Told) -> None:
            self.told = [t for t in self.told if t not in moved] + moved
            for waiting in moved:
                waiting.state, waiting.shown = "pending", dict(waiting.changes)
                waiting.after = (waiting.after - {old}) | ({new.id} if old in waiting.after else set())
            self.tidy()

        return moved, follow

    @staticmethod
    def key_of(collection: str, row: Mapping[str, Any]) -> Place:
        """Where a row stands."""
        return collection, tuple(row[k] for k in KEYS[collection])
