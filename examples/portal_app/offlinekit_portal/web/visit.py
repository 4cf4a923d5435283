"""A visit to a page: what came with the request, whose desk it is, and how to answer. Views run in a thread each."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias
from urllib.parse import quote, unquote

from aiohttp import web
from attrs import field, frozen, mutable
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from multidict import MultiMapping

from offlinekit import Replica
from offlinekit_portal.web import i18n, wordings
from offlinekit_portal.web.desk import Desk

DESK: web.AppKey[Desk] = web.AppKey("desk", Desk)
COOKIE = "portal"
FLASH = "flash"
LANGUAGE = "language"


@frozen
class Answer:
    """What a view returns when plain HTML is not enough."""

    body: str = ""
    status: int = 200
    headers: Mapping[str, str] = field(factory=dict)
    cookies: Mapping[str, str] = field(factory=dict)
    drop: tuple[str, ...] = ()


Said: TypeAlias = "str | Answer"
View: TypeAlias = "Callable[..., Said | Awaitable[Said]]"


@mutable
class Visit:
    """One request, as a view sees it."""

    desk: Desk
    method: str
    path: str
    query: MultiMapping[str]
    form: MultiMapping[Any]
    cookies: Mapping[str, str]
    headers: Mapping[str, str]
    flash: tuple[str, str] | None = None

    @property
    def replica(self) -> Replica:
        """The replica of whoever is signed in."""
        return self.desk.replica

    @property
    def partial(self) -> bool:
        """Whether a part of a page is asked for, which htmx will put in its place."""
        return "HX-Request" in self.headers

    def text(self, name: str, default: str = "", limit: int = 500) -> str:
        """A value of the form, or of the query string."""
        value = self.form.get(name, self.query.get(name, default))
        return value.strip()[:limit] if isinstance(value, str) else default

    def number(self, name: str, default: int = 0, low: int = 0, high: int = 1_000_000_000) -> int:
        """A whole number of the form or the query string, within bounds; the default if it is none."""
        value = self.text(name).replace(".", "")
        return max(low, min(high, int(value))) if value.isascii() and value.isdecimal() and len(value) < 12 else default

    def render(self, template: str, /, **values: Any) -> str:
        """A page or a part of one."""
        return environment.get_template(template).render(visit=self, desk=self.desk, live=self.desk.live(), **values)

    def part(self, template: str, name: str, /, **values: Any) -> str:
        """One block of a template alone: what htmx puts into a page that is there already."""
        found = environment.get_template(template)
        context = found.new_context({"visit": self, "desk": self.desk, "live": self.desk.live(), **values})
        return "".join(found.blocks[name](context))

    def go(self, to: str, *, ok: str = "", bad: str = "") -> Answer:
        """Goes to another page, where a text is shown once."""
        kind, text = ("bad", bad) if bad else ("ok", ok)
        cookies = {FLASH: quote(f"{kind}:{text}")} if text else {}
        if self.partial:
            return Answer(headers={"HX-Redirect": to}, cookies=cookies)
        return Answer(status=303, headers={"Location": to}, cookies=cookies)


class Routes:
    """The pages of one module: `@routes.get("/clientes")`. `open_to_all`: without anybody signed in."""

    def __init__(self) -> None:
        self.table: list[tuple[str, str, View, bool]] = []

    def get(self, path: str, *, open_to_all: bool = False) -> Callable[[View], View]:
        """Declares what answers a GET; path parameters become arguments by name."""
        return self._declare("GET", path, open_to_all)

    def post(self, path: str, *, open_to_all: bool = False) -> Callable[[View], View]:
        """Declares what answers a POST."""
        return self._declare("POST", path, open_to_all)

    def _declare(self, method: str, path: str, open_to_all: bool) -> Callable[[View], View]:
        def keep(view: View) -> View:
            self.table.append((method, path, view, open_to_all))
            return view

        return keep

    def handlers(self) -> list[web.RouteDef]:
        """For aiohttp."""
        return [web.route(method, path, _handler(view, open_to_all)) for method, path, view, open_to_all in self.table]


def _handler(view: View, open_to_all: bool) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        desk = request.app[DESK]
        i18n.current.set(i18n.choose(request.cookies.get(LANGUAGE), request.headers.get("Accept-Language", "")))
        if not open_to_all and not desk.knows(request.cookies.get(COOKIE)):
            if "HX-Request" in request.headers:
                return web.Response(status=401, headers={"HX-Redirect": "/entrar"})
            raise web.HTTPSeeOther("/entrar")
        form: Any = await request.post() if request.method == "POST" else {}
        kind, _, text = unquote(request.cookies.get(FLASH, "")).partition(":")
        shows = request.method == "GET" and "HX-Request" not in request.headers
        flash = (kind, text) if shows and kind in ("ok", "bad") and text else None
        visit = Visit(desk, request.method, request.path, request.query, form, request.cookies, request.headers, flash)
        if inspect.iscoroutinefunction(view):
            said = await view(visit, **request.match_info)
        else:
            said = await asyncio.to_thread(view, visit, **request.match_info)  # the language goes along
        response = respond(said if isinstance(said, Answer) else Answer(said))
        if flash is not None:
            response.del_cookie(FLASH)
        return response

    return handle


def respond(answer: Answer) -> web.Response:
    """An answer as aiohttp sends it."""
    response = web.Response(text=answer.body, status=answer.status, content_type="text/html", headers=answer.headers)
    for name, value in answer.cookies.items():
        age = 60 if name == FLASH else 400 * 86_400
        response.set_cookie(name, value, httponly=True, samesite="Strict", max_age=age)
    for name in answer.drop:
        response.del_cookie(name)
    response.headers["Cache-Control"] = "no-store"
    return response


def icon(name: str, extra: str = "") -> Markup:
    """An icon of the sprite; it says nothing to a screen reader."""
    return Markup('<svg class="icon {}" aria-hidden="true"><use href="/static/icons.svg#{}"/></svg>').format(extra, name)


def initials(name: str) -> str:
    """Two letters for a name."""
    words = [w for w in name.split() if w[0].isalnum()]
    return (words[0][0] + words[-1][0] if len(words) > 1 else name[:2]).upper()


def _environment() -> Environment:
    made = Environment(loader=PackageLoader("offlinekit_portal"), autoescape=True, undefined=StrictUndefined,
                       extensions=["jinja2.ext.i18n"], trim_blocks=True, lstrip_blocks=True)  # fmt: skip
    made.install_gettext_callables(  # type: ignore[attr-defined]
        i18n.gettext, i18n.ngettext, newstyle=True
    )
    made.globals.update(icon=icon, initials=initials, i=i18n.Words(), languages=i18n.LANGUAGES, language_names=i18n.NAMES,
                        trouble=wordings.trouble)  # fmt: skip
    made.filters.update(money=i18n.money, day=i18n.day, clock=i18n.clock, number=i18n.decimal, size=i18n.size,
                        json=lambda v: json.dumps(v, ensure_ascii=True), tr=i18n.gettext)  # fmt: skip
    return made


environment = _environment()
