"""The portal's process: pages on this machine's loopback alone, over the replica of whoever is signed in."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.resources
import logging
import mimetypes
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

from offlinekit import OfflinekitError, SelectionExpired
from offlinekit_portal.alone import alone
from offlinekit_portal.web import i18n, live, wordings
from offlinekit_portal.web.desk import Desk
from offlinekit_portal.web.i18n import gettext as _
from offlinekit_portal.web.views import configure, customers, entry, home, login, network, offline, orders, queue, settings
from offlinekit_portal.web.visit import COOKIE, DESK, LANGUAGE, Answer, Visit, respond

_log = logging.getLogger("offlinekit.portal")
HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})
POLICY = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
BODY_MAX = 1 << 20
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

mimetypes.add_type("font/woff2", ".woff2")  # which Python 3.11 does not know
mimetypes.add_type("image/svg+xml", ".svg")


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answers this machine's own browser only: no other host name (DNS rebinding), no other site's forms."""
    _speak(request)
    host = request.host.rsplit(":", 1)[0] if not request.host.endswith("]") else request.host
    if host not in HOSTS:
        raise web.HTTPMisdirectedRequest(text=_("This portal answers at 127.0.0.1 only."))
    origin = request.headers.get("Origin")
    foreign = origin is not None and urlsplit(origin).netloc != request.host
    foreign = foreign or request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site")  # another port is a site's own
    if request.method not in ("GET", "HEAD") and foreign:
        raise web.HTTPForbidden(text=_("This form came from another site."))
    response = await handler(request)
    if not response.prepared:
        response.headers.setdefault("Content-Security-Policy", POLICY)
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("Referrer-Policy", "same-origin")
    return response


@web.middleware
async def explain(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns what went wrong into a page that says so."""
    try:
        return await handler(request)
    except SelectionExpired:
        return await _page(request, 409, "expired.html")
    except OfflinekitError as error:
        _log.warning("%s %s: %s", request.method, request.path, error)
        return await _page(request, 409, "error.html", said=wordings.of(error))
    except web.HTTPClientError as error:
        return await _page(request, error.status, "error.html", said="")
    except web.HTTPException:
        raise
    except Exception:
        _log.exception("%s %s", request.method, request.path)
        return await _page(request, 500, "error.html", said="")


def _speak(request: web.Request) -> None:
    """What follows is said in the reader's language."""
    i18n.current.set(i18n.choose(request.cookies.get(LANGUAGE), request.headers.get("Accept-Language", "")))


async def _page(request: web.Request, status: int, template: str, **values: object) -> web.Response:
    desk = request.app[DESK]
    if not desk.knows(request.cookies.get(COOKIE)):  # whoever asks: nothing of the person who is signed in is shown
        return web.Response(status=status, text=_("There is no such page") if status == 404 else _("That did not work"))
    visit = Visit(desk, request.method, request.path, request.query, {}, request.cookies, request.headers)  # type: ignore[arg-type]
    part = template == "error.html" and visit.partial and status != 404
    body = await asyncio.to_thread(visit.render, "error_part.html" if part else template, status=status, **values)
    return respond(Answer(body, status, {"HX-Reswap": "none"} if part else {}))


async def _desk_open(app: web.Application) -> AsyncIterator[None]:
    desk = app[DESK]
    await asyncio.to_thread(desk.resume)
    probe = asyncio.create_task(desk.probe())
    yield
    probe.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await probe
    await asyncio.to_thread(desk.close)


def create(desk: Desk) -> web.Application:
    """The application."""
    app = web.Application(middlewares=[guard, explain], client_max_size=BODY_MAX)
    app[DESK] = desk
    app[live.OPEN] = {}
    app.cleanup_ctx.append(_desk_open)
    app.on_shutdown.append(live.end_streams)
    static = importlib.resources.files("offlinekit_portal") / "static"
    app.router.add_static("/static", os.fspath(static))  # type: ignore[call-overload]
    app.router.add_get("/estado", live.stream)
    for module in (login, home, offline, configure, customers, entry, orders, queue, settings, network):
        app.router.add_routes(module.routes.handlers())
    return app


def run(office: str, data: Path, port: int, plug_control: str | None = None) -> None:
    """Serves until interrupted; says its address in one line when it is ready. Raises Taken."""
    data.mkdir(parents=True, exist_ok=True)
    os.chmod(data, 0o700)

    async def serve() -> None:
        runner = web.AppRunner(create(Desk(office.rstrip("/"), data, plug_control)), access_log=None, shutdown_timeout=2)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
            print(f"portal http://127.0.0.1:{runner.addresses[0][1]}/", flush=True)
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    with alone(data), contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve())
