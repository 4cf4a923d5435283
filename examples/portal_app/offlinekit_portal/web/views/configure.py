"""The Offline Configurator's pages: quick filters, advanced filter, records, review; each change is kept at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import datetime, time, timedelta
from typing import Any

from aiohttp import web
from attrs import frozen

from offlinekit import Configuration, FilterError, InvalidValue, LimitExceeded, SelectionExpired
from offlinekit.exceptions import NotOffered, TransportError
from offlinekit_portal.contract import Representative, offer
from offlinekit_portal.web import choosing, i18n, package, wordings
from offlinekit_portal.web.desk import ZONE
from offlinekit_portal.web.i18n import gettext as _
from offlinekit_portal.web.registers import REGISTERS, Register, register_of
from offlinekit_portal.web.views import candidates
from offlinekit_portal.web.visit import Answer, Routes, Said, Visit

routes = Routes()
STEPS = ("rapido", "avancado", "registros", "revisar")
BODY_STAYS = frozenset({"quick", "tick", "include", "until"})  # what was changed there is shown there already
BASE = "/offline/configurar"


@frozen
class Step:
    """A step as the stepper shows it."""

    slug: str
    label: str
    result: str
    done: bool


def _steps(chips: list[choosing.Chip], now: str, records: str) -> list[Step]:
    quick = [c.text for c in chips if c.name == "unquick"]
    advanced = [c.text for c in chips if c.name == "remove"]
    at = STEPS.index(now)
    return [
        Step(STEPS[0], _("Quick filter"), ", ".join(quick) or _("none"), bool(quick) or at > 0),
        Step(STEPS[1], _("Advanced filter"), " · ".join(advanced) or _("none"), bool(advanced) or at > 1),
        Step(STEPS[2], _("Choose records"), records, at > 2),
        Step(STEPS[3], _("Review and download"), "", False),
    ]


def _values(
    visit: Visit, register: Register, step: str, configuration: Configuration | None = None, error: str = ""
) -> dict[str, Any]:
    configuration = configuration or choosing.resume(visit.desk)
    chosen, offered, pack = configuration.of(register.cls), offer.of(register.cls), package.counted(visit.desk, configuration)
    line = next((x for x in pack.lines if x.slug == register.slug), None) if pack and pack.here else None
    records = i18n.ngettext("%(num)s chosen", "%(num)s chosen", line.records) if line else ""
    chips = choosing.chips(chosen, offered)
    return {
        "registers": REGISTERS, "register": register, "step": step, "chosen": chosen, "offered": offered, "package": pack,
        "steps": _steps(chips, step, records), "chips": chips, "error": error,
        "configuration": configuration, "words": choosing, "offer": offer,
        "home": _home(visit), "gone": wordings.problem_of(configuration.selection),
    }  # fmt: skip


def _home(visit: Visit) -> dict[str, str]:
    """What the values of quick filters start with, by their names: the representative's own state."""
    me = None
    if visit.desk.session is not None:
        with contextlib.suppress(SelectionExpired):
            me = visit.replica.get(Representative, visit.desk.session.rep)
    return {"state": me.state} if me else {}


def _place(schema: str, step: str) -> Register:
    if step not in STEPS:
        raise web.HTTPNotFound
    return register_of(schema)


@routes.get(BASE)
def start(visit: Visit) -> Answer:
    """To the first step of the first register."""
    return visit.go(f"{BASE}/{REGISTERS[0].slug}/{STEPS[0]}")


@routes.get(BASE + "/{schema}/{step}")
def show(visit: Visit, schema: str, step: str) -> Said:
    """A step."""
    register = _place(schema, step)
    values = _values(visit, register, step)
    if values["gone"] and step == "registros":  # which nobody can list; the first step says what it is
        return visit.go(f"{BASE}/{register.slug}/{STEPS[0]}")
    return _whole(visit, values, at_once=True)


