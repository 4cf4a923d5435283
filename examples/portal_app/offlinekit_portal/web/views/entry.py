"""Order entry: products found as one types, lines, sums; kept on this device at every change, then saved to be sent."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Callable, Mapping
from datetime import date, datetime
from functools import wraps
from typing import Any
from uuid import UUID

from aiohttp import web
from attrs import field, frozen
from markupsafe import Markup, escape

from offlinekit import OfflinekitError, SelectionExpired
from offlinekit_portal import documents, drafts
from offlinekit_portal.contract import Customer, Draft, DraftItem, Order, PaymentTerm, PriceList, Product
from offlinekit_portal.drafts import Gone, Left, Wrong
from offlinekit_portal.web import reasons
from offlinekit_portal.web.desk import ZONE
from offlinekit_portal.web.i18n import decimal, ngettext
from offlinekit_portal.web.i18n import gettext as _
from offlinekit_portal.web.visit import Answer, Routes, Visit

routes = Routes()
SEARCH_MAX = 100
REMOTE_S = 6.0


@frozen
class Typed:
    """What the form holds: what fits, by line and for the order, and what does not, by the name of its field."""

    lines: Mapping[int, Mapping[str, Any]] = field(factory=dict)
    order: Mapping[str, Any] = field(factory=dict)
    wrong: Mapping[str, str] = field(factory=dict)
    raw: Mapping[str, str] = field(factory=dict)


def of_draft(view: Callable[..., Any]) -> Callable[..., Any]:
    """For views of a draft: finds it, and says where it went when it is no more."""

    @wraps(view)
    def found(visit: Visit, draft: str, **more: str) -> Any:
        try:
            return view(visit, drafts.find(visit.replica, uuid(draft)), **more)
        except Gone:
            if drafts.readable(visit.replica, Order, uuid(draft)) is not None:
                return visit.go(f"/pedidos/{draft}")
            return visit.go("/pedidos", bad=_("That draft is not on this device any more."))

    return found


def uuid(text: str) -> UUID:
    """An id of an address; a page that is not there when it is none."""
    try:
        return UUID(text)
    except ValueError:
        raise web.HTTPNotFound from None


# -- the page


@routes.get("/pedidos/novo")
def begin(visit: Visit) -> Answer:
    """A new draft for a customer."""
    code = visit.text("cliente", limit=20)
    if not code:
        return visit.go("/clientes", ok=_("Choose the customer of the new order."))
    if visit.replica.get(Customer, code) is None:
        return visit.go("/clientes", bad=_("That customer is not on this device."))
    return visit.go(f"/pedidos/rascunho/{drafts.begin(visit.replica, code).id}")


@routes.get("/pedidos/rascunho/{draft}")
@of_draft
def page(visit: Visit, draft: Draft) -> str:
    """The page."""
    return visit.render("entry.html", **_shown(visit, draft))


def _shown(visit: Visit, draft: Draft, typed: Typed | None = None) -> dict[str, Any]:
    """What page and parts show of a draft."""
    replica = visit.replica
    customer = drafts.readable(replica, Customer, draft.customer)
    lines = drafts.lines_of(replica, draft)
    refusal = next((r for r, order, _items in documents.refused(replica) if order.id == draft.id), None)
    return {
        "draft": draft, "customer": customer, "lines": lines, "sums": drafts.sums(line.item for line in lines),
        "saved": datetime.fromtimestamp(draft.saved_at, ZONE), "typed": typed or Typed(), "today": visit.desk.today(),
        "term": replica.get(PaymentTerm, customer.term) if customer else None,
        "price_list": replica.get(PriceList, customer.price_list) if customer else None,
        "latest": drafts.last_order(replica, draft.customer), "refusal": refusal,
        "reason": reasons.of(refusal) if refusal else None,
    }  # fmt: skip


def _parts(visit: Visit, draft: UUID, say: str = "", typed: Typed | None = None, status: int = 200) -> Answer:
    """The parts of the page that a change touches."""
    shown = _shown(visit, drafts.find(visit.replica, draft), typed)
    return Answer(visit.render("entry_parts.html", say=say, summary=[], **shown), status, {"HX-Trigger": "sums"})


# -- products


@routes.get("/pedidos/rascunho/{draft}/produtos")
@of_draft
def products(visit: Visit, draft: Draft) -> str:
    """What the search found, as options of the combobox."""
    text, hits, customer, locked = visit.text("q", limit=SEARCH_MAX), [], None, False
    try:
        customer = visit.replica.get(Customer, draft.customer)
        if customer is not None and any(c.isalnum() for c in text):
            hits = drafts.search(visit.replica, customer, text)
        among = visit.replica.select(Product).count()
    except SelectionExpired:
        among, locked = 0, True
    marked = [(hit, highlight(hit.product.name, text)) for hit in hits]
    return visit.render("entry_found.html", text=text, hits=marked, among=among, customer=customer, locked=locked)


def highlight(name: str, text: str) -> Markup:
    """A name with the beginnings of words marked that the search looked for, accents and case aside."""
    words = [fold(w) for w in text.split() if w]
    said, at_start, skip = Markup(), True, 0
    for n, char in enumerate(name):
        if skip:
            skip -= 1
        elif at_start and (hit := max((len(w) for w in words if fold(name[n:]).startswith(w)), default=0)):
            said += Markup("<mark>{}</mark>").format(name[n : n + hit])
            skip = hit - 1
        else:
            said += escape(char)
        at_start = not char.isalnum()
    return said


def fold(text: str) -> str:
    """Without accents and case, one character for each."""
    return "".join(unicodedata.normalize("NFD", c)[0].casefold()[:1] or c for c in text)


@routes.post("/pedidos/rascunho/{draft}/linhas")
@of_draft
def add(visit: Visit, draft: Draft) -> Answer:
    """Adds a product."""
    typed = _keep(visit, draft)
    try:
        item, fresh = drafts.add(visit.replica, draft.id, visit.text("product", limit=20))
    except Wrong as wrong:
        return _parts(visit, draft.id, complaint("product", wrong.fields["product"]), typed, 422)
    product = visit.replica.get(Product, item.product)
    name = product.name if product else item.product
    said = _("%(name)s added. Enter the quantity.", name=name) if fresh else _("%(name)s is in the order already.", name=name)
    return _parts(visit, draft.id, said, typed)


@routes.post("/pedidos/rascunho/{draft}/linhas/{line}/remover")
@of_draft
def remove(visit: Visit, draft: Draft, line: str) -> Answer:
    """Removes a line."""
    typed = _keep(visit, draft)
    if line.isdecimal():
        drafts.remove(visit.replica, draft.id, int(line))
    return _parts(visit, draft.id, _("Line removed."), typed)


@routes.post("/pedidos/rascunho/{draft}/repetir")
@of_draft
def repeat(visit: Visit, draft: Draft) -> Answer:
    """Adds what the customer ordered last."""
    typed = _keep(visit, draft)
    added, left = drafts.repeat(visit.replica, draft.id)
    said = ngettext("%(num)s line added from the last order.", "%(num)s lines added from the last order.", added)
    if left:
        said = ngettext("%(said)s %(num)s product has no price any more.", "%(said)s %(num)s products have no price any more.",
                        left, said=said)  # fmt: skip
    return _parts(visit, draft.id, said, typed)


@routes.post("/pedidos/rascunho/{draft}/precos")
@of_draft
def reprice(visit: Visit, draft: Draft) -> Answer:
    """Takes today's prices."""
    typed = _keep(visit, draft)
    count = drafts.reprice(visit.replica, draft.id)
    return _parts(visit, draft.id, ngettext("%(num)s price updated.", "%(num)s prices updated.", count), typed)


