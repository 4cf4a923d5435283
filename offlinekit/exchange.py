"""The device's side of every exchange, without I/O: generators that yield what to send and are sent what came back.

    steps = pull(device)
    effect = next(steps)                          # Send(bytes) or Fetch(name, offset)
    effect = steps.send(answer_bytes)             # … until StopIteration, whose value is the result

Whoever drives them (`sync.py` on an event loop, tests by hand) decides when, how often and whether an answer arrives; a
generator may be thrown away at any step. Everything durable happens in the store's own transactions.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from hashlib import sha256
from typing import Any, TypeAlias

import msgspec
from attrs import Factory, field, frozen, mutable

from offlinekit.arriving import Arrivals, Arriving, Download, question_of
from offlinekit.exceptions import NotAllowed, NotOffered, OfflinekitError, ProtocolError, RefusalCode, TransportError
from offlinekit.expr import encode_filter
from offlinekit.progress import Expected, Progress
from offlinekit.protocol import messages as m
from offlinekit.protocol.codec import decode_answer, encode
from offlinekit.protocol.convert import group_delta, outcome_of, wire_mutation
from offlinekit.protocol.state import state_digest
from offlinekit.protocol.version import PROTOCOL_VERSION
from offlinekit.query import Query
from offlinekit.schema import NAME_MAX
from offlinekit.selection import Selection
from offlinekit.store.recorder import recorded
from offlinekit.store.sqlite.applying import apply_answer
from offlinekit.store.sqlite.generations import image_layout
from offlinekit.store.sqlite.pending import Unanswered, unanswered
from offlinekit.store.sqlite.replica_store import ReplicaStore
from offlinekit.store.sqlite.replica_sync import (
    Held,
    field_lists,
    held,
    is_news,
    new_device,
    new_history,
    next_push,
    selection_bytes,
    take_answers,
    take_receipts,
    views_held,
)
from offlinekit.store.sqlite.verifying import contents_held, finish_verification
from offlinekit.transport.port import Arrived
from offlinekit.view import pack_view, unpack_view, view_of

__all__ = ["Effect", "Exchanger", "Fetch", "Moved", "Previewed", "Pushed", "Send", "Steps"]

ROUNDS_MAX = 8
# An image takes twice the bytes of its records, and saves the device some seconds for a million of them.
IMAGE_BYTES_S, MEASURED_BYTES = 4 << 20, 64 << 10
RETRY_AFTER_S_MAX = 3600.0  # nobody who answers can silence a device for longer


@frozen
class Send:
    """Send these bytes as a request; the answer's bytes come back, and `arrived` wants to be told of them, if it is there."""

    body: bytes
    arrived: Arrived | None = field(default=None, eq=False, repr=False)


@frozen
class Fetch:
    """Fetch up to a chunk of a file from an offset; its bytes come back, and `arrived` wants to be told of them."""

    name: str
    offset: int
    arrived: Arrived = field(eq=False, repr=False)


Effect: TypeAlias = Send | Fetch


@mutable
class Moved:
    """The result of a pull: its kind of answer, and what it moved by collection; `more`: it was not about every collection."""

    kind: str
    put: dict[str, int] = Factory(dict)
    drop: dict[str, int] = Factory(dict)
    bytes: int = 0
    unfit: int = 0
    detail: str = ""
    more: bool = False


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


PullSteps: TypeAlias = Generator[Effect, bytes, Moved]
PushSteps: TypeAlias = Generator[Effect, bytes, Pushed]
Steps: TypeAlias = Generator[Effect, bytes, Any]


