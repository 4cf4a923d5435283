"""What devices may choose (the offer), what a device chose (a selection), and what that means for one asker (a plan).

A device composes its selection from the offer; it cannot send an arbitrary expression. Own = all chosen quick filters AND
the advanced condition; nothing chosen = nothing. Unpicks take away from it, picks and include steps add to it, and the
scope of the collection bounds everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import msgspec
from attrs import Factory, frozen

from offlinekit.changes import Key
from offlinekit.exceptions import FilterError, LimitExceeded, NotOffered, SchemaError, nearest
from offlinekit.expr import Allowed, Bounds, check, dependencies, names_used, resolve
from offlinekit.expr.codec import from_plain, to_plain
from offlinekit.nodes import (
    And,
    Claim,
    Compare,
    Const,
    Filter,
    IsIn,
    IsNull,
    Not,
    Or,
    Param,
    Text,
    everything,
    nothing,
    today,
)
from offlinekit.schema import Collection, CollectionInfo, Field, Schema, info_of

__all__ = [
    "PICKS_MAX",
    "Advanced",
    "Always",
    "Choice",
    "Include",
    "Offer",
    "Plan",
    "Quick",
    "Selection",
    "Source",
    "Step",
    "plan_of",
]

PICKS_MAX = 10_000
PATH_MAX = 6
CHOICES_MAX = 256
OPERATORS = ("=", "<", "<=", ">", ">=", "in", "null", "contains", "starts_with", "equals_folded")

PathStep = Field[Any] | tuple[Field[Any], Filter]


class Quick:
    """A ready-made filter that a device may choose by name; params that it names are asked for."""

    def __init__(self, name: str, collection: type[Collection], where: Filter, label: str = "", *, explanation: str = ""):
        self.name, self.collection, self.where = name, info_of(collection).name, where
        self.label, self.explanation = label or name, explanation
        self.params = frozenset(names_used(where, Param))


class Include:
    """Related records: from a collection along references, in either direction, at most six steps.

    Each step is a reference field, or (field, filter on the collection it leads to). A field of the collection where the
    path stands leads to the record it names; a field that refers to that collection leads back to the records holding it.
    """

    def __init__(self, name: str, collection: type[Collection], *path: PathStep, label: str = "") -> None:
        self.name, self.collection, self.label = name, info_of(collection).name, label or name
        self.steps: list[tuple[Field[Any], bool, str, Filter]] = []
        at = self.collection
        for part in path:
            f, where = part if isinstance(part, tuple) else (part, everything)
            forward = f.owner.name == at
            if not forward and f.target != at:
                raise SchemaError(f"include '{name}': {f} neither leads from '{at}' nor to it")
            at = f.target if forward else f.owner.name
            self.steps.append((f, forward, at, where))
        if not 1 <= len(self.steps) <= PATH_MAX:
            raise LimitExceeded(f"steps of include '{name}'", PATH_MAX, len(self.steps))


class Always:
    """What every device holds without choosing, and without expiry."""

    def __init__(self, collection: type[Collection], where: Filter = everything, *, include: Sequence[Include] = ()) -> None:
        self.collection, self.where, self.include = info_of(collection).name, where, tuple(include)


class Advanced:
    """A field that advanced conditions may name, and with which operators."""

    def __init__(self, field: Field[Any], *, operators: Sequence[str] = OPERATORS, label: str = "",
                 choices: Sequence[Any] = ()) -> None:  # fmt: skip
        unknown = [o for o in operators if o not in OPERATORS]
        if unknown:
            raise SchemaError(f"unknown operator '{unknown[0]}'{nearest(unknown[0], OPERATORS)}")
        self.field, self.operators, self.label, self.choices = (
            field,
            tuple(operators),
            label or field.name,
            tuple(choices),
        )


class Offer:
    """What the authority lets devices choose from; both sides know it."""

    def __init__(self, *items: Quick | Include, advanced: Iterable[Field[Any] | Advanced] = (),
                 always: Iterable[Always] = ()) -> None:  # fmt: skip
        self.quick: dict[str, Quick] = {}
        self.includes: dict[str, Include] = {}
        for item in items:
            into: dict[str, Any] = self.quick if isinstance(item, Quick) else self.includes
            if item.name in into:
                raise SchemaError(f"the offer names '{item.name}' twice")
            into[item.name] = item
        fields = [a if isinstance(a, Advanced) else Advanced(a) for a in advanced]
        self.advanced = {(a.field.owner.name, a.field.name): a for a in fields}
        self.always = tuple(always)

    def check(self, schema: Schema) -> None:
        """Raises SchemaError when something in the offer does not fit the schema."""
        for quick in self.quick.values():
            place = Allowed(f"quick filter '{quick.name}'", claims=True, params=quick.params)
            check(quick.where, schema, schema.info(quick.collection), place)
        for item in self.always:
            check(item.where, schema, schema.info(item.collection), Allowed("always", claims=True))
        for include in [*self.includes.values(), *(i for a in self.always for i in a.include)]:
            for f, _, at, where in include.steps:
                schema.info(f.owner.cls).field(f.name)
                check(where, schema, schema.info(at), Allowed(f"include '{include.name}'", claims=True))
        for (collection, name), advanced in self.advanced.items():
            if schema.info(collection).field(name).online_only:
                raise SchemaError(f"{advanced.field} is online_only and may not decide what a device holds")

    def claims(self) -> set[str]:
        """The names of the claims that the offer's filters mention."""
        filters = [q.where for q in self.quick.values()] + [a.where for a in self.always]
        includes = [*self.includes.values(), *(i for a in self.always for i in a.include)]
        filters += [where for i in includes for *_, where in i.steps]
        return {name for f in filters for name in names_used(f, Claim)}


