"""Settings: the language, who is signed in, what this device keeps, how it stands, and signing out."""

from __future__ import annotations

import contextlib
from datetime import datetime

from offlinekit import Collection, SelectionExpired
from offlinekit_portal.contract import Draft, Order, OrderItem, Price, Representative
from offlinekit_portal.web.desk import ZONE
from offlinekit_portal.web.registers import REGISTERS
from offlinekit_portal.web.visit import Routes, Visit

routes = Routes()


def _(text: str) -> str:
    """Marks a text for translation; the page translates it."""
    return text


COUNTED: list[tuple[str, type[Collection]]] = [*((r.label, r.cls) for r in REGISTERS), (_("Prices of my lists"), Price),
                                              (_("Orders"), Order), (_("Order lines"), OrderItem)]  # fmt: skip


@routes.get("/ajustes")
def show(visit: Visit) -> str:
    """The page."""
    desk, session = visit.desk, visit.desk.session
    assert session is not None, "the page is for who is signed in"
    counts: list[tuple[str, int | None]] = []
    for label, cls in COUNTED:
        try:
            counts.append((label, visit.replica.select(cls).count()))
        except SelectionExpired:
            counts.append((label, None))
    me = None
    with contextlib.suppress(SelectionExpired):
        me = visit.replica.get(Representative, session.rep)
    drafts = visit.replica.select(Draft).count()
    return visit.render(
        "settings.html", me=me, counts=counts, drafts=drafts, valid=datetime.fromtimestamp(session.expires, ZONE),
        lapsed=session.expires <= visit.replica.now(), bytes=desk.bytes_held(), free=desk.bytes_free(), status=desk.link.status,
        folder=desk.data,
    )  # fmt: skip


@routes.get("/sair")
def leave(visit: Visit) -> str:
    """Asks before signing out, when something is not sent yet."""
    return visit.render("leave.html", drafts=visit.replica.select(Draft).count())
