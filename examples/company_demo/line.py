"""The line between device and head office: a small TCP proxy with a plug that can be pulled, and a counter of bytes."""

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any


class Line:
    """Carries bytes to a port of this machine. Pulled, it cuts what is open and refuses what comes."""

    def __init__(self, office: int) -> None:
        self._office = office
        self.port = 0
        self.up = self.down = 0
        self.lost = threading.Event()
        self._lose_answer = False
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="line", daemon=True).start()

    def plug(self, *, lose_answer: bool = False) -> None:
        """Lets through; with `lose_answer` the connection breaks once more, when the first answer is on its way."""
        self.lost.clear()
        self._lose_answer = lose_answer
        self._do(self._listen())

    def pull(self) -> None:
        """Cuts everything."""
        self._do(self._cut())

    def close(self) -> None:
        """Cuts everything for good."""
        self.pull()
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self._break()
        await asyncio.sleep(0.05)  # so that the connections are gone when this returns

    def _break(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            with suppress(OSError):
                office_reader, office_writer = await asyncio.open_connection("127.0.0.1", self._office)
                self._open.add(office_writer)
                try:
                    await asyncio.gather(self._pump(reader, office_writer, up=True), self._pump(office_reader, writer, up=False))
                finally:
                    self._open.discard(office_writer)
                    office_writer.transport.abort()
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, up: bool) -> None:
        while data := await source.read(1 << 16):
            if up:
                self.up += len(data)
            elif self._lose_answer:
                self._lose_answer = False
                self._break()
                self.lost.set()
                return
            else:
                self.down += len(data)
            target.write(data)
            await target.drain()
        target.close()  # one side has ended: so does the other
