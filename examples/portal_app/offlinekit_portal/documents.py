"""The orders of this device as one list: drafts, orders to send, refused ones, and those that the head office has."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Literal, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

from attrs import frozen

from offlinekit import Filter, MutationState, Rejection, Replica, SelectionExpired, desc, everything, nothing
from offlinekit_portal import drafts
from offlinekit_portal.contract import Customer, Draft, Order, OrderItem

Standing: TypeAlias = Literal["draft", "pending", "sending", "parked", "sent", "rejected"]
NAMES_MAX = 200


@frozen
class Document:
    """An order wherever it stands; `mutation` is what is to send, or was refused."""

    id: UUID
    standing: Standing
    local_number: str
    number: int | None
    customer: str
    name: str
    day: date
    total: Decimal
    mutation: UUID | None = None

    @property
    def href(self) -> str:
        """Its page."""
        if self.standing == "draft":
            return f"/pedidos/rascunho/{self.id}"
        return f"/pendencias/{self.mutation}" if self.standing == "rejected" else f"/pedidos/{self.id}"


@frozen
class Outgoing:
    """An order that has no answer yet."""

    mutation: UUID
    state: MutationState


def outgoing(replica: Replica) -> dict[UUID, Outgoing]:
    """The orders without an answer, by their ids, in the order in which they are sent."""
    info, found = replica.schema.info(Order), {}
    for handle in (*replica.pending(), *replica.parked()):
        state = handle.now
        for change in handle.changes:
            if change.collection == info.name and state.state in ("pending", "parked"):
                found[info.load_key(change.key)] = Outgoing(handle.id, state)
    return found


def standing(state: MutationState | None, connected: bool) -> Standing:
    """The one tag of an order that is in view, by its mutation. Nothing is called sent before its receipt is here."""
    if state is None:
        return "sent"
    if state.state == "parked":
        return "parked"
    return "sending" if state.sent and connected else "pending"


def refused(replica: Replica) -> list[tuple[Rejection, Order, list[OrderItem]]]:
    """The refused orders with their lines, as they were sent, newest first."""
    found = []
    for rejection in reversed(replica.rejections()):
        records = rejection.records
        order = next((r for r in records if isinstance(r, Order)), None)
        if order is not None:
            items = [r for r in records if isinstance(r, OrderItem)]
            found.append((rejection, order, sorted(items, key=lambda i: i.line)))
    return found


def known(replica: Replica, id_: UUID) -> bool:
    """Whether there is an order with this id, also one that was refused."""
    return drafts.readable(replica, Order, id_) is not None or any(order.id == id_ for _, order, _ in refused(replica))


def names(replica: Replica, codes: set[str]) -> Mapping[str, str]:
    """The names of customers; their codes where the names cannot be read."""
    found = {code: code for code in codes}
    with contextlib.suppress(SelectionExpired):
        for customer in replica.select(Customer).where(Customer.code.is_in(sorted(codes))).all() if codes else ():
            found[customer.code] = customer.name
    return found


def listed(replica: Replica, *, connected: bool, zone: ZoneInfo, only: str = "", text: str = "", customer: str = "",
           start: int = 0, count: int = 50) -> tuple[list[Document], int]:  # fmt: skip
    """A page of the list and how long it is: what is not with the head office first, then by date. `only` is a standing."""
    out = outgoing(replica)
    local = [*_drafts(replica, zone), *_refused(replica)]
    local = [d for d in local if only in ("", d.standing) and customer in ("", d.customer) and _matches(replica, d, text)]
    chosen = replica.select(Order).where(_where(replica, only, text, out)).order_by(desc(Order.placed), desc(Order.id))
    if customer:
        chosen = chosen.where(Order.customer == customer)
    page: list[Order] = []
    total = len(local)
    with contextlib.suppress(SelectionExpired):  # what is not with the head office yet is listed all the same
        found = chosen.limit(min(start + count, 10_000)).with_total().all()
        page, total = found, total + (found.total or 0)
    orders = [
        Document(o.id, standing(leaving.state if leaving else None, connected), o.local_number, o.number, o.customer, "",
                 o.placed, o.total, leaving.mutation if leaving else None)
        for o in page for leaving in [out.get(o.id)]
    ]  # fmt: skip
    shown = [*local, *orders][start : start + count]
    known = names(replica, {d.customer for d in shown})
    return [_named(d, known[d.customer]) for d in shown], total


def _named(document: Document, name: str) -> Document:
    return Document(document.id, document.standing, document.local_number, document.number, document.customer, name,
                    document.day, document.total, document.mutation)  # fmt: skip


def _drafts(replica: Replica, zone: ZoneInfo) -> list[Document]:
    found = []
    for draft in replica.select(Draft).order_by(desc(Draft.saved_at)).all():
        if draft.corrects is not None and replica.mutation(draft.corrects).state is not None:
            continue  # the order that it corrects is in the list
        day = datetime.fromtimestamp(draft.saved_at, UTC).astimezone(zone).date()
        total = drafts.sums(drafts.items_of(replica, draft.id)).total
        found.append(Document(draft.id, "draft", draft.local_number, None, draft.customer, "", day, total))
    return found


def _refused(replica: Replica) -> list[Document]:
    return [
        Document(o.id, "rejected", o.local_number, None, o.customer, "", o.placed, o.total, rejection.id)
        for rejection, o, _ in refused(replica)
    ]


def _matches(replica: Replica, document: Document, text: str) -> bool:
    wanted = text.casefold()
    name = names(replica, {document.customer})[document.customer] if wanted else ""
    return wanted in document.local_number.casefold() or wanted in document.customer or wanted in name.casefold()


def _where(replica: Replica, only: str, text: str, out: Mapping[UUID, Outgoing]) -> Filter:
    if only in ("draft", "rejected"):
        return nothing
    ids = list(out)
    parts = Order.id.is_in(ids)
    chosen = parts if only == "pending" else ~parts if only == "sent" else everything
    if not text:
        return chosen
    about = Order.local_number.contains(text) | Order.customer.starts_with(text)
    with contextlib.suppress(SelectionExpired):
        if any(c.isalnum() for c in text):
            about |= Order.customer.is_in([c.code for c in replica.select(Customer).search(text).limit(NAMES_MAX).all()])
    return chosen & (about | (Order.number == int(text)) if text.isdecimal() and len(text) < 12 else about)
