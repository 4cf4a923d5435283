"""A line to several servers that does harm by a seed: refuses, cuts in a request or an answer, delays; it repeats nothing."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from attrs import frozen

__all__ = ["FAULTS", "FaultyLine"]

FAULTS = ("none", "refused", "cut in the request", "cut in the answer", "delayed")
_WEIGHTS = (2, 1, 3, 3, 1)
_CUT_BYTES_MAX = 4000  # of one direction of a connection: heads and bodies of the first exchanges on it
_DELAY_S_MAX = 0.03
_PIECE = 1 << 14


@frozen
class _Fate:
    """What happens on one connection: its fault, and the byte after which it is cut or before which it waits."""

    fault: str
    server: int
    at: int
    delay_s: float


class FaultyLine:
    """Listens on `port` of the loopback and passes bytes on to one of the ports of `servers` by chance, for each connection.

    `counts` says how many connections had which fault, `away` among them those whose server did not listen. `mend` ends all
    harm. Runs on a loop in a thread of its own; `close` ends it.
    """

    def __init__(self, servers: Sequence[int], seed: int) -> None:
        self.counts: Counter[str] = Counter()
        self._servers, self._rng, self._harm = servers, random.Random(seed), True
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self._passing: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faulty line")
        self._thread.start()
        self._listener = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._accept, "127.0.0.1", 0), self._loop).result()
        self.port: int = self._listener.sockets[0].getsockname()[1]

    def mend(self) -> None:
        """From the next connection on, everything passes."""
        self._harm = False

    def close(self) -> None:
        """Cuts what stands, and listens no more."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._listener.close()
        self._closing.set()
        for task in self._passing:
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)

    def _fate(self) -> _Fate:
        fault = self._rng.choices(FAULTS, _WEIGHTS)[0]
        fate = _Fate(
            fault, self._rng.choice(self._servers), self._rng.randrange(_CUT_BYTES_MAX), self._rng.random() * _DELAY_S_MAX
        )
        return fate if self._harm else _Fate("none", fate.server, 0, 0.0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fate, task = self._fate(), asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        try:
            if fate.fault == "refused":
                self.counts["refused"] += 1
                return
            try:
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", fate.server)
            except ConnectionError:
                self.counts["away"] += 1
                return
            self.counts[fate.fault] += 1
            await self._pass_both(fate, (reader, writer), (far_reader, far_writer))
        finally:
            writer.transport.abort()
            self._passing.discard(task)

    async def _pass_both(self, fate: _Fate, near: Any, far: Any) -> None:
        """Until one side ends or the cut is reached; then both are cut."""
        request = asyncio.ensure_future(self._pass(near[0], far[1], fate, "cut in the request"))
        answer = asyncio.ensure_future(self._pass(far[0], near[1], fate, "cut in the answer"))
        try:
            await asyncio.wait({request, answer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (request, answer):
                task.cancel()
            await asyncio.gather(request, answer, return_exceptions=True)
            far[1].transport.abort()

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, fate: _Fate, cut: str) -> None:
        left = fate.at if fate.fault == cut else None
        with suppress(ConnectionError):
            while piece := await source.read(_PIECE):
                if fate.fault == "delayed":
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._closing.wait(), fate.delay_s)
                target.write(piece if left is None else piece[:left])
                await target.drain()
                if left is not None:
                    left -= len(piece)
                    if left <= 0:
                        return
