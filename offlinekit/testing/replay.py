"""Replays a recording of `replica.record(path)` over a new replica: a session in the field becomes a test.

    def test_the_order_that_vanished() -> None:
        replay("tests/sessions/vanished.jsonl", schema)

The authority is played by the recording: what it answered then, it answers again, at the same place among commits, corrections
and edited selections, and a message that got lost gets lost. Today's code must ask for the same, come to the same results and
show the same records; where it does not, ReplayDiffers names the line.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from attrs import frozen

from offlinekit import exceptions
from offlinekit.authority.files import Files, at_once
from offlinekit.changes import encode_key
from offlinekit.exceptions import OfflinekitError, ProtocolError, SchemaError, TransportError
from offlinekit.exchange import Effect, Exchanger, Fetch, Send
from offlinekit.expr.sql import quote
from offlinekit.protocol import messages as m
from offlinekit.protocol.codec import WIRE_MAX, decode_request, encode
from offlinekit.recording.device import FORMAT, asked, finished, mutations, states
from offlinekit.recording.dump import digests
from offlinekit.recording.lines import plain, read_lines
from offlinekit.recording.masks import SOMEBODY
from offlinekit.replica import Replica, Transaction
from offlinekit.schema import Schema
from offlinekit.store.pieces import Form, pack_piece
from offlinekit.store.sqlite.bulk import packed_rows
from offlinekit.store.sqlite.replica_files import owned
from offlinekit.store.sqlite.replica_store import APPLYING
from offlinekit.testing.pair import MovableClock

__all__ = ["ReplayDiffers", "Replayed", "replay"]

Event = Mapping[str, Any]
T = TypeVar("T")
_pack = msgspec.msgpack.encode
_GARBAGE = {"NotTheAuthority": b"no answer", "ProtocolError": b"OK1\0", "TooLarge": b"OK1\0" + bytes(WIRE_MAX)}
_PACKED = {"ok_meta": ("value",), "ok_change": ("before", "after"), "ok_touch": ("after",)}


class ReplayDiffers(AssertionError):
    """Today's code does something else than what was recorded: `line` of the file, `what`, and both values."""

    def __init__(self, line: int, what: str, recorded: Any, replayed: Any) -> None:
        super().__init__(f"line {line}: {what}: recorded {plain(recorded)}, replayed {plain(replayed)}")
        self.line, self.what, self.recorded, self.replayed = line, what, recorded, replayed


@frozen
class Replayed:
    """What was replayed: events by kind; `complete`: up to the end of the recording, which was neither full nor cut off."""

    events: dict[str, int]
    complete: bool


def replay(path: str | os.PathLike[str], schema: Schema, *, folder: str | None = None) -> Replayed:
    """Replays the recording of a replica, in a temporary folder or the given one, and compares every step.

    `schema` is declared as it was then. Raises ReplayDiffers, SchemaError for another declaration, ProtocolError for a file
    that is no recording.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        player = _Player(path, schema, folder or temporary)
        with _unverified(schema, player.masked):
            try:
                return player.play()
            finally:
                player.replica.close()


@contextmanager
def _unverified(schema: Schema, masked: list[list[str]]) -> Iterator[None]:
    """A pseudonym is not held to what is declared of the field's values."""
    fields = [schema.info(collection).field(name) for collection, name in masked]
    for f in fields:
        vars(f)["verify"] = lambda stored: None
    try:
        yield
    finally:
        for f in fields:
            del vars(f)["verify"]