# -- what is typed


def _read(visit: Visit, items: list[DraftItem]) -> Typed:
    """What the form says, against the lines that there are; fields that it does not have are left alone."""
    lines: dict[int, dict[str, Any]] = {}
    order: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    raw = {name: value.strip()[:1000] for name, value in visit.form.items() if isinstance(value, str)}
    more, at = visit.text("more"), visit.text("at")
    for item in items:
        for name, key, read in (("quantity", "q", drafts.quantity_of), ("discount", "d", drafts.discount_of)):
            text = raw.get(f"{key}{item.line}")
            if text is not None:
                value = read(text)
                if value is None:
                    wrong[f"{key}{item.line}"] = complaint(name)
                elif value != getattr(item, name):
                    lines.setdefault(item.line, {})[name] = value
        if at == str(item.line) and more in ("1", "-1"):
            now = lines.get(item.line, {}).get("quantity", item.quantity) + int(more)
            lines.setdefault(item.line, {})["quantity"] = max(1, min(drafts.QUANTITY_MAX, now))
            wrong.pop(f"q{item.line}", None)
    if "note" in raw:
        order["note"] = raw["note"][: drafts.NOTE_MAX]
    if "delivery" in raw:
        try:
            order["delivery"] = date.fromisoformat(raw["delivery"]) if raw["delivery"] else None
        except ValueError:
            wrong["delivery"] = complaint("delivery", "date")
    return Typed(lines, order, wrong, raw)