def _whole(visit: Visit, values: dict[str, Any], at_once: bool = False) -> str:
    """The whole page; at once: with a connection its list is asked for by the page itself, which waits for no network."""
    around = {"repeat": choosing.repeating(visit.desk), "under_way": choosing.under_way(visit.desk)}
    return visit.render("configure.html", **_with_body(visit, values, at_once and visit.desk.connected), **around)


def _with_body(visit: Visit, values: dict[str, Any], listless: bool = False) -> dict[str, Any]:
    """What the step itself shows besides."""
    if values["step"] == "registros":
        values["asked"] = asked = candidates.Asked.of(visit, values["register"])
        values["found"] = None if listless else candidates.find(visit, values["register"], values["configuration"], asked)
    if values["step"] == "avancado":
        values["row"] = _row(visit, values["register"])
    if values["step"] == "revisar":
        values |= _review(visit, values["configuration"])
    return values


def _review(visit: Visit, configuration: Configuration) -> dict[str, Any]:
    """Until when the selection may be valid, and what waits to be sent."""
    ends, today = configuration.selection.ends, visit.desk.today()
    days = 0 if ends is None else max(1, (ends.date() - today).days)
    labels = {1: _("the end of today"), 2: _("the end of tomorrow"), 7: _("the end of the seventh day"), 0: _("without end")}
    offered = [1, 2, 7] if days in (1, 2, 7) else [1, 2, 7, days]
    said = {d: labels.get(d) or i18n.day(today + timedelta(days=d - 1)) for d in offered}
    return {"validities": list(said.items()), "validity": days}


@routes.get(BASE + "/{schema}/registros/lista")
def found(visit: Visit, schema: str) -> Said:
    """The list alone: another search, order or page."""
    register = register_of(schema)
    try:
        return visit.render("configure_found.html", **_with_body(visit, _values(visit, register, "registros")))
    except NotOffered as error:  # the head office's offer is newer than this portal's
        return _refused(visit, register, "registros", wordings.of(error))


@routes.get(BASE + "/{schema}/avancado/linha")
def row(visit: Visit, schema: str) -> str:
    """The row for a new condition, for the field and the operator that were chosen in it."""
    return visit.render("configure_row.html", register=register_of(schema), row=_row(visit, register_of(schema)), words=choosing)


@routes.get(BASE + "/{schema}/{step}/pacote")
def counted(visit: Visit, schema: str, step: str) -> Answer:
    """Counts the package, which takes a moment, and shows it where the page waits for it."""
    register, configuration = _place(schema, step), choosing.resume(visit.desk)
    try:
        package.count(visit.desk, configuration)
    except TransportError:
        return _changed(visit, register, step, configuration, "uncounted")
    except NotOffered as error:
        return _refused(visit, register, step, wordings.of(error))
    return _changed(visit, register, step, configuration, "counted")


# -- changes


@routes.post(BASE + "/{schema}/{step}")
def change(visit: Visit, schema: str, step: str) -> Answer:
    """Changes the choices; answers with the parts of the page that this changes."""
    register, do = _place(schema, step), visit.text("do")
    action = ACTIONS.get(do)
    try:
        if action is None:
            raise wordings.Said(_("This page is older than the program; load it again."))
        configuration = choosing.change(visit.desk, lambda c: action(visit, register, c))
    except (FilterError, InvalidValue, LimitExceeded) as error:
        return _refused(visit, register, step, wordings.of(error))
    if visit.partial:
        return _changed(visit, register, step, configuration, do)
    return visit.go(f"{BASE}/{register.slug}/{visit.text('to') if visit.text('to') in STEPS else step}")


def _refused(visit: Visit, register: Register, step: str, error: str) -> Answer:
    values = _values(visit, register, step, error=error)
    if visit.partial:
        return Answer(visit.render("configure_changed.html", do="refused", **values), 422)
    return Answer(_whole(visit, values), 422)