class _Player:
    """A replica, and the exchanges under way."""

    def __init__(self, path: str | os.PathLike[str], schema: Schema, folder: str) -> None:
        self.path, self.schema = path, schema
        self.events, self.line = self._lines(), 0
        start = self._next("start")
        if start.get("format") != FORMAT or start.get("schema") != schema.describe():
            raise SchemaError(f"{os.fspath(path)}: recorded with another declaration or an older library; replay it with those")
        self.masked: list[list[str]] = start["masked"]
        self.clock = MovableClock(start["at"])
        self.replica = Replica.open(os.path.join(folder, "replica.db"), schema, identity=SOMEBODY, zone="UTC", clock=self.clock)
        self.store = self.replica.store
        self.files = _Files(path, schema, os.path.join(folder, "files"))
        self.makers: dict[int, Exchanger] = {}
        self.exchanges: dict[int, Generator[Effect, bytes, Any]] = {}
        self.effects: dict[int, Effect] = {}

    def _lines(self) -> Iterator[Event]:
        for line, event in read_lines(self.path):
            self.line = line
            yield event

    def _next(self, kind: str) -> Event:
        event: Event = next(self.events, {})
        if event.get("event") != kind:
            raise ProtocolError(f"{os.fspath(self.path)}, line {self.line}: a recording has '{kind}' here")
        return event

    def play(self) -> Replayed:
        """Plays event after event."""
        counts: dict[str, int] = {}
        with self.store.write(APPLYING):
            for event in self.events:
                if event["event"] != "table":
                    break
                if not event["file"]:
                    self._fill(self.store.db, event)
        if event["event"] != "started":
            return Replayed(counts, complete=False)
        self._own_files()
        for event in self.events:
            kind = event["event"]
            if kind in ("full", "failed"):
                break
            self.clock.time = event.get("at", self.clock.time)
            try:
                getattr(self, f"_{kind}")(event)
            except OfflinekitError as error:
                raise ReplayDiffers(self.line, kind, "done", f"{type(error).__name__}: {error}") from error
            self._compare(event)
            counts[kind] = counts.get(kind, 0) + 1
        return Replayed(counts, complete="end" in counts)

    # -- the start

    def _fill(self, db: Any, event: Event) -> None:
        """The rows of a table as they were."""
        name, columns, packed = event["name"], event["columns"], _PACKED.get(event["name"], ())
        rows = []
        for values in event["rows"]:
            row = dict(zip(columns, values, strict=True))
            row |= {n: _pack(row[n]) for n in packed}
            if packed and "key" in row:
                row["key"] = encode_key(row["key"])
            rows.append(tuple(row.values()))
        marks = ",".join("?" * len(columns))
        sql = f"INSERT OR REPLACE INTO {quote(name)}({','.join(map(quote, columns))}) VALUES({marks})"
        db.executemany(sql, rows)

    def _own_files(self) -> None:
        """The tables of collections in files of their own."""
        for _, event in read_lines(self.path):
            if event["event"] == "table" and event["file"]:
                with owned(self.store.reader(), self.store.path, event["file"]) as (_, db):
                    db.execute("UPDATE ok_gate SET mode=?", (APPLYING,))
                    self._fill(db, event)
                    db.execute("UPDATE ok_gate SET mode=0")
            elif event["event"] not in ("start", "table"):
                return

    # -- local events

    def _commit(self, event: Event) -> None:
        """Makes the same changes, in a transaction of the same kind."""
        self.replica.new_id = lambda: UUID(bytes=event["id"])  # type: ignore[method-assign]
        old = event.get("replaces")
        with Transaction(self.replica, event["intent"]) if old is None else self.replica.correction(old):
            for collection, key, row in event.get("from", ()):
                self._make(collection, key, row)
            for collection, key, op, _, after in event["changes"]:
                found = self.store.get(self.schema.info(collection), key, self.store.db) if op == "update" else None
                self._make(collection, key, None if op == "delete" else {**(found[1] if found else {}), **after})
        made = self.store.outbox.mutation(self._seq(event["id"]))
        changes = [[c.collection, list(c.key), c.op, dict(c.before), dict(c.after)] for c in made.changes]
        self._same("changes", _sorted(event["changes"]), _sorted(changes))
        self._same("what it waits for", event["after"], sorted(a.bytes for a in made.after))

    def _seq(self, id_: bytes) -> int:
        seq = self.store.outbox.seq_of(id_)
        if seq is None:
            raise ReplayDiffers(self.line, "the mutation", UUID(bytes=id_).hex, None)
        return seq

    def _make(self, collection: str, key: list[Any], row: Mapping[str, Any] | None) -> None:
        """Writes a record; by the store's own connection, because an expired selection shuts the application's."""
        info, db = self.schema.info(collection), self.store.db
        where = " AND ".join(f"{quote(k)}=?" for k in info.key)
        found = self.store.get(info, key, self.store.db)
        if row is None:
            if found is not None:
                db.execute(f"DELETE FROM {quote(collection)} WHERE {where}", key)
        elif found is None:
            marks = ",".join("?" * len(row))
            db.execute(f"INSERT INTO {quote(collection)}({','.join(map(quote, row))}) VALUES({marks})", list(row.values()))
        elif values := {n: v for n, v in row.items() if n not in info.key and (v, type(v)) != (found[1][n], type(found[1][n]))}:
            sets = ",".join(f"{quote(n)}=?" for n in values)
            db.execute(f"UPDATE {quote(collection)} SET {sets} WHERE {where}", [*values.values(), *key])

    def _resolve(self, event: Event) -> None:
        self.replica.resolve(event["id"], event["code"])

    def _select(self, event: Event) -> None:
        with self.store.write():
            self.store.set_meta("selection", event["selection"])

    def _verify(self, _event: Event) -> None:
        self.replica.want_verification()

    def _file(self, _event: Event) -> None:
        """What was in a file; it is served when it is fetched."""

    def _end(self, event: Event) -> None:
        self._same("mutations", event["mutations"], mutations(self.store))
        with self.store.locked():
            self._same("all records shown", event["digests"], digests(self.store))

    # -- exchanges

    def _begin(self, event: Event) -> None:
        by = self.makers.setdefault(event["by"], Exchanger(self.store))
        steps: Generator[Effect, bytes, Any] = by.push() if event["kind"] == "push" else by.pull(**event["how"])
        self.exchanges[event["exchange"]] = steps
        self._step(event, lambda: next(steps))

    def _answer(self, event: Event) -> None:
        body = _GARBAGE[event["garbage"]] if "garbage" in event else encode(self._message(event))
        self._step(event, lambda: self.exchanges[event["exchange"]].send(body))

    def _part(self, event: Event) -> None:
        effect = self.effects[event["exchange"]]
        assert isinstance(effect, Fetch)
        part = b"" if self.files.broken(event) else self.files.part(effect.name, effect.offset)
        self._step(event, lambda: self.exchanges[event["exchange"]].send(part))

    def _broken(self, event: Event) -> None:
        error = getattr(exceptions, event["thrown"], TransportError)("as recorded")
        self._step(event, lambda: self.exchanges[event["exchange"]].throw(error))

    def _left(self, event: Event) -> None:
        self.exchanges.pop(event["exchange"]).close()

    def _step(self, event: Event, take: Any) -> None:
        """One step of an exchange, and whether it leads where it led."""
        number = event["exchange"]
        try:
            self.effects[number] = effect = take()
            body = effect.body if isinstance(effect, Send) else None
            led_to: dict[str, Any] = {"asks": asked(None if body is None else decode_request(body))}
        except StopIteration as stop:
            led_to = {"result": finished(stop.value)}
        except Exception as error:
            led_to = {"error": type(error).__name__}
        self._same("the step", {n: event[n] for n in ("asks", "result", "error") if n in event}, led_to)

    def _message(self, event: Event) -> m.Answer:
        """The answer as it was sent, as an answer to what is asked today."""
        effect = self.effects[event["exchange"]]
        assert isinstance(effect, Send)
        request, plain_answer = decode_request(effect.body), dict(event["answer"])
        for name in ("state", "request"):  # what it answers to, which today's device names in its own words
            if plain_answer.get(name):
                plain_answer[name] = getattr(request, name, bytes(16)) if event["fits"] else bytes(16)
        if "file" in plain_answer:
            plain_answer["file"] = self.files.manifest(plain_answer["file"])
        answer: m.Answer = msgspec.convert(plain_answer, m.Answer)
        return answer

    # -- comparing

    def _compare(self, event: Event) -> None:
        for collection, key, row in event.get("shown", ()):
            found = self.store.get(self.schema.info(collection), key, self.store.db)
            self._same(f"{collection} {key}", row, None if found is None else found[1])
        if "states" in event:
            self._same("mutations by state", event["states"], states(self.store))

    def _same(self, what: str, recorded: Any, replayed: Any) -> None:
        if recorded != replayed:
            raise ReplayDiffers(self.line, what, recorded, replayed)


