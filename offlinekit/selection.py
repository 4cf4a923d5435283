"""What a device chose from the offer (a selection), and what that means for one asker (a plan).

A device composes its selection from the offer; it cannot send an arbitrary expression. Own = all chosen quick filters AND
the advanced condition; nothing chosen = nothing. Unpicks take away from it, picks and include steps add to it, and the
scope of the collection bounds everything. Where records are chosen by hand, the filters only list candidates: own = nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Any

import msgspec
from attrs import Factory, frozen

from offlinekit.changes import Key
from offlinekit.exceptions import FilterError, LimitExceeded, NotOffered, nearest, shown
from offlinekit.expr import Allowed, Bounds, check, dependencies, resolve
from offlinekit.expr.codec import from_plain, to_plain
from offlinekit.expr.resolve import zone_of
from offlinekit.nodes import And, Compare, Const, Filter, IsIn, IsNull, Not, Or, Param, Text, everything, nothing, today
from offlinekit.offer import Include, Offer, Quick
from offlinekit.schema import CollectionInfo, Schema

__all__ = ["PICKS_MAX", "Choice", "Plan", "Selection", "Source", "Step", "candidates", "key_filter", "matching", "plan_of"]

PICKS_MAX = 10_000
CHOICES_MAX = 256
KEYS_LISTED_MAX = 2000  # keys of several fields in one statement, which SQLite plans in quadratic time


@frozen
class Choice:
    """What was chosen in one collection; keys are storage values. `by_hand`: of what the filters list, only the picks."""

    collection: str
    quick: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...] = ()
    condition: Filter | None = None
    picks: tuple[Key, ...] = ()
    unpicks: tuple[Key, ...] = ()
    includes: tuple[str, ...] = ()
    by_hand: bool = False

    @property
    def filtered(self) -> bool:
        """Whether a quick filter or a condition is chosen."""
        return bool(self.quick) or self.condition is not None

    def plain(self) -> list[Any]:
        """As it is encoded; what most choices do not have is left out at the end."""
        condition = None if self.condition is None else to_plain(self.condition)
        quick = sorted([name, sorted(map(list, params))] for name, params in self.quick)
        plain = [self.collection, quick, condition, sorted(map(list, self.picks)), sorted(map(list, self.unpicks)),
                 sorted(self.includes)]  # fmt: skip
        return [*plain, True] if self.by_hand else plain


@frozen
class Selection:
    """The choices of a person, valid from `since` until `until` (seconds since 1970; None: no end)."""

    id: str = ""
    identity: str = ""
    since: float = 0.0
    until: float | None = None
    zone: str = "UTC"
    choices: tuple[Choice, ...] = ()

    def choice(self, collection: str) -> Choice:
        """What was chosen in the collection."""
        return next((c for c in self.choices if c.collection == collection), Choice(collection))

    @property
    def began(self) -> datetime:
        """When it was made, in its zone."""
        return datetime.fromtimestamp(self.since, zone_of(self.zone))

    @property
    def ends(self) -> datetime | None:
        """When it ends, in its zone; None: never."""
        return None if self.until is None else datetime.fromtimestamp(self.until, zone_of(self.zone))

    def encode(self) -> bytes:
        """Canonical bytes."""
        choices = [c.plain() for c in sorted(self.choices, key=lambda c: c.collection)]
        return msgspec.msgpack.encode([self.id, self.identity, self.since, self.until, self.zone, choices])

    @property
    def digest(self) -> bytes:
        """16 bytes of SHA-256 over the canonical bytes."""
        return sha256(self.encode()).digest()[:16]

    @classmethod
    def decode(cls, data: bytes, schema: Schema, offer: Offer | None) -> Selection:
        """The selection of bytes, checked against schema and offer; raises FilterError or LimitExceeded.

        Without an offer it is read as it was saved: a newer program may offer less, and what is held stays held.
        """
        try:
            plain = msgspec.msgpack.decode(data, type=_Plain)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise FilterError(f"not an encoded selection: {error}") from error
        id_, identity, since, until, zone, choices = plain
        made = tuple(
            Choice(c.collection, tuple((q, tuple(map(tuple, params))) for q, params in c.quick),
                   None if c.condition is None else from_plain(c.condition, schema, c.collection),
                   tuple(map(tuple, c.picks)), tuple(map(tuple, c.unpicks)), tuple(c.includes), c.by_hand)
            for c in choices
        )  # fmt: skip
        selection = cls(id_, identity, since, until, zone, made)
        if offer is not None:
            selection.check(schema, offer)
        return selection

    def problem(self, schema: Schema, offer: Offer) -> str:
        """What the offer does not hold of it; else empty."""
        try:
            self.check(schema, offer)
        except FilterError as error:
            return str(error)
        return ""

    @staticmethod
    def until_of(data: bytes) -> float | None:
        """When the selection of encoded bytes ends, without looking at its choices."""
        until: float | None = msgspec.msgpack.decode(data, type=_Head)[3]
        return until

    def check(self, schema: Schema, offer: Offer) -> None:
        """Raises NotOffered for choices that the offer does not hold, FilterError or LimitExceeded for what nobody may choose."""
        Bounds(self.since, self.zone).literal(_TODAY, "date")
        if len(self.choices) > CHOICES_MAX:
            raise LimitExceeded("collections in a selection", CHOICES_MAX, len(self.choices))
        if len({c.collection for c in self.choices}) != len(self.choices):
            raise FilterError("a selection names a collection twice")
        for c in self.choices:
            _check_choice(c, schema, offer)


class _PlainChoice(msgspec.Struct, array_like=True):
    """The inverse of `Choice.plain`."""

    collection: str
    quick: list[tuple[str, list[tuple[str, Any]]]]
    condition: Any
    picks: list[list[Any]]
    unpicks: list[list[Any]]
    includes: list[str]
    by_hand: bool = False


_TODAY = today()
_Moment = Annotated[float, msgspec.Meta(ge=0, le=253_402_214_400)]  # before the last day of the calendar, whatever the zone
_Plain = tuple[str, str, _Moment, _Moment | None, str, list[_PlainChoice]]
_Head = tuple[str, str, float, float | None, str, msgspec.Raw]


def _check_choice(c: Choice, schema: Schema, offer: Offer) -> None:
    info = schema.info(c.collection)
    if info.device_only:
        raise FilterError(f"'{info.name}' never leaves the device, so there is nothing to select", collection=info.name)
    if len({name for name, _ in c.quick}) != len(c.quick):
        raise FilterError(f"a quick filter of '{info.name}' is chosen twice", collection=info.name)
    for name, params in c.quick:
        quick = offer.quick.get(name)
        if quick is None or quick.collection != info.name:
            names = [q.name for q in offer.quick.values() if q.collection == info.name]
            raise NotOffered(f"no quick filter '{name}' for '{info.name}'{nearest(name, names)}",
                             collection=info.name, choice=name)  # fmt: skip
        given = {n for n, _ in params}
        if given != set(quick.params) or len(given) != len(params):
            raise NotOffered(f"quick filter '{name}' takes {sorted(quick.params)}, not {sorted(n for n, _ in params)}",
                             collection=info.name, choice=name)  # fmt: skip
        try:
            resolve_params(quick, dict(params), schema)
        except FilterError as error:
            raise NotOffered(f"quick filter '{name}': {error}", collection=info.name, choice=name) from error
    if c.condition is not None:
        check(c.condition, schema, info, Allowed("the advanced condition"))
        _check_advanced(c.condition, info, offer)
    for name in c.includes:
        if name not in offer.includes or offer.includes[name].collection != info.name:
            names = [i.name for i in offer.includes.values() if i.collection == info.name]
            raise NotOffered(f"no include '{name}' for '{info.name}'{nearest(name, names)}",
                             collection=info.name, choice=name)  # fmt: skip
    for keys in (c.picks, c.unpicks):
        if len(keys) > PICKS_MAX:
            raise LimitExceeded(f"picks in '{info.name}'", PICKS_MAX, len(keys), "use a quick filter")
        for key in keys:
            if len(key) != len(info.key) or not all(info.fields[n].kind.fits(v) for n, v in zip(info.key, key, strict=True)):
                raise FilterError(f"{shown(key, 80)} is no key of '{info.name}'", collection=info.name)


def resolve_params(quick: Quick, params: Mapping[str, Any], schema: Schema) -> None:
    """Raises FilterError when params do not fit the fields that the quick filter compares them with."""
    for node in _leaves(quick.where):
        if (isinstance(node, Compare | Text) and isinstance(node.operand, Param)) or (
            isinstance(node, IsIn) and isinstance(node.operands, Param)
        ):
            resolve(node, schema, claims={}, params=params, bounds=Bounds(0.0))


def _leaves(node: Filter) -> Iterable[Filter]:
    if isinstance(node, And | Or):
        return [leaf for p in node.parts for leaf in _leaves(p)]
    if isinstance(node, Compare | IsIn | IsNull | Text | Const):
        return [node]
    return _leaves(node.part) if hasattr(node, "part") else []


def _check_advanced(node: Filter, info: CollectionInfo, offer: Offer) -> None:
    if isinstance(node, And | Or):
        for part in node.parts:
            _check_advanced(part, info, offer)
    elif isinstance(node, Not):
        _check_advanced(node.part, info, offer)
    elif isinstance(node, Compare | IsIn | IsNull | Text):
        advanced = offer.advanced.get((info.name, node.field))
        op = "in" if isinstance(node, IsIn) else "null" if isinstance(node, IsNull) else node.op
        if advanced is None:
            names = [name for collection, name in offer.advanced if collection == info.name]
            raise NotOffered(f"the offer has no advanced field '{node.field}' in '{info.name}'"
                             f"{nearest(node.field, names)}", collection=info.name, choice=node.field)  # fmt: skip
        if op not in advanced.operators:
            raise NotOffered(f"{info.name}.{node.field} cannot be compared by '{op}' here{nearest(op, advanced.operators)}",
                             collection=info.name, choice=node.field)  # fmt: skip
    elif not isinstance(node, Const):
        raise FilterError("an advanced condition compares fields of its own collection only", collection=info.name)


@frozen
class Source:
    """A resolved own set: records that pass `where` less the unpicks, and the picks."""

    collection: str
    where: Filter
    picks: tuple[Key, ...] = ()
    unpicks: tuple[Key, ...] = ()

    def plain(self) -> Any:
        """For the hash."""
        return [
            "own",
            self.collection,
            to_plain(self.where),
            sorted(map(list, self.picks)),
            sorted(map(list, self.unpicks)),
        ]


@frozen
class Step:
    """The records of `collection` reached from a source or step along `field` of `owner`, that pass `where`."""

    collection: str
    origin: Source | Step
    owner: str
    field: str
    forward: bool
    where: Filter

    def plain(self) -> Any:
        """For the hash."""
        return [
            "step",
            self.collection,
            self.origin.plain(),
            self.owner,
            self.field,
            self.forward,
            to_plain(self.where),
        ]


@frozen
class Plan:
    """What a selection means for one asker: for each collection, the resolved terms that end in it, and the scopes."""

    scopes: Mapping[str, Filter]
    terms: Mapping[str, tuple[Source | Step, ...]]
    _reach: dict[str, frozenset[str]] = Factory(dict)
    _hashes: dict[Source | tuple[str, bytes], bytes] = Factory(dict)

    def depends(self, collection: str) -> frozenset[str]:
        """Every collection that the resolved filter of this one looks into, itself included."""
        if collection not in self._reach:
            found = {collection}
            for term in self.terms.get(collection, ()):
                at: Source | Step = term
                while True:
                    found |= {at.collection, at.owner} if isinstance(at, Step) else {at.collection}
                    found |= dependencies(at.where)
                    if isinstance(at, Source):
                        break
                    at = at.origin
            self._reach[collection] = self._within_scopes(found)
        return self._reach[collection]

    def _within_scopes(self, found: set[str]) -> frozenset[str]:
        """With every collection that the scopes of these look into."""
        grown: set[str] = set()
        while found != grown:
            grown = set(found)
            for name in grown:
                found |= dependencies(self.scopes[name])
        return frozenset(found)

    def own_hash(self, source: Source) -> bytes:
        """16 bytes of SHA-256 of a source's filter within the scopes, without its picks: what many devices may share."""
        if source not in self._hashes:
            reach = self._within_scopes({source.collection} | dependencies(source.where))
            self._hashes[source] = self._hash(reach, source.collection, to_plain(source.where))
        return self._hashes[source]

    def hash(self, collection: str, implicit: bytes) -> bytes:
        """16 bytes of SHA-256 of the resolved filter; `implicit` is the digest of the implicit picks."""
        key = (collection, implicit)
        if key not in self._hashes:
            terms = [t.plain() for t in self.terms.get(collection, ())]
            self._hashes[key] = self._hash(self.depends(collection), terms, implicit)
        return self._hashes[key]

    def _hash(self, reach: Iterable[str], *plain: Any) -> bytes:
        scopes = sorted([name, to_plain(self.scopes[name])] for name in reach)
        return sha256(msgspec.msgpack.encode([*plain, scopes])).digest()[:16]

    def weight(self) -> int:
        """About the bytes that it takes in memory."""
        plain = [to_plain(scope) for scope in self.scopes.values()], [t.plain() for found in self.terms.values() for t in found]
        return 4000 + 10 * len(msgspec.msgpack.encode(plain))


