"""The records that one may choose from: what the filters list, page by page, each with how it stands."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from enum import StrEnum
from typing import Any, Literal, Self, TypeVar, cast

from attrs import evolve

from offlinekit.changes import Key
from offlinekit.query import Page, Query, Select
from offlinekit.schema import Collection, CollectionInfo
from offlinekit.selection import Choice

__all__ = ["CandidateSelect", "Candidates", "Mark", "Marks", "Show", "chunks"]

C = TypeVar("C", bound=Collection)
Show = Literal["listed", "chosen"]
PAGE = 50
_CHUNK = 60  # keys of several fields in one filter: its nodes are limited


class Mark(StrEnum):
    """How a record stands: chosen by the filters or picked by hand; left out of what the filters list; or nothing of it."""

    FILTER = "filter"
    PICK = "pick"
    UNPICK = "unpick"
    NONE = ""

    @property
    def chosen(self) -> bool:
        """Whether the record is chosen."""
        return self in (Mark.FILTER, Mark.PICK)


class Candidates(Page[C]):
    """A page of candidates; `marks` says of each record how it stands.

    `offline`: the authority could not be asked, so these are the candidates among the records held here.
    """

    marks: tuple[Mark, ...] = ()
    offline: bool = False

    @property
    def marked(self) -> list[tuple[C, Mark]]:
        """Each record with its mark."""
        return list(zip(self, self.marks, strict=True))


class CandidateSelect(Select[C]):
    """The candidates under search, order and paging: `.all()` blocks, `await .fetch()` does not; 50 unless `limit` says more."""

    def __init__(self, cls: type[C], run: Callable[[Query], Candidates[C]],
                 fetch: Callable[[Query], Awaitable[Candidates[C]]], query: Query) -> None:  # fmt: skip
        super().__init__(cls, run, query)
        self._fetch = fetch

    def _with(self, **changes: Any) -> Self:
        run = cast("Callable[[Query], Candidates[C]]", self._run)
        return type(self)(self._cls, run, self._fetch, evolve(self.query, **changes))

    def all(self) -> Candidates[C]:
        """Runs the query; raises Offline when the authority cannot be asked and nothing was ever pulled."""
        return cast("Candidates[C]", self._run(self.query))

    async def fetch(self) -> Candidates[C]:
        """As `all`, on an event loop."""
        return await self._fetch(self.query)

    async def fetch_count(self) -> int:
        """As `count`, on an event loop."""
        return cast(int, (await self.limit(0).with_total().fetch()).total)

    def __iter__(self) -> Iterator[C]:
        return iter(self.all())


class Marks:
    """How records stand in a choice, which may name thousands of them."""

    def __init__(self, choice: Choice) -> None:
        self._picks, self._unpicks = frozenset(choice.picks), frozenset(choice.unpicks)
        self._own = choice.filtered and not choice.by_hand

    def of(self, key: Key, listed: bool) -> Mark:
        """How the record with that key stands, given whether the filters list it."""
        if key in self._picks:
            return Mark.PICK
        if not listed or not self._own:
            return Mark.NONE
        return Mark.UNPICK if key in self._unpicks else Mark.FILTER


def chunks(info: CollectionInfo, keys: Iterable[Key]) -> Iterator[list[Key]]:
    """Keys in portions that one filter can name."""
    wanted, size = list(keys), 1000 if len(info.key) == 1 else _CHUNK
    for start in range(0, len(wanted), size):
        yield wanted[start : start + size]
