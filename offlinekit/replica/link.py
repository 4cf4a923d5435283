"""The two shells around one driver: a thread for ordinary programs, and the caller's event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from offlinekit.exceptions import NotSynced, StateError
from offlinekit.exchange import Effect
from offlinekit.store.sqlite.verifying import Verified
from offlinekit.sync import Driver, Status, SyncReport

if TYPE_CHECKING:  # pragma: no cover
    from offlinekit.replica.replica import Replica  # layer-exempt: the type of what made it

__all__ = ["AsyncLink", "Link", "refuse_loop"]

T = TypeVar("T")


def refuse_loop(instead: str) -> None:
    """Raises StateError when called on a running event loop, which a blocking call would stop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise StateError(f"this call would block the running event loop; use {instead}")


class _Shell:
    """What both shells do: tell how the sync stands, and carry the application's own exchanges."""

    def __init__(self, replica: Replica, driver: Driver) -> None:
        self._replica, self._driver = replica, driver

    @property
    def status(self) -> Status:
        """How the replica stands."""
        return self._driver.status

    @property
    def report(self) -> SyncReport:
        """What the round under way, or the last one, did."""
        return self._driver.report

    def sync_now(self) -> None:
        """Syncs as soon as possible, without waiting."""
        self._driver.wake()

    def ask(self, steps: Generator[Effect, bytes, T]) -> T:
        """Runs an exchange and waits for its result; never on an event loop."""
        return self._submit(self._driver.ask(steps)).result()

    async def ask_async(self, steps: Generator[Effect, bytes, T]) -> T:
        """Runs an exchange for a caller on an event loop, the sync's own or another."""
        if self._driver.loop is asyncio.get_running_loop():
            return await self._driver.ask(steps)
        return await asyncio.wrap_future(self._submit(self._driver.ask(steps)))

    async def _verify(self, timeout: float | None) -> Verified:
        await self._driver.wait_synced(timeout)  # so that what follows is damage, and not what had not arrived yet
        await asyncio.to_thread(self._replica.want_verification)
        await self._driver.wait_synced(timeout)
        done = self._replica.verified
        if done is None:
            raise NotSynced("the verification was not finished")
        return done

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        loop = self._driver.loop
        if loop is None or loop.is_closed():
            work.close()
            raise StateError("the sync was stopped; start it again")
        return asyncio.run_coroutine_threadsafe(work, loop)


class AsyncLink(_Shell):
    """A sync on the caller's event loop; from `async with replica.keep_synced(transport) as link`."""

    def on_status(self, listener: Callable[[Status], object]) -> None:
        """Calls back with the status now and with every new one."""
        self._driver.on_status(listener)

    async def wait_synced(self, timeout: float | None = None) -> Status:
        """Until all that was committed or saved before the call is answered and pulled; raises NotSynced."""
        return await self._driver.wait_synced(timeout)

    async def verify(self, timeout: float | None = None) -> Verified:
        """`Replica.verify` for programs on an event loop; the time-out holds for each of its two syncs."""
        return await self._verify(timeout)


class Link(_Shell):
    """A sync in a thread of its own; from `replica.start_sync(transport)`. Its callbacks run in that thread."""

    def __init__(self, replica: Replica, driver: Driver) -> None:
        super().__init__(replica, driver)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="offlinekit-sync", daemon=True)
        self._driver.loop = self._loop
        self._thread.start()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._driver.run())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()

    def on_status(self, listener: Callable[[Status], object]) -> None:
        """Calls back with the status now and with every new one, in the sync's thread."""
        self._loop.call_soon_threadsafe(self._driver.on_status, listener)

    def wait_synced(self, timeout: float | None = None) -> Status:
        """Until all that was committed or saved before the call is answered and pulled; raises NotSynced."""
        refuse_loop("replica.keep_synced() and await link.wait_synced()")
        return self._submit(self._driver.wait_synced(timeout)).result()

    def verify(self, timeout: float | None = None) -> Verified:
        """`Replica.verify`; the time-out holds for each of its two syncs."""
        refuse_loop("replica.keep_synced() and await link.verify()")
        return self._submit(self._verify(timeout)).result()

    def stop(self) -> None:
        """Ends the sync after the exchange under way; what is not sent yet stays in the outbox."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._driver.stop)
            if threading.current_thread() is not self._thread:
                self._thread.join()
        self._replica.unlink(self._driver)