def matching(schema: Schema, offer: Offer, choice: Choice, claims: Mapping[str, Any], bounds: Bounds) -> Filter:
    """What the chosen quick filters and the condition let through, resolved; `nothing` when none is chosen."""
    parts = [resolve(offer.quick[name].where, schema, claims=claims, params=dict(params), bounds=bounds)
             for name, params in choice.quick]  # fmt: skip
    parts += [] if choice.condition is None else [resolve(choice.condition, schema, claims={}, params={}, bounds=bounds)]
    return nothing if not parts else parts[0] if len(parts) == 1 else And(tuple(parts))


def candidates(
    schema: Schema, offer: Offer, choice: Choice, claims: Mapping[str, Any], bounds: Bounds, *, chosen: bool
) -> Filter:  # fmt: skip
    """The filter of the records that a choice lists, all where it filters nothing; or of those that are chosen of them."""
    info = schema.info(choice.collection)
    listed = matching(schema, offer, choice, claims, bounds) if choice.filtered else everything
    if not chosen:
        return listed
    keys = len(choice.picks) + len(choice.unpicks)
    if len(info.key) > 1 and keys > KEYS_LISTED_MAX:
        raise LimitExceeded(f"picks and unpicks to list in '{info.name}'", KEYS_LISTED_MAX, keys, "a preview counts them all")
    own = nothing if choice.by_hand or not choice.filtered else And((listed, Not(key_filter(info, choice.unpicks))))
    return Or((own, key_filter(info, choice.picks)))


