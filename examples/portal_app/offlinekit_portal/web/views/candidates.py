"""The list from which single records are ticked: what the filters let through, searched, sorted, fifty to a page."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from attrs import frozen

from offlinekit import Configuration, FilterError
from offlinekit.configurator import Chosen
from offlinekit.query import Select
from offlinekit_portal.web.i18n import gettext as _
from offlinekit_portal.web.registers import Register
from offlinekit_portal.web.visit import Visit

PAGE = 50
KEYS_MAX = 10_000
TRAILS_MAX = 64
_trails: OrderedDict[tuple[Any, ...], list[Any]] = OrderedDict()  # where the pages of a list begin, as far as they were visited


@frozen
class Found:
    """A page of the list."""

    rows: list[tuple[str, Any, bool]]  # key, record, whether it is taken
    total: int
    listed: int  # what the filters let through, whatever is searched for
    chosen: int
    page: int
    more: bool
    offline: bool
    search: str
    sort: str

    @property
    def first(self) -> int:
        """The number of the first row."""
        return PAGE * (self.page - 1) + 1 if self.rows else 0

    @property
    def last(self) -> int:
        """The number of the last row."""
        return PAGE * (self.page - 1) + len(self.rows)

    @property
    def ticked(self) -> int:
        """How many rows of this page are taken."""
        return sum(taken for _, _, taken in self.rows)


def find(visit: Visit, register: Register, configuration: Configuration) -> Found:
    """A page of the list, as the request asks for it."""
    search, sort = visit.text("busca", limit=100), visit.text("ordem")
    sort = sort if sort in register.sorts else next(iter(register.sorts))
    source = _source(visit, register, configuration)
    select = source.search(search).order_by(*register.sorts[sort][1])
    trail = _trail(visit, register, select.query)
    page = min(visit.number("pagina", 1, 1), len(trail))
    rows = select.limit(PAGE).after(trail[page - 1]).with_total().all()
    if rows.next is not None and len(trail) == page:
        trail.append(rows.next)
    total = rows.total or 0
    listed = source.count() if search else total
    chosen = configuration.of(register.cls)
    found = [(r.code, r, takes(chosen, r.code)) for r in rows]
    return Found(found, total, listed, _chosen(chosen, listed), page, PAGE * page < total, not visit.desk.connected, search, sort)


def _source(visit: Visit, register: Register, configuration: Configuration) -> Select[Any]:
    where = [c.filter for c in configuration.of(register.cls).conditions]
    select: Select[Any] = (visit.replica.remote if visit.desk.connected else visit.replica).select(register.cls)
    return select.where(*where) if where else select


def takes(chosen: Chosen, key: str) -> bool:
    """Whether a record of the list is taken."""
    return key in chosen.picks if chosen.by_hand or not chosen.filtered else key not in chosen.unpicks


def _chosen(chosen: Chosen, listed: int) -> int:
    return len(chosen.picks) if chosen.by_hand or not chosen.filtered else listed - len(chosen.unpicks)


def _trail(visit: Visit, register: Register, query: Any) -> list[Any]:
    """Where the pages of this list begin; `after` takes no page number, so that the way there is remembered."""
    key = (visit.replica.identity, visit.desk.connected, query)
    trail = _trails.setdefault(key, [None])
    _trails.move_to_end(key)
    while len(_trails) > TRAILS_MAX:
        _trails.popitem(last=False)
    return trail


def tick(visit: Visit, register: Register, configuration: Configuration) -> None:
    """Takes single records, or leaves them out."""
    keys = [str(k) for k in visit.form.getall("key", [])]
    if not all(0 < len(k) <= 200 for k in keys):
        raise FilterError(_("no such record"))
    (configuration.pick if visit.text("on") else configuration.unpick)(register.cls, *keys)


def take_all(visit: Visit, register: Register, configuration: Configuration) -> None:
    """Takes all that the list holds: by the filters, or, while something is searched for, record by record."""
    search = visit.text("busca", limit=100)
    if search or not configuration.of(register.cls).filtered:
        select = _source(visit, register, configuration).search(search)
        configuration.pick(register.cls, *(r.code for r in select.limit(KEYS_MAX).all()))
    else:
        configuration.pick_all(register.cls)
