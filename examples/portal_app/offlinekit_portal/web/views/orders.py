"""The orders of this device: the list with one tag each, and an order's page with what may still be done about it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from aiohttp import web

from offlinekit import StateError
from offlinekit_portal import documents, drafts
from offlinekit_portal.contract import Customer, Draft, Order, OrderItem, PaymentTerm, PriceList, Product
from offlinekit_portal.drafts import Left
from offlinekit_portal.web.desk import ZONE
from offlinekit_portal.web.i18n import gettext as _
from offlinekit_portal.web.paging import Pages
from offlinekit_portal.web.views.entry import uuid
from offlinekit_portal.web.visit import Answer, Routes, Visit

routes = Routes()
FILTERS = ("", "draft", "pending", "rejected", "sent")


@routes.get("/pedidos")
def listing(visit: Visit) -> Answer:
    """The list; with htmx, the part that changes with what is typed and chosen."""
    only, text = visit.text("estado", limit=10), visit.text("q", limit=60)
    only = only if only in FILTERS else ""
    start = Pages.start_of(visit)
    shown, total = documents.listed(visit.replica, connected=visit.desk.live().online, zone=ZONE, only=only, text=text,
                                    start=start)  # fmt: skip
    pages = Pages("/pedidos", {"estado": only, "q": text}, start, len(shown), total)
    template = "orders_list.html" if visit.partial else "orders.html"
    return Answer(visit.render(template, shown=shown, pages=pages, only=only, text=text), headers=pages.address(visit))


@routes.get("/pedidos/{order}")
def page(visit: Visit, order: str) -> Answer:
    """An order that is in view; what is a draft or was refused has its page elsewhere."""
    id_ = uuid(order)
    elsewhere = _elsewhere(visit, id_)
    if elsewhere:
        return visit.go(elsewhere)
    shown = _shown(visit, id_)
    if shown is None:
        raise web.HTTPNotFound
    return Answer(visit.render("order_body.html" if visit.partial else "order.html", **shown))


def _elsewhere(visit: Visit, id_: UUID) -> str:
    refusal = next((r for r, order, _items in documents.refused(visit.replica) if order.id == id_), None)
    if refusal is not None:
        return f"/pendencias/{refusal.id}"
    draft = visit.replica.get(Draft, id_)
    return f"/pedidos/rascunho/{id_}" if draft is not None and draft.corrects is None else ""


def _shown(visit: Visit, id_: UUID) -> dict[str, Any] | None:
    """What the page of an order shows."""
    replica = visit.replica
    order = replica.get(Order, id_)
    if order is None:
        return None
    out = documents.outgoing(replica).get(id_)
    items = replica.select(OrderItem).where(OrderItem.order == id_).order_by(OrderItem.line).all()
    lines = [(item, drafts.readable(replica, Product, item.product)) for item in items]
    return {
        "order": order, "lines": lines, "out": out, "customer": drafts.readable(replica, Customer, order.customer),
        "standing": documents.standing(out.state if out else None, visit.desk.live().online),
        "term": replica.get(PaymentTerm, order.term), "price_list": replica.get(PriceList, order.price_list),
    }  # fmt: skip


@routes.post("/pedidos/{order}/alterar")
def edit(visit: Visit, order: str) -> Answer:
    """Takes an order that is not sent yet back into a draft."""
    replica, id_ = visit.replica, uuid(order)
    found, out = replica.get(Order, id_), documents.outgoing(replica).get(id_)
    if found is None or out is None:
        return visit.go(f"/pedidos/{order}", bad=_("The order was sent meanwhile, so it was not changed."))
    items = replica.select(OrderItem).where(OrderItem.order == id_).order_by(OrderItem.line).all()
    try:
        draft = drafts.reopen(replica, out.mutation, found, items)
    except (Left, StateError):
        return visit.go(f"/pedidos/{order}", bad=_("The order was sent meanwhile, so it was not changed."))
    return visit.go(f"/pedidos/rascunho/{draft.id}")


@routes.post("/pedidos/{order}/retirar")
def withdraw(visit: Visit, order: str) -> Answer:
    """Withdraws an order that is not sent yet."""
    out = documents.outgoing(visit.replica).get(uuid(order))
    try:
        if out is not None:
            visit.replica.mutation(out.mutation).withdraw()
            return visit.go("/pedidos", ok=_("The order was withdrawn; it is not sent."))
    except StateError:  # AlreadySent is one
        pass
    return visit.go(f"/pedidos/{order}", bad=_("The order was sent meanwhile, so it was not withdrawn."))
