"""Customers: the list with quick search, filters and pages; what only the head office knows is asked for each page."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from aiohttp import web

from offlinekit import Filter, OfflinekitError, Replica, desc
from offlinekit.query import Select
from offlinekit.replica.why import Reason
from offlinekit_portal import documents
from offlinekit_portal.contract import Address, Contact, Customer, PaymentTerm, PriceList
from offlinekit_portal.web.desk import ZONE
from offlinekit_portal.web.i18n import gettext as _
from offlinekit_portal.web.paging import Pages
from offlinekit_portal.web.views.entry import REMOTE_S
from offlinekit_portal.web.visit import Answer, Routes, Visit

routes = Routes()
SEARCH_FROM = 3  # characters; digits search from the first on
LAPSES = ("30", "90", "silent", "never")
SORTS = ("name", "city", "recent", "code")
VIEWS = ("table", "cards")
VIEW = "customers as"


def lapses() -> Mapping[str, str]:
    """What may be chosen about the last order."""
    return {"30": _("Bought in 30 days"), "90": _("Bought in 90 days"), "silent": _("Nothing for 90 days"),
            "never": _("Never bought")}  # fmt: skip


def sorts() -> Mapping[str, str]:
    """The orders in which the list may be shown."""
    return {"name": _("Name"), "city": _("City"), "recent": _("Latest order first"), "code": _("Code")}


@routes.get("/clientes")
def listing(visit: Visit) -> Answer:
    """The list; with htmx, the part that changes with what is typed and chosen."""
    replica = visit.replica
    chosen = {name: visit.text(name, limit=80) for name in ("q", "cidade", "segmento", "uf", "compra", "ordem")}
    chosen["compra"] = chosen["compra"] if chosen["compra"] in LAPSES else ""
    chosen["ordem"] = chosen["ordem"] if chosen["ordem"] in SORTS[1:] else ""
    start = Pages.start_of(visit)
    found = _query(replica, chosen, visit.desk.today()).limit(start + Pages.SIZE).with_total().all()
    shown, total = found[start:], found.total or 0
    pages = Pages("/clientes", chosen, start, len(shown), total)
    template = "customers_list.html" if visit.partial else "customers.html"
    body = visit.render(template, shown=shown, pages=pages, chosen=chosen, choices=_choices(replica), chips=_chips(pages),
                        view=_view(visit), held=replica.select(Customer).count(), lapses=lapses(), sorts=sorts())  # fmt: skip
    return Answer(body, headers=pages.address(visit))


def _view(visit: Visit) -> str:
    """Table or cards: as chosen here, else as last time."""
    wanted, last = visit.text("ver"), visit.desk.setting(VIEW, "table")
    if wanted in VIEWS and wanted != last:
        visit.desk.remember(VIEW, wanted)
    return wanted if wanted in VIEWS else last


def _query(replica: Replica, chosen: Mapping[str, str], day: date) -> Select[Customer]:
    query = replica.select(Customer)
    parts: list[Filter] = []
    for name, column in (("cidade", Customer.city), ("segmento", Customer.segment), ("uf", Customer.state)):
        if chosen[name]:
            parts.append(column == chosen[name])
    lapse = chosen["compra"]
    if lapse in ("30", "90"):
        parts.append(Customer.last_order >= day - timedelta(days=int(lapse)))
    elif lapse == "silent":
        parts.append((Customer.last_order < day - timedelta(days=90)) | Customer.last_order.is_null())
    elif lapse == "never":
        parts.append(Customer.last_order.is_null())
    if parts:
        query = query.where(*parts)
    text = chosen["q"]
    digits = "".join(c for c in text if c.isdecimal())
    if digits and set(text) <= set("0123456789.-/ "):
        # As a code from its beginning, or as it stands in a tax id: both are known by heart, with or without points.
        query = query.where(Customer.code.starts_with(text) | Customer.code.contains(text) | Customer.tax_id.contains(text))
    elif len(text) >= SEARCH_FROM and any(c.isalnum() for c in text):
        query = query.search(text)
    orders: Mapping[str, tuple[Any, ...]] = {"city": (Customer.city, Customer.name), "recent": (desc(Customer.last_order),),
                                             "code": (Customer.code,)}  # fmt: skip
    return query.order_by(*orders.get(chosen["ordem"], (Customer.name,)))


def _choices(replica: Replica) -> dict[str, list[str]]:
    """The cities, states and segments that there are on this device."""
    return {
        name: [str(row[0]) for row in replica.sql(f"SELECT DISTINCT {column} FROM customer ORDER BY {column}")]
        for name, column in (("cidade", "city"), ("segmento", "segment"), ("uf", "state"))
    }


def _chips(pages: Pages) -> list[tuple[str, str, str]]:
    """The filters that apply, as (field, value, the address without it)."""
    fields = {"q": _("Search"), "cidade": _("City"), "segmento": _("Segment"), "uf": _("State"), "compra": _("Last order")}
    return [
        (label, lapses()[value] if name == "compra" else value, pages.at(**{name: ""}))
        for name, label in fields.items()
        if (value := pages.chosen[name])
    ]


# -- what only the head office knows


@routes.get("/clientes/financeiro")
async def finances(visit: Visit) -> Answer:
    """The financial standing of the customers of a page, each for its place in the list."""
    codes = [c for c in visit.query.getall("c", []) if len(c) <= 20][: Pages.SIZE]
    asked, told = visit.desk.live().online, await _finances(visit, codes)
    body = await asyncio.to_thread(visit.render, "customers_finance.html", codes=codes, told=told, asked=asked)
    return Answer(body)


async def _finances(visit: Visit, codes: list[str]) -> dict[str, Customer]:
    """The customers as the head office has them; nothing without a connection or without an answer in time."""
    if not codes or not visit.desk.live().online:
        return {}
    try:
        query = visit.replica.remote.select(Customer).where(Customer.code.is_in(codes))
        return {c.code: c for c in await asyncio.wait_for(query.fetch(), REMOTE_S)}
    except (OfflinekitError, TimeoutError):
        return {}


@routes.get("/clientes/{code}/financeiro")
async def finance(visit: Visit, code: str) -> Answer:
    """The financial standing of one customer."""
    asked, told = visit.desk.live().online, await _finances(visit, [code[:20]])
    body = await asyncio.to_thread(visit.render, "customer_finance.html", code=code, told=told.get(code), asked=asked)
    return Answer(body)


# -- one customer


@routes.get("/clientes/{code}")
def page(visit: Visit, code: str) -> str:
    """A customer."""
    replica = visit.replica
    customer = replica.get(Customer, code)
    if customer is None:
        raise web.HTTPNotFound
    orders, total = documents.listed(replica, connected=visit.desk.live().online, zone=ZONE, customer=code, count=10)
    return visit.render("customer.html", customer=customer, orders=orders, total=total,
                        addresses=replica.select(Address).where(Address.customer == code).order_by(Address.line).all(),
                        contacts=replica.select(Contact).where(Contact.customer == code).order_by(Contact.line).all(),
                        term=replica.get(PaymentTerm, customer.term), price_list=replica.get(PriceList, customer.price_list),
                        why=[held_by(reason) for reason in replica.why(customer)])  # fmt: skip


def held_by(reason: Reason) -> str:
    """Why a record is on this device, in words."""
    return {
        "quick": _("the filter “%(name)s”", name=_(reason.label)),
        "condition": _("your advanced filter"),
        "pick": _("your own choice"),
        "include": _("what goes along: %(name)s", name=_(reason.label)),
        "always": _("what every device holds"),
        "created": _("it was made here"),
        "pending": _("a change that is still to be sent"),
        "evicted": _("a change that is still to be sent"),
        "unpick": _("another choice, although you left it out"),
        "expired": _("a selection that has expired"),
        "not_offered": _("a filter that is not offered any more"),
    }.get(reason.kind, _("a rule of the head office"))
