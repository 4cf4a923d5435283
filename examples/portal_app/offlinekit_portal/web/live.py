"""The stream that keeps every open page true: the bar at the top, the banner, and word that records have changed."""

from __future__ import annotations

import asyncio
import contextlib

from aiohttp import web

from offlinekit_portal.web import i18n
from offlinekit_portal.web.visit import COOKIE, DESK, LANGUAGE, Visit

PAUSE_S = 0.15  # changes that come thick and fast are told together
BEAT_S = 15.0
STREAMS_MAX = 32
OPEN: web.AppKey[dict[asyncio.Task[None], None]] = web.AppKey("open streams", dict)


async def stream(request: web.Request) -> web.StreamResponse:
    """Server-sent events: unnamed ones carry parts of the page, `standing` and `portal` say that these or records changed."""
    desk = request.app[DESK]
    if not desk.knows(request.cookies.get(COOKIE)):
        return web.Response(status=401)
    streams = request.app[OPEN]
    while len(streams) >= STREAMS_MAX:  # pages that were closed are noticed late: the oldest makes room for the newest
        oldest = next(iter(streams))
        del streams[oldest]
        oldest.cancel()
    i18n.current.set(i18n.choose(request.cookies.get(LANGUAGE), request.headers.get("Accept-Language", "")))
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    visit = Visit(desk, "GET", request.query.get("at", "/"), request.query, request.query, request.cookies, request.headers)
    task = asyncio.current_task()
    assert task is not None
    streams[task] = None
    with contextlib.suppress(ConnectionError, asyncio.CancelledError):
        try:
            await response.prepare(request)
            await _tell(visit, response)
        finally:
            streams.pop(task, None)
    return response


async def _tell(visit: Visit, response: web.StreamResponse) -> None:
    loop, woken, news = asyncio.get_running_loop(), asyncio.Event(), {"status"}

    def listener(what: str) -> None:
        def note() -> None:
            news.add(what)
            woken.set()

        loop.call_soon_threadsafe(note)

    last = ""
    end = visit.desk.listen(listener)
    try:
        while visit.desk.session is not None:
            data = "data" in news
            news.clear()
            said = await asyncio.to_thread(visit.render, "live.html")
            if said != last:
                last = said
                await response.write("".join(f"data: {line}\n" for line in said.splitlines()).encode() + b"\n")
                await response.write(b"event: standing\ndata: changed\n\n")
            if data:
                await response.write(b"event: portal\ndata: changed\n\n")
            woken.clear()
            if not news:
                try:
                    await asyncio.wait_for(woken.wait(), BEAT_S)
                except TimeoutError:
                    await response.write(b": still here\n\n")
            await asyncio.sleep(PAUSE_S)
    finally:
        end()


async def end_streams(app: web.Application) -> None:
    """Ends the streams, which would hold up the end of the process."""
    streams: dict[asyncio.Task[None], None] = app[OPEN]
    for task in list(streams):
        task.cancel()
