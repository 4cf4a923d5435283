"""What a device must hold, in plain loops over dumps of both files. Imports nothing of ours; the schema is given as names.

Filters, scopes, time bounds and includes are written down here a second time, from the words of the offer, so that a
mistake in the
filter language, in its SQL or in the protocol shows as a difference. Logic is three-valued: None is unknown.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from typing import Any
from zoneinfo import ZoneInfo

import apsw
import msgspec
from pyroaring import BitMap

Row = dict[str, Any]
Fields = Mapping[str, tuple[str, ...]]
KEYS = {
    "city": ("code",), "customer": ("code",), "order": ("id",), "item": ("order", "line"), "product": ("sku",),
    "leaflet": ("id",),
}  # fmt: skip
DATES = {"customer": ("since",), "order": ("day",)}
OWN_FILE = ("product", "leaflet")


def read_only(path: str) -> apsw.Connection:
    """A connection that cannot change anything."""
    db = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
    db.set_busy_timeout(5000)
    return db


def key_of(collection: str, row: Row) -> tuple[Any, ...]:
    """The key of a row."""
    return tuple(row[k] for k in KEYS[collection])


def is_date(value: Any) -> bool:
    """Whether a text is a day of the calendar."""
    try:
        return bool(date.fromisoformat(value).isoformat() == value)
    except ValueError:
        return False


class Dump:
    """An authority's file: rows that fit the schema, and ordinals by key."""

    def __init__(self, path: str, fields: Fields) -> None:
        db = read_only(path)
        try:
            self.rows: dict[str, list[Row]] = {}
            self.ordinals: dict[str, dict[tuple[Any, ...], int]] = {}
            self.unfit: dict[str, int] = {}
            db.execute("BEGIN")
            for name, names in fields.items():
                rows = [dict(zip(names, r, strict=True)) for r in db.execute(f'SELECT {",".join(names_of(names))} FROM "{name}"')]
                fit = [r for r in rows if all(r[d] is None or is_date(r[d]) for d in DATES.get(name, ()))]
                self.rows[name], self.unfit[name] = fit, len(rows) - len(fit)
                keys = ",".join(names_of(KEYS[name]))
                self.ordinals[name] = {tuple(r[1:]): r[0] for r in db.execute(f'SELECT ordinal,{keys} FROM "ok_side_{name}"')}
        finally:
            db.close()

    def find(self, collection: str, field: str, value: Any) -> list[Row]:
        """The rows whose field has the value."""
        return [] if value is None else [r for r in self.rows[collection] if r[field] == value]


def names_of(names: Iterable[str]) -> list[str]:
    """Quoted names."""
    return [f'"{n}"' for n in names]


def logic_not(value: bool | None) -> bool | None:
    """Three-valued negation."""
    return None if value is None else not value


def fold(text: str) -> str:
    """Without accents and case, for the letters of these tests."""
    return "".join(c for c in unicodedata.normalize("NFD", text.lower()) if not unicodedata.combining(c))