@frozen
class Choice:
    """What was chosen in one collection; keys are storage values."""

    collection: str
    quick: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...] = ()
    condition: Filter | None = None
    picks: tuple[Key, ...] = ()
    unpicks: tuple[Key, ...] = ()
    includes: tuple[str, ...] = ()


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

    def encode(self) -> bytes:
        """Canonical bytes."""
        return msgspec.msgpack.encode([
            self.id, self.identity, self.since, self.until, self.zone,
            [[c.collection, sorted([name, sorted(map(list, params))] for name, params in c.quick),
              None if c.condition is None else to_plain(c.condition), sorted(map(list, c.picks)),
              sorted(map(list, c.unpicks)), sorted(c.includes)]
             for c in sorted(self.choices, key=lambda c: c.collection)],
        ])  # fmt: skip

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
        except msgspec.MsgspecError as error:
            raise FilterError(f"not an encoded selection: {error}") from error
        id_, identity, since, until, zone, choices = plain
        made = tuple(
            Choice(name, tuple((q, tuple(map(tuple, params))) for q, params in quick),
                   None if condition is None else from_plain(condition, schema, name),
                   tuple(map(tuple, picks)), tuple(map(tuple, unpicks)), tuple(includes))
            for name, quick, condition, picks, unpicks, includes in choices
        )  # fmt: skip
        selection = cls(id_, identity, since, until, zone, made)
        if offer is not None:
            selection.check(schema, offer)
        return selection

    def check(self, schema: Schema, offer: Offer) -> None:
        """Raises NotOffered for choices that the offer does not hold, FilterError or LimitExceeded for what nobody may choose."""
        Bounds(self.since, self.zone).literal(_TODAY, "date")
        if len(self.choices) > CHOICES_MAX:
            raise LimitExceeded("collections in a selection", CHOICES_MAX, len(self.choices))
        if len({c.collection for c in self.choices}) != len(self.choices):
            raise FilterError("a selection names a collection twice")
        for c in self.choices:
            _check_choice(c, schema, offer)


_TODAY = today()
_Plain = tuple[
    str, str, float, float | None, str,
    list[tuple[str, list[tuple[str, list[tuple[str, Any]]]], Any, list[list[Any]], list[list[Any]], list[str]]],
]  # fmt: skip


def _check_choice(c: Choice, schema: Schema, offer: Offer) -> None:
    info = schema.info(c.collection)
    if info.device_only:
        raise FilterError(f"'{info.name}' never leaves the device, so there is nothing to select", collection=info.name)
    for name, params in c.quick:
        quick = offer.quick.get(name)
        if quick is None or quick.collection != info.name:
            names = [q.name for q in offer.quick.values() if q.collection == info.name]
            raise NotOffered(f"no quick filter '{name}' for '{info.name}'{nearest(name, names)}",
                             collection=info.name, choice=name)  # fmt: skip
        given = {n for n, _ in params}
        if given != quick.params:
            raise NotOffered(f"quick filter '{name}' takes {sorted(quick.params)}, not {sorted(given)}",
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
                raise FilterError(f"{key!r:.80} is no key of '{info.name}'", collection=info.name)


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
        reach = self._within_scopes({source.collection} | dependencies(source.where))
        scopes = sorted([name, to_plain(self.scopes[name])] for name in reach)
        return sha256(msgspec.msgpack.encode([source.collection, to_plain(source.where), scopes])).digest()[:16]

    def hash(self, collection: str, implicit: bytes) -> bytes:
        """16 bytes of SHA-256 of the resolved filter; `implicit` is the digest of the implicit picks."""
        scopes = sorted([name, to_plain(self.scopes[name])] for name in self.depends(collection))
        terms = [t.plain() for t in self.terms.get(collection, ())]
        return sha256(msgspec.msgpack.encode([terms, scopes, implicit])).digest()[:16]


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
            for f, forward, target, where in include.steps:
                at = Step(target, at, f.owner.name, f.name, forward, literal(where, {}))
                terms.setdefault(target, []).append(at)

    for item in offer.always:
        add(Source(item.collection, literal(item.where, {})), item.include)
    for c in selection.choices:
        parts = [literal(offer.quick[name].where, dict(params)) for name, params in c.quick]
        parts += [c.condition] if c.condition is not None else []
        own: Filter = nothing if not parts else parts[0] if len(parts) == 1 else And(tuple(parts))
        add(Source(c.collection, own, c.picks, c.unpicks), [offer.includes[name] for name in c.includes])
    return Plan(resolved, {name: tuple(found) for name, found in terms.items()})
