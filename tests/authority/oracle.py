"""A naive opinion of what a store must have seen: whole tables compared before and after, byte by byte."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from attrs import Factory, define

from offlinekit.nodes import everything
from offlinekit.schema import CollectionInfo, Schema
from offlinekit.store.sqlite.authority_store import SQLiteSnapshot, SQLiteStore
from offlinekit.view import View
from tests.authority.writing import PlainWriter

Cell = tuple[bytes, Any]
Record = tuple[Cell, ...]
Dump = dict[Record, Record]
TYPES = {"text": b"text", "integer": b"integer", "real": b"real", "bytes": b"blob"}


def dump_sql(info: CollectionInfo, at: str = "") -> str:
    """Reads the declared fields of every record with SQLite's types."""
    cells = ",".join(f'typeof("{n}"),"{n}"' for n in info.fields)
    return f'SELECT {cells} FROM {at}"{info.name}"'


def dump(info: CollectionInfo, rows: list[tuple[Any, ...]]) -> Dump:
    """What `dump_sql` read, by key; records without a whole key are left out."""
    found: Dump = {}
    for row in rows:
        record = tuple(zip(row[::2], row[1::2], strict=True))
        key = tuple(cell for name, cell in zip(info.fields, record, strict=True) if name in info.key)
        if all(kind != b"null" for kind, _ in key):
            assert key not in found
            found[key] = record
    return found


def fits(info: CollectionInfo, record: Record) -> bool:
    """Whether the declared schema can hold a record; for the kinds in TYPES."""
    for f, (kind, value) in zip(info.fields.values(), record, strict=True):
        if kind == b"null":
            if not f.nullable:
                return False
        elif kind != TYPES[f.kind.name]:
            return False
        elif kind == b"text":
            try:
                value.decode()
            except UnicodeDecodeError:
                return False
    return True


def plain(record: Record) -> tuple[Any, ...]:
    """The values of a record that fits."""
    return tuple(value.decode() if kind == b"text" else value for kind, value in record)


def shown(key: Record) -> Any:
    """A key as a test writes it."""
    values = tuple(v.decode(errors="replace") if kind == b"text" else v for kind, v in key)
    return values[0] if len(values) == 1 else values


def _side_sql(info: CollectionInfo, at: str) -> str:
    keys = ",".join(f'typeof("{k}"),"{k}"' for k in info.key)
    return f'SELECT ordinal,{keys} FROM {at}"ok_side_{info.name}"'


def shared(info: CollectionInfo, record: Record | None) -> Record | None:
    """What devices may hold of a record."""
    if record is None:
        return None
    return tuple(cell for f, cell in zip(info.fields.values(), record, strict=True) if not f.online_only)


@define
class _Past:
    """A published cursor and the keys changed since, by collection; and those of which devices can see a change."""

    cursor: bytes
    changed: dict[str, set[Record]] = Factory(dict)
    seen: dict[str, set[Record]] = Factory(dict)


