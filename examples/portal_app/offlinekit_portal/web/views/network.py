"""The demo's line to the head office: pulling the plug, in five ways, and seeing what passes."""

from __future__ import annotations

import logging
from typing import Any

from aiohttp import web
from attrs import frozen

from offlinekit_portal.plug import Mode, PlugControl, PlugUnreachable
from offlinekit_portal.web import wordings
from offlinekit_portal.web.i18n import gettext as _
from offlinekit_portal.web.visit import Answer, Routes, Visit

routes = Routes()
_log = logging.getLogger("offlinekit.portal")


@frozen
class Choice:
    """A way the line can be, in words."""

    kind: str
    label: str
    explanation: str
    mode: Mode


def _choices() -> list[Choice]:
    return [
        Choice("through", _("Connected"), _("Everything passes."), Mode("through")),
        Choice("refuse", _("Plug pulled"), _("No signal: every attempt is refused at once."), Mode("refuse")),
        Choice("black_hole", _("Black hole"), _("The worst signal: it seems to be there, but nothing ever answers."),
               Mode("black_hole")),
        Choice("slow", _("Slow line"), _("A village with one bar: 32 KB a second, and a delay before each answer."),
               Mode("slow")),
        Choice("cut", _("Cut in the middle"), _("The next large answer breaks off half-way; the one after it passes."),
               Mode("cut")),
    ]  # fmt: skip


def _control(visit: Visit) -> PlugControl:
    if visit.desk.plug_control is None:  # there is no such page outside the demo
        raise web.HTTPNotFound
    return PlugControl(visit.desk.plug_control)


async def _page(visit: Visit, template: str, status: int = 200) -> Answer:
    values: dict[str, Any] = {"state": None, "trouble": "", "choices": _choices()}
    try:
        values["state"] = await _control(visit).state()
    except PlugUnreachable as error:
        _log.info("%s", error)
        values["trouble"] = wordings.of(error)
    return Answer(visit.render(template, **values), status)


@routes.get("/dev/rede")
async def show(visit: Visit) -> Answer:
    """The switch."""
    return await _page(visit, "network.html")


@routes.get("/dev/rede/estado")
async def state(visit: Visit) -> Answer:
    """The switch's state alone, for the page that is open."""
    return await _page(visit, "network_state.html")


@routes.post("/dev/rede")
async def switch(visit: Visit) -> Answer:
    """Switches."""
    control, wanted = _control(visit), {choice.kind: choice.mode for choice in _choices()}.get(visit.text("kind"))
    if wanted is None:
        return await _page(visit, "network.html", 422)
    try:
        await control.switch(wanted)
    except PlugUnreachable as error:
        _log.warning("%s", error)
        return visit.go("/dev/rede", bad=wordings.of(error))
    return visit.go("/dev/rede")
