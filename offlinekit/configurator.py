"""The Offline Configurator: composing a selection from the offer, seeing what it would move, and saving it.

take = replica.configure().quick("mine").all_of(Customer.city == "Campinas").pick(Customer, "000312-01")
print(take.preview().rows)
take.save()
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from attrs import evolve, frozen

from offlinekit.exceptions import FilterError, nearest
from offlinekit.expr.resolve import cut
from offlinekit.nodes import And, Compare, Filter, IsIn, IsNull, Not, Or, Some, Text, Within
from offlinekit.schema import Collection, Schema
from offlinekit.selection import Choice, Offer, Selection

__all__ = ["Configuration", "Preview", "PreviewOf", "end_of_day"]


@frozen
class PreviewOf:
    """One collection of a preview: records to fetch, to drop, held afterwards; an estimate of the bytes to fetch."""

    fetch: int = 0
    drop: int = 0
    hold: int = 0
    bytes: int = 0


@frozen
class Preview:
    """What saving a selection would move. `offline`: answered from held records, so `fetch` is not known."""

    collections: Mapping[str, PreviewOf]
    offline: bool = False

    @property
    def rows(self) -> int:
        """Records that the replica would hold by this selection."""
        return sum(c.hold for c in self.collections.values())

    @property
    def fetch(self) -> int:
        """Records to fetch."""
        return sum(c.fetch for c in self.collections.values())

    @property
    def drop(self) -> int:
        """Records to drop."""
        return sum(c.drop for c in self.collections.values())

    @property
    def fetch_bytes(self) -> int:
        """Bytes to fetch, estimated."""
        return sum(c.bytes for c in self.collections.values())


def end_of_day(now: float, zone: str) -> float:
    """The first instant of the next day in the zone, in seconds since 1970."""
    midnight = cut(now, "day", zone)
    following = datetime(midnight.year, midnight.month, midnight.day, tzinfo=midnight.tzinfo) + timedelta(days=1)
    return following.astimezone(UTC).timestamp()


class Configuration:
    """A selection under construction; methods change it and return it. Nothing moves before `save()` and the next sync."""

    def __init__(self, schema: Schema, offer: Offer, identity: str, zone: str, now: Callable[[], float],
                 saved: Callable[[], Selection], preview: Callable[[Selection], Preview],
                 fetch_preview: Callable[[Selection], Awaitable[Preview]],
                 save: Callable[[Selection], None]) -> None:  # fmt: skip
        self._schema, self._offer, self._identity, self._zone, self._now = schema, offer, identity, zone, now
        self._saved, self._save = saved, save
        self._preview, self._fetch_preview = preview, fetch_preview
        self._choices: dict[str, Choice] = {}
        self._until: float | str | None = "day"

    def _change(self, collection: str, **changes: Any) -> Configuration:
        self._choices[collection] = evolve(self._choices.get(collection, Choice(collection)), **changes)
        self.selection.check(self._schema, self._offer)
        return self

    def _of(self, collection: str) -> Choice:
        return self._choices.get(collection, Choice(collection))

    def quick(self, name: str, **params: Any) -> Configuration:
        """Chooses a quick filter of the offer, with its params; several of one collection must all hold."""
        quick = self._offer.quick.get(name)
        if quick is None:
            raise FilterError(f"the offer has no quick filter '{name}'{nearest(name, self._offer.quick)}")
        given = tuple(sorted((n, _plain(v)) for n, v in params.items()))
        others = tuple(q for q in self._of(quick.collection).quick if q[0] != name)
        return self._change(quick.collection, quick=(*others, (name, given)))

    def all_of(self, *conditions: Filter) -> Configuration:
        """The advanced condition: all of these must hold, and what was required before."""
        return self._require(And(conditions) if len(conditions) != 1 else conditions[0])

    def any_of(self, *conditions: Filter) -> Configuration:
        """The advanced condition: any of these must hold, and what was required before."""
        return self._require(Or(conditions) if len(conditions) != 1 else conditions[0])

    def _require(self, condition: Filter) -> Configuration:
        collection = _root(condition)
        before = self._of(collection).condition
        return self._change(collection, condition=condition if before is None else And((before, condition)))

    def pick(self, collection: type[Collection], *keys: Any) -> Configuration:
        """Takes single records by key, whatever the filters say."""
        info = self._schema.info(collection)
        stored = {info.store_key(k) for k in keys}
        choice = self._of(info.name)
        return self._change(info.name, picks=tuple(sorted(stored | set(choice.picks))),
                            unpicks=tuple(k for k in choice.unpicks if k not in stored))  # fmt: skip

    def unpick(self, collection: type[Collection], *keys: Any) -> Configuration:
        """Leaves single records out: "all but 18"."""
        info = self._schema.info(collection)
        stored = {info.store_key(k) for k in keys}
        choice = self._of(info.name)
        return self._change(info.name, unpicks=tuple(sorted(stored | set(choice.unpicks))),
                            picks=tuple(k for k in choice.picks if k not in stored))  # fmt: skip

    def include(self, name: str) -> Configuration:
        """Adds related records, by an include of the offer."""
        include = self._offer.includes.get(name)
        if include is None:
            raise FilterError(f"the offer has no include '{name}'{nearest(name, self._offer.includes)}")
        return self._change(include.collection, includes=tuple(sorted({*self._of(include.collection).includes, name})))

    def clear(self, collection: type[Collection]) -> Configuration:
        """Forgets the choices of a collection."""
        self._choices.pop(self._schema.info(collection).name, None)
        return self

    def until(self, moment: datetime | None) -> Configuration:
        """Valid until then (with a time zone), or without end; by default to the end of today in the zone."""
        if moment is not None and moment.tzinfo is None:
            raise FilterError("until() takes a datetime with a time zone")
        self._until = None if moment is None else moment.timestamp()
        return self

    def zone(self, name: str) -> Configuration:
        """The time zone in which days begin, such as 'America/Sao_Paulo'."""
        self._zone = name
        return self

    def renew(self) -> Configuration:
        """Starts from the saved choices, valid anew; only the difference moves.

        What the offer no longer holds among them raises NotOffered when it is saved or previewed: nobody but the user can
        say what shall take its place. `clear` forgets the choices of its collection.
        """
        self._choices = {c.collection: c for c in self._saved().choices}
        return self

    @property
    def selection(self) -> Selection:
        """The selection as it stands."""
        now = self._now()
        until = end_of_day(now, self._zone) if self._until == "day" else self._until
        assert not isinstance(until, str)
        choices = tuple(self._choices[name] for name in sorted(self._choices))
        return Selection("", self._identity, now, until, self._zone, choices)

    def preview(self) -> Preview:
        """What saving would move, asked of the authority; offline, an answer from held records that says so.

        Refuses to block a running event loop: there, `await configuration.fetch_preview()`.
        """
        return self._preview(self._checked("preview"))

    async def fetch_preview(self) -> Preview:
        """As `preview`, on an event loop."""
        return await self._fetch_preview(self._checked("preview"))

    def save(self) -> Selection:
        """Makes the selection active, offline too; it takes effect at the next pull."""
        selection = self._checked(secrets.token_hex(8))
        self._save(selection)
        return selection

    def _checked(self, id_: str) -> Selection:
        selection = self.selection
        selection.check(self._schema, self._offer)
        return evolve(selection, id=id_)


def _plain(value: Any) -> Any:
    """A param as it travels: values that JSON has not (dates, decimals, UUIDs) as their text."""
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v) for v in value]
    return value if isinstance(value, str | int | float | bool | bytes) else str(value)


def _root(node: Filter) -> str:
    """The collection that a condition is about."""
    if isinstance(node, Compare | IsIn | IsNull | Text | Within | Some):
        return node.collection
    for part in node.parts if isinstance(node, And | Or) else (node.part,) if isinstance(node, Not) else ():
        return _root(part)
    raise FilterError("the condition names no field, so it is about no collection")
