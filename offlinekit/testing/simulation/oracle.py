"""What the two sides must do, in plain loops over plain rows. Imports nothing of ours; the schema is given as names.

Filters, scopes, time bounds, includes and what hooks do are written down here a second time, from the words of the contract, so
that a mistake in the filter language, in its SQL, in the protocol or in either store shows as a difference. Logic is
three-valued: None is unknown. `View` says what one asker must hold, `Court` what becomes of the mutations of a push.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from attrs import Factory, frozen, mutable

__all__ = ["CREATED_S", "DEFAULTS", "FIELDS", "HIDDEN", "KEYS", "Court", "History", "Place", "Row", "Rows", "Verdict", "View"]

Key = tuple[Any, ...]
Place = tuple[str, Key]
Row = dict[str, Any]
Rows = dict[str, dict[Key, Row]]

KEYS = {"city": ("code",), "customer": ("code",), "order": ("id",), "line": ("order", "line"), "product": ("sku",)}
FIELDS = {
    "city": ("code", "region", "tag"),
    "customer": ("code", "name", "city", "rep", "orders", "tag", "since", "blocked", "memo"),
    "order": ("id", "customer", "day", "note", "qty", "number", "tag", "extra"),
    "product": ("sku", "name", "grp", "price", "tag", "cost"),
    "line": ("order", "line", "product", "qty", "tag"),
}
HIDDEN = {"customer": ("blocked", "memo"), "product": ("cost",)}
DEFAULTS: dict[str, dict[str, Any]] = {
    "customer": {"orders": 0, "tag": "", "since": None, "blocked": 0, "memo": ""},
    "order": {"note": None, "qty": 1, "number": None, "tag": "", "extra": "none"},
    "line": {"qty": 1, "tag": "", "product": None},
}
POLICY = {"line": "authority_wins", "customer": "merge"}
DEVICE_WINS = ("tag",)  # in a merge
EVERY = ("insert", "update", "delete")
INTENTS: dict[str, dict[str, dict[str, tuple[str, ...] | None]]] = {
    "sell": {
        "order": dict.fromkeys(EVERY),
        "line": dict.fromkeys(EVERY),
        "customer": {"insert": None, "update": None},
    },
    "visit": {"customer": {"update": ("name", "city", "rep", "tag")}},
    "limited": {"order": {"update": ("qty", "tag")}},
}
CREATED_S = 30 * 86_400.0
FAILURES_MAX = 5


def _not(value: bool | None) -> bool | None:
    return None if value is None else not value


def _fold(text: str) -> str:
    """Without accents and case, for the letters of this simulation."""
    return "".join(c for c in unicodedata.normalize("NFD", text.lower()) if not unicodedata.combining(c))


class View:
    """One asker at one moment: claims, the moment that time bounds are cut at, and the zone of the selection."""

    def __init__(self, rows: Rows, claims: Mapping[str, Any], bound: float = 0.0, zone: str = "UTC") -> None:
        self.rows, self.claims = rows, claims
        self.today = datetime.fromtimestamp(bound, UTC).astimezone(ZoneInfo(zone)).date()
        self._allowed: dict[Place, bool] = {}

    def day(self, offset: int) -> str:
        """A day from today."""
        return (self.today + timedelta(days=offset)).isoformat()

    # -- what may be seen

    def allowed(self, collection: str, key: Key) -> bool:
        """Whether there is such a record, and it lies in the asker's scope."""
        place = (collection, key)
        if place not in self._allowed:
            row = self.rows[collection].get(key)
            self._allowed[place] = row is not None and self._scope(collection, row)
        return self._allowed[place]

    def _scope(self, collection: str, row: Row) -> bool:
        if collection == "customer":
            return bool(row["rep"] == self.claims["rep"] and row["blocked"] == 0)
        if collection == "order":
            return self.allowed("customer", (row["customer"],))
        if collection == "line":
            return self.allowed("order", (row["order"],))
        if collection == "product":
            return not self.claims["hide"] or (row["grp"] is not None and row["grp"] not in self.claims["hide"])
        return not (collection == "city" and self.claims["narrow"]) or row["region"] is not None

    def one(self, collection: str, value: Any) -> list[Row]:
        """The record in scope with this key."""
        return [self.rows[collection][value,]] if value is not None and self.allowed(collection, (value,)) else []

    def many(self, collection: str, field: str, value: Any) -> list[Row]:
        """The records in scope whose field has the value."""
        return [r for k, r in self.rows[collection].items() if value is not None and r[field] == value
                and self.allowed(collection, k)]  # fmt: skip

    # -- what was chosen

    def quick(self, name: str, row: Row, params: Mapping[str, Any]) -> bool | None:
        """A ready-made filter."""
        match name:
            case "mine" | "any" | "lines":
                return True
            case "in_city":
                return None if row["city"] is None else row["city"] == params["city"]
            case "in_region":
                return any(c["region"] == params["region"] for c in self.one("city", row["city"]))
            case "has_open":
                return any(o["note"] == "open" for o in self.many("order", "customer", row["code"]))
            case "recent":
                return bool(self.day(-3) <= row["day"] <= self.day(0))
            case "big":
                return bool(row["qty"] >= self.claims["big"])
            case "regional":
                return any(self.quick("in_region", c, params) for c in self.one("customer", row["customer"]))
            case "without":
                return not any(i["qty"] >= 2 for i in self.many("line", "order", row["id"]))
            case "group":
                return False if not params["groups"] else None if row["grp"] is None else row["grp"] in params["groups"]
            case "like":
                return _fold(params["text"]) in _fold(row["name"])
        raise KeyError(name)

    def where(self, c: tuple[Any, ...], row: Row) -> bool | None:
        """An advanced condition."""
        if c[0] == "not":
            return _not(self.where(c[1], row))
        if c[0] in ("and", "or"):
            both = [self.where(c[1], row), self.where(c[2], row)]
            first = c[0] == "or"
            return first if first in both else None if None in both else not first
        value = row[c[1]]
        if c[0] == "null":
            return value is None
        if value is None:
            return None
        tests: dict[str, Callable[[], bool]] = {
            "=": lambda: value == c[2], "<": lambda: value < c[2], ">=": lambda: value >= c[2],
            "in": lambda: value in c[2], "starts": lambda: _fold(value).startswith(_fold(c[2])),
        }  # fmt: skip
        return bool(tests[c[0]]())

    def _own(self, collection: str, choice: Mapping[str, Any]) -> list[Key]:
        found = []
        for key, row in self.rows[collection].items():
            parts = [self.quick(q, row, params) for q, params in choice.get("quick", {}).items()]
            if choice.get("where"):
                parts.append(self.where(choice["where"], row))
            own = bool(parts) and all(p is True for p in parts) and key not in choice.get("unpicks", ())
            if (own or key in choice.get("picks", ())) and self.allowed(collection, key):
                found.append(key)
        return found

    def _step(self, rows: list[Row], there: str, field: str, mine: str) -> list[Row]:
        wanted = {r[mine] for r in rows if r[mine] is not None}
        return [r for k, r in self.rows[there].items() if r[field] in wanted and self.allowed(there, k)]

    def _include(self, name: str, start: list[Row]) -> list[tuple[str, list[Row]]]:
        """The records that each step of an include reaches."""
        step = self._step
        if name == "orders":
            orders = step(start, "order", "customer", "code")
            return [("order", orders), ("line", [i for i in step(orders, "line", "order", "id") if i["qty"] >= 2])]
        if name == "owner":
            owners = step(start, "customer", "code", "customer")
            return [("customer", owners), ("city", step(owners, "city", "code", "city"))]
        if name == "goods":
            lines = step(start, "line", "order", "id")
            return [("line", lines), ("product", step(lines, "product", "sku", "product"))]
        if name == "siblings":
            owners = step(start, "customer", "code", "customer")
            others = [o for o in step(owners, "order", "customer", "code") if o["day"] >= self.day(-3)]
            return [("customer", owners), ("order", others)]
        if name == "residents":
            return [("customer", step(start, "customer", "city", "code"))]
        raise KeyError(name)

    def must_hold(self, chosen: Mapping[str, Mapping[str, Any]], created: Iterable[Place]) -> Rows:
        """For each collection, the records that the device must hold."""
        held: Rows = {c: {} for c in self.rows}

        def add(collection: str, rows: Iterable[Row]) -> None:
            for row in rows:
                held[collection][tuple(row[k] for k in KEYS[collection])] = row

        def follow(collection: str, keys: Iterable[Key], includes: Iterable[str]) -> None:
            rows = [self.rows[collection][k] for k in keys]
            add(collection, rows)
            for name in includes:
                for there, found in self._include(name, rows):
                    add(there, found)

        region = self.claims["region"]
        follow("city", [k for k, r in self.rows["city"].items() if r["region"] == region], ["residents"])
        for collection, choice in chosen.items():
            follow(collection, self._own(collection, choice), choice.get("includes", ()))
        for collection, key in created:
            if self.allowed(collection, key):
                add(collection, [self.rows[collection][key]])
        return held

    def tags(self) -> set[str]:
        """The tags of every record that the asker may see."""
        return {r["tag"] for c, rows in self.rows.items() for k, r in rows.items() if self.allowed(c, k)}


