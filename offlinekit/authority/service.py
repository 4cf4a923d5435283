"""The authority: what it serves to whom, and the one entry that every transport calls.

authority = Authority(SQLiteStore("hq.db"), schema, offer=offer, scopes={Customer: mine})

@authority.intent("place_order", writes={Order: "insert"})
def place_order(changes: Changes, ctx: Context) -> None: ...

body = authority.handle(request_bytes, identity, claims)
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec
from attrs import evolve

from offlinekit.authority.files import LIMIT as FILES_LIMIT
from offlinekit.authority.files import Background, Files, in_background
from offlinekit.authority.hooks import Hook, Transaction, Writes, make_intent
from offlinekit.authority.pulling import SNAPSHOT_AGE_S, Asker, Puller
from offlinekit.authority.pushing import Pusher
from offlinekit.conflict import Policy, check_policy
from offlinekit.exceptions import (
    FilterError,
    InvalidValue,
    LimitExceeded,
    NotOffered,
    NotTracked,
    ProtocolError,
    RecordNotFound,
    RefusalCode,
    SchemaError,
    StateError,
    StoreBusy,
    TooLarge,
    VersionNotSupported,
)
from offlinekit.expr import Allowed, Bounds, check, decode_filter, dependencies, names_used
from offlinekit.ids import RandomBytes
from offlinekit.nodes import And, Claim, Filter
from offlinekit.offer import Offer
from offlinekit.protocol import messages as m
from offlinekit.protocol.codec import decode_request, encode
from offlinekit.protocol.version import check_version
from offlinekit.query import LIMIT_MAX, Query, Select, check_query
from offlinekit.recording import Mask, ServiceRecording
from offlinekit.recording.lines import LIMIT
from offlinekit.schema import Collection, Schema, projection_digest
from offlinekit.selection import Selection, candidates, plan_of
from offlinekit.store.port import AuthorityStore

__all__ = ["Authority"]

C = TypeVar("C", bound=Collection)
_log = logging.getLogger("offlinekit.authority")
_NOTE_S = 60.0
Projection = Mapping[str, Sequence[str]]


class Authority:
    """The copy that decides. Nothing may be read without a scope, and nothing written without an intent.

    `scopes` maps collections to filters over the verified claims (`everything` is written out); a collection without one
    is neither readable nor writable. `conflicts` maps collections to a policy: "reject" (default), "authority_wins" or
    `MergeFields(…)`. `files` is the folder for large answers, of about `files_limit` bytes; processes that serve one store share
    it. `background` makes them: in a thread of its own for each. A pull may miss what others have committed in the last
    `snapshot_age_s` seconds, never what its own device has sent; with 0 it misses nothing, and each takes a snapshot of its own.
    """

    def __init__(
        self, store: AuthorityStore, schema: Schema, *, offer: Offer | None = None,
        scopes: Mapping[type[Collection], Filter], conflicts: Mapping[type[Collection], Policy] | None = None,
        files: str | None = None, files_limit: int = FILES_LIMIT, snapshot_age_s: float = SNAPSHOT_AGE_S,
        random: RandomBytes = secrets.token_bytes, background: Background = in_background,
    ) -> None:  # fmt: skip
        self.store, self.schema, self.offer = store, schema, offer or Offer()
        self.offer.check(schema)
        self.scopes = {schema.info(cls).name: scope for cls, scope in scopes.items()}
        _check_scopes(self.scopes, schema)
        policies = {schema.info(cls).name: policy for cls, policy in (conflicts or {}).items()}
        for name, policy in policies.items():
            check_policy(schema.collections[name], policy)
        store.bind(schema)
        self._files = Files(files, store.secret, random, background=background, limit=files_limit)
        self.puller = Puller(store, schema, self.offer, self.scopes, self._files, snapshot_age_s)
        self.pusher = Pusher(store, schema, self.offer, self.scopes, policies, random)
        named = {name for scope in self.scopes.values() for name in names_used(scope, Claim)}
        self._named_claims = sorted(named | self.offer.claims())
        self._noted: dict[bytes, float] = {}
        self._recording: ServiceRecording | None = None

    # -- declaring

    def intent(self, name: str, *, writes: Writes) -> Callable[[Hook], Hook]:
        """Declares an intent, and the decorated function as its hook.

        `writes` says what it may do: `{Order: "insert", Customer: {"update": ["phone"]}}`. The hook runs in the transaction
        of the mutation, before its records are written; it raises `Reject` to refuse.
        """
        self.schema.intent(name)
        if name in self.pusher.intents:
            raise SchemaError(f"intent '{name}' is declared twice")

        def declare(hook: Hook) -> Hook:
            self.pusher.intents[name] = make_intent(name, writes, hook, self.schema)
            return hook

        return declare

    def allow(self, name: str, *, writes: Writes) -> None:
        """Declares an intent without a hook."""
        self.schema.intent(name)
        self.pusher.intents[name] = make_intent(name, writes, None, self.schema)

    # -- serving

    def handle(self, request: bytes, identity: str, claims: Mapping[str, Any]) -> bytes:
        """Answers the bytes of a request from a verified identity; always returns an answer, never raises for bad input."""
        if (recording := self._recording) is not None:  # which another thread may stop
            return self._recorded(recording, request, identity, claims)
        try:
            return encode(self._answer(decode_request(request), identity, claims))
        except Exception as error:
            return encode(_refusal(error))

    def _recorded(self, recording: ServiceRecording, request: bytes, identity: str, claims: Mapping[str, Any]) -> bytes:
        """The same, told to a recording."""
        message: m.Request | None = None
        failed: Exception | None = None
        at, began = self.store.now(), time.monotonic()
        try:
            message = decode_request(request)
            answer = self._answer(message, identity, claims)
            body = encode(answer)
        except Exception as error:
            failed, answer = error, _refusal(error)
            body = encode(answer)
        recording.answered(message, identity, answer, at=at, seconds=time.monotonic() - began, error=failed)
        return body

    def record(self, path: str | os.PathLike[str], *, mask: Mask = None, limit: int = LIMIT) -> ServiceRecording:
        """Writes down requests and how they are answered, in a file of at most `limit` bytes, until `stop()`.

        `mask`: "text", or fields, whose values are replaced by pseudonyms. Raises StateError when a recording runs already,
        FileExistsError, and SchemaError for fields that cannot be masked.
        """
        if self._recording is not None and not self._recording.over:
            raise StateError("a recording runs already; stop it first")

        def stopped() -> None:
            self._recording = None

        self._recording = recording = ServiceRecording(self.schema, path, mask=mask, limit=limit, stopped=stopped)
        self.pusher.told_of_failure = recording.failed
        return recording

    def fetch(self, name: str, offset: int, identity: str) -> bytes:
        """Up to a megabyte of a file named in an answer to this identity, from an offset; raises RecordNotFound."""
        return self._files.read(name, offset, identity)

    def _answer(self, request: m.Request, identity: str, claims: Mapping[str, Any]) -> m.Answer:
        check_version(request.version)
        if request.identity != identity:
            whose = f"the replica belongs to '{request.identity}', not to '{identity}'"
            return m.Refused(code=RefusalCode.IDENTITY, message=whose)
        fields = self._projections(request)
        if isinstance(fields, m.NeedSchema):
            return fields
        asker = Asker.of(identity, claims, self._named_claims)
        self._note(request, identity)
        if isinstance(request, m.Pull):
            self._check_fields(fields[request.projection])  # known ones too: a field may have become online_only since
            return self.puller.answer(request, asker, fields[request.projection])
        if isinstance(request, m.Push):
            return self.pusher.answer(request, asker, fields)
        if isinstance(request, m.Query):
            return self._query(request, asker)
        raise ProtocolError(f"{type(request).__name__} is no request")

    def _projections(self, request: m.Request) -> dict[bytes, Projection] | m.NeedSchema:
        """The field lists behind the hashes in a request; or which are unknown."""
        named = {request.projection}
        if isinstance(request, m.Push):
            named |= {w.projection for w in request.mutations if w.projection}
        found: dict[bytes, Projection] = {}
        for hash_ in sorted(named):
            known = self.store.projection(hash_)
            if known is None and request.fields and hash_ in request.fields:
                known = request.fields[hash_]
                self._check_projection(hash_, known)
                self.store.save_projection(hash_, known)
            if known is not None:
                found[hash_] = known
        if missing := sorted(named - set(found)):
            return m.NeedSchema(projections=missing)
        if isinstance(request, m.Push):
            found[b""] = found[request.projection]
        return found

    def _check_projection(self, hash_: bytes, fields: Projection) -> None:
        if projection_digest(fields) != hash_:
            raise ProtocolError("the field lists do not have the hash that the request names")
        self._check_fields(fields)

    def _check_fields(self, fields: Projection) -> None:
        for name, names in fields.items():
            info = self.schema.info(name)
            hidden = [n for n in names if info.field(n).online_only]
            if hidden or not set(info.key) <= set(names) or len(set(names)) != len(names) or info.device_only:
                raise ProtocolError(f"a replica of '{name}' cannot hold these fields")

    def _note(self, request: m.Request, identity: str) -> None:
        now = self.store.now()
        if request.report is not None and abs(now - self._noted.get(request.device, -1e12)) >= _NOTE_S:
            self.store.note_device(request.device, identity, now, msgspec.msgpack.encode(request.report))
            if len(self._noted) > 100_000:
                self._noted.clear()
            self._noted[request.device] = now

    def _query(self, request: m.Query, asker: Asker) -> m.Answer:
        where = decode_filter(request.where, self.schema, request.collection)
        after = None if request.after is None else tuple(request.after)
        query = Query(request.collection, where, request.search, tuple(request.order), request.limit, after, request.total)
        info = check_query(query, self.schema, Allowed("a remote query", online_only=True))
        if info.name not in self.scopes:
            return m.Refused(code=RefusalCode.NOT_ALLOWED, message=f"'{info.name}' has no scope and cannot be read")
        now = self.store.now()
        scopes = plan_of(self.schema, self.offer, self.scopes, Selection(), asker.claims, now).scopes
        if request.candidate:
            selection = self.puller.decode(request.candidate, asker)
            choice, bounds = selection.choice(info.name), Bounds(now, selection.zone)
            among = candidates(self.schema, self.offer, choice, asker.claims, bounds, chosen=request.chosen)
            query = evolve(query, where=And((query.where, among)))
        with self.store.snapshot() as snapshot:
            rows, total = snapshot.query(query, list(info.fields), scopes)
        return m.Records(fields=list(info.fields), rows=[list(r) for r in rows[:LIMIT_MAX]], total=total)

    # -- the authority's own reads and writes

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """A transaction of the authority's own: typed reads and writes without scope, committed when the block ends."""
        with self.store.unit() as unit:
            yield Transaction(unit, self.schema)

    def select(self, cls: type[C]) -> Select[C]:
        """A typed query over everything, each run in a transaction of its own."""

        def run(query: Query) -> Any:
            with self.transaction() as tx:
                return tx.select(cls)._run(query)

        return Select(cls, run)

    def get(self, cls: type[C], key: Any) -> C | None:
        """The record with that key."""
        with self.transaction() as tx:
            return tx.get(cls, key)

    def load(self, records: Iterable[Collection]) -> int:
        """Inserts many records in one transaction; returns how many."""
        count = 0
        with self.store.unit() as unit:
            for record in records:
                unit.insert(self.schema.info(record), record._stored)
                count += 1
        return count

    def close(self) -> None:
        """Closes the store, and ends a recording."""
        if self._recording is not None:
            self._recording.stop()
        self.store.close()


