"""Why a replica holds a record, part by part of the selection that it was pulled by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from uuid import UUID

import apsw
from attrs import evolve, frozen

from offlinekit.changes import Key, encode_key
from offlinekit.configurator.conditions import conditions_of, normal
from offlinekit.expr import Compiler
from offlinekit.expr.sql import quote
from offlinekit.nodes import everything
from offlinekit.offer import Offer
from offlinekit.schema import Collection, CollectionInfo
from offlinekit.selection import Choice, Selection, Source, Step, plan_of
from offlinekit.store.sqlite.replica_ddl import base_table
from offlinekit.terms import in_term, linked

if TYPE_CHECKING:  # pragma: no cover
    from offlinekit.replica.replica import Replica  # layer-exempt: the type of what made it

__all__ = ["Reason", "reasons"]

Place = tuple[str, Any]  # a collection and a key


@frozen
class Reason:
    """One reason why a replica holds a record.

    | kind | name, label |
    | --- | --- |
    | quick | a quick filter and its label |
    | condition | label: the fields of the advanced condition |
    | pick | picked by hand |
    | include | an include and its label; `path` leads from a chosen record to this one, as (collection, key) |
    | always | the collection and the label of what everybody holds; `path`, if an include of it leads here |
    | created | made on this device |
    | pending | what a mutation does (insert, update, delete) and its intent; `mutation` is its id |
    | evicted | the authority's version has left or is gone; only what is pending keeps it visible |
    | unpick | left out by hand, and held all the same by the other reasons |
    | expired | the selection is over: held, and not read until it is renewed and pulled |
    | not_offered | a choice that the offer no longer holds, where nothing else explains the record |
    """

    kind: str
    name: str = ""
    label: str = ""
    path: tuple[Place, ...] = ()
    mutation: UUID | None = None


def reasons(replica: Replica, record: Collection) -> list[Reason]:
    """Each reason that holds for a record; none for one that is not held.

    Filters that look into records which are not held may go unnoticed.
    """
    db, info = replica.reader(), replica.schema.info(record)
    why = _Why(replica, db, info, info.key_of(record))
    if not why.held():
        return []
    found = [*why.own(), *why.includes(), *why.always()]
    if info.device_only:
        return found
    found += [*why.created(), *why.pending()]
    choice = why.selection.choice(info.name)
    if not found:
        return [Reason("not_offered", name) for c in why.selection.choices for name in _gone(c, replica.offer)]
    if why.key in choice.unpicks:
        found.append(Reason("unpick"))
    readable = any(r.kind in ("always", "created") or (r.kind, r.name) == ("pending", "insert") for r in found)
    return [*found, Reason("expired")] if replica.expired and not readable else found


class _Why:
    """The reasons of one record, each kind by itself."""

    def __init__(self, replica: Replica, db: apsw.Connection, info: CollectionInfo, key: Key) -> None:
        self.replica, self.db, self.info, self.key = replica, db, info, key
        self.selection, self.offer, self.schema = replica.held_selection, replica.offer, replica.schema
        # always is explained apart, part by part
        self.only = Offer(*self.offer.quick.values(), *self.offer.includes.values(), advanced=self.offer.advanced.values())
        self.same = " AND ".join(f"r.{quote(k)}=?" for k in info.key)

    def held(self) -> bool:
        return self.db.execute(f"SELECT 1 FROM {quote(self.info.name)} r WHERE {self.same}", self.key).get is not None

    def own(self) -> Iterator[Reason]:
        choice = _known(self.selection.choice(self.info.name), self.offer)
        own = evolve(choice, picks=(), unpicks=(), includes=())
        if self.key not in choice.unpicks and any(self._terms(self.only, own)):
            for name, _ in own.quick:
                yield Reason("quick", name, self.offer.quick[name].label)
            if own.condition is not None:
                labels = dict.fromkeys(c.label for c in conditions_of(normal(own.condition), self.info, self.offer))
                yield Reason("condition", label=", ".join(labels))
        if self.key in choice.picks:
            yield Reason("pick")

    def includes(self) -> Iterator[Reason]:
        for choice in (_known(c, self.offer) for c in self.selection.choices):
            for name in choice.includes:
                for term in self._terms(self.only, evolve(choice, includes=(name,))):
                    if isinstance(term, Step):
                        yield Reason("include", name, self.offer.includes[name].label, self._path(term))
                        break

    def always(self) -> Iterator[Reason]:
        for item in self.offer.always:
            term = next(self._terms(Offer(always=[item])), None)
            if term is not None:
                path = self._path(term) if isinstance(term, Step) else ()
                yield Reason("always", item.collection, item.label, path)

    def created(self) -> Iterator[Reason]:
        sql = (
            f"SELECT 1 FROM {quote(self.info.name)} r JOIN ok_created c ON c.collection=? AND c.ordinal=r._ordinal"
            f" WHERE {self.same}"
        )
        if self.db.execute(sql, (self.info.name, *self.key)).get:
            yield Reason("created")

    def pending(self) -> Iterator[Reason]:
        sql = (
            "SELECT m.id,m.intent,t.op FROM ok_touch t JOIN ok_mutation m ON m.seq=t.mutation"
            " WHERE t.collection=? AND t.key=? ORDER BY m.seq"
        )
        for id_, intent, op in self.db.execute(sql, (self.info.name, encode_key(self.key))):
            yield Reason("pending", op, intent, mutation=UUID(bytes=id_))
        if self.info.writable:
            base = f"SELECT 1 FROM {base_table(self.info.name)} r WHERE {self.same} AND NOT _present"
            if self.db.execute(base, self.key).get:
                yield Reason("evicted")

    def _terms(self, offer: Offer, *choices: Choice) -> Iterator[Source | Step]:
        """The terms of choices that contain the record."""
        selection = Selection(zone=self.selection.zone, choices=choices)
        scopes = {c.name: everything for c in self.schema.replicated}
        claims = self.replica.store.meta("claims", self.db) or {}
        plan = plan_of(self.schema, offer, scopes, selection, claims, self.replica.now())
        for term in plan.terms.get(self.info.name, ()):
            compiler = Compiler(self.schema)
            condition = in_term(term, "r", compiler, self.schema)
            sql = f"SELECT 1 FROM {quote(self.info.name)} r WHERE {condition} AND {self.same}"
            if self.db.execute(sql, (*compiler.bindings, *self.key)).get:
                yield term

    def _path(self, step: Step) -> tuple[Place, ...]:
        """From a record of the source, step by step, to this one."""
        key, path = self.key, [(self.info.name, self.info.load_key(self.key))]
        term: Source | Step = step
        while isinstance(term, Step):
            origin, here = self.schema.info(term.origin.collection), self.schema.info(term.collection)
            compiler = Compiler(self.schema)
            link = linked(term, "o", "r", self.schema)
            within = in_term(term.origin, "o", compiler, self.schema)
            sql = (
                f"SELECT {','.join(f'o.{quote(k)}' for k in origin.key)} FROM {quote(origin.name)} o, {quote(here.name)} r"
                f" WHERE {link} AND {within} AND {' AND '.join(f'r.{quote(k)}=?' for k in here.key)} LIMIT 1"
            )
            key = next(iter(self.db.execute(sql, (*compiler.bindings, *key))))
            path.append((origin.name, origin.load_key(key)))
            term = term.origin
        return tuple(reversed(path))


def _gone(choice: Choice, offer: Offer) -> list[str]:
    return [n for n, _ in choice.quick if n not in offer.quick] + [n for n in choice.includes if n not in offer.includes]


def _known(choice: Choice, offer: Offer) -> Choice:
    """A choice less what the offer no longer holds. One filter of several left out would make the rest hold more: all go."""
    kept = evolve(choice, includes=tuple(n for n in choice.includes if n in offer.includes))
    return kept if all(name in offer.quick for name, _ in choice.quick) else evolve(kept, quick=(), condition=None)