def key_filter(info: CollectionInfo, keys: Sequence[Key]) -> Filter:
    """The filter that only records with these keys pass."""
    if len(info.key) == 1:
        return IsIn(info.name, info.key[0], tuple(key[0] for key in keys))
    if not keys:
        return nothing
    if len(keys) == 1:
        return And(tuple(Compare(info.name, n, "=", v) for n, v in zip(info.key, keys[0], strict=True)))
    half = len(keys) // 2  # a chain of a thousand alternatives would be too deep for SQL
    return Or((key_filter(info, keys[:half]), key_filter(info, keys[half:])))


def plan_of(
    schema: Schema,
    offer: Offer,
    scopes: Mapping[str, Filter],
    selection: Selection,
    claims: Mapping[str, Any],
    now: float,
) -> Plan:
    """Resolves a selection for whoever has these claims; time bounds are cut from `now` in the selection's zone."""
    bounds = Bounds(now, selection.zone)

    def literal(node: Filter, params: Mapping[str, Any]) -> Filter:
        return resolve(node, schema, claims=claims, params=params, bounds=bounds)

    resolved = {info.name: literal(scopes.get(info.name, nothing), {}) for info in schema.replicated}
    terms: dict[str, list[Source | Step]] = {}

    def add(source: Source, includes: Iterable[Include]) -> None:
        terms.setdefault(source.collection, []).append(source)
        for include in includes:
            at: Source | Step = source
            for s in include.steps:
                at = Step(s.collection, at, s.field.owner.name, s.field.name, s.forward, literal(s.where, {}))
                terms.setdefault(s.collection, []).append(at)

    for item in offer.always:
        add(Source(item.collection, literal(item.where, {})), item.include)
    for c in selection.choices:
        own = nothing if c.by_hand else matching(schema, offer, c, claims, bounds)
        add(Source(c.collection, own, c.picks, c.unpicks), [offer.includes[name] for name in c.includes])
    return Plan(resolved, {name: tuple(found) for name, found in terms.items()})
