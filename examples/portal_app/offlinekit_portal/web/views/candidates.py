"""The list from which single records are ticked: what the filters let through, searched, sorted, fifty to a page."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from attrs import frozen

from offlinekit import Configuration, FilterError, LimitExceeded
from offlinekit.configurator import Mark
from offlinekit.query import Query
from offlinekit.selection import PICKS_MAX as KEYS_MAX
from offlinekit_portal.web.i18n import gettext as _
from offlinekit_portal.web.registers import Register
from offlinekit_portal.web.visit import Visit

PAGE = 50
TRAILS_MAX = 64
_trails: OrderedDict[tuple[Any, ...], list[Any]] = OrderedDict()  # where the pages of a list begin, as far as they were visited


@frozen
class Asked:
    """Which list a request asks for."""

    search: str
    sort: str

    @staticmethod
    def of(visit: Visit, register: Register) -> Asked:
        """What the request says, or the register's first order."""
        sort = visit.text("ordem")
        return Asked(visit.text("busca", limit=100), sort if sort in register.sorts else next(iter(register.sorts)))


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


def find(visit: Visit, register: Register, configuration: Configuration, asked: Asked) -> Found:
    """A page of the list, as the request asks for it."""
    search = asked.search
    listed = configuration.candidates(register.cls)
    select = listed.search(search).order_by(*register.sorts[asked.sort][1])
    trail = _trail(visit, configuration, select.query)
    number = min(visit.number("pagina", 1, 1), len(trail))
    page = select.limit(PAGE).after(trail[number - 1]).with_total().all()
    if page.next is not None and len(trail) == number:
        trail.append(page.next)
    total = page.total or 0
    chosen = configuration.candidates(register.cls, show="chosen").count()
    rows = [(_code(record), record, mark.chosen) for record, mark in page.marked]
    listed_in_all = listed.count() if search else total
    return Found(rows, total, listed_in_all, chosen, number, PAGE * number < total, page.offline, search)


def _code(record: Any) -> str:
    """The key of a record: each register has a code."""
    return str(record.code)


def _trail(visit: Visit, configuration: Configuration, query: Query) -> list[Any]:
    """Where the pages of this list begin; `after` takes no page number, so that the way there is remembered."""
    key = (visit.replica.identity, visit.desk.connected, query, _filters(configuration, query.collection))
    trail = _trails.setdefault(key, [None])
    _trails.move_to_end(key)
    while len(_trails) > TRAILS_MAX:
        _trails.popitem(last=False)
    return trail


def _filters(configuration: Configuration, collection: str) -> Any:
    """What decides the list, ticks aside."""
    choice = configuration.selection.choice(collection)
    return choice.quick, choice.condition


def tick(visit: Visit, register: Register, configuration: Configuration) -> None:
    """Takes single records, or leaves them out."""
    keys = [str(k) for k in (*visit.form.getall("key", []), *visit.form.getall("row", []))]
    if not all(0 < len(k) <= 200 for k in keys):
        raise FilterError(_("no such record"))
    (configuration.pick if visit.text("on") else configuration.unpick)(register.cls, *keys)


def take_all(visit: Visit, register: Register, configuration: Configuration) -> None:
    """Takes all that the list holds: by the filters, or, while something is searched for, record by record."""
    if _single(visit, register, configuration):
        configuration.pick(
            register.cls, *(_code(record) for record, mark in _found(visit, register, configuration) if not mark.chosen)
        )
    else:
        configuration.pick_all(register.cls)


def leave(visit: Visit, register: Register, configuration: Configuration) -> None:
    """Leaves out what was found."""
    configuration.unpick(register.cls, *(_code(record) for record, mark in _found(visit, register, configuration) if mark.chosen))


def _single(visit: Visit, register: Register, configuration: Configuration) -> bool:
    return bool(visit.text("busca")) or not configuration.of(register.cls).filtered


def _found(visit: Visit, register: Register, configuration: Configuration) -> list[tuple[Any, Mark]]:
    select = configuration.candidates(register.cls).search(visit.text("busca", limit=100))
    if (total := select.count()) > KEYS_MAX:
        raise LimitExceeded("records ticked one by one", KEYS_MAX, total)
    return select.limit(KEYS_MAX).all().marked