class Oracle:
    """One asker at one moment: claims, the moment that time bounds are cut at, and the zone of the selection."""

    def __init__(self, dump: Dump, claims: Mapping[str, Any], bound: float, zone: str) -> None:
        self.dump, self.claims = dump, claims
        self.today = datetime.fromtimestamp(bound, UTC).astimezone(ZoneInfo(zone)).date()

    def day(self, offset: int) -> str:
        """A day from today."""
        return (self.today + timedelta(days=offset)).isoformat()

    # -- what may be seen

    def allowed(self, collection: str, row: Row) -> bool:
        """Whether the record lies in the asker's scope."""
        if collection == "customer":
            return bool(row["rep"] == self.claims["rep"] and row["blocked"] == 0)
        if collection == "order":
            return bool(self.see("customer", "code", row["customer"]))
        if collection == "item":
            return bool(self.see("order", "id", row["order"]))
        if collection == "product":
            return not self.claims["hide"] or (row["grp"] is not None and row["grp"] not in self.claims["hide"])
        if collection == "leaflet":
            return row["product"] is None or bool(self.see("product", "sku", row["product"]))
        return True

    def see(self, collection: str, field: str, value: Any) -> list[Row]:
        """The records in scope whose field has the value."""
        return [r for r in self.dump.find(collection, field, value) if self.allowed(collection, r)]

    # -- what was chosen

    def quick(self, name: str, row: Row, params: Mapping[str, Any]) -> bool | None:
        """A ready-made filter."""
        match name:
            case "mine" | "any":
                return True
            case "in_city":
                return None if row["city"] is None else row["city"] == params["city"]
            case "in_region":
                return any(c["region"] == params["region"] for c in self.see("city", "code", row["city"]))
            case "has_open":
                return any(o["status"] == "open" for o in self.see("order", "customer", row["code"]))
            case "new":
                return None if row["since"] is None else row["since"] >= self.day(-30)
            case "recent":
                return bool(self.day(-3) <= row["day"] <= self.day(0))
            case "old":
                return bool(row["day"] < self.day(-3))
            case "big":
                return bool(row["total"] >= self.claims["big"])
            case "regional":
                return any(self.quick("in_region", c, params) for c in self.see("customer", "code", row["customer"]))
            case "without":
                return not any(i["qty"] >= 2 for i in self.see("item", "order", row["id"]))
            case "group":
                return False if not params["groups"] else None if row["grp"] is None else row["grp"] in params["groups"]
            case "like":
                return fold(params["text"]) in fold(row["name"])
        raise KeyError(name)

    def where(self, c: tuple[Any, ...], row: Row) -> bool | None:
        """An advanced condition."""
        if c[0] == "not":
            return logic_not(self.where(c[1], row))
        if c[0] in ("and", "or"):
            both = [self.where(c[1], row), self.where(c[2], row)]
            first = c[0] == "or"
            return first if first in both else None if None in both else not first
        value = row[c[1]]
        if c[0] == "null":
            return value is None
        if c[0] == "in" and not c[2]:
            return False
        if value is None:
            return None
        tests: dict[str, Callable[[], bool]] = {
            "=": lambda: value == c[2], "<": lambda: value < c[2], ">=": lambda: value >= c[2],
            "in": lambda: value in c[2], "starts": lambda: fold(value).startswith(fold(c[2])),
        }  # fmt: skip
        return bool(tests[c[0]]())

    def _own(self, collection: str, choice: Mapping[str, Any]) -> list[Row]:
        found = []
        for row in self.dump.rows[collection]:
            key = key_of(collection, row)
            parts = [self.quick(q, row, params) for q, params in choice.get("quick", {}).items()]
            if choice.get("where"):
                parts.append(self.where(choice["where"], row))
            own = bool(parts) and all(p is True for p in parts) and key not in choice.get("unpicks", ())
            if (own or key in choice.get("picks", ())) and self.allowed(collection, row):
                found.append(row)
        return found

    def _include(self, name: str, start: list[Row]) -> list[tuple[str, list[Row]]]:
        """The records that each step of an include reaches."""

        def step(rows: list[Row], there: str, field: str, mine: str) -> list[Row]:
            wanted = {r[mine] for r in rows if r[mine] is not None}
            return [r for r in self.dump.rows[there] if r[field] in wanted and self.allowed(there, r)]

        if name == "orders":
            orders = step(start, "order", "customer", "code")
            return [("order", orders), ("item", [i for i in step(orders, "item", "order", "id") if i["qty"] >= 2])]
        if name == "owner":
            owners = step(start, "customer", "code", "customer")
            return [("customer", owners), ("city", step(owners, "city", "code", "city"))]
        if name == "goods":
            items = step(start, "item", "order", "id")
            return [("item", items), ("product", step(items, "product", "sku", "product"))]
        if name == "siblings":
            owners = step(start, "customer", "code", "customer")
            others = [o for o in step(owners, "order", "customer", "code") if o["day"] >= self.day(-3)]
            return [("customer", owners), ("order", others)]
        if name == "residents":
            return [("customer", step(start, "customer", "city", "code"))]
        if name == "leaflets":
            return [("leaflet", step(start, "leaflet", "product", "sku"))]
        raise KeyError(name)

    def must_hold(self, chosen: Mapping[str, Mapping[str, Any]], created: Mapping[str, set[int]]) -> dict[str, dict[int, Row]]:
        """For each collection, the records by ordinal that the device must hold."""
        held: dict[str, dict[int, Row]] = {c: {} for c in self.dump.rows}

        def add(collection: str, rows: Iterable[Row]) -> None:
            for row in rows:
                held[collection][self.dump.ordinals[collection][key_of(collection, row)]] = row

        def follow(collection: str, rows: list[Row], includes: Iterable[str]) -> None:
            add(collection, rows)
            for name in includes:
                for there, found in self._include(name, rows):
                    add(there, found)

        region = self.claims["region"]
        follow("city", [r for r in self.dump.rows["city"] if r["region"] == region], ["residents"])
        for collection, choice in chosen.items():
            follow(collection, self._own(collection, choice), choice.get("includes", ()))
        for collection, ordinals in created.items():
            by_ordinal = {o: k for k, o in self.dump.ordinals[collection].items()}
            keys = {by_ordinal.get(o) for o in ordinals}
            rows = self.dump.rows[collection]
            add(collection, [r for r in rows if key_of(collection, r) in keys and self.allowed(collection, r)])
        return held

    def ordinals_in_scope(self, collection: str) -> set[int]:
        """Everything that the asker could be given."""
        rows = [r for r in self.dump.rows[collection] if self.allowed(collection, r)]
        return {self.dump.ordinals[collection][key_of(collection, r)] for r in rows}


