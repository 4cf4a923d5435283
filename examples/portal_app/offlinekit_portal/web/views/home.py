"""The day at a glance: what is on this device, what is still to send, what came back, and what to do next."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from attrs import frozen
from babel.dates import format_date
from babel.numbers import format_compact_decimal

from offlinekit import Replica, SelectionExpired
from offlinekit_portal import documents
from offlinekit_portal.contract import Draft, Order
from offlinekit_portal.web import choosing, i18n
from offlinekit_portal.web.desk import ZONE, Live
from offlinekit_portal.web.i18n import gettext as _
from offlinekit_portal.web.visit import Routes, Visit

routes = Routes()
DAYS = 7
LATEST = 6


@frozen
class Tile:
    """How many orders, and what they are worth."""

    count: int = 0
    amount: Decimal = Decimal(0)


@frozen
class Bar:
    """A day of the chart; `height` is in percent of the tallest."""

    day: date
    name: str
    amount: Decimal
    short: str
    height: int


def greeting() -> str:
    """Good morning, afternoon or evening, by the hour where the representative sells."""
    hour = datetime.now(ZONE).hour
    return _("Good morning") if 5 <= hour < 12 else _("Good afternoon") if 12 <= hour < 18 else _("Good evening")


def _tile(orders: Iterable[Order]) -> Tile:
    amounts = [order.total for order in orders]
    return Tile(len(amounts), sum(amounts, Decimal(0)))


def _tiles(replica: Replica, today: date) -> dict[str, Tile]:
    """What is to send, what was refused, and what the head office took today."""
    leaving = documents.outgoing(replica)
    held = [replica.get(Order, id_) for id_ in leaving]
    sold: list[Order] = []
    with contextlib.suppress(SelectionExpired):
        sold = [order for order in replica.select(Order).where(Order.placed == today) if order.id not in leaving]
    return {
        "to_send": _tile(order for order in held if order is not None),
        "issues": _tile(order for _, order, _ in documents.refused(replica)),
        "sent": _tile(sold),
    }


def _week(replica: Replica, today: date) -> list[Bar]:
    """The orders of the last seven days, as far as they are on this device."""
    days = {today - timedelta(days=n): Decimal(0) for n in reversed(range(DAYS))}
    with contextlib.suppress(SelectionExpired):
        for order in replica.select(Order).where(Order.placed >= min(days)):
            if order.placed in days:
                days[order.placed] += order.total
    tallest, locale = max(days.values()) or Decimal(1), i18n.current.get()
    bars = []
    for day, amount in days.items():
        short = format_compact_decimal(int(amount), locale=locale, fraction_digits=1)
        bars.append(Bar(day, format_date(day, "EEE", locale=locale), amount, short, round(100 * amount / tallest)))
    return bars


def _next(replica: Replica, live: Live, tiles: dict[str, Tile]) -> tuple[str, str, str, str]:
    """The one thing to do now: icon, words, and where a button with which words leads."""
    drafts = replica.select(Draft).count()
    if tiles["issues"].count:
        return (
            "alert-triangle",
            _("The head office refused an order. Correct it, and it is sent again."),
            "/pendencias",
            _("See why"),
        )
    if drafts:
        words = i18n.ngettext("%(num)s order is begun and not saved yet.", "%(num)s orders are begun and not saved yet.", drafts)
        return "edit", words, "/pedidos?estado=draft", _("Go on writing")
    if tiles["to_send"].count and not live.online:
        return "clock", _("What you saved is sent by itself when the connection is back."), "/sincronia", _("See what waits")
    return "clipboard-list", _("Everything is in order. Visit the next customer."), "/clientes", _("Choose a customer")


@routes.get("/inicio")
def home(visit: Visit) -> str:
    """The home page."""
    today, replica, live = visit.desk.today(), visit.replica, visit.desk.live()
    tiles = _tiles(replica, today)
    latest: list[documents.Document] = []
    with contextlib.suppress(SelectionExpired):
        latest, _total = documents.listed(replica, connected=visit.desk.connected, zone=ZONE, count=LATEST)
    page: dict[str, Any] = {"greeting": greeting(), "today": today, "held": visit.desk.held(), "bytes": visit.desk.bytes_held(),
                            "repeat": choosing.repeating(visit.desk)}  # fmt: skip
    week = _week(replica, today)
    return visit.render("home.html", tiles=tiles, latest=latest, week=week, next=_next(replica, live, tiles), **page)


@routes.get("/mais")
def more(visit: Visit) -> str:
    """What a phone's tabs have no room for."""
    return visit.render("more.html")


@routes.get("/ajuda/offline")
def help_offline(visit: Visit) -> str:
    """What each page does with and without a connection."""
    return visit.render("help_offline.html")
