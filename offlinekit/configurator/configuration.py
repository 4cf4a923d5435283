"""A selection under construction."""

from __future__ import annotations

import secrets
from collections.abc import Generator, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Literal, TypeVar, cast

from attrs import evolve, frozen

from offlinekit.configurator.candidates import PAGE, Candidates, CandidateSelect, Mark, Marks, Show, chunks
from offlinekit.configurator.conditions import Condition, Joined, conditions_of, joined, leaves, normal, replaced
from offlinekit.configurator.desk import Desk
from offlinekit.configurator.preview import Preview
from offlinekit.exceptions import FilterError, StateError, nearest
from offlinekit.expr.resolve import cut
from offlinekit.nodes import And, Compare, Filter, IsIn, IsNull, Not, Or, Some, Text, Within
from offlinekit.offer import Offer
from offlinekit.query import Page, Query
from offlinekit.schema import Collection
from offlinekit.selection import Choice, Selection, key_filter

__all__ = ["Chosen", "Configuration", "end_of_day"]

C = TypeVar("C", bound=Collection)


@frozen
class Chosen:
    """What is chosen in one collection: quick filters with their params, the condition's comparisons and how they are joined,
    picks and unpicks by key, includes by name. `by_hand`: filters only list candidates, and the picks alone are chosen."""

    quick: Mapping[str, Mapping[str, Any]]
    conditions: tuple[Condition, ...]
    joined: Joined
    picks: tuple[Any, ...]
    unpicks: tuple[Any, ...]
    includes: tuple[str, ...]
    by_hand: bool

    @property
    def filtered(self) -> bool:
        """Whether a quick filter or a condition is chosen."""
        return bool(self.quick or self.conditions)


def end_of_day(now: float, zone: str) -> float:
    """The first instant of the next day in the zone, in seconds since 1970."""
    midnight = cut(now, "day", zone)
    following = datetime(midnight.year, midnight.month, midnight.day, tzinfo=midnight.tzinfo) + timedelta(days=1)
    return following.astimezone(UTC).timestamp()