def _check_scopes(scopes: Mapping[str, Filter], schema: Schema) -> None:
    for name, scope in scopes.items():
        place = Allowed(f"the scope of '{name}'", claims=True, online_only=True, folding=False)
        check(scope, schema, schema.info(name), place)
    done: set[str] = set()

    def reach(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            raise SchemaError(f"scopes refer to each other in a circle: {' -> '.join((*path[path.index(name) :], name))}")
        if name in scopes and name not in done:
            for other in dependencies(scopes[name]):
                reach(other, (*path, name))
            done.add(name)

    for name in scopes:
        reach(name, ())


def _refusal(error: Exception) -> m.Refused:
    """What a peer is told of an error; details of unexpected ones go to the log alone."""
    if isinstance(error, VersionNotSupported):
        return m.Refused(code=RefusalCode.VERSION, message=str(error))
    if isinstance(error, NotTracked):
        _log.error("%s", error)
        wanted = "the authority must be reconciled by its operator"
        return m.Refused(code=RefusalCode.NOT_TRACKED, message=wanted, retry_after_s=60)
    if isinstance(error, StoreBusy):
        return m.Refused(code=RefusalCode.BUSY, message="the authority is busy; try again", retry_after_s=1)
    if isinstance(error, RecordNotFound):
        return m.Refused(code=RefusalCode.UNKNOWN_FILE, message=str(error))
    if isinstance(error, NotOffered):
        return m.Refused(code=RefusalCode.NOT_OFFERED, message=f"choose anew: {error}")
    if isinstance(error, ProtocolError | FilterError | SchemaError | LimitExceeded | InvalidValue | TooLarge):
        return m.Refused(code=RefusalCode.INVALID, message=str(error))
    _log.exception("a request failed", exc_info=error)
    return m.Refused(code=RefusalCode.INTERNAL, message="the authority failed; its log has the reason", retry_after_s=5)
