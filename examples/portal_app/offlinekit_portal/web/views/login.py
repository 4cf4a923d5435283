"""Signing in and out, and choosing a language. Signing in needs the head office; going on with a session does not."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from offlinekit_portal.web import i18n
from offlinekit_portal.web.desk import OfficeUnreachable, SignInRefused
from offlinekit_portal.web.i18n import gettext as _
from offlinekit_portal.web.visit import COOKIE, LANGUAGE, Answer, Routes, Visit, environment

routes = Routes()


def _form(visit: Visit, user: str = "", error: str = "", status: int = 200) -> Answer:
    known = visit.desk.knows(visit.cookies.get(COOKIE))
    page = environment.get_template("login.html").render(visit=visit, desk=visit.desk, user=user, error=error, known=known)
    return Answer(page, status)


@routes.get("/entrar", open_to_all=True)
async def form(visit: Visit) -> Answer:
    """The form."""
    return _form(visit)


@routes.post("/entrar", open_to_all=True)
async def sign_in(visit: Visit) -> Answer:
    """Asks the head office, opens the replica and goes home."""
    user, password = visit.text("user", limit=64), str(visit.form.get("password", ""))[:200]
    if not user or not password:
        return _form(visit, user, _("Enter your user and your password."), 422)
    try:
        secret = await visit.desk.sign_in(user, password)
    except SignInRefused as refused:
        if str(refused) == "wait":
            return _form(visit, user, _("Too many attempts. Wait a minute and try again."), 429)
        return _form(visit, user, _("The user or the password is wrong."), 401)
    except OfficeUnreachable:
        return _form(visit, user, _("The head office cannot be reached. Signing in needs a connection."), 503)
    return Answer(status=303, headers={"Location": "/inicio"}, cookies={COOKIE: secret})


@routes.post("/sair")
async def sign_out(visit: Visit) -> Answer:
    """Signs out; what is not sent yet stays on this device."""
    await asyncio.to_thread(visit.desk.sign_out)
    return Answer(status=303, headers={"Location": "/entrar"}, drop=(COOKIE,))


@routes.get("/idioma/{code}", open_to_all=True)
async def language(visit: Visit, code: str) -> Answer:
    """Changes the language, and comes back to the page where the reader was."""
    cookies = {LANGUAGE: code} if code in i18n.LANGUAGES else {}
    return Answer(status=303, headers={"Location": _back(visit)}, cookies=cookies)


def _back(visit: Visit) -> str:
    """The page of this portal from which the reader came, else home; never another site, which `//host` would be."""
    came = urlsplit(visit.headers.get("Referer", ""))
    path = "/" + came.path.lstrip("/\\")
    if came.netloc != visit.headers.get("Host") or path == "/":
        return "/inicio"
    return f"{path}?{came.query}" if came.query else path


@routes.get("/", open_to_all=True)
async def start(visit: Visit) -> Answer:
    """Home, or the form."""
    to = "/inicio" if visit.desk.knows(visit.cookies.get(COOKIE)) else "/entrar"
    return Answer(status=303, headers={"Location": to})
