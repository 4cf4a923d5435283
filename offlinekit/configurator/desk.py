"""What a configuration needs of the replica that it is for."""

from __future__ import annotations

from typing import Any, Protocol

from offlinekit.configurator.preview import Preview
from offlinekit.offer import Offer
from offlinekit.query import Page, Query
from offlinekit.schema import Schema
from offlinekit.selection import Selection

__all__ = ["Desk"]


class Desk(Protocol):
    """The port; `fetch_…` are the forms for event loops, which the others refuse to block."""

    schema: Schema
    offer: Offer
    identity: str
    zone: str

    def now(self) -> float:
        """Seconds since 1970."""
        ...

    def saved(self) -> Selection:
        """The saved selection."""
        ...

    def save(self, selection: Selection) -> None:
        """Makes a selection active."""
        ...

    def read(self, query: Query, candidate: Selection, chosen: bool) -> tuple[Page[Any], bool]:
        """Records that a selection lists, or chooses of them; and whether these are only those held."""
        ...

    async def fetch_read(self, query: Query, candidate: Selection, chosen: bool) -> tuple[Page[Any], bool]:
        """As `read`."""
        ...

    def preview(self, selection: Selection) -> Preview:
        """What saving it would move."""
        ...

    async def fetch_preview(self, selection: Selection) -> Preview:
        """As `preview`."""
        ...