class Exchanger:
    """Makes exchanges for one replica. `progress` is told of answers to pulls, more often than anybody wants to see."""

    def __init__(self, store: ReplicaStore, program: str = "", progress: Callable[[Progress], None] | None = None) -> None:
        self.store, self.program = store, program
        self.progress = progress or (lambda progress: None)
        self.arrivals = Arrivals(store)
        self.adopts_images = True  # whether the line is fast enough for files with indexes in them, as far as anybody knows

    def _common(self, device: bytes) -> dict[str, Any]:
        return {"version": PROTOCOL_VERSION, "device": device, "identity": self.store.identity,
                "schema": self.store.schema.version, "projection": self.store.projection}  # fmt: skip

    def _report(self) -> m.Report:
        db = self.store.reader()
        counts = dict(db.execute("SELECT state,count(*) FROM ok_mutation GROUP BY 1"))
        return m.Report(pending=counts.get("pending", 0), rejected=counts.get("rejected", 0), program=self.program[:NAME_MAX])

    # -- pull

    def pull(self, *, report: bool = False, load: bool = False) -> PullSteps:
        """Asks for what changed and applies it: of what was loaded, or to `load` what comes next by priority.

        Whoever calls it again to load as long as there is more has everything at one point of the authority's history.
        Where the fetching of a file was interrupted it goes on, once the same is to be asked again, also after a restart. What
        was received is forgotten when an error shows that going on would not help.
        """
        return recorded(self.store, self, "pull", self._pull(report, load), {"load": load})

    def _pull(self, report: bool, load: bool) -> PullSteps:
        self.store.tidy()
        self.store.checkpoint()
        start = held(self.store, load=load)
        arriving = self.arrivals.find(start, lambda: held(self.store, load=not load))
        if arriving is not None:
            return (yield from self._arrive(arriving))
        told = self._report() if report else None
        answer, size = yield from self._ask(start, m.Pull, report=told, verify=bool(start.verify))
        if isinstance(answer, m.Same) and not start.verify:
            with self.store.lock:
                state = self._state(start)
                if answer.state not in (b"", state) or self._state(held(self.store, load=load)) != state:
                    return Moved("stale")
                _check_all_there(start, ())
                self._receipts(start, answer)
            return Moved("same", more=not start.complete)
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
            return (yield from self._take(start, answer, size))
        raise _refused(answer)

    def preview(self, candidate: Selection) -> Generator[Effect, bytes, Previewed]:
        """What saving this selection would fetch and drop; moves nothing."""
        waiting = [u for u in unanswered(self.store.reader(), self.store.schema) if u.ordinal]
        ordinals = {c: view_of(u.ordinal for u in waiting if u.collection == c) for c in {u.collection for u in waiting}}
        pending = {c: pack_view(view) for c, view in ordinals.items()}
        answer, _ = yield from self._ask(held(self.store, load=None), m.Preview, candidate=candidate.encode(), pending=pending)
        if isinstance(answer, m.Previewed):
            leaving = {c: unpack_view(p.leaving) for c, p in answer.collections.items()}
            return Previewed(answer.collections, tuple(u for u in waiting if u.ordinal in leaving.get(u.collection, ())))
        if isinstance(answer, m.NewHistory):
            raise TransportError("the authority was restored; sync first, then ask again")
        raise _refused(answer)

    def _ask(self, start: Held, kind: type[m.Pull], **more: Any) -> Generator[Effect, bytes, tuple[m.Answer, int]]:
        """Sends the shortest request, and what the authority then asks for; the answer, and its size in bytes."""
        table = _table(start)
        common: dict[str, Any] = {
            **self._common(start.device), "state": self._state(start), "witness": start.witness,
            "awaited": list(start.awaited), **more,
        }  # fmt: skip
        layout = {"layout": image_layout(self.store.schema)} if self.adopts_images and self.store.recorder is None else {}
        if not any(g.tokens for g in start.groups):
            common |= {"table": table, "selection": start.selection, **layout}  # nobody can know this state yet
        named, compared = set[str](), dict[str, set[int]]()
        for _ in range(ROUNDS_MAX):
            data = yield Send(encode(kind(**common)), lambda here, size: self.progress(Progress("downloading", here, size)))
            answer = decode_answer(data)
            if isinstance(answer, m.NeedState):
                common |= {"table": table, **layout}
            elif isinstance(answer, m.NeedSelection):
                common |= {"table": table, "selection": start.selection, **layout}
            elif isinstance(answer, m.NeedView):
                named |= set(answer.collections)
                for name, ranges in answer.contents.items():
                    compared.setdefault(name, set()).update(ranges)
                common |= {"table": table, **self._held(named, compared), **layout}
            elif isinstance(answer, m.NeedSchema):
                common["fields"] = field_lists(self.store, answer.projections)
            else:
                return answer, len(data)
        raise ProtocolError(f"the authority asked for more {ROUNDS_MAX} times and never answered")

    def _held(self, named: set[str], compared: Mapping[str, set[int]]) -> dict[str, Any]:
        """The views of collections as they were left; of those to be compared, as they are found, with their contents."""
        there = contents_held(self.store, {c: ranges for c, ranges in compared.items() if c in self.store.schema.collections})
        views = views_held(self.store, sorted(named - set(there))) | {c: pack_view(it.view) for c, it in there.items()}
        contents = {c: m.Contents(ranges=it.ranges, records=it.records) for c, it in there.items()}
        return {"views": views, "contents": contents} if contents else {"views": views}

    def _state(self, start: Held) -> bytes:
        return state_digest(_table(start), self.store.projection)

    def _meta(self, start: Held, now: float) -> dict[str, Any]:
        """The small values that an answer leaves; the selection holds when no collection stands at an older one."""
        meta: dict[str, Any] = {"offset": now - self.store.clock.now(), "pulled": now}
        return {**meta, "selected": start.selection} if start.complete else meta

    def _receipts(self, start: Held, answer: m.Same) -> None:
        meta = self._meta(start, answer.now)
        if is_news(self.store, answer.receipts, meta, answer.durable_through, complete=start.complete):
            take_receipts(self.store, answer.receipts, meta, answer.durable_through, complete=start.complete)

    def _take(self, start: Held, answer: m.Delta, size: int) -> PullSteps:
        """Applies a delta, after fetching its file; an answer to another state, delivered late or twice, is ignored."""
        if answer.state != self._state(start):
            return Moved("stale")
        _check_all_there(start, answer.groups)
        meta = {**self._meta(start, answer.now), "claims": answer.claims}  # of now: a file may be on its way for hours
        if not answer.files():
            expected = _expected(answer, size)
            written = dict.fromkeys(expected.records, 0)
            return self._apply(start, answer, meta, written, lambda: expected.applying(written))
        return (yield from self._arrive(self.arrivals.begin(start, answer, meta)))

    def _arrive(self, it: Arriving) -> PullSteps:
        """Fetches what is missing of the files and applies the answer; a broken connection leaves them to the next pull."""
        interrupted = False
        try:
            if not (yield from self._fetch(it)):
                return Moved("cancelled")
            it.complete()
            overtaken = self.store.meta("pulled", self.store.reader()) != it.pulled
            meta = {n: v for n, v in it.meta.items() if n == "selected" or not overtaken}
            if self.store.recorder is not None and it.answer.file is not None:
                filed = [c for g in it.answer.groups for c, p in g.collections.items() if p.in_file]
                self.store.recorder.filed(it.answer.file.name, it.pieces, filed)
            written = dict.fromkeys(it.expected, 0)
            return self._apply(it.start, it.answer, meta, written, lambda: it.applying(written), it)
        except GeneratorExit:
            interrupted = True
            raise
        except TransportError as error:
            interrupted = error.retryable
            raise
        finally:
            if not interrupted:
                self.arrivals.forget(question_of(it.start))

    def _apply(self, start: Held, answer: m.Delta, meta: dict[str, Any], written: dict[str, int],
               progress: Callable[[], Progress], it: Arriving | None = None) -> Moved:  # fmt: skip
        store = self.store

        def told(collection: str, count: int) -> None:
            written[collection] = count
            self.progress(progress())

        if written:
            self.progress(progress())
        applied = apply_answer(
            store,
            start.groups,
            map(group_delta, answer.groups),
            it.pieces if it and answer.file else None,
            builds=it.builds if it else None,
            settled=answer.receipts,
            also=meta,
            witness=start.witness,
            told=told,
            still=lambda: (store.meta("device"), selection_bytes(store, store.db)) == (start.device, start.selection),
        )
        if applied is None:
            return Moved("stale")
        take_receipts(store, answer.receipts, meta, answer.durable_through, complete=start.complete)
        if start.verify and start.complete:
            finish_verification(store, start.verify, applied.put, applied.drop)
        kind, size = ("bulk", it.size) if it else ("delta", 0)
        return Moved(kind, applied.put, applied.drop, size, answer.unfit, more=not start.complete)

    def _fetch(self, it: Arriving) -> Generator[Effect, bytes, bool]:
        """Fetches what is missing of the files; False when the selection was edited meanwhile."""
        for d in it.downloads:

            def arrived(here: int, _: int = 0, d: Download = d) -> None:
                self.progress(it.progress(d, here))

            arrived(0)
            while not d.incoming.ended:
                began = self.store.clock.monotonic()
                part = yield Fetch(d.manifest.name, d.incoming.received, arrived)
                took = self.store.clock.monotonic() - began
                if len(part) >= MEASURED_BYTES and took > 0:
                    self.adopts_images = len(part) / took >= IMAGE_BYTES_S
                it.take(d, part)
                if selection_bytes(self.store, self.store.reader()) != it.start.selection:
                    return False
            arrived(0)
        return True

    # -- push

    def ping(self) -> Generator[Effect, bytes, None]:
        """Ends when the authority has answered, whatever it says: a state that nobody knows costs it nothing."""
        device = self.store.meta("device", self.store.reader())
        decode_answer((yield Send(encode(m.Pull(state=bytes(16), **self._common(device))))))

    def push(self) -> PushSteps:
        """Sends the push in flight or the next one, and takes in the answers."""
        return recorded(self.store, self, "push", self._push(), {})

    def _push(self) -> PushSteps:
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
    groups = [
        m.GroupState(collections=list(g.collections), token=g.tokens[0] if g.tokens else b"", also=list(g.tokens[1:]),
                     holds=any(c in start.holding for c in g.collections))
        for g in start.groups
    ]  # fmt: skip
    return m.Table(selection=selection_digest(start.selection), groups=groups, implicit=start.implicit)