def complaint(name: str, code: str = "") -> str:
    """What is wrong, in words."""
    return {
        "quantity": _("Enter a whole quantity from 1 to %(most)s.", most=decimal(drafts.QUANTITY_MAX)),
        "discount": _("Enter a discount from 0 to 100, with at most two decimals."),
        "delivery": _("Enter a delivery date that is not in the past.") if code == "past" else _("Enter a date."),
        "product": {
            "empty": _("Add at least one product."),
            "unpriced": _("This product has no price for the customer."),
            "full": _("An order has at most %(most)s lines.", most=decimal(drafts.LINES_MAX)),
            "customer": _("The customer is not on this device any more."),
            "expired": _("The selection for this device has expired. Renew it to save; the draft stays here."),
        }.get(code, ""),
    }[name]


def _keep(visit: Visit, draft: Draft) -> Typed:
    """Keeps whatever the form holds that fits."""
    typed = _read(visit, drafts.items_of(visit.replica, draft.id))
    drafts.keep(visit.replica, draft.id, typed.lines, **typed.order)
    return typed


@routes.post("/pedidos/rascunho/{draft}/guardar")
@of_draft
def keep(visit: Visit, draft: Draft) -> Answer:
    """Keeps what was typed, at every change."""
    typed = _keep(visit, draft)
    return _parts(visit, draft.id, next(iter(typed.wrong.values()), ""), typed, 422 if typed.wrong else 200)


# -- saving


@routes.post("/pedidos/rascunho/{draft}/salvar")
@of_draft
def save(visit: Visit, draft: Draft) -> Answer:
    """Turns the draft into an order to send, or says what to correct."""
    typed = _keep(visit, draft)
    wrong = dict(typed.wrong)
    try:
        if not wrong:
            order = drafts.save(visit.replica, draft.id, visit.desk.today())
            return visit.go(f"/pedidos/{order.id}")  # which says where the order stands
    except Wrong as error:
        wrong = {name: complaint(name, code) for name, code in error.fields.items()}
    except SelectionExpired:
        wrong = {"product": complaint("product", "expired")}
    except Left:
        drafts.delete(visit.replica, draft.id)
        return visit.go(f"/pedidos/{draft.id}", bad=_("The order was sent meanwhile, so it was not changed."))
    fields = {"product": "psearch", **{name: name for name in wrong if name != "product"}}
    summary = [(fields[name], text) for name, text in wrong.items()]
    shown = _shown(visit, drafts.find(visit.replica, draft.id), Typed(wrong=wrong, raw=typed.raw))
    template = "entry_parts.html" if visit.partial else "entry.html"
    return Answer(visit.render(template, say="", summary=summary, **shown), 422)


@routes.post("/pedidos/rascunho/{draft}/apagar")
@of_draft
def delete(visit: Visit, draft: Draft) -> Answer:
    """Deletes the draft; a refused order that it was to correct stays refused."""
    refusal = next((r for r, order, _items in documents.refused(visit.replica) if order.id == draft.id), None)
    drafts.delete(visit.replica, draft.id)
    if refusal is not None:
        return visit.go(f"/pendencias/{refusal.id}", ok=_("The correction was dropped; the order is as it was."))
    return visit.go("/pedidos", ok=_("Draft %(number)s was deleted.", number=draft.local_number))


# -- what only the head office knows


@routes.get("/pedidos/rascunho/{draft}/limite")
async def credit(visit: Visit, draft: str) -> Answer:
    """What the customer may still buy for, asked of the head office; says so when there is no answer."""
    found = visit.replica.get(Draft, uuid(draft))
    left, asked, total = None, visit.desk.live().online, None
    if found is not None and asked:
        total = drafts.sums(await asyncio.to_thread(drafts.items_of, visit.replica, found.id)).total
        try:
            query = visit.replica.remote.select(Customer).where(Customer.code == found.customer)
            page = await asyncio.wait_for(query.fetch(), REMOTE_S)
            left = page[0].credit_left if page else None
        except (OfflinekitError, TimeoutError):
            pass
    return Answer(await asyncio.to_thread(visit.render, "entry_credit.html", left=left, asked=asked, total=total))
