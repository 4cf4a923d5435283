"""The recording of a replica: what it held at the start, then every event with what was shown after it.

An answer stands in it as the authority sent it, masked. What a step led to is told by its result, the number of mutations in
each state, and the records concerned as they are shown afterwards; the last line has digests of everything shown. So a replay
(`offlinekit.testing.replay`) needs no authority, and finds the step at which today's code does something else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeAlias, TypeVar, cast

import attrs
import msgspec

from offlinekit.changes import Mutation, decode_key, encode_key
from offlinekit.exceptions import StateError, StoreError
from offlinekit.nodes import Value
from offlinekit.protocol import messages as m
from offlinekit.protocol.codec import decode_answer, decode_request
from offlinekit.recording.dump import digests, tables
from offlinekit.recording.lines import LIMIT, Lines, Recording
from offlinekit.recording.masks import Mask, Masks
from offlinekit.store.pieces import Piece
from offlinekit.store.sqlite.bulk import piece_rows
from offlinekit.store.sqlite.replica_store import ReplicaStore

__all__ = ["FORMAT", "DeviceRecording", "asked", "finished", "mutations", "shown", "states"]

FORMAT = 1
ROWS = 500  # records a line
TOUCHED_MAX = 1000  # records with pending changes that are looked at after a difference
Place: TypeAlias = tuple[str, bytes]  # a collection, an encoded key
E = TypeVar("E")
F = TypeVar("F", bound=Callable[..., None])


def _undisturbed(method: F) -> F:
    """An error of the recorder ends the recording and nothing else."""

    @wraps(method)
    def call(self: DeviceRecording, *args: Any, **kwargs: Any) -> None:
        if not self.lines.over:
            try:
                method(self, *args, **kwargs)
            except Exception as error:
                self.lines.fail(error)
        if self.lines.over:
            self._detach()

    return cast(F, call)


class DeviceRecording(Recording):
    """A recording under way; `replica.record(path)` makes one. `stop()`, or the end of its `with` block, ends it."""

    def __init__(self, store: ReplicaStore, path: str | os.PathLike[str], *, mask: Mask = None, limit: int = LIMIT) -> None:
        self.store, self.masks = store, Masks(store.schema, mask)
        self._places: list[Place] = []
        self._from: list[list[Any]] = []
        self._makers: list[Any] = []
        self._exchanges = 0
        self._begun: dict[int, dict[str, Any]] = {}  # by number, as long as they are under way
        self._requests: dict[int, m.Request | None] = {}  # None: it fetches a part of a file
        self._fetched: dict[int, bytes] = {}
        with store.lock:
            if store.closed:
                raise StateError("the replica is closed")
            if store.recorder is not None:
                raise StateError("a recording runs already; stop it first")
            if not store.db.get_autocommit():
                raise StateError("a transaction is open; start the recording before it or after it")
            self.lines = Lines(path, limit)
            store.recorder = self
            self._start()

    def stop(self) -> None:
        """Writes what is shown at the end, and closes the file; inside a transaction the recording ends without that."""
        with self.store.lock:
            self._end()

    def _detach(self) -> None:
        if self.store.recorder is self:
            self.store.recorder = None

    def _write(self, event: str, **more: Any) -> None:
        self.lines.write({"event": event, "at": self.store.clock.now(), **more})

    @_undisturbed
    def _start(self) -> None:
        schema = self.store.schema
        self._write("start", format=FORMAT, library=_library(), version=schema.version, schema=schema.describe(),
                    masked=sorted(map(list, self.masks.fields)))  # fmt: skip
        with self.store.locked():
            for file, name, columns, rows in tables(self.store, self.masks):
                for part in _batches(rows):
                    self._write("table", file=file, name=name, columns=columns, rows=part)
        self._write("started")

    @_undisturbed
    def _end(self) -> None:
        if self.store.db.get_autocommit():
            with self.store.locked():
                self._write("end", shown=self._shown(self._pending()), mutations=mutations(self.store),
                            digests=digests(self.store, self.masks))  # fmt: skip
        self.lines.close()

    # -- what the store and its users tell

    def _shown(self, places: Iterable[Place]) -> list[list[Any]]:
        """The records at these places as they are shown, masked."""
        found = []
        for collection, key, values in shown(self.store, places):
            info = self.store.schema.info(collection)
            row = None if values is None else self.masks.values(collection, values)
            found.append([collection, self.masks.key(info, key), row])
        return found

    def _after(self, places: Iterable[Place]) -> dict[str, Any]:
        return {"shown": self._shown(dict.fromkeys(places)), "states": states(self.store)}

    def _touches(self, ids: Iterable[bytes]) -> list[Place]:
        """The places that mutations, and whatever waits for them, are about."""
        outbox, found = self.store.outbox, list[Place]()
        for id_ in ids:
            seq = outbox.seq_of(id_)
            for n in [] if seq is None else [seq, *outbox.dependents(id_)]:
                found += list(self.store.db.execute("SELECT collection,key FROM ok_change WHERE mutation=?", (n,)))
        return found

    @_undisturbed
    def touching(self, id_: bytes) -> None:
        """Notes what a mutation is about while it is there, and how these records are shown."""
        self._places = self._touches([id_])
        self._from = self._shown(dict.fromkeys(self._places))

    @_undisturbed
    def committed(self, mutation: Mutation, replaces: bytes | None) -> None:
        """A local transaction; a correction starts `from` records without the mutation that it replaces."""
        changes = [
            [c.collection, self.masks.key(self.store.schema.info(c.collection), c.key), c.op,
             self.masks.values(c.collection, c.before), self.masks.values(c.collection, c.after)]
            for c in mutation.changes
        ]  # fmt: skip
        places = [(c.collection, encode_key(c.key)) for c in mutation.changes]
        event = {"id": mutation.id.bytes, "intent": mutation.intent, "changes": changes,
                 "after": sorted(a.bytes for a in mutation.after)}  # fmt: skip
        if replaces is not None:
            event |= {"replaces": replaces, "from": self._from}
            places += self._places
        self._write("commit", **event, **self._after(places))

    @_undisturbed
    def resolved(self, id_: bytes, code: str) -> None:
        """A mutation was withdrawn or discarded."""
        self._write("resolve", id=id_, code=code, **self._after(self._places))

    @_undisturbed
    def selected(self, selection: bytes) -> None:
        """A selection was saved."""
        self._write("select", selection=self.masks.selection(selection))

    @_undisturbed
    def wanted(self) -> None:
        """The next pull verifies."""
        self._write("verify")

    @_undisturbed
    def filed(self, name: str, pieces: Callable[[str], Iterable[Piece]], collections: Sequence[str]) -> None:
        """Writes the records of a received file."""
        for info in map(self.store.schema.info, collections):
            rows = (row for piece in pieces(info.name) for row in piece_rows(info, piece))
            for batch in _batches(self.masks.row(info.name, info.replicated, row) for row in rows):
                self._write("file", name=self.masks.opaque(name.encode()), collection=info.name, rows=batch)

    # -- exchanges

    def begun(self, by: Any, kind: str, how: Mapping[str, Any]) -> int:
        """Numbers an exchange and who makes it; files that somebody began to fetch before the recording are given up."""
        if not any(by is maker for maker in self._makers):
            self._makers.append(by)
            by.arrivals.forget_all()
        number, self._exchanges = self._exchanges, self._exchanges + 1
        maker = next(n for n, maker in enumerate(self._makers) if maker is by)
        self._begun[number] = {"by": maker, "kind": kind, "how": dict(how)}
        return number

    def step(self, exchange: int, given: bytes | Exception | None, take: Callable[..., E]) -> E:
        """One step; the caller holds the lock."""
        event: dict[str, Any] = {"exchange": exchange}
        self._given(exchange, given, event)
        try:
            effect = take(given)
        except StopIteration as stop:
            self._took(event, result=finished(stop.value))
            self._over(exchange)
            raise
        except StoreError as error:
            self._failed(error)
            raise
        except Exception as error:
            self._took(event, error=type(error).__name__)
            self._over(exchange)
            raise
        self._went_on(exchange, effect, event)
        return effect

    @_undisturbed
    def _given(self, exchange: int, given: bytes | Exception | None, event: dict[str, Any]) -> None:
        self._places = []
        if given is None:
            event.update(self._begun.pop(exchange), event="begin")
        elif isinstance(given, Exception):
            event.update(event="broken", thrown=type(given).__name__)
        elif self._requests[exchange] is None:
            event.update(event="part", file=self._fetched[exchange])
        else:
            event.update(event="answer")
            self._answered(exchange, given, event)
        if event["event"] == "part":
            self._places = self._pending()

    def _answered(self, exchange: int, data: bytes, event: dict[str, Any]) -> None:
        request = self._requests[exchange]
        try:
            answer = decode_answer(data)
        except Exception as error:  # also what is no answer is an answer
            event["garbage"] = type(error).__name__
            return
        event["answer"] = self._masked(answer)
        if isinstance(answer, m.Delta | m.Same):
            event["fits"] = isinstance(request, m.Pull) and request.state == answer.state
            self._places = self._pending() if isinstance(answer, m.Delta) else self._touches(answer.receipts)
        elif isinstance(answer, m.Pushed):
            event["fits"] = isinstance(request, m.Push) and request.request == answer.request
            self._places = self._touches(r.id for r in answer.results)

    def _pending(self) -> list[Place]:
        return list(self.store.db.execute(f"SELECT DISTINCT collection,key FROM ok_touch LIMIT {TOUCHED_MAX}"))

    @_undisturbed
    def _went_on(self, exchange: int, effect: Any, event: dict[str, Any]) -> None:
        body = getattr(effect, "body", None)
        request = self._requests[exchange] = None if body is None else decode_request(body)
        if request is None:
            self._fetched[exchange] = self.masks.opaque(effect.name.encode())
        self._took(event, asks=asked(request))

    @_undisturbed
    def _took(self, event: dict[str, Any], **led_to: Any) -> None:
        self._write(event.pop("event"), **event, **led_to, **self._after(self._places))

    @_undisturbed
    def _failed(self, error: StoreError) -> None:
        """The disk is full, or the like: how much of the step it has taken nobody can tell, so nobody could replay the rest."""
        self._write("failed", error=type(error).__name__)
        self.lines.close()

    @_undisturbed
    def left(self, exchange: int) -> None:
        """An exchange that nobody goes on with: no answer came, or none that could be used."""
        self._write("left", exchange=exchange)
        self._over(exchange)

    def _over(self, exchange: int) -> None:
        self._requests.pop(exchange, None)
        self._fetched.pop(exchange, None)

    def _masked(self, answer: m.Answer) -> dict[str, Any]:
        """An answer as plain data, masked."""
        masks, schema = self.masks, self.store.schema
        found: dict[str, Any] = msgspec.to_builtins(answer, builtin_types=(bytes,))
        for name in ("cursor", "turn", "state", "request"):
            if name in found:
                found[name] = masks.opaque(found[name])
        if "claims" in found:
            found["claims"] = masks.leaves(found["claims"])
        if isinstance(answer, m.Refused):
            found["message"] = ""  # it may name who asked
        if "file" in found:
            found["file"] = masks.opaque(found["file"]["name"].encode())
        for group in found.get("groups", ()):
            group["token"], group["cursor"] = masks.opaque(group["token"]), masks.opaque(group["cursor"])
            for name, part in group["collections"].items():
                names = schema.info(name).replicated
                part["put"] = [masks.row(name, names, row) for row in part.get("put", ())]
                if "added" in part:
                    part["added"]["rows"] = [masks.row(name, part["added"]["fields"], r) for r in part["added"]["rows"]]
        for result in found.get("results", ()):
            result["message"] = masks.message(result.get("message", ""))
            for record in result.get("records", ()):
                record["key"] = masks.key(schema.info(record["collection"]), record["key"])
                if record.get("values") is not None:
                    record["values"] = masks.values(record["collection"], record["values"])
        return found


def shown(store: ReplicaStore, places: Iterable[Place]) -> Iterable[tuple[str, Sequence[Value], dict[str, Value] | None]]:
    """The visible records at these places."""
    for collection, packed in places:
        key = decode_key(packed)
        found = store.get(store.schema.info(collection), key, store.db)
        yield collection, key, None if found is None else found[1]


def states(store: ReplicaStore) -> dict[str, int]:
    """How many mutations are in each state."""
    return dict(store.db.execute("SELECT state,count(*) FROM ok_mutation GROUP BY 1 ORDER BY 1"))


def mutations(store: ReplicaStore) -> list[list[Any]]:
    """The mutations that are there, oldest first."""
    sql = "SELECT id,intent,state,code,sent,settled FROM ok_mutation ORDER BY seq"
    return list(map(list, store.db.execute(sql)))


def _library() -> str:
    try:
        return version("offlinekit")
    except PackageNotFoundError:
        return "not installed"


def asked(request: m.Request | None) -> dict[str, Any]:
    """What matters of a request; None: a part of a file."""
    if request is None:
        return {"kind": "part"}
    names = ("table", "selection", "views", "contents", "fields", "verify")
    told: dict[str, Any] = {"kind": type(request).__name__.lower(), "with": [n for n in names if getattr(request, n, None)]}
    if isinstance(request, m.Push):
        told["mutations"] = [w.id for w in request.mutations]
    return told


def finished(result: Any) -> dict[str, Any]:
    """What matters of the result of an exchange: not sizes, which masks move, nor what is said to people."""
    return {n: v for n, v in attrs.asdict(result).items() if n not in ("bytes", "detail")}


def _batches(rows: Iterable[list[Value]]) -> Iterable[list[list[Value]]]:
    batch: list[list[Value]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == ROWS:
            yield batch
            batch = []
    if batch:
        yield batch
