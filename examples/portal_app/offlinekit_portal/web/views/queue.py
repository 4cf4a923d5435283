"""Sync and issues: what is still to send, what came back refused and why, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import UUID

from attrs import frozen

from offlinekit import MutationState, Rejection, Replica, StateError
from offlinekit_portal import documents, drafts
from offlinekit_portal.contract import Customer, Draft, Order, OrderItem, Product
from offlinekit_portal.web import reasons
from offlinekit_portal.web.desk import ZONE
from offlinekit_portal.web.i18n import gettext as _
from offlinekit_portal.web.i18n import ngettext
from offlinekit_portal.web.views.entry import uuid
from offlinekit_portal.web.visit import Answer, Routes, Visit

routes = Routes()


@frozen
class Waiting:
    """A mutation without an answer, with the order that it places; other mutations have none."""

    mutation: UUID
    state: MutationState
    order: Order | None
    name: str
    lines: int

    @property
    def href(self) -> str:
        """The order's page."""
        return f"/pedidos/{self.order.id}" if self.order else ""


def _waiting(replica: Replica) -> list[Waiting]:
    """What is to send, in the order in which it is sent."""
    info, found = replica.schema.info(Order), []
    for handle in (*replica.pending(), *replica.parked()):
        changes, state = handle.changes, handle.now
        key = next((info.load_key(c.key) for c in changes if c.collection == info.name), None)
        order = None if key is None else drafts.readable(replica, Order, key)
        name = documents.names(replica, {order.customer})[order.customer] if order else ""
        found.append(Waiting(handle.id, state, order, name, len(changes) - 1))
    return found


# -- sync


@routes.get("/sincronia")
def sync(visit: Visit) -> str:
    """What is to send, how the last round went, and what comes next."""
    link, live = visit.desk.link, visit.desk.live()
    waiting = _waiting(visit.replica)
    tags = {w.mutation: documents.standing(w.state, live.online) for w in waiting}
    return visit.render("sync_body.html" if visit.partial else "sync.html", waiting=waiting, tags=tags, status=link.status,
                        report=link.report, total=sum((w.order.total for w in waiting if w.order), start=0),
                        zone=ZONE)  # fmt: skip


@routes.post("/sincronia/agora")
def sync_now(visit: Visit) -> Answer:
    """Syncs as soon as possible."""
    visit.desk.link.sync_now()
    said = _("Syncing now.") if visit.desk.live().online else _("There is no connection; it syncs by itself when it is back.")
    return Answer(visit.render("sync_said.html", said=said)) if visit.partial else visit.go("/sincronia", ok=said)


# -- issues


@routes.get("/pendencias")
def issues(visit: Visit) -> str:
    """What was refused, newest first."""
    refused = documents.refused(visit.replica)
    known = documents.names(visit.replica, {order.customer for _r, order, _items in refused})
    shown = [(r, reasons.of(r), order, known[order.customer]) for r, order, _items in refused]
    orderless = {r.id for r, *_rest in refused}
    others = [(r, reasons.of(r)) for r in visit.replica.rejections() if r.id not in orderless]
    return visit.render("issues_list.html" if visit.partial else "issues.html", shown=shown, others=others, zone=ZONE)


def of_issue(view: Callable[[Visit, Rejection], Answer]) -> Callable[..., Answer]:
    """For views of an issue: finds it, and says so when it is no more."""

    @wraps(view)
    def found(visit: Visit, mutation: str) -> Answer:
        id_ = uuid(mutation)
        rejection = next((r for r in visit.replica.rejections() if r.id == id_), None)
        return visit.go("/pendencias", ok=_("That issue is resolved.")) if rejection is None else view(visit, rejection)

    return found


def _order_of(rejection: Rejection) -> Order | None:
    """The order that was refused, if it was one."""
    return next((r for r in rejection.records if isinstance(r, Order)), None)


@routes.get("/pendencias/{mutation}")
@of_issue
def issue(visit: Visit, rejection: Rejection) -> Answer:
    """A refusal: what, for whom, when, why, and the ways on."""
    return Answer(visit.render("issue.html", **_shown(visit, rejection)))


def _shown(visit: Visit, rejection: Rejection) -> dict[str, Any]:
    replica, records = visit.replica, rejection.records
    order = _order_of(rejection)
    items = sorted((r for r in records if isinstance(r, OrderItem)), key=lambda i: i.line)
    depending = {handle.id for handle in rejection.waiting}
    return {
        "rejection": rejection, "reason": reasons.of(rejection), "order": order, "zone": ZONE,
        "lines": [(item, drafts.readable(replica, Product, item.product)) for item in items],
        "customer": drafts.readable(replica, Customer, order.customer) if order else None,
        "correcting": replica.get(Draft, order.id) if order else None,
        "waiting": [w for w in _waiting(replica) if w.mutation in depending],
    }  # fmt: skip


@routes.post("/pendencias/{mutation}/corrigir")
@of_issue
def correct(visit: Visit, rejection: Rejection) -> Answer:
    """Opens order entry on a draft that replaces the refused order when it is saved."""
    order = _order_of(rejection)
    if order is None:
        return visit.go(f"/pendencias/{rejection.id}")
    items = [r for r in rejection.records if isinstance(r, OrderItem)]
    draft = drafts.reopen(visit.replica, rejection.id, order, sorted(items, key=lambda i: i.line))
    return visit.go(f"/pedidos/rascunho/{draft.id}")


@routes.post("/pendencias/{mutation}/reenviar")
@of_issue
def resend(visit: Visit, rejection: Rejection) -> Answer:
    """Sends the same order again."""
    order = _order_of(rejection)
    try:
        _resend(visit.replica, rejection, order)
    except StateError:
        return visit.go(f"/pendencias/{rejection.id}", bad=_("It could not be sent again: nothing is left that it would change."))
    if order is None:
        return visit.go("/pendencias", ok=_("It is sent again."))
    return visit.go(f"/pedidos/{order.id}", ok=_("Order %(number)s is sent again, unchanged.", number=order.local_number))


def _resend(replica: Replica, rejection: Rejection, order: Order | None) -> None:
    """Sends it again; a correction that was begun is given up, or it would replace what is on its way."""
    rejection.resend()
    if order is not None and replica.get(Draft, order.id) is not None:
        drafts.delete(replica, order.id)


@routes.post("/pendencias/reenviar")
def resend_all(visit: Visit) -> Answer:
    """Sends all refused orders again, oldest first."""
    sent = 0
    for rejection, order, _items in reversed(documents.refused(visit.replica)):
        _resend(visit.replica, rejection, order)
        sent += 1
    return visit.go("/sincronia", ok=ngettext("%(num)s order is sent again.", "%(num)s orders are sent again.", sent))


@routes.post("/pendencias/{mutation}/descartar")
@of_issue
def discard(visit: Visit, rejection: Rejection) -> Answer:
    """Gives the refused order up; what waits for it is refused too."""
    order = _order_of(rejection)
    rejection.discard()
    if order is None:
        return visit.go("/pendencias", ok=_("It was discarded."))
    if visit.replica.get(Draft, order.id) is not None:
        drafts.delete(visit.replica, order.id)
    return visit.go("/pendencias", ok=_("Order %(number)s was discarded.", number=order.local_number))