class Held:
    """A replica's files: for each collection the authority's versions of its records, its view and the view's digest."""

    def __init__(self, path: str, fields: Fields) -> None:
        db = read_only(path)
        try:
            db.execute("BEGIN")
            files = dict(db.execute("SELECT collection,generation FROM ok_file"))
            self.tokens = dict.fromkeys(fields, b"") | dict(db.execute("SELECT collection,token FROM ok_loaded"))
            self.created = list(db.execute("SELECT collection,ordinal,at FROM ok_created"))
            offset = db.execute("SELECT value FROM ok_meta WHERE name='offset'").get
            self.offset = msgspec.msgpack.decode(offset) if offset else 0.0
            self.rows: dict[str, dict[int, Row]] = {}
            self.views: dict[str, set[int]] = {}
            self.digests: dict[str, bytes] = {}
            self.clean = not db.execute("SELECT 1 FROM ok_touch").get
            for name, names in fields.items():
                if name in OWN_FILE:
                    own = read_only(f"{path}.{name}.{files[name]}")
                    try:
                        self._read(own, name, names, set())
                        self.tokens[name] = own.execute("SELECT token FROM ok_group").get
                    finally:
                        own.close()
                else:
                    touched = {r[0] for r in db.execute("SELECT key FROM ok_touch WHERE collection=?", (name,))}
                    self._read(db, name, names, {tuple(msgspec.msgpack.decode(k)) for k in touched})
        finally:
            db.close()

    def _read(self, db: apsw.Connection, name: str, names: tuple[str, ...], touched: set[tuple[Any, ...]]) -> None:
        columns = ",".join(names_of(("_ordinal", *names)))
        shown = [(r[0], dict(zip(names, r[1:], strict=True))) for r in db.execute(f'SELECT {columns} FROM "{name}"')]
        rows = [(o, r) for o, r in shown if key_of(name, r) not in touched]
        if touched:
            bases = db.execute(f'SELECT {columns} FROM "ok_base_{name}" WHERE _present')
            rows += [(r[0], dict(zip(names, r[1:], strict=True))) for r in bases]
        self.rows[name] = dict(rows)
        assert len(self.rows[name]) == len(rows), f"{name}: two records under one ordinal"
        view, digest = next(iter(db.execute("SELECT view,digest FROM ok_state WHERE collection=?", (name,))), (b"", b""))
        self.views[name], self.digests[name] = set(BitMap.deserialize(view)) if view else set(), digest

    def implicit(self, now: float) -> dict[str, set[int]]:
        """The ordinals of records created here in the last thirty days."""
        found: dict[str, set[int]] = {}
        for collection, ordinal, at in self.created:
            if at > now - 30 * 86_400.0:
                found.setdefault(collection, set()).add(ordinal)
        return found


def differences(must: Mapping[str, Mapping[int, Row]], held: Held, fields: Fields) -> list[str]:
    """How a replica differs from what it must hold, field by field; empty when it does not."""
    found = []
    for name, names in fields.items():
        wanted = {o: {n: r[n] for n in names} for o, r in must[name].items()}
        have = held.rows[name]
        found += [f"{name} {o} is missing: {wanted[o]}" for o in wanted.keys() - have.keys()]
        found += [f"{name} {o} is too much: {have[o]}" for o in have.keys() - wanted.keys()]
        for o in wanted.keys() & have.keys():
            found += [f"{name} {o}.{n} is {have[o][n]!r}, not {v!r}" for n, v in wanted[o].items() if not same(have[o][n], v)]
        if held.views[name] != set(wanted):
            found.append(f"the view of {name} is {sorted(held.views[name])}, not {sorted(wanted)}")
        digest = sha256(b"".join(o.to_bytes(4, "big") for o in sorted(wanted))).digest()[:16]
        if held.digests[name] != digest:
            found.append(f"the digest of {name} is not that of {sorted(wanted)}")
    return found


def same(one: Any, other: Any) -> bool:
    """Equal, and of one type."""
    return type(one) is type(other) and one == other
