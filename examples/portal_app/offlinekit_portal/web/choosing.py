"""Half-made choices: kept on this device after every change, so that closing the page or the program loses none of them."""

from __future__ import annotations

import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from enum import Enum
from typing import Any

from attrs import frozen

from offlinekit import Configuration, OfflinekitError
from offlinekit.configurator import Chosen, Condition, Offered
from offlinekit_portal.contract import STATUSES
from offlinekit_portal.web import i18n
from offlinekit_portal.web.desk import Desk
from offlinekit_portal.web.i18n import gettext as _

CHOOSING = "choosing"
_changing = threading.Lock()  # two clicks that arrive together must not undo each other


def resume(desk: Desk) -> Configuration:
    """The choices under way, or else the saved ones, to be changed."""
    kept = desk.setting(CHOOSING)
    if kept:
        try:
            return desk.replica.configure(b64decode(kept))
        except (OfflinekitError, ValueError):  # the offer has changed since
            forget(desk)
    return desk.replica.configure().renew()


def change(desk: Desk, change: Callable[[Configuration], object]) -> Configuration:
    """Changes the choices under way and keeps them; raises what the change raises, and keeps nothing then."""
    with _changing:
        configuration = resume(desk)
        change(configuration)
        desk.remember(CHOOSING, b64encode(configuration.selection.encode()).decode())
    return configuration


def forget(desk: Desk) -> None:
    """Drops the choices under way; the saved ones count."""
    desk.remember(CHOOSING, "")


def under_way(desk: Desk) -> bool:
    """Whether there are choices that were not saved."""
    return desk.setting(CHOOSING) != ""


# -- in words


def repeating(desk: Desk) -> str:
    """What repeating the saved selection is called, when it is of another day; empty when it is of today."""
    selection, today = desk.replica.selection, desk.today()
    day = selection.began.date()
    if not selection.id or day >= today:
        return ""
    if day == today - timedelta(days=1):
        return _("Repeat yesterday's selection")
    return _("Repeat the selection of %(day)s", day=i18n.day(day))


@frozen
class Chip:
    """One applied filter, in words, and what to send to take it away."""

    text: str
    name: str
    value: str


def operator_words(kind: str, operator: str) -> str:
    """How a comparison reads."""
    if kind in ("date", "datetime"):
        return {"<": _("before"), "<=": _("until"), ">": _("after"), ">=": _("from"), "=": _("on"), "null": _("never")}[operator]
    return {
        "=": _("is"), "in": _("is one of"), "<": _("less than"), "<=": _("at most"), ">": _("more than"), ">=": _("at least"),
        "null": _("is empty"), "contains": _("contains"), "starts_with": _("starts with"), "equals_folded": _("is"),
    }[operator]  # fmt: skip


def value_words(value: Any) -> str:
    """How a value reads."""
    if isinstance(value, tuple | list):
        return ", ".join(value_words(v) for v in value)
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, Enum):
        return _(next((words for status, words in STATUSES.items() if status is value), str(value.value)))
    if isinstance(value, date | datetime):
        return i18n.day(value)
    return "" if value is None else str(value)


def raw(value: Any) -> str:
    """A value as a form sends it."""
    return str(value.value) if isinstance(value, Enum) else str(value)


def condition_words(condition: Condition, offered: Offered) -> str:
    """One comparison."""
    kind = next((a.kind for a in offered.advanced if a.field.name == condition.field), "text")
    words = [_(condition.label), operator_words(kind, condition.operator), value_words(condition.value)]
    return " ".join(w for w in words if w)


def quick_words(name: str, params: Iterable[Any], offered: Offered) -> str:
    """One quick filter, with what it was told."""
    label = next((_(q.label) for q in offered.quick if q.name == name), name)
    told = value_words(list(params))
    return f"{label}: {told}" if told else label


def chips(chosen: Chosen, offered: Offered) -> list[Chip]:
    """The applied filters of a register."""
    names = [q.name for q in offered.quick if q.name in chosen.quick]
    quick = [Chip(quick_words(n, chosen.quick[n].values(), offered), "unquick", n) for n in names]
    return quick + [Chip(condition_words(c, offered), "remove", c.id) for c in chosen.conditions]
