"""Pages of a list: fifty records each, with the range in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar
from urllib.parse import urlencode

from attrs import frozen

from offlinekit_portal.web.visit import Visit


@frozen
class Pages:
    """One page of a list under an address with its filters."""

    SIZE: ClassVar[int] = 50
    path: str
    chosen: Mapping[str, str]
    start: int
    shown: int
    total: int

    @staticmethod
    def start_of(visit: Visit) -> int:
        """Where the page begins that a request asks for."""
        return visit.number("de", low=0, high=9_950) // Pages.SIZE * Pages.SIZE

    def at(self, start: int = 0, /, **changed: str) -> str:
        """The address of a page with some of the filters changed; empty ones are left out."""
        values = {name: value for name, value in {**self.chosen, **changed}.items() if value}
        if start:
            values["de"] = str(start)
        return self.path + (f"?{urlencode(values)}" if values else "")

    def address(self, visit: Visit) -> Mapping[str, str]:
        """The header that keeps the browser's address in step with what a part of the page shows."""
        return {"HX-Replace-Url": self.at(self.start)} if visit.partial else {}

    @property
    def before(self) -> str:
        """The address of the page before, if there is one."""
        return self.at(max(0, self.start - self.SIZE)) if self.start else ""

    @property
    def after(self) -> str:
        """The address of the page after, if there is one."""
        return self.at(self.start + self.SIZE) if self.start + self.shown < self.total else ""