class _Files:
    """The received files of a recording, made anew of the records in them, in as many parts as they were received in."""

    def __init__(self, path: str | os.PathLike[str], schema: Schema, folder: str) -> None:
        self._schema, self._files = schema, Files(folder, bytes(32), os.urandom, background=at_once)
        self._rows: dict[bytes, dict[str, list[Any]]] = {}  # by label and collection
        self._parts: dict[bytes, int] = {}
        self._made: dict[str, tuple[int, int]] = {}  # by name: size, number of parts
        for _, event in read_lines(path):
            if event["event"] == "file":
                self._rows.setdefault(event["name"], {}).setdefault(event["collection"], []).extend(event["rows"])
            elif event["event"] == "part":
                self._parts[event["file"]] = self._parts.get(event["file"], 0) + 1

    def manifest(self, label: bytes) -> dict[str, Any]:
        """Makes the file; one that never came in whole is filled with anything, and has a part more."""
        found, parts = self._rows.get(label), self._parts.get(label, 0)
        pieces = [("", pack_piece(Form.RECORDS, "", 1, os.urandom(1 << 16))[: 1 << 16])]  # and is never whole
        if found is not None:
            infos = [(self._schema.info(c), rows) for c, rows in found.items()]
            pieces = [(i.name, p) for i, rows in infos for p in packed_rows(i, i.replicated, rows)]
        made = self._files.make(SOMEBODY, time.time(), pieces, lambda: None)
        self._made[made.name] = made.size, parts + (found is None)
        plain_manifest: dict[str, Any] = msgspec.to_builtins(made, builtin_types=(bytes,))
        return plain_manifest

    def part(self, name: str, offset: int) -> bytes:
        """The next part."""
        size, parts = self._made[name]
        end, data = next(e for n in range(1, parts + 1) if (e := size * n // parts) > offset), b""
        while offset + len(data) < end:
            data += self._files.read(name, offset + len(data), SOMEBODY)
        return data[: end - offset]

    def broken(self, event: Event) -> bool:
        """Whether what came was no part of the file that was promised."""
        return event.get("error") == "ProtocolError" and event["file"] not in self._rows


def _sorted(changes: Iterable[Any]) -> list[Any]:
    return sorted(changes, key=lambda c: _pack(c[:2]))