def _changed(visit: Visit, register: Register, step: str, configuration: Configuration, do: str) -> Answer:
    values = _values(visit, register, step, configuration)
    body = step == "revisar" if do in ("counted", "uncounted") else do not in BODY_STAYS  # the review shows what was counted
    if body or (step == "registros" and do == "tick"):
        values = _with_body(visit, values)
    return Answer(visit.render("configure_changed.html", do=do, body=body, **values))


def _quick(visit: Visit, register: Register, configuration: Configuration) -> None:
    wanted = visit.form.getall("quick", [])
    for name in wanted:
        quick = offer.quick.get(name)
        told = {} if quick is None else {n: visit.text(f"{name}.{n}") for n in quick.params}
        if quick is not None and not all(told.values()):
            raise wordings.Said(_("Choose what “%(filter)s” is about; then it counts.", filter=_(quick.label)))
        configuration.quick(name, **({} if quick is None else {n: p.parse(told[n]) for n, p in quick.params.items()}))
    for quick in offer.of(register.cls).quick:
        if quick.name not in wanted:
            configuration.unquick(quick.name)


def _row(visit: Visit, register: Register) -> dict[str, Any]:
    """The new condition as far as it is filled in."""
    fields = {a.field.name: a for a in offer.of(register.cls).advanced}
    advanced = fields.get(visit.text("field")) or next(iter(fields.values()))
    operator = visit.text("operator")
    return {
        "fields": fields,
        "advanced": advanced,
        "operator": operator if operator in advanced.operators else advanced.operators[0],
    }


def _add(visit: Visit, register: Register, configuration: Configuration) -> None:
    name, operator = visit.text("field"), visit.text("operator")
    advanced = offer.advanced.get((register.name, name))
    if advanced is None:
        raise wordings.Said(_("This field is not offered."))
    texts = [str(v).strip()[:200] for v in visit.form.getall("value", []) if str(v).strip()]
    if operator == "in" and not advanced.choices:
        texts = [t.strip() for v in texts for t in v.split(",") if t.strip()]
    if operator != "null" and not texts:
        raise wordings.Said(_("Say with what to compare “%(field)s”.", field=_(advanced.label)))
    values = [advanced.parse(t) for t in texts]
    condition = advanced.filter(operator, None if operator == "null" else values if operator == "in" else values[0])
    how = configuration.of(register.cls).joined
    configuration.all_of(condition)
    if how == "any" or visit.text("joined") == "any":
        configuration.join(register.cls, "any")


def _join(visit: Visit, register: Register, configuration: Configuration) -> None:
    configuration.join(register.cls, "any" if visit.text("joined") == "any" else "all")


def _include(visit: Visit, register: Register, configuration: Configuration) -> None:
    wanted = visit.form.getall("include", [])
    for name in wanted:
        configuration.include(name)
    for include in offer.of(register.cls).includes:
        if include.name not in wanted:
            configuration.exclude(include.name)


def _anew(visit: Visit, register: Register, configuration: Configuration) -> None:
    """Forgets all choices: some of them are not offered any more."""
    for each in REGISTERS:
        configuration.clear(each.cls)


def _until(visit: Visit, register: Register, configuration: Configuration) -> None:
    days = visit.number("days", 1, 1, 7)
    midnight = datetime.combine(visit.desk.today(), time(), ZONE)
    configuration.until(midnight + timedelta(days=days))


ACTIONS: dict[str, Callable[[Visit, Register, Configuration], object]] = {
    "quick": _quick,
    "unquick": lambda v, r, c: c.unquick(v.text("value")),
    "add": _add,
    "remove": lambda v, r, c: c.remove(v.text("value")),
    "join": _join,
    "anew": _anew,
    "unfilter": lambda v, r, c: c.unfiltered(r.cls),
    "include": _include,
    "until": _until,
    "tick": candidates.tick,
    "page": candidates.tick,
    "all": candidates.take_all,
    "leave": candidates.leave,
    "none": lambda v, r, c: c.pick_none(r.cls),
}
