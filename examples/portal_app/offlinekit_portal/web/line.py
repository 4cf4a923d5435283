"""The line to the head office: while nobody answers there, what would ask it fails at once, and what waits for it is let go.

Without it, a network that swallows what is sent would keep pages waiting for as long as an exchange may take.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from attrs import Factory, define, field

from offlinekit import Offline
from offlinekit.transport import Arrived, Transport

T = TypeVar("T")


@define
class Line:
    """Whether the head office answers, as somebody else finds out; may be asked and told in any thread."""

    up: bool = False
    _waiting: set[asyncio.Future[None]] = field(factory=set, init=False)
    _lock: threading.Lock = Factory(threading.Lock)

    def set(self, up: bool) -> None:
        """It answers, or does not."""
        with self._lock:
            self.up = up
            gone = [] if up else list(self._waiting)
        for waiting in gone:
            waiting.get_loop().call_soon_threadsafe(_end, waiting)

    async def hold(self, work: Coroutine[Any, Any, T]) -> T:
        """Does the work while it answers; raises Offline when it does not, or not any more."""
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            up = self.up
            self._waiting.add(gone)
        task = asyncio.ensure_future(work) if up else None
        try:
            if task is None:
                work.close()
                raise Offline("the head office does not answer")
            either: set[asyncio.Future[Any]] = {task, gone}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise Offline("the head office stopped answering")
            return task.result()
        finally:
            with self._lock:
                self._waiting.discard(gone)
            if task is not None and not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


def _end(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


@define
class OverLine:
    """A transport over the line."""

    line: Line
    inner: Transport

    async def exchange(self, request: bytes, arrived: Arrived | None = None) -> bytes:
        """As the transport does it."""
        return await self.line.hold(self.inner.exchange(request, arrived))

    async def fetch(self, name: str, offset: int, arrived: Arrived | None = None) -> bytes:
        """As the transport does it."""
        return await self.line.hold(self.inner.fetch(name, offset, arrived))

    async def close(self) -> None:
        """Closes the transport."""
        await self.inner.close()