class Configuration:
    """A selection under construction; methods change it and return it. Nothing moves before `save()` and the next sync.

    A change that the offer does not allow raises, and changes nothing. `selection` may be kept as bytes (`encode`) and taken
    up again with `replica.configure(…)`.
    """

    def __init__(self, desk: Desk, start: Selection | None = None) -> None:
        self._desk, self._zone = desk, desk.zone
        self._choices: dict[str, Choice] = {}
        self._until: float | Literal["day"] | None = "day"
        if start is not None:
            self._start(start)

    def _start(self, selection: Selection) -> None:
        """From the choices of a selection, valid as long as it was meant to be: a day, without end, or until then."""
        if selection == Selection():
            return
        if selection.identity != self._desk.identity:
            raise StateError(f"the selection was made by '{selection.identity}', and this replica is another person's")
        self._choices, self._zone = {c.collection: c for c in selection.choices}, selection.zone
        days = selection.until is not None and selection.until == end_of_day(selection.since, selection.zone)
        self._until = "day" if days else selection.until

    # -- what is chosen

    @property
    def offer(self) -> Offer:
        """What may be chosen."""
        return self._desk.offer

    @property
    def selection(self) -> Selection:
        """The selection as it stands."""
        return self._made(self._choices)

    def _made(self, choices: Mapping[str, Choice]) -> Selection:
        now = self._desk.now()
        until = end_of_day(now, self._zone) if self._until == "day" else self._until
        kept = tuple(choices[name] for name in sorted(choices) if choices[name] != Choice(name))
        return Selection("", self._desk.identity, now, until, self._zone, kept)

    def of(self, collection: type[Collection]) -> Chosen:
        """What is chosen in a collection."""
        info = self._desk.schema.info(collection)
        choice = self._of(info.name)
        return Chosen(
            {name: dict(params) for name, params in choice.quick},
            conditions_of(self._condition(info.name), info, self.offer),
            joined(self._condition(info.name)),
            tuple(map(info.load_key, choice.picks)),
            tuple(map(info.load_key, choice.unpicks)),
            choice.includes,
            choice.by_hand,
        )

    def _of(self, collection: str) -> Choice:
        return self._choices.get(collection, Choice(collection))

    def _condition(self, collection: str) -> Filter | None:
        condition = self._of(collection).condition
        return None if condition is None else normal(condition)

    def _change(self, collection: str, adds: bool = True, **changes: Any) -> Configuration:
        """Only what is added is checked: what the offer holds no longer can be taken out piece by piece."""
        changed = evolve(self._of(collection), **changes)
        if adds:
            self._made({collection: changed}).check(self._desk.schema, self.offer)
        self._choices = {**self._choices, collection: changed}
        return self

    # -- step 1: quick filters

    def quick(self, name: str, **params: Any) -> Configuration:
        """Chooses a quick filter of the offer, with its params; several of one collection must all hold."""
        collection = self._quick(name)
        given = tuple(sorted((n, _plain(v)) for n, v in params.items()))
        others = tuple(q for q in self._of(collection).quick if q[0] != name)
        return self._change(collection, quick=(*others, (name, given)))

    def unquick(self, name: str) -> Configuration:
        """Gives a quick filter up."""
        chosen = (c.collection for c in self._choices.values() if name in dict(c.quick))
        collection = next(chosen, None) or self._quick(name)
        return self._change(collection, adds=False, quick=tuple(q for q in self._of(collection).quick if q[0] != name))

    def _quick(self, name: str) -> str:
        quick = self.offer.quick.get(name)
        if quick is None:
            raise FilterError(f"the offer has no quick filter '{name}'{nearest(name, self.offer.quick)}")
        return quick.collection

    # -- step 2: the advanced condition

    def all_of(self, *conditions: Filter) -> Configuration:
        """The advanced condition: all of these must hold, and what was required before."""
        return self._require(And(conditions))

    def any_of(self, *conditions: Filter) -> Configuration:
        """The advanced condition: any of these must hold, and what was required before."""
        return self._require(Or(conditions))

    def _require(self, condition: Filter) -> Configuration:
        collection = _root(condition)
        before = self._of(collection).condition
        both = condition if before is None else And((before, condition))
        return self._change(collection, condition=normal(both))

    def replace(self, condition: Condition | str, new: Filter) -> Configuration:
        """Puts another comparison in the place of one from `of(…).conditions`, or of the one with that id."""
        return self._put(condition, new)

    def remove(self, condition: Condition | str) -> Configuration:
        """Leaves a comparison out. One that is gone already stays so: a page may be older than the configuration."""
        try:
            return self._put(condition, None)
        except FilterError:
            return self

    def _put(self, condition: Condition | str, new: Filter | None) -> Configuration:
        id_ = condition if isinstance(condition, str) else condition.id
        for name in list(self._choices):
            try:
                changed = replaced(self._condition(name), id_, new)
            except KeyError:
                continue
            if new is not None and _root(new) != name:
                raise FilterError(f"a condition on '{name}' cannot be replaced by one on '{_root(new)}'", collection=name)
            return self._change(name, adds=new is not None, condition=changed)
        raise FilterError("that condition is not part of the configuration any more; list them anew with of(...).conditions")

    def join(self, collection: type[Collection], how: Literal["all", "any"]) -> Configuration:
        """Joins the comparisons of a collection anew: all must hold, or any."""
        name = self._desk.schema.info(collection).name
        condition = self._condition(name)
        if condition is None:
            return self
        parts = tuple(leaves(condition))
        return self._change(name, condition=normal(And(parts) if how == "all" else Or(parts)))

    def unfiltered(self, collection: type[Collection]) -> Configuration:
        """Gives up the quick filters and the condition of a collection; picks stay."""
        return self._change(self._desk.schema.info(collection).name, adds=False, quick=(), condition=None, unpicks=())

    # -- step 3: records

    def pick(self, collection: type[Collection], *keys: Any) -> Configuration:
        """Takes single records by key, whatever the filters say."""
        name, choice, stored = self._keys(collection, keys)
        return self._change(name, picks=tuple(sorted(stored | set(choice.picks))),
                            unpicks=tuple(k for k in choice.unpicks if k not in stored))  # fmt: skip

    def unpick(self, collection: type[Collection], *keys: Any) -> Configuration:
        """Leaves single records out: "all but 18"."""
        name, choice, stored = self._keys(collection, keys)
        out = () if choice.by_hand else tuple(sorted(stored | set(choice.unpicks)))
        return self._change(name, unpicks=out, picks=tuple(k for k in choice.picks if k not in stored))

    def _keys(self, collection: type[Collection], keys: Iterable[Any]) -> tuple[str, Choice, set[Any]]:
        info = self._desk.schema.info(collection)
        return info.name, self._of(info.name), {info.store_key(k) for k in keys}

    def pick_all(self, collection: type[Collection]) -> Configuration:
        """Takes all that the filters list, the records that were left out too."""
        name = self._desk.schema.info(collection).name
        if not self._of(name).filtered:
            raise FilterError(f"choose a quick filter or a condition for '{name}' first: without one there is no 'all'",
                              collection=name)  # fmt: skip
        return self._change(name, unpicks=(), by_hand=False)

    def pick_none(self, collection: type[Collection]) -> Configuration:
        """Takes none; from here on the filters only list candidates, and picks alone are chosen."""
        return self._change(self._desk.schema.info(collection).name, picks=(), unpicks=(), by_hand=True)

    def candidates(self, collection: type[C], *, show: Show = "listed") -> CandidateSelect[C]:
        """The records that the filters list, or all in the scope where nothing is filtered, to search, order and page through.

        With `show="chosen"` those of the collection that are chosen: listed and not left out, and picked. Records reached
        by includes are not among them.
        """
        name, chosen = self._desk.schema.info(collection).name, show == "chosen"
        choice, asked = self._of(name), self._asked(name, chosen)

        def page(found: tuple[Page[Any], bool]) -> Candidates[C]:
            return self._page(choice, *found)

        def run(query: Query) -> Candidates[C]:
            return page(self._desk.read(query, asked, chosen))

        async def fetch(query: Query) -> Candidates[C]:
            return page(await self._desk.fetch_read(query, asked, chosen))

        return CandidateSelect(collection, run, fetch, Query(name, limit=PAGE))

    def _asked(self, collection: str, chosen: bool) -> Selection:
        """What the authority has to know to list candidates."""
        choice = evolve(self._of(collection), includes=())
        return self._made({collection: choice if chosen else evolve(choice, picks=(), unpicks=())})

    def _page(self, choice: Choice, found: Page[Any], offline: bool) -> Candidates[Any]:
        info, marks = self._desk.schema.info(choice.collection), Marks(choice)
        made: Candidates[Any] = Candidates(found)
        made.total, made.next, made.offline = found.total, found.next, offline
        made.marks = tuple(marks.of(info.key_of(r), listed=True) for r in found)
        return made

    def chosen(self, collection: type[C], records: Iterable[C]) -> tuple[Mark, ...]:
        """How each of these records stands, whatever list they come from; a page of candidates has it as `marks` already.

        The authority is asked about those that only the filters can decide. Offline, the held ones are judged.
        """
        asking = self._judging(collection, records)
        try:
            query = next(asking)
            while True:
                query = asking.send(self._desk.read(query, self._asked(query.collection, False), False)[0])
        except StopIteration as stop:
            return cast("tuple[Mark, ...]", stop.value)

    async def fetch_chosen(self, collection: type[C], records: Iterable[C]) -> tuple[Mark, ...]:
        """As `chosen`, on an event loop."""
        asking = self._judging(collection, records)
        try:
            query = next(asking)
            while True:
                found, _ = await self._desk.fetch_read(query, self._asked(query.collection, False), False)
                query = asking.send(found)
        except StopIteration as stop:
            return cast("tuple[Mark, ...]", stop.value)

    def _judging(self, collection: type[C], records: Iterable[C]) -> Generator[Query, Page[Any], tuple[Mark, ...]]:
        info = self._desk.schema.info(collection)
        marks, keys = Marks(self._of(info.name)), [info.key_of(r) for r in records]
        listed: set[Any] = set()
        for some in chunks(info, [k for k in keys if marks.of(k, listed=True) in (Mark.FILTER, Mark.UNPICK)]):
            found = yield Query(info.name, key_filter(info, some), limit=len(some))
            listed |= {info.key_of(r) for r in found}
        return tuple(marks.of(key, key in listed) for key in keys)

    # -- related records

    def include(self, name: str) -> Configuration:
        """Adds related records, by an include of the offer."""
        collection = self._include(name)
        return self._change(collection, includes=tuple(sorted({*self._of(collection).includes, name})))

    def exclude(self, name: str) -> Configuration:
        """Gives an include up."""
        chosen = (c.collection for c in self._choices.values() if name in c.includes)
        collection = next(chosen, None) or self._include(name)
        return self._change(collection, adds=False, includes=tuple(i for i in self._of(collection).includes if i != name))

    def _include(self, name: str) -> str:
        include = self.offer.includes.get(name)
        if include is None:
            raise FilterError(f"the offer has no include '{name}'{nearest(name, self.offer.includes)}")
        return include.collection

    # -- the whole

    def clear(self, collection: type[Collection]) -> Configuration:
        """Forgets the choices of a collection."""
        self._choices.pop(self._desk.schema.info(collection).name, None)
        return self

    def until(self, moment: datetime | None) -> Configuration:
        """Valid until then (with a time zone), or without end; by default to the end of today in the zone."""
        if moment is not None and moment.tzinfo is None:
            raise FilterError("until() takes a datetime with a time zone")
        self._until = None if moment is None else moment.timestamp()
        return self

    def zone(self, name: str) -> Configuration:
        """The time zone in which days begin, such as 'America/Sao_Paulo'."""
        cut(self._desk.now(), "day", name)
        self._zone = name
        return self

    def renew(self) -> Configuration:
        """Starts from the saved choices, valid anew; only the difference moves. A moment given with `until` is not renewed.

        What the offer no longer holds among them raises NotOffered when it is saved or previewed: nobody but the user can
        say what shall take its place. `clear` forgets the choices of its collection.
        """
        self._start(self._desk.saved())
        if isinstance(self._until, float):
            self._until = "day"
        return self

    # -- step 4: looking, and saving

    @property
    def problem(self) -> str:
        """What the offer no longer holds of choices taken up from an earlier day; then `save` refuses. Else empty."""
        return self.selection.problem(self._desk.schema, self.offer)

    def preview(self) -> Preview:
        """What saving would move, asked of the authority; offline, an answer from held records that says so.

        Refuses to block a running event loop: there, `await configuration.fetch_preview()`.
        """
        return self._desk.preview(self._checked("preview"))

    async def fetch_preview(self) -> Preview:
        """As `preview`, on an event loop."""
        return await self._desk.fetch_preview(self._checked("preview"))

    def save(self) -> Selection:
        """Makes the selection active, offline too; it takes effect at the next pull."""
        selection = self._checked(secrets.token_hex(8))
        self._desk.save(selection)
        return selection

    def _checked(self, id_: str) -> Selection:
        selection = self.selection
        selection.check(self._desk.schema, self.offer)
        return evolve(selection, id=id_)


def _plain(value: Any) -> Any:
    """A param as it travels: values that JSON has not (dates, decimals, UUIDs) as their text."""
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v) for v in value]
    if isinstance(value, Enum):
        return value.value
    return value if isinstance(value, str | int | float | bool | bytes) else str(value)


def _root(node: Filter) -> str:
    """The collection that a condition is about."""
    if isinstance(node, Compare | IsIn | IsNull | Text | Within | Some):
        return node.collection
    for part in node.parts if isinstance(node, And | Or) else (node.part,) if isinstance(node, Not) else ():
        return _root(part)
    raise FilterError("the condition names no field, so it is about no collection")
