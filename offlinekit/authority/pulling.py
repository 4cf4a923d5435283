"""Answering a pull: the difference of two bitmaps.

    M        = scope ∩ ((own filter \\ unpicked) ∪ picks ∪ include steps ∪ implicit picks)      at the snapshot's cursor
    put      = (M \\ V) ∪ (M ∩ V ∩ changed after the device's cursor)
    drop     = V \\ M
    new view = M, new cursor, new token

Move-in, move-out, deletion, loss of permission, passing time and a changed filter are one case. `drop` is V \\ M uncut:
ordinals that this history never issued are dropped like others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from hashlib import sha256
from typing import Any

import msgspec
from attrs import Factory, frozen, mutable

from offlinekit.authority.answering import Answering, Asked, Difference
from offlinekit.authority.cache import Cache
from offlinekit.authority.evaluating import Evaluator
from offlinekit.authority.files import Files
from offlinekit.authority.previewing import Sizes, inline_bytes
from offlinekit.authority.token import Token, open_token, seal
from offlinekit.contents import differing
from offlinekit.exceptions import FilterError, ProtocolError
from offlinekit.expr.resolve import cut
from offlinekit.nodes import Const, Filter
from offlinekit.offer import Offer
from offlinekit.protocol import messages as m
from offlinekit.protocol.state import state_digest
from offlinekit.schema import Schema
from offlinekit.selection import Plan, Selection, Source, Step, plan_of
from offlinekit.store.port import AuthorityStore, Snapshot
from offlinekit.view import View, digest, pack_view, unpack_view, weight

__all__ = ["Asker", "Puller"]

GUARD_HELD = 1000
DETAILS_MAX = 128  # ranges whose records' marks are worth another round; where more differ, whole ranges are sent
DURABLE_S = 7 * 86_400.0
IMPLICIT_MAX = 1_000_000  # records that a device made in thirty days
SNAPSHOT_AGE_S = 0.25
PLANS_BYTES, VIEWS_BYTES = 32 << 20, 64 << 20
_GRAIN_S = 86_400.0


@frozen
class Asker:
    """Who asks: a verified identity with its claims; `key` tells askers with different rights apart."""

    identity: str
    claims: Mapping[str, Any]
    key: bytes

    @classmethod
    def of(cls, identity: str, claims: Mapping[str, Any], named: Iterable[str]) -> Asker:
        """An asker, told apart by the claims that scopes and offer name; others, such as an expiry, make no difference."""
        used = {name: claims[name] for name in named if name in claims}
        try:
            plain = msgspec.json.encode([identity, used], order="deterministic")
        except (TypeError, ValueError) as error:
            raise FilterError(f"claims must be plain values: {error}") from error
        return cls(identity, claims, sha256(plain).digest()[:16])


@frozen
class _Tokens:
    """The tokens of a request that are this authority's; `whole` are the groups of which one token tells everything."""

    all: Sequence[Token]
    by_collection: Mapping[str, Token]
    whole: frozenset[int]

    @classmethod
    def of(cls, groups: Sequence[m.GroupState], secret: bytes) -> _Tokens:
        """Opens them; those of somebody else, or of another history's key, are as good as none."""
        opened = [[t for data in (g.token, *g.also) if (t := open_token(data, secret)) is not None] for g in groups]
        found = {c: t for g, tokens in zip(groups, opened, strict=True) for t in tokens for c in g.collections if c in t.parts}
        whole = [n for n, g in enumerate(groups) if not g.also and opened[n] and set(opened[n][0].parts) == set(g.collections)]
        return cls([t for tokens in opened for t in tokens], found, frozenset(whole))


@mutable
class _Asked:
    """One pull on its way through: what was asked, resolved."""

    request: m.Pull
    asker: Asker
    table: m.Table
    selection: Selection
    opened: ExitStack
    snapshot: Snapshot
    now: float
    tokens: _Tokens
    fields: Mapping[str, Sequence[str]]
    plan: Plan
    implicit: Mapping[str, View]
    found: dict[int, View] = Factory(dict)