# -- pushes


@frozen
class Verdict:
    """What must become of a mutation. `left`: its records afterwards; `values`: those that the device must be told of."""

    outcome: str
    code: str = ""
    left: Mapping[Place, Row | None] = Factory(dict)
    values: Mapping[Place, Row | None] = Factory(dict)


@mutable
class History:
    """What an authority remembers beside its records; a backup holds it as well."""

    verdicts: dict[bytes, Verdict] = Factory(dict)
    failures: dict[bytes, int] = Factory(dict)
    owners: dict[bytes, str] = Factory(dict)

    def copy(self) -> History:
        """As it is now."""
        return History(dict(self.verdicts), dict(self.failures), dict(self.owners))


class _Refused(Exception):
    def __init__(self, code: str) -> None:
        self.code = code


class _Fails(Exception):
    """The hook fails."""


@mutable
class _Work:
    place: Place
    op: str
    after: Row
    current: Row | None
    dropped: bool = False
    values: Row | None = None
    expected: Row | None = None


def _merged(after: Row, current: Row, seen: Row | None) -> Row:
    """What a change takes of a record that both sides changed: what only the device changed, and what it wins."""
    return {
        n: v for n, v in after.items()
        if n in DEVICE_WINS or current[n] == v or (seen is not None and n in seen and current[n] == seen[n])
    }  # fmt: skip