class Watch:
    """Compares a store with the dumps of its tables."""

    def __init__(self, path: str | os.PathLike[str], schema: Schema, writer: PlainWriter, *, at: str = "") -> None:
        self.schema, self.writer, self.at = schema, writer, at
        self.store = SQLiteStore(path)
        self.store.bind(schema)
        self.tables: dict[str, Dump] = {info.name: {} for info in schema}
        self.ordinals: dict[str, dict[Record, int]] = {info.name: {} for info in schema}
        self.past: list[_Past] = []
        self.exact = True
        self.attempt()
        self.look()

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    def attempt(self, *statements: str) -> list[Any]:
        """Let the plain writer run statements and take in what they changed; returns their rows or errors."""
        answers = self.writer.attempt(*statements, *(dump_sql(info, self.at) for info in self.schema))
        for info, rows in zip(self.schema, answers[len(statements) :], strict=True):
            assert not isinstance(rows, str), rows
            old, new = self.tables[info.name], dump(info, rows)
            keys = {k for k in old.keys() | new.keys() if old.get(k) != new.get(k)}
            seen = {k for k in keys if shared(info, old.get(k)) != shared(info, new.get(k))}
            for past in self.past:
                past.changed.setdefault(info.name, set()).update(keys)
                past.seen.setdefault(info.name, set()).update(seen)
            self.tables[info.name] = new
        return answers[: len(statements)]

    def touched(self, *statements: str) -> dict[str, set[Any]]:
        """Let the plain writer run statements, which must work, and check everything; returns the keys that were touched.

        A key is shown as its value, or as a tuple of values; collections of which nothing was touched are left out.
        """
        for sql, answer in zip(statements, self.attempt(*statements), strict=True):
            assert not isinstance(answer, str), f"{answer}: {sql}"
        self.exact = False
        self.look()
        return self._since_last(SQLiteSnapshot.touched)

    def changed(self) -> dict[str, set[Any]]:
        """Of the keys that `touched` returned last, those of which devices may be sent something."""
        return self._since_last(SQLiteSnapshot.changed)

    def _since_last(self, ask: Callable[[SQLiteSnapshot, str, bytes], View]) -> dict[str, set[Any]]:
        found = {}
        with self.store.snapshot() as snapshot:
            for name, by_key in self.ordinals.items():
                view = ask(snapshot, name, self.past[-2].cursor)
                if keys := {shown(k) for k, n in by_key.items() if n in view}:
                    found[name] = keys
        return found

    def _number(self, info: CollectionInfo, rows: list[tuple[Any, ...]]) -> dict[Record, int]:
        found = {tuple(zip(row[1::2], row[2::2], strict=True)): row[0] for row in rows}
        known = self.ordinals[info.name]
        assert len(set(found.values())) == len(found) == len(rows)
        assert {k: found.get(k) for k in known} == known, "an ordinal has changed"
        fresh = [n for k, n in found.items() if k not in known]
        assert not fresh or min(fresh) > max(known.values(), default=0), "an ordinal was given out again"
        return found

    def look(self) -> None:
        """Take a snapshot and compare everything with the dumps."""
        scopes = {info.name: everything for info in self.schema}
        sides = self.writer.write(*(_side_sql(info, self.at) for info in self.schema))
        with self.store.snapshot() as snapshot:
            for info, side in zip(self.schema, sides, strict=True):
                name, table = info.name, self.tables[info.name]
                by_key = self.ordinals[name] = self._number(info, side)
                fitting = {by_key[k]: r for k, r in table.items() if fits(info, r)}
                found = snapshot.evaluate(name, everything, scopes)
                assert set(found) == set(fitting), name
                assert set(snapshot.unfit(name)) == {by_key[k] for k in table} - set(fitting), name
                rows = {row[0]: tuple(row[1:]) for row in snapshot.rows(name, list(info.fields), found)}
                assert rows == {n: plain(r) for n, r in fitting.items()}, name
                if found:
                    assert set(snapshot.evaluate(name, everything, scopes, found)) == set(found), name
                for past in self.past:
                    assert snapshot.honoured(past.cursor)
                    touched = set(snapshot.touched(name, past.cursor))
                    needed = {by_key[k] for k in past.changed.get(name, ())}
                    assert needed <= touched, f"{name}: a change was not seen"
                    changed = set(snapshot.changed(name, past.cursor))
                    assert {by_key[k] for k in past.seen.get(name, ())} <= changed <= touched, f"{name}: not seen by devices"
                    assert snapshot.any_touched([name], past.cursor) == bool(touched)
                if self.past and self.exact:
                    last = self.past[-1]
                    touched = set(snapshot.touched(name, last.cursor))
                    assert touched == {by_key[k] for k in last.changed.get(name, ())}, f"{name}: touched in vain"
                    changed = set(snapshot.changed(name, last.cursor))
                    assert changed == {by_key[k] for k in last.seen.get(name, ())}, f"{name}: told of what is hidden"
            self.past.append(_Past(snapshot.cursor))