def _expected(answer: m.Delta, size: int) -> Expected:
    """What an answer of so many bytes brings in its message, as its parts weigh."""
    parts = {c: p for g in answer.groups for c, p in g.collections.items()}
    counts = {c: len(p.put) + (0 if p.added is None else len(p.added.rows)) for c, p in parts.items()}
    records = {c: n for c, n in counts.items() if n > 0}
    return Expected.of(records, ((c, len(msgspec.msgpack.encode(parts[c]))) for c in records), size)


def _check_all_there(start: Held, answered: Sequence[m.Group]) -> None:
    """What was never loaded, or is to be joined or verified, is in the answer whatever was touched: else that would never end."""
    there = {c for g in answered for c in g.collections}
    if missing := [c for g in start.groups if start.verify or len(g.tokens) != 1 for c in g.collections if c not in there]:
        raise ProtocolError(f"the authority left out what it was asked for: {', '.join(missing)}")


def selection_digest(data: bytes) -> bytes:
    """The digest of an encoded selection."""
    return sha256(data).digest()[:16]


def _refused(answer: m.Answer) -> OfflinekitError:
    """The error that an answer stands for where another one was needed."""
    if isinstance(answer, m.Refused):
        if answer.retry_after_s is not None:
            return TransportError(answer.message, retry_after_s=min(answer.retry_after_s, RETRY_AFTER_S_MAX))
        if answer.code in (RefusalCode.NOT_ALLOWED, RefusalCode.IDENTITY):
            return NotAllowed(answer.message)
        if answer.code == RefusalCode.NOT_OFFERED:
            return NotOffered(answer.message)
        return ProtocolError(f"the authority refused ({answer.code}): {answer.message}")
    return ProtocolError(f"the authority answered '{type(answer).__name__}', which has no place here")