class Puller:
    """Answers pulls and previews over a store. Holds caches only; correctness does not depend on them."""

    def __init__(self, store: AuthorityStore, schema: Schema, offer: Offer, scopes: Mapping[str, Filter], files: Files,
                 snapshot_age_s: float = SNAPSHOT_AGE_S) -> None:  # fmt: skip
        self.snapshot_age_s = snapshot_age_s
        self.store, self.schema, self.offer, self.scopes, self.files = store, schema, offer, scopes, files
        self.tables: Cache[tuple[bytes, bytes], m.Table] = Cache(4096)
        self.selections: Cache[tuple[bytes, bytes], Selection] = Cache(4096)
        self.plans: Cache[tuple[bytes, bytes, float], Plan] = Cache(PLANS_BYTES, Plan.weight)
        self.views: Cache[tuple[bytes, bytes], View] = Cache(VIEWS_BYTES, weight)
        self.counts: dict[str, int] = {}
        self.own = Evaluator(store.now, self._count)
        self.guard_held = GUARD_HELD
        self.answering = Answering(store, schema, files, self._count)
        self._claims = sorted(offer.claims())

    def forget(self) -> None:
        """Empties the caches, as a restart does."""
        for cache in (self.tables, self.selections, self.plans, self.views, self.own):
            cache.clear()

    @property
    def inline_rows(self) -> int:
        """Records that a message may hold."""
        return self.answering.inline_rows

    @inline_rows.setter
    def inline_rows(self, count: int) -> None:
        self.answering.inline_rows = count

    def _count(self, what: str, collection: str = "") -> None:
        for name in (what, f"{what}: {collection}") if collection else (what,):
            self.counts[name] = self.counts.get(name, 0) + 1

    # -- what is asked

    def answer(self, request: m.Pull, asker: Asker, fields: Mapping[str, Sequence[str]]) -> m.Answer:
        """The answer to a pull or preview."""
        table = self._table(request, asker, fields)
        if table is None:
            return m.NeedState()
        preview = isinstance(request, m.Preview)
        if isinstance(request, m.Preview):  # what is saved does not matter, and may be offered no longer
            selection: Selection | None = self.decode(request.candidate, asker)
        else:
            selection = self._selection(table, request, asker)
        if selection is None:
            return m.NeedSelection()
        now = self.store.now()
        if selection.until is not None and now >= selection.until and not preview:
            return m.Expired(until=selection.until, now=now)
        tokens = _Tokens.of(table.groups, self.store.secret)
        known = {t.cursor for t in tokens.all} | ({request.witness} if request.witness else set())

        def enough(snapshot: Snapshot) -> bool:
            """Not older than anything the device has seen: neither of its cursors, nor its own accepted mutations."""
            return all(map(snapshot.honoured, known)) and snapshot.receipts(request.awaited) == set(request.awaited)

        with ExitStack() as opened:
            snapshot = opened.enter_context(self.store.snapshot(age_s=self.snapshot_age_s, enough=enough))
            device = snapshot.device(request.device)
            if device is not None and device.revoked:
                return m.Revoked()
            if not all(map(snapshot.honoured, known)):
                return m.NewHistory()
            confirmed = device is not None and device.confirmed_until > now
            bounds = _bounds_time(now, tokens.all)
            plan = self._plan(selection, selection.digest if preview else table.selection, asker, bounds)
            implicit = _implicit(table)
            asked = _Asked(request, asker, table, selection, opened, snapshot, bounds, tokens, fields, plan, implicit)
            return self._preview(asked, request) if isinstance(request, m.Preview) else self._pull(asked, confirmed)

    def _table(self, request: m.Pull, asker: Asker, fields: Mapping[str, Sequence[str]]) -> m.Table | None:
        key = (asker.key, request.state)
        if request.table is None:
            return self.tables.get(key)
        if state_digest(request.table, request.projection) != request.state:
            raise ProtocolError("the table does not have the digest that the request names")
        named = sorted(c for g in request.table.groups for c in g.collections)
        if named != sorted(c.name for c in self.schema.replicated if c.name in named):
            raise ProtocolError("the groups do not name replicated collections once each")
        if unknown := [c for c in named if c not in fields]:
            raise ProtocolError(f"the projection has no fields of {', '.join(unknown)}")
        self.tables.put(key, request.table)
        return request.table

    def _selection(self, table: m.Table, request: m.Pull, asker: Asker) -> Selection | None:
        if table.selection == Selection().digest:
            return Selection()
        key = (asker.key, table.selection)
        if request.selection is None:
            return self.selections.get(key)
        selection = self.decode(request.selection, asker)
        if selection.digest != table.selection:
            raise ProtocolError("the selection does not have the digest that the request names")
        self.selections.put(key, selection)
        return selection

    def _plan(self, selection: Selection, digest_: bytes, asker: Asker, now: float) -> Plan:
        """What the selection means for the asker; nothing in it is cut finer than to the hour."""
        key = (asker.key, digest_, cut(now, "hour", selection.zone).timestamp())
        return self.plans.made(key, lambda: plan_of(self.schema, self.offer, self.scopes, selection, asker.claims, now))

    def decode(self, data: bytes, asker: Asker) -> Selection:
        """The selection of a request, which only its own user may have made."""
        selection = Selection.decode(data, self.schema, self.offer)
        if selection.identity != asker.identity:
            raise ProtocolError("the selection was made by somebody else")
        return selection

    # -- sets

    def members(self, asked: _Asked, collection: str) -> View:
        """M of a collection."""
        snapshot, scopes = asked.snapshot, asked.plan.scopes
        found = View()
        for term in asked.plan.terms.get(collection, ()):
            found |= self._term(asked, term)
        implicit = asked.implicit.get(collection)
        if implicit:
            found |= snapshot.evaluate(collection, Const(True), scopes, implicit - found)
        return found

    def _term(self, asked: _Asked, term: Source | Step) -> View:
        """The records of a term of the plan, taken once for all that begin with it; not to be changed."""
        if id(term) not in asked.found:
            asked.found[id(term)] = self._evaluated(asked, term)
        return asked.found[id(term)]

    def _evaluated(self, asked: _Asked, term: Source | Step) -> View:
        snapshot, scopes = asked.snapshot, asked.plan.scopes
        if isinstance(term, Step):
            return snapshot.step(term, self._term(asked, term.origin), scopes)
        found = self._own(asked, term)
        if term.unpicks:
            found = found - snapshot.ordinals(term.collection, term.unpicks)
        if term.picks:
            picked = snapshot.ordinals(term.collection, term.picks) - found
            found = found | snapshot.evaluate(term.collection, Const(True), scopes, picked)
        return found

    def _own(self, asked: _Asked, source: Source) -> View:
        """The records that pass a source's filter, evaluated once for all who share it; not to be changed."""
        return self.own.members(asked.snapshot, asked.plan, source)

    def _hash(self, asked: _Asked, collection: str) -> bytes:
        return asked.plan.hash(collection, asked.table.implicit.get(collection, b""))

    def _scope_key(self, asked: _Asked, collection: str, view_digest: bytes) -> tuple[bytes, bytes]:
        """Views are cached by scope and digest: by the digest alone, somebody else's ordinals would leak through `drop`."""
        return asked.plan.own_hash(Source(collection, Const(True))), view_digest

    def _held(self, asked: _Asked, group: m.GroupState, collection: str) -> View | None:
        """V, from the cache if a token vouches for it, else from the request; None: the device must be asked."""
        token = None if asked.request.verify else asked.tokens.by_collection.get(collection)
        if token is not None:
            key = self._scope_key(asked, collection, token.parts[collection][1])
            known = self.views.get(key)
            if known is not None:
                return known
        if not group.holds:
            return View()
        if asked.request.views is None or collection not in asked.request.views:
            return None  # also where another process knew this view when the others were asked for
        view = unpack_view(asked.request.views[collection])
        if token is not None and digest(view) == token.parts[collection][1]:
            self.views.put(key, view)
        else:
            self._count("unvouched")
        return view

    # -- the difference

    def _unchanged(self, asked: _Asked, group: m.GroupState) -> dict[str, bytes]:
        """The collections of a group whose tokens prove that nothing changed, with their digests."""
        found = {}
        for collection in group.collections:
            token = asked.tokens.by_collection.get(collection)
            if token is None or asked.request.verify or token.projection != asked.request.projection:
                continue
            hash_, view_digest = token.parts[collection]
            if hash_ == self._hash(asked, collection):
                if not asked.snapshot.any_touched(asked.plan.depends(collection), token.cursor):
                    found[collection] = view_digest
        return found

    def _difference(self, asked: _Asked, collection: str, held: View) -> Difference:
        token, new = asked.tokens.by_collection.get(collection), self.members(asked, collection)
        put, both = new - held, new & held
        if token is None or asked.request.verify:
            contents = (asked.request.contents or {}).get(collection)
            if contents is None:
                return Difference(len(held), new, View(new), held - new)
            rows = asked.snapshot.rows(collection, asked.fields[collection], both)
            others, unknown = differing(rows, contents.ranges, contents.records)
            return Difference(len(held), new, put | others, held - new, unknown=unknown)
        put |= both & asked.snapshot.changed(collection, token.cursor)  # not touched: that would tell of hidden fields
        if token.projection != asked.request.projection:
            before = (self.store.projection(token.projection) or {}).get(collection)
            if before is None:
                put = View(new)
            elif gained := tuple(f for f in asked.fields[collection] if f not in before):
                self._count("added fields")
                return Difference(len(held), new, put, held - new, gained, both - put)
        return Difference(len(held), new, put, held - new)

    def _differences(self, asked: _Asked) -> tuple[dict[int, dict[str, bytes]], dict[str, Difference]] | m.NeedView:
        """For each group what is unchanged, and for each other collection the difference; or what is missing to tell it."""
        same = {n: self._unchanged(asked, g) for n, g in enumerate(asked.table.groups)}
        held: dict[str, View] = {}
        missing: list[str] = []
        for n, group in enumerate(asked.table.groups):
            for collection in group.collections:
                if collection not in same[n]:
                    view = self._held(asked, group, collection)
                    if view is None:
                        missing.append(collection)
                    else:
                        held[collection] = view
        if missing:
            self._count("need_view")
            vouched = () if asked.request.verify else asked.tokens.by_collection
            return m.NeedView(collections=missing, contents={c: [] for c in missing if c not in vouched})
        differences = {c: self._difference(asked, c, v) for c, v in held.items()}
        unknown = {c: list(d.unknown) for c, d in differences.items() if d.unknown}
        if 0 < sum(map(len, unknown.values())) <= DETAILS_MAX:
            return m.NeedView(collections=[], contents=unknown)
        return same, differences

    def _pull(self, asked: _Asked, confirmed: bool) -> m.Answer:
        found = self._differences(asked)
        if isinstance(found, m.NeedView):
            return found
        same, differences = found
        durable = asked.snapshot.durable_position(self.store.now() - DURABLE_S)
        receipts = sorted(asked.snapshot.receipts(asked.request.awaited))
        groups_asked = enumerate(asked.table.groups)
        answered = {n: g for n, g in groups_asked if n not in asked.tokens.whole or len(same[n]) < len(g.collections)}
        if not answered:
            self._count("same")
            return m.Same(state=asked.request.state, now=self.store.now(), durable_through=durable, receipts=receipts)
        if not confirmed and (back := self._guard(asked, differences)):
            self._count("held_back")
            return back
        parts, in_file = self.answering.parts(_asked_of(asked), differences)
        groups = []
        for n, group in answered.items():
            of_group = {c: parts.get(c) or m.Part(digest=same[n][c]) for c in group.collections}
            token = Token(
                asked.snapshot.cursor, asked.now, asked.table.selection, asked.request.projection,
                {c: (self._hash(asked, c), p.digest) for c, p in of_group.items()},
            )  # fmt: skip
            groups.append(m.Group(collections=of_group, token=seal(token, self.store.secret), cursor=asked.snapshot.cursor))
        self._remember(asked, groups, differences)
        self._count("bulk" if in_file else "delta")
        claims = {name: asked.asker.claims[name] for name in self._claims if name in asked.asker.claims}
        unfit = sum(len(d.drop & asked.snapshot.unfit(c)) for c, d in differences.items() if d.drop)  # of others, nothing is told
        delta = m.Delta(state=asked.request.state, groups=groups, claims=claims, unfit=unfit, now=self.store.now(),
                        durable_through=durable, receipts=receipts)  # fmt: skip
        if not in_file:
            return delta
        # From here on the snapshot belongs to whoever makes the file.
        pieces = ((c, p) for c, view in in_file.items() for c, p in asked.snapshot.pieces(c, asked.fields[c], view))
        manifest = self.files.make(asked.asker.identity, self.store.now(), pieces, asked.opened.pop_all().close)
        return msgspec.structs.replace(delta, file=manifest)

    def _guard(self, asked: _Asked, differences: Mapping[str, Difference]) -> m.HeldBack | None:
        for collection, d in differences.items():
            token = asked.tokens.by_collection.get(collection)
            if token is not None and token.selection != asked.table.selection:
                continue  # without a token, as after a restore, nobody knows what was selected: rather too careful
            if d.held >= self.guard_held and 2 * len(d.drop) > d.held:
                return m.HeldBack(collection=collection, held=d.held, drop=len(d.drop))
        return None

    def _remember(self, asked: _Asked, groups: list[m.Group], differences: Mapping[str, Difference]) -> None:
        for collection, d in differences.items():
            self.views.put(self._scope_key(asked, collection, digest(d.new)), d.new)
        answered = {tuple(sorted(g.collections)): g for g in groups}
        states = []
        for old in asked.table.groups:
            new = answered.get(tuple(sorted(old.collections)))
            if new is None:
                states.append(old)
            else:
                holds = any(p.digest != digest(View()) for p in new.collections.values())
                states.append(m.GroupState(collections=old.collections, token=new.token, holds=holds))
        table = m.Table(selection=asked.table.selection, groups=states, implicit=asked.table.implicit)
        self.tables.put((asked.asker.key, state_digest(table, asked.request.projection)), table)

    # -- preview

    def _preview(self, asked: _Asked, request: m.Preview) -> m.Answer:
        """The same sets as the pull that would follow, counted."""
        found = self._differences(asked)
        if isinstance(found, m.NeedView):
            return found
        same, differences = found
        new = {c: self.members(asked, c) for group in same.values() for c in group} | {c: d.new for c, d in differences.items()}
        inline, sizes = self.answering.inline(_asked_of(asked), differences), Sizes(asked.snapshot)
        weights = {} if inline is None else inline_bytes(inline)
        parts = {}
        for c, view in new.items():
            held = sizes.held(self.schema.info(c), view)
            if (d := differences.get(c)) is None:
                parts[c] = m.PreviewPart(hold=len(view), disk=held)
                continue
            put = d.put if inline is not None else d.put | d.added  # added fields of records held come with the whole record
            bytes_ = weights[c] if inline is not None else sizes.sent(self.schema.info(c), asked.fields[c], put, d.drop)
            leaving = pack_view(unpack_view(request.pending.get(c, b"")) & d.drop)
            parts[c] = m.PreviewPart(fetch=len(put), drop=len(d.drop), hold=len(view), bytes=bytes_, disk=held, leaving=leaving)
        return m.Previewed(collections=parts)


def _asked_of(asked: _Asked) -> Asked:
    """What matters of a pull for how its answer travels."""
    return Asked(asked.request, asked.asker.identity, asked.snapshot, asked.fields, asked.plan)


def _implicit(table: m.Table) -> dict[str, View]:
    """The implicit picks of a request; raises ProtocolError for more than any device has made: each is looked up."""
    found = {c: unpack_view(b) for c, b in table.implicit.items()}
    if (count := sum(map(len, found.values()))) > IMPLICIT_MAX:
        raise ProtocolError(f"{count} implicit picks are over the limit of {IMPLICIT_MAX}")
    return found


def _bounds_time(now: float, tokens: Iterable[Token]) -> float:
    """When time bounds are cut: never earlier than in a token, unless that is more than a grain ahead (a clock once at 2099)."""
    return max([now, *(t.time for t in tokens if t.time <= now + _GRAIN_S)])
