"""The device's side of every exchange, without I/O: generators that yield what to send and are sent what came back.

    steps = pull(device)
    effect = next(steps)                          # Send(bytes) or Fetch(name, offset)
    effect = steps.send(answer_bytes)             # … until StopIteration, whose value is the result

Whoever drives them (`sync.py` on an event loop, tests by hand) decides when, how often and whether an answer arrives; a
generator may be thrown away at any step. Everything durable happens in the store's own transactions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from hashlib import sha256
from typing import Any, TypeAlias

import msgspec
from attrs import Factory, frozen, mutable

from offlinekit.exceptions import NotAllowed, NotOffered, OfflinekitError, ProtocolError, RefusalCode, TransportError
from offlinekit.expr import encode_filter
from offlinekit.protocol import messages as m
from offlinekit.protocol.codec import decode_answer, encode
from offlinekit.protocol.convert import group_delta, outcome_of, wire_mutation
from offlinekit.protocol.state import state_digest
from offlinekit.protocol.version import PROTOCOL_VERSION
from offlinekit.query import Query
from offlinekit.selection import Selection
from offlinekit.store.sqlite.applying import apply_answer
from offlinekit.store.sqlite.incoming import Incoming
from offlinekit.store.sqlite.pending import Unanswered, unanswered
from offlinekit.store.sqlite.replica_store import ReplicaStore
from offlinekit.store.sqlite.replica_sync import (
    Held,
    field_lists,
    held,
    new_device,
    new_history,
    next_push,
    selection_bytes,
    take_answers,
    take_receipts,
    views_held,
)
from offlinekit.view import pack_view, unpack_view, view_of

__all__ = ["Effect", "Exchanger", "Fetch", "Moved", "Previewed", "Pushed", "Send", "Steps"]

ROUNDS_MAX = 8
_FILE_NAME = re.compile(r"[0-9a-f]{32}")


@frozen
class Send:
    """Send these bytes as a request; the answer's bytes come back."""

    body: bytes


@frozen
class Fetch:
    """Fetch up to a chunk of a file from an offset; its bytes come back. `done` of `size` bytes are here already."""

    name: str
    offset: int
    size: int


Effect: TypeAlias = Send | Fetch


@mutable
class Moved:
    """The result of a pull: its kind of answer, and what it moved by collection."""

    kind: str
    put: dict[str, int] = Factory(dict)
    drop: dict[str, int] = Factory(dict)
    bytes: int = 0
    unfit: int = 0
    detail: str = ""


@mutable
class Pushed:
    """The result of a push: outcomes by kind; `kind` is nothing, pushed, new_history, fork, revoked or stale."""

    kind: str
    outcomes: dict[str, int] = Factory(dict)
    sent: int = 0


@frozen
class Previewed:
    """What a pull would move, by collection, and which of the records with unanswered changes would leave."""

    parts: dict[str, m.PreviewPart]
    leaving: tuple[Unanswered, ...] = ()


@frozen
class _Arriving:
    """An answer whose file is on its way: what the request started from, and the clock's offset when the answer came."""

    start: Held
    answer: m.Delta
    offset: float
    incoming: Incoming


PullSteps: TypeAlias = Generator[Effect, bytes, Moved]
PushSteps: TypeAlias = Generator[Effect, bytes, Pushed]
Steps: TypeAlias = Generator[Effect, bytes, Any]


