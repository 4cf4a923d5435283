"""Answering a push: each mutation takes effect at most once, through a declared intent, inside the writer's scope.

A push shares one transaction, with one savepoint a mutation: claim the receipt, check what it waits for, check rights, scope and
conflicts, run the intent's hook, write, check the scope again, complete the receipt. If the commit fails, everything is run
again, one transaction each. Only what the mutation itself causes is a rejection; unexpected errors are counted, and the
fifth becomes `rejected(internal)`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

import msgspec
from attrs import frozen

from offlinekit.authority.hooks import Changes, Context, Edit, Intent
from offlinekit.authority.pulling import DURABLE_S, Asker
from offlinekit.changes import Key, record_digest
from offlinekit.conflict import MergeFields, Policy, merged
from offlinekit.exceptions import ConstraintViolated, InvalidValue, ProtocolError, Reject, SchemaError, StoreError
from offlinekit.ids import RandomBytes
from offlinekit.nodes import Filter, Value
from offlinekit.offer import Offer
from offlinekit.protocol import messages as m
from offlinekit.schema import CollectionInfo, Schema
from offlinekit.selection import Selection, plan_of
from offlinekit.store.port import AuthorityStore, Device, Receipt, Unit

__all__ = ["FAILURES_MAX", "PUSH_MAX", "Pusher"]

PUSH_MAX = 1000
FAILURES_MAX = 5
MESSAGE_MAX = 2000  # characters of the message of a refusal
COMPACTED_MIN = 100
FORGOTTEN = "it was refused some time ago, and the details are not kept so long"
NOT_YOURS = "the record of '{}' would not be yours"
_log = logging.getLogger("offlinekit.authority")


class _Parked(Exception):
    """A mutation waits for one that is not accepted."""


class _Unanswered(Exception):
    """A mutation waits for one that failed for now; it is sent again."""


@frozen
class _Work:
    """One change of a mutation being processed, and what is written for it.

    `keep`: what the device knows of the record does not tell how this leaves it, because the record is not as the device saw it,
    or the device's program does not hold all of its fields.
    """

    edit: Edit
    key: Key
    expected: Mapping[str, Value] | None
    dropped: bool = False
    keep: bool = False


@frozen
class _Push:
    """One push on its way through."""

    asker: Asker
    scopes: Mapping[str, Filter]
    fields: Mapping[bytes, Mapping[str, Sequence[str]]]
    failed: dict[bytes, str]
    waiting: set[bytes]  # unanswered because of those that failed


class Pusher:
    """Answers pushes over a store."""

    def __init__(self, store: AuthorityStore, schema: Schema, offer: Offer, scopes: Mapping[str, Filter],
                 conflicts: Mapping[str, Policy], random: RandomBytes) -> None:  # fmt: skip
        self.store, self.schema, self.offer, self.scopes = store, schema, offer, scopes
        self.conflicts, self.random = conflicts, random
        self.intents: dict[str, Intent] = {}
        self.counts: dict[str, int] = {}
        self.told_of_failure: Callable[[bytes, Exception], None] = lambda id_, error: None
        self.compact_after_s = DURABLE_S

    def answer(self, request: m.Push, asker: Asker, fields: Mapping[bytes, Mapping[str, Sequence[str]]]) -> m.Answer:
        """The answer to a push."""
        if len(request.mutations) > PUSH_MAX or len({w.id for w in request.mutations}) != len(request.mutations):
            raise ProtocolError(f"a push holds at most {PUSH_MAX} mutations, each once")
        now = self.store.now()
        scopes = plan_of(self.schema, self.offer, self.scopes, Selection(), asker.claims, now).scopes
        push = _Push(asker, scopes, fields, {}, set())
        try:
            with self.store.unit() as unit:
                if refused := self._turn(request, asker, unit, now):
                    return refused
                device = unit.device(request.device)
                assert device is not None
                results = self._process(request.mutations, push, unit)
                # Twice as many as were added, so that the very traffic that makes receipts whole makes them compact.
                limit = COMPACTED_MIN + 2 * len(request.mutations)
                self._count("compacted", unit.compact_receipts(now - self.compact_after_s, limit))
                cursor = unit.publish(now)
        except ConstraintViolated:
            return self._one_by_one(request, push, now)
        results += self._count_failures(push)
        return self._pushed(request, device.turn, cursor, results)

    def _pushed(self, request: m.Push, turn: bytes, cursor: bytes, results: list[m.WireReceipt]) -> m.Pushed:
        with self.store.snapshot() as snapshot:
            durable = snapshot.durable_position(self.store.now() - DURABLE_S)
        return m.Pushed(request=request.request, turn=turn, cursor=cursor, results=results, now=self.store.now(),
                        durable_through=durable)  # fmt: skip

    def _turn(self, request: m.Push, asker: Asker, unit: Unit, now: float) -> m.Answer | None:
        """Takes the device's turn; an answer instead when it is not its turn."""
        if request.witness and not unit.honoured(request.witness):
            return m.NewHistory()
        known = unit.device(request.device)
        if known is not None and known.revoked:
            return m.Revoked()
        if known is None:
            known = Device(asker.identity, b"", b"", b"")
        if known.identity != asker.identity:
            return m.Fork()
        if request.turn == known.turn:
            known = Device(asker.identity, self.random(16), known.turn, request.request, False, known.confirmed_until)
            unit.save_device(request.device, known, now)
            return None
        if request.turn == known.previous and request.request == known.request:
            self._count("repeat")
            return None
        self._count("fork")
        return m.Fork()

    def _count(self, what: str, times: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + times

    def _process(self, mutations: Sequence[m.WireMutation], push: _Push, unit: Unit) -> list[m.WireReceipt]:
        results = []
        for wire in mutations:
            result = self._one(wire, push, unit)
            if result is not None:
                self._count(result.outcome)
                results.append(result)
        return results

    def _one_by_one(self, request: m.Push, push: _Push, now: float) -> m.Answer:
        """The shared commit failed: each mutation in a transaction of its own; one whose commit fails is rejected."""
        self._count("one by one")
        push.failed.clear()
        push.waiting.clear()
        results: list[m.WireReceipt] = []
        with self.store.unit() as unit:
            if refused := self._turn(request, push.asker, unit, now):
                return refused
            device = unit.device(request.device)
            cursor = unit.publish(now)
        assert device is not None
        for wire in request.mutations:
            try:
                with self.store.unit() as unit:
                    answered = self._process([wire], push, unit)
                    cursor = unit.publish(now)
                results += answered
            except ConstraintViolated as error:
                with self.store.unit() as unit:
                    results.append(self._reject(wire, push, unit, Reject("constraint", error.detail)))
                    cursor = unit.publish(now)
        results += self._count_failures(push)
        return self._pushed(request, device.turn, cursor, results)

    def _count_failures(self, push: _Push) -> list[m.WireReceipt]:
        """Counts unexpected errors, each in a transaction of its own; the fifth of a mutation is its rejection."""
        results = []
        for id_, message in push.failed.items():
            self._count("failure")
            if self.store.count_failure(id_, message) >= FAILURES_MAX:
                with self.store.unit() as unit:
                    wire = m.WireMutation(id=id_, intent="", changes=[])
                    reason = Reject("internal", "the authority failed to process this five times; its operator was told")
                    results.append(self._reject(wire, push, unit, reason))
                    unit.publish(self.store.now())
        return results

    def _reject(self, wire: m.WireMutation, push: _Push, unit: Unit, reason: Reject) -> m.WireReceipt:
        found = unit.begin_receipt(wire.id, push.asker.identity)
        if found is not None:
            return self._stored(found, wire, push, unit)
        return self._complete(wire, push, unit, self._rejection(wire, reason))

    def _rejection(self, wire: m.WireMutation, reason: Reject) -> m.WireReceipt:
        message = reason.message[:MESSAGE_MAX]  # it may quote what was sent, and is kept
        return m.WireReceipt(id=wire.id, outcome="rejected", code=reason.code, message=message, fields=list(reason.fields))

    def _complete(self, wire: m.WireMutation, push: _Push, unit: Unit, result: m.WireReceipt,
                  digests: Mapping[str, bytes] | None = None, keep: bool = False) -> m.WireReceipt:  # fmt: skip
        result = msgspec.structs.replace(result, position=unit.position)
        left = dict(digests or {})
        body = msgspec.msgpack.encode([result, left])
        # What follows a mutation mostly names the digest of what it left; where the device cannot know that, it must stay known.
        kept = msgspec.msgpack.encode(left) if keep else b""
        unit.complete_receipt(Receipt(wire.id, push.asker.identity, result.outcome, unit.position, result.code, body, kept))
        return result

    def _stored(self, receipt: Receipt, wire: m.WireMutation, push: _Push, unit: Unit) -> m.WireReceipt:
        """The stored answer, for the identity that it was given to.

        Of a compact one the details are gone: a refusal says so, and the records that were written are told as they are now.
        """
        if receipt.identity != push.asker.identity:
            return m.WireReceipt(id=receipt.id, outcome="rejected", code="not_allowed", message="this id is somebody else's")
        if receipt.body:
            return _body(receipt)[0]
        refused = receipt.outcome == "rejected"
        records = [] if refused else self._as_they_are(receipt.outcome == "transformed", wire, push, unit)
        return m.WireReceipt(id=receipt.id, outcome=receipt.outcome, position=receipt.position, code=receipt.code,
                             message=FORGOTTEN if refused else "", records=records)  # fmt: skip

    def _as_they_are(self, transformed: bool, wire: m.WireMutation, push: _Push, unit: Unit) -> list[m.WireRecord]:
        """The ordinals of records that a mutation inserted long ago; if it was transformed, what all of its records are now."""
        records = []
        for c in wire.changes:
            info, key = self.schema.collections.get(c.collection), tuple(c.key)
            if info is None or info.device_only or len(key) != len(info.key):
                continue  # not what the receipt was given for
            actual = self._visible(info, unit.get(info, key), key, wire, push, unit)
            place = unit.place(info, key) if c.op == "insert" and actual is not None else None
            record = m.WireRecord(collection=info.name, key=list(key), ordinal=place[0] if place else 0)
            if transformed:
                record = msgspec.structs.replace(record, values=actual, gone=actual is None)
            if transformed or place:
                records.append(record)
        return records

    def _visible(self, info: CollectionInfo, now: Mapping[str, Value] | None, key: Key, wire: m.WireMutation, push: _Push,
                 unit: Unit) -> dict[str, Value] | None:  # fmt: skip
        """What the device may see of a record: nothing out of scope, and fields that replicate."""
        if now is None or not unit.in_scope(info, key, push.scopes):
            return None
        shown = push.fields.get(wire.projection, {}).get(info.name, info.replicated)
        return {n: now[n] for n in shown if n in info.replicated}

    # -- one mutation

    def _one(self, wire: m.WireMutation, push: _Push, unit: Unit) -> m.WireReceipt | None:
        """The answer to a mutation; None when it stays unanswered for now."""
        try:
            with unit.savepoint():
                found = unit.begin_receipt(wire.id, push.asker.identity)
                if found is not None:
                    return self._stored(found, wire, push, unit)
                self._check_after(wire, push, unit)
                try:
                    with unit.savepoint():
                        result, digests, keep = self._run(wire, push, unit)
                except (Reject, ConstraintViolated, InvalidValue, SchemaError) as error:
                    return self._complete(wire, push, unit, self._rejection(wire, _reason(error)))
                return self._complete(wire, push, unit, result, digests, keep)
        except _Parked:
            return m.WireReceipt(id=wire.id, outcome="parked", code="waits", message="it waits for a refused change")
        except _Unanswered:
            push.waiting.add(wire.id)
            return None
        except StoreError:
            raise
        except Exception as error:
            _log.exception("mutation %s (intent %s) failed", wire.id.hex(), wire.intent)
            self.told_of_failure(wire.id, error)
            push.failed[wire.id] = f"{type(error).__name__}: {error}"[:500]
            return None

    def _check_after(self, wire: m.WireMutation, push: _Push, unit: Unit) -> None:
        for id_ in wire.after:
            if id_ in push.failed or id_ in push.waiting:
                raise _Unanswered
            receipt = unit.receipt(id_)
            if receipt is None or receipt.outcome == "rejected" or receipt.identity != push.asker.identity:
                raise _Parked

    def _run(self, wire: m.WireMutation, push: _Push, unit: Unit) -> tuple[m.WireReceipt, dict[str, bytes], bool]:
        intent = self.intents.get(wire.intent)
        if intent is None:
            raise Reject("not_allowed", f"no intent '{wire.intent}' is declared here")
        known = self._known_digests(wire, unit)
        works = [self._prepare(c, wire, intent, push, unit, known) for c in wire.changes]
        edits = [w.edit for w in works if not w.dropped]
        written: set[int] = set()

        def flush() -> None:
            for n, work in enumerate(works):
                if not work.dropped:
                    _write(work, unit, again=n in written)
                    written.add(n)

        if intent.hook is not None:
            now = self.store.now()
            intent.hook(
                Changes(wire.intent, edits),
                Context(unit, self.schema, push.asker.identity, push.asker.claims, now, flush),
            )
        flush()
        return self._outcome(wire, works, push, unit)

    def _known_digests(self, wire: m.WireMutation, unit: Unit) -> dict[str, set[bytes]]:
        """What records were after the mutations that this one waited for: a record that is still so is not stale."""
        known: dict[str, set[bytes]] = {}
        for id_ in wire.after:
            receipt = unit.receipt(id_)
            if receipt is not None:
                for place, digest in _left(receipt).items():
                    known.setdefault(place, set()).add(digest)
        return known

    def _prepare(self, c: m.WireChange, wire: m.WireMutation, intent: Intent, push: _Push, unit: Unit,
                 known: Mapping[str, set[bytes]]) -> _Work:  # fmt: skip
        """Checks one change against rights, schema, scope and the authority's record."""
        info = self.schema.info(c.collection)
        _check_allowed(c, info, intent)
        key = tuple(c.key)
        current = unit.get(info, key)
        visible = current is not None and unit.in_scope(info, key, push.scopes)
        policy = self.conflicts.get(info.name, "reject")
        dropped = None if policy == "reject" else _Work(Edit(info, None, None, frozenset()), key, None, dropped=True)
        if c.op == "insert":
            if current is None:
                values = {n: c.after[n] if n in c.after else f.initial() for n, f in info.fields.items()}
                return _Work(Edit(info, None, info.record(values, open_=True), frozenset(c.after)), key, values)
            if visible:
                return dropped or _refuse("exists", f"a record of '{info.name}' with this key exists already")
            raise Reject("not_allowed", NOT_YOURS.format(info.name))  # in the same words as for a key that is free
        if current is None or not visible:
            return dropped or _refuse("not_allowed", f"there is no such record of '{info.name}', or it is not yours")
        fields = push.fields.get(wire.projection, {}).get(info.name, info.replicated)
        other = record_digest(current[n] for n in fields) != c.digest
        stale = other and record_digest(current[n] for n in info.replicated) not in known.get(_place(info, key), ())
        after: Mapping[str, Value] = c.after
        if stale:
            after = merged(c, current, policy.device_wins) if isinstance(policy, MergeFields) else {}
            if not after:
                return dropped or _refuse("stale", f"the record of '{info.name}' was changed meanwhile", sorted(c.after))
        keep = other or list(fields) != list(info.replicated)
        before = info.record(current)
        if c.op == "delete":
            return _Work(Edit(info, before, None, frozenset()), key, None, keep=keep)
        edit = Edit(info, before, info.record({**current, **after}, open_=True), frozenset(after))
        return _Work(edit, key, {**current, **c.after}, keep=keep)

    def _outcome(self, wire: m.WireMutation, works: Sequence[_Work], push: _Push,
                 unit: Unit) -> tuple[m.WireReceipt, dict[str, bytes], bool]:  # fmt: skip
        """Accepted or transformed, with what the device must show: records read back after everything ran.

        Also the digests of the records, and whether they must outlast the receipt's details. Raises Reject when what was
        written does not lie in the writer's scope.
        """
        records, digests, transformed = [], {}, False
        for work in works:
            info = work.edit.info
            now = unit.get(info, work.key)
            if now is not None:
                digests[_place(info, work.key)] = record_digest(now[n] for n in info.replicated)
            actual = self._visible(info, now, work.key, wire, push, unit)
            if actual is None and not work.dropped and work.edit.record is not None:
                raise Reject("not_allowed", NOT_YOURS.format(info.name))
            inserted = work.edit.before is None and actual is not None and not work.dropped
            place = unit.place(info, work.key) if inserted else None
            record = m.WireRecord(collection=info.name, key=list(work.key), ordinal=place[0] if place else 0)
            differs = work.dropped or not _as_expected(actual, work.expected)
            if differs:
                transformed = True
                record = msgspec.structs.replace(record, values=actual, gone=actual is None)
            if differs or place:
                records.append(record)
        outcome = "transformed" if transformed else "accepted"
        keep = transformed or any(work.keep for work in works)
        return m.WireReceipt(id=wire.id, outcome=outcome, records=records), digests, keep


def _body(receipt: Receipt) -> tuple[m.WireReceipt, dict[str, bytes]]:
    return msgspec.msgpack.decode(receipt.body, type=tuple[m.WireReceipt, dict[str, bytes]])


def _left(receipt: Receipt) -> dict[str, bytes]:
    """The digests of the records as a mutation left them, as far as they are still known."""
    if receipt.body:
        return _body(receipt)[1]
    return msgspec.msgpack.decode(receipt.kept, type=dict[str, bytes]) if receipt.kept else {}


def _as_expected(actual: Mapping[str, Value] | None, expected: Mapping[str, Value] | None) -> bool:
    if actual is None or expected is None:
        return actual is expected
    return all(value == expected[name] for name, value in actual.items())


def _place(info: CollectionInfo, key: Key) -> str:
    return msgspec.json.encode([info.name, *key]).decode()


def _reason(error: Exception) -> Reject:
    if isinstance(error, Reject):
        return error
    if isinstance(error, ConstraintViolated):
        return Reject("constraint", error.detail)
    if isinstance(error, InvalidValue):
        return Reject("invalid", str(error), fields=[error.field])
    return Reject("invalid", str(error))


def _refuse(code: str, message: str, fields: Sequence[str] = ()) -> NoReturn:
    raise Reject(code, message, fields=fields)


def _check_allowed(c: m.WireChange, info: CollectionInfo, intent: Intent) -> None:
    """Raises Reject, InvalidValue or SchemaError unless the intent allows the change and its values fit."""
    operations = intent.writes.get(info.name, {})
    if c.op not in operations:
        raise Reject("not_allowed", f"intent '{intent.name}' may not {c.op} '{info.name}'")
    fields = operations[c.op]
    excess = set(c.after) - fields - (set(info.key) if c.op == "insert" else set()) if fields is not None else set()
    hidden = {n for n in c.after if info.field(n).online_only}
    if excess or hidden:
        names = sorted(excess | hidden)
        raise Reject("not_allowed", f"intent '{intent.name}' may not write {', '.join(names)} of '{info.name}'", fields=names)
    if len(c.key) != len(info.key):
        raise Reject("invalid", f"the key of '{info.name}' has {len(info.key)} fields")
    for name, value in zip(info.key, c.key, strict=True):
        info.fields[name].verify(value)
        if name in c.after and (c.op != "insert" or c.after[name] != value):
            raise Reject("invalid", f"{info.name}.{name} is part of the key, which never changes", fields=[name])
    for name, value in c.after.items():
        info.fields[name].verify(value)
    if c.op == "insert" and (missing := [k for k in info.key if k not in c.after]):
        raise Reject("invalid", f"an insertion into '{info.name}' needs {', '.join(missing)}")


def _write(work: _Work, unit: Unit, *, again: bool) -> None:
    edit = work.edit
    if edit.record is None:
        if not again:
            unit.delete(edit.info, work.key)
        return
    values = edit.record._stored
    if tuple(values[k] for k in edit.info.key) != work.key:
        raise Reject("internal", f"the hook changed the key of a record of '{edit.info.name}'")
    if edit.before is None and not again:
        unit.insert(edit.info, values)
        return
    before = {} if edit.before is None else edit.before._stored
    unit.update(edit.info, work.key, {n: v for n, v in values.items() if n not in before or before[n] != v})
