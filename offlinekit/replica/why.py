"""Why a replica holds a record, part by part of its selection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve, frozen

from offlinekit.changes import encode_key
from offlinekit.expr import Compiler
from offlinekit.expr.sql import quote
from offlinekit.nodes import everything
from offlinekit.offer import Offer
from offlinekit.schema import Collection
from offlinekit.selection import Choice, Selection, Step, plan_of
from offlinekit.terms import in_term

if TYPE_CHECKING:  # pragma: no cover
    from offlinekit.replica.replica import Replica  # layer-exempt: the type of what made it

__all__ = ["Reason", "reasons"]


@frozen
class Reason:
    """Why a replica holds a record: quick, condition, pick, include, always, created, pending or not_offered; and which."""

    kind: str
    name: str = ""
    label: str = ""


def reasons(replica: Replica, record: Collection) -> list[Reason]:
    """Each reason that holds for a record; filters that look into records which are not held may go unnoticed.

    Where nothing explains it, the choices that the offer no longer holds are named: what they meant is not known here.
    """
    info, offer, selection = replica.schema.info(record), replica.offer, replica.selection
    key = info.key_of(record)
    found: list[Reason] = []
    choice = _known(selection.choice(info.name), offer)

    def holds(part: Selection, by: Offer, step: bool) -> bool:
        return _holds(replica, info.name, key, part, by, step=step)

    only = Offer(*offer.quick.values(), *offer.includes.values(), advanced=offer.advanced.values())
    if key not in choice.unpicks:
        own = evolve(choice, picks=(), unpicks=(), includes=())
        if (own.quick or own.condition is not None) and holds(evolve(selection, choices=(own,)), only, False):
            found += [Reason("quick", name, offer.quick[name].label) for name, _ in own.quick]
            found += [Reason("condition")] if own.condition is not None else []
    if key in choice.picks:
        found.append(Reason("pick"))
    for other in (_known(c, offer) for c in selection.choices):
        for name in other.includes:
            alone = evolve(other, includes=(name,))
            if holds(evolve(selection, choices=(alone,)), only, True):
                found.append(Reason("include", name, offer.includes[name].label))
    for item in offer.always:
        if holds(evolve(selection, choices=()), Offer(always=[item]), False):
            found.append(Reason("always", item.collection))
    db = replica.store.reader()
    created = (
        f"SELECT 1 FROM {quote(info.name)} r JOIN ok_created c ON c.collection=? AND c.ordinal=r._ordinal"
        f" WHERE {_same(replica, info.name)}"
    )
    if not info.device_only and db.execute(created, (info.name, *key)).get:
        found.append(Reason("created"))
    if db.execute("SELECT 1 FROM ok_touch WHERE collection=? AND key=? LIMIT 1", (info.name, encode_key(key))).get:
        found.append(Reason("pending"))
    return found or [Reason("not_offered", name) for c in selection.choices for name in _gone(c, offer)]


def _gone(choice: Choice, offer: Offer) -> list[str]:
    return [n for n, _ in choice.quick if n not in offer.quick] + [n for n in choice.includes if n not in offer.includes]


def _known(choice: Choice, offer: Offer) -> Choice:
    """A choice less what the offer no longer holds. One filter of several left out would make the rest hold more: all go."""
    kept = evolve(choice, includes=tuple(n for n in choice.includes if n in offer.includes))
    return kept if all(name in offer.quick for name, _ in choice.quick) else evolve(kept, quick=(), condition=None)


def _same(replica: Replica, collection: str) -> str:
    return " AND ".join(f"r.{quote(k)}=?" for k in replica.schema.info(collection).key)


def _holds(replica: Replica, collection: str, key: tuple[object, ...], selection: Selection, offer: Offer, *, step: bool) -> bool:
    """Whether a term of the selection that ends in the collection contains the record; only steps, or only sources."""
    db = replica.store.reader()
    scopes = {c.name: everything for c in replica.schema.replicated}
    claims = replica.store.meta("claims", db) or {}
    plan = plan_of(replica.schema, offer, scopes, selection, claims, replica.now())
    for term in plan.terms.get(collection, ()):
        if isinstance(term, Step) == step or (offer.always and not selection.choices):
            compiler = Compiler(replica.schema)
            condition = in_term(term, "r", compiler, replica.schema)
            sql = f"SELECT 1 FROM {quote(collection)} r WHERE {condition} AND {_same(replica, collection)}"
            if db.execute(sql, (*compiler.bindings, *key)).get:
                return True
    return False