class Exchanger:
    """Makes exchanges for one replica. `progress(collection or "", done, total)` is told of bytes on their way."""

    def __init__(self, store: ReplicaStore, program: str = "", progress: Callable[[int, int], None] | None = None) -> None:
        self.store, self.program = store, program
        self.progress = progress or (lambda done, size: None)
        self._arriving: _Arriving | None = None

    def _common(self, device: bytes) -> dict[str, Any]:
        return {"version": PROTOCOL_VERSION, "device": device, "identity": self.store.identity,
                "schema": self.store.schema.version, "projection": self.store.projection}  # fmt: skip

    def _report(self) -> m.Report:
        db = self.store.reader()
        counts = dict(db.execute("SELECT state,count(*) FROM ok_mutation GROUP BY 1"))
        return m.Report(pending=counts.get("pending", 0), rejected=counts.get("rejected", 0), program=self.program)

    # -- pull

    def pull(self, *, report: bool = False) -> PullSteps:
        """Asks for what changed and applies it; first goes on with a file whose fetching was interrupted.

        To be resumed, a broken connection is thrown into the generator as a TransportError; what else ends it forgets the file.
        """
        self.store.tidy()
        start = held(self.store)
        if self._arriving is not None:
            was = self._arriving.start
            if (was.groups, was.selection) == (start.groups, start.selection):
                return (yield from self._arrive(self._arriving))
            self.forget()
        answer = yield from self._ask(start, m.Pull, report=self._report() if report else None)
        if isinstance(answer, m.Same):
            with self.store.lock:
                state = self._state(start)
                if answer.state not in (b"", state) or self._state(held(self.store)) != state:
                    return Moved("stale")
                self._receipts(start, answer)
            return Moved("same")
        if isinstance(answer, m.NewHistory):
            new_history(self.store)
            return Moved("new_history")
        if isinstance(answer, m.Expired):
            take_receipts(self.store, (), {"offset": answer.now - self.store.clock.now()}, 0)
            return Moved("expired", detail=str(answer.until))
        if isinstance(answer, m.HeldBack):
            detail = f"{answer.drop} of {answer.held} records of '{answer.collection}' would go"
            return Moved("held_back", detail=detail)
        if isinstance(answer, m.Revoked):
            return Moved("revoked")
        if isinstance(answer, m.Refused) and answer.code == RefusalCode.NOT_OFFERED:
            return Moved("not_offered", detail=answer.message)
        if isinstance(answer, m.Delta):
            return (yield from self._take(start, answer))
        raise _refused(answer)

    def preview(self, candidate: Selection) -> Generator[Effect, bytes, Previewed]:
        """What saving this selection would fetch and drop; moves nothing."""
        waiting = [u for u in unanswered(self.store.reader(), self.store.schema) if u.ordinal]
        ordinals = {c: view_of(u.ordinal for u in waiting if u.collection == c) for c in {u.collection for u in waiting}}
        pending = {c: pack_view(view) for c, view in ordinals.items()}
        answer = yield from self._ask(held(self.store), m.Preview, candidate=candidate.encode(), pending=pending)
        if isinstance(answer, m.Previewed):
            leaving = {c: unpack_view(p.leaving) for c, p in answer.collections.items()}
            return Previewed(answer.collections, tuple(u for u in waiting if u.ordinal in leaving.get(u.collection, ())))
        if isinstance(answer, m.NewHistory):
            raise TransportError("the authority was restored; sync first, then ask again")
        raise _refused(answer)

    def _ask(self, start: Held, kind: type[m.Pull], **more: Any) -> Generator[Effect, bytes, m.Answer]:
        """Sends the shortest request, and what the authority then asks for."""
        table = _table(start)
        common: dict[str, Any] = {
            **self._common(start.device), "state": self._state(start), "witness": start.witness,
            "awaited": list(start.awaited), **more,
        }  # fmt: skip
        if all(t == b"" for _, t, _ in start.groups):
            common |= {"table": table, "selection": start.selection}  # nobody can know this state yet
        for _ in range(ROUNDS_MAX):
            answer = decode_answer((yield Send(encode(kind(**common)))))
            if isinstance(answer, m.NeedState):
                common["table"] = table
            elif isinstance(answer, m.NeedSelection):
                common |= {"table": table, "selection": start.selection}
            elif isinstance(answer, m.NeedView):
                named = set(answer.collections) | set(common.get("views") or ())
                common |= {"table": table, "views": views_held(self.store, sorted(named))}
            elif isinstance(answer, m.NeedSchema):
                common["fields"] = field_lists(self.store, answer.projections)
            else:
                return answer
        raise ProtocolError(f"the authority asked for more {ROUNDS_MAX} times and never answered")

    def _state(self, start: Held) -> bytes:
        return state_digest(_table(start), self.store.projection)

    def _receipts(self, start: Held, answer: m.Same) -> None:
        offset = answer.now - self.store.clock.now()
        meta = {"offset": offset, "pulled": answer.now, "selected": start.selection}
        take_receipts(self.store, answer.receipts, meta, answer.durable_through, complete=True)

    def _take(self, start: Held, answer: m.Delta) -> PullSteps:
        """Applies a delta, after fetching its file; an answer to another state, delivered late or twice, is ignored."""
        if answer.state != self._state(start):
            return Moved("stale")
        offset = answer.now - self.store.clock.now()  # of now: a file may be on its way for hours
        if answer.file is None:
            return self._apply(start, answer, offset, None)
        self._arriving = _Arriving(start, answer, offset, self._incoming(answer.file))
        return (yield from self._arrive(self._arriving))

    def _arrive(self, it: _Arriving) -> PullSteps:
        """Fetches what is missing of a file and applies the answer; a broken connection leaves what is here for the next pull."""
        assert it.answer.file is not None
        interrupted = False
        try:
            if not (yield from self._fetch(it.answer.file.name, it.incoming, it.start.selection)):
                return Moved("cancelled")
            return self._apply(it.start, it.answer, it.offset, it.incoming.unpack())
        except TransportError as error:
            interrupted = error.retryable
            raise
        finally:
            if not interrupted:
                self.forget()

    def forget(self) -> None:
        """Gives up a file whose fetching was interrupted."""
        arriving, self._arriving = self._arriving, None
        if arriving is not None:
            arriving.incoming.close()

    def _apply(self, start: Held, answer: m.Delta, offset: float, path: str | None) -> Moved:
        store = self.store
        also = {"offset": offset, "pulled": answer.now, "claims": answer.claims, "selected": start.selection}
        applied = apply_answer(
            store,
            {g: t for g, t, _ in start.groups},
            map(group_delta, answer.groups),
            path,
            settled=answer.receipts,
            also=also,
            witness=start.witness,
            still=lambda: selection_bytes(store, store.db) == start.selection,
        )
        if applied is None:
            return Moved("stale")
        take_receipts(store, answer.receipts, also, answer.durable_through, complete=True)
        size = answer.file.size if answer.file else 0
        return Moved("bulk" if answer.file else "delta", applied.put, applied.drop, size, answer.unfit)

    def _incoming(self, manifest: m.Manifest) -> Incoming:
        """Where a file is collected; a name that the authority cannot have made is not asked for."""
        if not _FILE_NAME.fullmatch(manifest.name):
            raise ProtocolError(f"{manifest.name!r:.60} is no name of a file")
        with self.store.locked():
            return Incoming(self.store.path, size=manifest.size, raw_size=manifest.raw_size, chunk=manifest.chunk,
                            digests=manifest.digests)  # fmt: skip

    def _fetch(self, name: str, incoming: Incoming, selection: bytes) -> Generator[Effect, bytes, bool]:
        """Fetches what is missing of a file; False when the selection was edited meanwhile."""
        while incoming.received < incoming.size:
            incoming.take((yield Fetch(name, incoming.received, incoming.size)))
            self.progress(incoming.received, incoming.size)
            if selection_bytes(self.store, self.store.reader()) != selection:
                return False
        return True

    # -- push

    def push(self) -> PushSteps:
        """Sends the push in flight or the next one, and takes in the answers."""
        batch = next_push(self.store)
        if batch is None:
            return Pushed("nothing")
        wires = [wire_mutation(mutation, self.store.projection) for mutation in batch.mutations]
        request = m.Push(turn=batch.turn, request=batch.request, mutations=wires, witness=batch.witness,
                         **self._common(batch.device))  # fmt: skip
        answer = decode_answer((yield Send(encode(request))))
        if isinstance(answer, m.NeedSchema):
            request = msgspec.structs.replace(request, fields=field_lists(self.store, answer.projections))
            answer = decode_answer((yield Send(encode(request))))
        if isinstance(answer, m.Pushed):
            outcomes = [outcome_of(r) for r in answer.results]
            taken = take_answers(self.store, answer.request, answer.turn, answer.cursor, outcomes, answer.now,
                                 answer.durable_through)  # fmt: skip
            counts: dict[str, int] = {}
            for outcome in outcomes:
                counts[outcome.state] = counts.get(outcome.state, 0) + 1
            return Pushed("pushed" if taken else "stale", counts, len(wires))
        if isinstance(answer, m.NewHistory):
            new_history(self.store)
            return Pushed("new_history")
        if isinstance(answer, m.Fork):
            new_device(self.store, self.store.clock.now())
            return Pushed("fork")
        if isinstance(answer, m.Revoked):
            return Pushed("revoked")
        raise _refused(answer)

    # -- remote reads

    def query(
        self, query: Query, candidate: Selection | None = None, chosen: bool = False
    ) -> Generator[Effect, bytes, m.Records]:
        """Runs a query at the authority; with a candidate only among the records that it lists, or chooses of them."""
        device = self.store.meta("device", self.store.reader())
        request = m.Query(collection=query.collection, where=encode_filter(query.where), search=query.search,
                          order=list(query.order), limit=100 if query.limit is None else query.limit,
                          after=None if query.after is None else list(query.after), total=query.total,
                          candidate=b"" if candidate is None else candidate.encode(), chosen=chosen,
                          **self._common(device))  # fmt: skip
        answer = decode_answer((yield Send(encode(request))))
        if isinstance(answer, m.NeedSchema):
            request = msgspec.structs.replace(request, fields=field_lists(self.store, answer.projections))
            answer = decode_answer((yield Send(encode(request))))
        if isinstance(answer, m.Records):
            return answer
        raise _refused(answer)


def _table(start: Held) -> m.Table:
    """What the state of a replica stands for."""
    groups = [m.GroupState(collections=list(g), token=t, holds=any(c in start.holding for c in g)) for g, t, _ in start.groups]
    return m.Table(selection=selection_digest(start.selection), groups=groups, implicit=start.implicit)


def selection_digest(data: bytes) -> bytes:
    """The digest of an encoded selection."""
    return sha256(data).digest()[:16]


def _refused(answer: m.Answer) -> OfflinekitError:
    """The error that an answer stands for where another one was needed."""
    if isinstance(answer, m.Refused):
        if answer.retry_after_s is not None:
            return TransportError(answer.message, retry_after_s=answer.retry_after_s)
        if answer.code in (RefusalCode.NOT_ALLOWED, RefusalCode.IDENTITY):
            return NotAllowed(answer.message)
        if answer.code == RefusalCode.NOT_OFFERED:
            return NotOffered(answer.message)
        return ProtocolError(f"the authority refused ({answer.code}): {answer.message}")
    return ProtocolError(f"the authority answered '{type(answer).__name__}', which has no place here")
