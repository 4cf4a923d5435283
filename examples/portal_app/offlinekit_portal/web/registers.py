"""The registers of which a device takes a part: what they are called, how their lists are sorted, what a row shows."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from attrs import frozen

from offlinekit import Collection, desc
from offlinekit_portal.contract import Customer, Product, Prospect


def _(text: str) -> str:
    """Marks a text for translation; the pages translate it."""
    return text


@frozen
class Register:
    """One of the registers, as pages name it; `slug` is its place in addresses."""

    slug: str
    cls: type[Collection]
    label: str
    icon: str
    search: str
    sorts: dict[str, tuple[str, tuple[Any, ...]]]

    @property
    def name(self) -> str:
        """Its name in the schema."""
        return self.cls.__name__.lower()


REGISTERS = (
    Register("clientes", Customer, _("Customers"), "building-store", _("Name, trade name, tax id or city"), {
        "recente": (_("Last order"), (desc(Customer.last_order),)),
        "nome": (_("Name"), (Customer.name,)),
        "cidade": (_("City"), (Customer.state, Customer.city)),
    }),
    Register("prospects", Prospect, _("Prospects"), "user-plus", _("Name, tax id or city"), {
        "recente": (_("Newest"), (desc(Prospect.since),)),
        "nome": (_("Name"), (Prospect.name,)),
        "cidade": (_("City"), (Prospect.state, Prospect.city)),
    }),
    Register("produtos", Product, _("Products"), "package", _("Code or name"), {
        "nome": (_("Name"), (Product.name,)),
        "grupo": (_("Group"), (Product.group, Product.name)),
        "estoque": (_("Stock"), (desc(Product.stock),)),
        "novidade": (_("Newest"), (desc(Product.launched),)),
    }),
)  # fmt: skip
ICONS = {"contacts": "phone", "addresses": "map-pin", "history": "history", "prices": "tag"}


def register_of(slug: str) -> Register:
    """The register of an address; there is no such page for others."""
    for register in REGISTERS:
        if register.slug == slug:
            return register
    raise web.HTTPNotFound