class Court:
    """Processes the mutations of one push over a copy of the rows; `rows` and `history` are then as they must be."""

    def __init__(
        self, rows: Rows, history: History, identity: str, claims: Mapping[str, Any], attempts: Mapping[str, int]
    ) -> None:
        self.rows: Rows = {c: dict(of) for c, of in rows.items()}
        self.history, self.identity, self.claims, self.attempts = history.copy(), identity, claims, dict(attempts)
        self.effects: list[str] = []
        self.tellable: set[str] = set()  # tags of records in scope, as they were when a mutation was answered
        self._failed: list[bytes] = []
        self._waiting: set[bytes] = set()

    def push(self, mutations: Sequence[Any], fields: Mapping[bytes, Mapping[str, Sequence[str]]]) -> dict[bytes, Verdict]:
        """The verdicts on mutations as they stand on the wire; one that has none stays unanswered.

        `fields`: by mutation, the fields that its device held of each collection when it was committed.
        """
        said: dict[bytes, Verdict] = {}
        for wire in mutations:
            verdict = self._one(wire, fields[wire.id])
            if verdict is not None:
                said[wire.id] = verdict
        self.uncounted = self.history.copy()  # as it is when the process dies before it has counted the failures
        for id_ in self._failed:
            self.history.failures[id_] = self.history.failures.get(id_, 0) + 1
            if self.history.failures[id_] >= FAILURES_MAX:
                said[id_] = self.history.verdicts[id_] = Verdict("rejected", "internal")
                self.history.owners[id_] = self.identity
        return said

    def _one(self, wire: Any, fields: Mapping[str, Sequence[str]]) -> Verdict | None:
        known = self.history.verdicts.get(wire.id)
        if known is not None:
            view = View(self.rows, self.claims)
            places = [(c.collection, tuple(c.key)) for c in wire.changes]
            self.tellable |= {self.rows[c][k]["tag"] for c, k in places if view.allowed(c, k)}
            return known
        verdicts = self.history.verdicts
        for n in wire.after:  # the first that is not accepted decides
            if n in self._failed or n in self._waiting:
                self._waiting.add(wire.id)
                return None
            if n not in verdicts or verdicts[n].outcome == "rejected":
                return Verdict("parked", "waits")
        kept, effects = {c: dict(of) for c, of in self.rows.items()}, list(self.effects)
        try:
            verdict = self._run(wire, fields)
        except _Refused as refusal:
            self.rows, self.effects = kept, effects
            verdict = Verdict("rejected", refusal.code)
        except _Fails:
            self.rows, self.effects = kept, effects
            self._failed.append(wire.id)
            return None
        verdicts[wire.id] = verdict
        self.history.owners[wire.id] = self.identity
        return verdict

    def _run(self, wire: Any, fields: Mapping[str, Sequence[str]]) -> Verdict:
        allowed = INTENTS.get(wire.intent)
        if allowed is None:
            raise _Refused("not_allowed")
        works = [self._prepare(c, wire, allowed, fields) for c in wire.changes]
        self._hook(works)
        for w in works:
            if not w.dropped:
                self._write(w)
        for w in works:
            if not w.dropped and w.op != "delete" and not View(self.rows, self.claims).allowed(*w.place):
                raise _Refused("not_allowed")
        return self._verdict(works, fields)

    def _prepare(self, c: Any, wire: Any, allowed: Mapping[str, Any], fields: Mapping[str, Sequence[str]]) -> _Work:
        place, after = (c.collection, tuple(c.key)), dict(c.after)
        operations = allowed.get(c.collection, {})
        if c.op not in operations:
            raise _Refused("not_allowed")
        names = operations[c.op]
        if names is not None and set(after) - set(names):
            raise _Refused("not_allowed")
        current = self.rows[c.collection].get(place[1])
        visible = View(self.rows, self.claims).allowed(*place)
        policy = POLICY.get(c.collection)
        if c.op == "insert":
            if current is None:
                values = {**{n: DEFAULTS[c.collection].get(n) for n in FIELDS[c.collection]}, **after}
                return _Work(place, "insert", after, None, values=dict(values), expected=dict(values))
            if visible and policy:
                return _Work(place, "insert", after, None, dropped=True)
            raise _Refused("exists" if visible else "not_allowed")
        if current is None or not visible:
            if policy:
                return _Work(place, c.op, after, None, dropped=True)
            raise _Refused("not_allowed")
        seen = wire.seen[place]
        same = seen is not None and all(current[n] == seen[n] for n in fields[c.collection])
        shown = [n for n in FIELDS[c.collection] if n not in HIDDEN.get(c.collection, ())]
        for id_ in wire.after:
            left = self.history.verdicts[id_].left.get(place)
            same = same or (left is not None and all(current[n] == left[n] for n in shown))
        taken = after
        if not same:
            if policy is None:
                raise _Refused("stale")
            taken = _merged(after, current, seen) if policy == "merge" else {}
            if not taken:
                return _Work(place, c.op, after, current, dropped=True)
        if c.op == "delete":
            return _Work(place, "delete", {}, current)
        return _Work(place, "update", after, current, values={**current, **taken}, expected={**current, **after})

    def _hook(self, works: list[_Work]) -> None:
        """The rules of the company."""

        def live(collection: str, op: str) -> list[_Work]:
            return [w for w in works if w.place[0] == collection and w.op == op and not w.dropped]

        orders = live("order", "insert") + live("order", "update")
        others = [w for c in ("line", "customer") for op in ("insert", "update") for w in live(c, op)]
        for w in orders + others:
            assert w.values is not None
            self.effects.append(w.values["tag"])
        for w in orders:
            assert w.values is not None
            note, tag = w.values["note"], w.values["tag"]
            if note == "refuse":
                raise _Refused("refused")
            if note == "fail":
                raise _Fails
            if note == "hiccup":
                self.attempts[tag] = self.attempts.get(tag, 0) + 1
                if self.attempts[tag] <= 2:
                    raise _Fails
            w.values["qty"] = min(w.values["qty"], 50)
        for w in live("order", "insert"):
            assert w.values is not None
            if w.values["note"] == "number":
                w.values["number"] = len(w.values["id"])
            owner = self.rows["customer"].get((w.values["customer"],))
            if owner is not None:
                self.rows["customer"][w.values["customer"],] = {**owner, "orders": owner["orders"] + 1}
        before = set(self.rows["order"])
        after = (before - {o.place[1] for o in live("order", "delete")}) | {o.place[1] for o in live("order", "insert")}
        there = before
        for w in live("line", "insert"):
            assert w.values is not None
            if (w.values["order"],) not in there:
                there = after  # the hook lets the records be written, and looks again
            if (w.values["order"],) not in there:
                raise _Refused("no_order")

    def _write(self, w: _Work) -> None:
        collection, key = w.place
        rows = self.rows[collection]
        if w.op == "delete":
            del rows[key]
        elif w.op == "insert":
            assert w.values is not None
            rows[key] = w.values
        else:
            assert w.values is not None
            assert w.current is not None
            changed = {n: v for n, v in w.values.items() if v != w.current[n]}
            rows[key] = {**rows[key], **changed}

    def _verdict(self, works: list[_Work], fields: Mapping[str, Sequence[str]]) -> Verdict:
        view = View(self.rows, self.claims)
        left: dict[Place, Row | None] = {}
        told: dict[Place, Row | None] = {}
        for w in works:
            collection, key = w.place
            now = self.rows[collection].get(key)
            left[w.place] = now
            actual = {n: now[n] for n in fields[collection]} if now is not None and view.allowed(collection, key) else None
            if w.dropped or actual is None or w.expected is None:
                same = not w.dropped and actual is None and w.expected is None
            else:
                same = all(v == w.expected[n] for n, v in actual.items())
            if not same:
                told[w.place] = actual
        self.tellable |= {r["tag"] for r in told.values() if r is not None}
        return Verdict("transformed" if told else "accepted", "", left, told)
