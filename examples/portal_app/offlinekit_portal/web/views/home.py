"""The day at a glance: what is on this device, what is still to send, what came back, and what to do next."""

from __future__ import annotations

import contextlib
from datetime import datetime

from offlinekit import SelectionExpired, desc
from offlinekit_portal.contract import Order
from offlinekit_portal.web.desk import ZONE
from offlinekit_portal.web.i18n import gettext as _
from offlinekit_portal.web.visit import Routes, Visit

routes = Routes()


def greeting() -> str:
    """Good morning, afternoon or evening, by the hour where the representative sells."""
    hour = datetime.now(ZONE).hour
    return _("Good morning") if 5 <= hour < 12 else _("Good afternoon") if 12 <= hour < 18 else _("Good evening")


@routes.get("/inicio")
def home(visit: Visit) -> str:
    """The home page."""
    today, latest, sold = datetime.now(ZONE).date(), [], []
    with contextlib.suppress(SelectionExpired):
        latest = visit.replica.select(Order).order_by(desc(Order.placed), desc(Order.id)).limit(6).all()
        sold = visit.replica.select(Order).where(Order.placed == today).all()
    return visit.render("home.html", greeting=greeting(), held=visit.desk.held(), latest=latest, sold=sold,
                        bytes=visit.desk.bytes_held())  # fmt: skip


@routes.get("/mais")
def more(visit: Visit) -> str:
    """What a phone's tabs have no room for."""
    return visit.render("more.html")


@routes.get("/ajuda/offline")
def help_offline(visit: Visit) -> str:
    """What each page does with and without a connection."""
    return visit.render("help_offline.html")
