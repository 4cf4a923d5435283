"""Who is told when records change: callbacks by collection, and live queries on an event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import TypeVar

from offlinekit.expr import dependencies
from offlinekit.query import Page, Select
from offlinekit.schema import Collection

__all__ = ["Watchers", "live"]

C = TypeVar("C", bound=Collection)
_log = logging.getLogger("offlinekit.watch")


class Watchers:
    """The callbacks of a replica. They run in the thread that made the change, after it is durable."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: dict[int, tuple[Callable[[frozenset[str]], object], frozenset[str]]] = {}
        self._next = 0

    def add(self, callback: Callable[[frozenset[str]], object], collections: Iterable[str] = ()) -> Callable[[], None]:
        """Calls back with the names of changed collections, of all or of these; returns what ends it."""
        with self._lock:
            self._next += 1
            number = self._next
            self._callbacks[number] = (callback, frozenset(collections))

        def remove() -> None:
            with self._lock:
                self._callbacks.pop(number, None)

        return remove

    def tell(self, changed: Iterable[str]) -> None:
        """Tells everybody concerned; an error in a callback is logged and stops nobody else."""
        names = frozenset(changed)
        with self._lock:
            callbacks = list(self._callbacks.values())
        for callback, wanted in callbacks:
            concerned = names & wanted if wanted else names
            if concerned or (not names and not wanted):
                try:
                    callback(concerned)
                except Exception:
                    _log.exception("a callback for changes failed")


async def live(watchers: Watchers, select: Select[C]) -> AsyncGenerator[Page[C], None]:
    """The records of a query now, and again whenever they are others."""
    loop, changed = asyncio.get_running_loop(), asyncio.Event()
    names = {select.query.collection} | dependencies(select.query.where)
    remove = watchers.add(lambda _: loop.call_soon_threadsafe(changed.set), names)
    try:
        last: Page[C] | None = None
        while True:
            changed.clear()
            page = await asyncio.to_thread(select.all)
            if last is None or page != last or page.total != last.total:
                last = page
                yield page
            await changed.wait()
    finally:
        remove()
