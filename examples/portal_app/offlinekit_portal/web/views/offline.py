"""What is on this device: the package, its validity, renewing it in one click, and watching it arrive."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from offlinekit import Configuration
from offlinekit.exceptions import NotOffered, TransportError
from offlinekit_portal.contract import Customer, Product, offer
from offlinekit_portal.web import choosing, package, wordings
from offlinekit_portal.web.i18n import gettext as _
from offlinekit_portal.web.registers import REGISTERS, Register
from offlinekit_portal.web.visit import Answer, Routes, Visit

routes = Routes()


@frozen
class Held:
    """A register as it stands on this device."""

    register: Register
    records: int | None  # None: locked, because the selection has expired
    chips: list[choosing.Chip]
    by_hand: int
    left_out: int
    along: list[str]


@routes.get("/offline")
def show(visit: Visit) -> str:
    """The page of the package."""
    return visit.render("offline.html", **_values(visit))


def _held(register: Register, saved: Configuration, records: int | None) -> Held:
    chosen, offered = saved.of(register.cls), offer.of(register.cls)
    along = [i.label for i in offered.includes if i.name in chosen.includes]
    return Held(register, records, choosing.chips(chosen, offered), len(chosen.picks), len(chosen.unpicks), along)


def _values(visit: Visit) -> dict[str, Any]:
    desk, saved, counts = visit.desk, visit.replica.configure().renew(), visit.desk.held()
    return {
        "held": [_held(register, saved, counts.get(register.name)) for register in REGISTERS],
        "bytes": desk.bytes_held(),
        "free": desk.bytes_free(),
        "package": package.counted(desk, saved),
        "under_way": choosing.under_way(desk),
        "began": visit.replica.selection.began,
        "repeat": choosing.repeating(desk),
        "problem": wordings.problem_of(visit.replica.selection),
    }


@routes.get("/offline/pacote")
def counted(visit: Visit) -> Answer:
    """Counts the saved package."""
    try:
        package.count(visit.desk, visit.replica.configure().renew())
    except (TransportError, NotOffered):  # the page itself says so
        return Answer(visit.render("offline_sizes.html", **_values(visit)))
    return Answer(visit.render("offline_sizes.html", **_values(visit)))


@routes.post("/offline/renovar")
def renew(visit: Visit) -> Answer:
    """The same selection once more, valid anew."""
    if not visit.desk.live().chosen:
        return visit.go("/offline", bad=_("Nothing was chosen on this device yet, so there is nothing to repeat."))
    choosing.forget(visit.desk)
    return _save(visit, visit.replica.configure().renew())


@routes.post("/offline/sugestao")
def suggestion(visit: Visit) -> Answer:
    """What most representatives take: all their customers with everything about them, and the whole catalogue with its prices."""
    take = visit.replica.configure()
    for name in ("my_customers", "my_prospects", "catalogue"):
        take.quick(name)
    for cls in (Customer, Product):
        for include in offer.of(cls).includes:
            take.include(include.name)
    choosing.forget(visit.desk)
    return _save(visit, take)


@routes.post("/offline/descartar")
def discard(visit: Visit) -> Answer:
    """Drops the choices under way."""
    choosing.forget(visit.desk)
    return visit.go("/offline", ok=_("The changes were dropped. The saved selection counts."))


@routes.post("/offline/salvar")
def save(visit: Visit) -> Answer:
    """Saves the choices; they are fetched at once, or at the next connection."""
    configuration = choosing.resume(visit.desk)
    if not any(configuration.of(r.cls).filtered or configuration.of(r.cls).picks for r in REGISTERS):
        return visit.go(
            "/offline/configurar/clientes/rapido", bad=_("Nothing is chosen yet: tick at least one filter or one record.")
        )
    return _save(visit, configuration)


def _save(visit: Visit, configuration: Configuration) -> Answer:
    """Saves, when there is room for it, and shows it arrive."""
    found = None
    if visit.desk.connected:
        try:
            found = package.fresh(visit.desk, configuration)
        except NotOffered as error:
            return visit.go("/offline/configurar/clientes/rapido", bad=_("Choose anew: %(reason)s", reason=wordings.of(error)))
        except TransportError:  # it went just now: what is saved takes effect later
            found = None
    if found is not None and not found.fits:
        return visit.go("/offline/configurar/clientes/revisar", bad=_("The package does not fit on this device."))
    saved = configuration.save()
    choosing.forget(visit.desk)
    package.begin(visit.desk, saved.id, found)
    if visit.desk.connected:
        return visit.go("/offline/baixando")
    return visit.go("/offline", ok=_("Saved on this device. It takes effect at the next connection."))


# -- fetching


@routes.get("/offline/baixando")
def downloading(visit: Visit) -> str:
    """How far the package is."""
    return visit.render("downloading.html", **_progress(visit))


@routes.get("/offline/baixando/estado")
def progress(visit: Visit) -> str:
    """The same, for the page that is open."""
    return visit.render("downloading_state.html", **_progress(visit))


def _progress(visit: Visit) -> dict[str, Any]:
    live, download, counts = visit.desk.live(), package.under_way(visit.desk), visit.desk.held()
    done = visit.desk.pulled()
    lines = [(r, counts.get(r.name), (download.records if download else {}).get(r.slug)) for r in REGISTERS]
    return {"done": done, "lines": lines, "download": download, "bytes": visit.desk.bytes_held(), "at": live}
