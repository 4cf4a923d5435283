"""The driver: pushes and pulls when there is reason to, backs off when there is no path, and says how it stands.

One driver serves both shells: `Thread` runs it on an event loop of its own, for ordinary programs; `keep_synced` runs it on the
caller's. Store work happens on one worker thread, so that neither loop is ever blocked.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, Literal, TypeAlias, TypeVar, get_args

from attrs import Factory, evolve, frozen, mutable

from offlinekit.clock import at
from offlinekit.exceptions import (
    AuthenticationRequired,
    NotAllowed,
    NotSynced,
    NotTheAuthority,
    Offline,
    OfflinekitError,
    ProtocolError,
    TransportError,
)
from offlinekit.exchange import Effect, Exchanger, Fetch, Moved
from offlinekit.progress import Progress
from offlinekit.store.sqlite.groups import cursors
from offlinekit.store.sqlite.replica_store import ReplicaStore
from offlinekit.store.sqlite.replica_sync import selection_bytes
from offlinekit.transport.port import Transport

__all__ = ["Driver", "Status", "SyncReport", "SyncState"]

T = TypeVar("T")
SyncState: TypeAlias = Literal["offline", "online", "syncing", "unauthenticated", "error", "stopped"]
Blocked: TypeAlias = Literal["", "expired", "held_back", "not_offered", "revoked"]
_log = logging.getLogger("offlinekit.sync")
BACKOFF_S = 1.0
REPEATS_MAX = 6
PROGRESS_S = 0.1


@frozen
class Status:
    """How a replica stands: what a status bar shows.

    `detail` says what to do about an `expired` selection, one that names what is `not_offered`, an answer that is
    `held_back`, a `revoked` device, an error.
    `consistent`: every collection stands where the same answer left it. `progress`: how far an answer is on its way, None
    when there is none; told some ten times a second.
    """

    state: SyncState = "offline"
    pending: int = 0
    parked: int = 0
    rejected: int = 0
    last_success: datetime | None = None
    consistent: bool = False
    progress: Progress | None = None
    blocked: Blocked = ""
    forked: bool = False
    unfit: int = 0
    detail: str = ""


@mutable
class SyncReport:
    """What one round did: mutations sent by outcome, records put and dropped by collection, bytes of files, seconds by phase."""

    sent: int = 0
    outcomes: dict[str, int] = Factory(dict)
    received: dict[str, int] = Factory(dict)
    dropped: dict[str, int] = Factory(dict)
    file_bytes: int = 0
    answers: list[str] = Factory(list)
    seconds: dict[str, float] = Factory(dict)


@mutable
class _Waiter:
    """Somebody waits until all up to `mutation` is answered, and a pull that began after `round` went through."""

    mutation: int
    round: int
    future: asyncio.Future[None]


class Driver:
    """Syncs one replica over one transport, on the event loop that runs `run`."""

    def __init__(self, store: ReplicaStore, transport: Transport, *, every: float, tell: Callable[[set[str]], None],
                 jitter: Callable[[], float] = random.random, program: str = "",
                 problem: Callable[[], str] = str) -> None:  # fmt: skip
        self.store, self.transport, self.every, self._tell, self._jitter = store, transport, every, tell, jitter
        self._problem = problem
        self.exchanger = Exchanger(store, program, self._progressed)
        self.status = Status()
        self.report = SyncReport()
        self._listeners: list[Callable[[Status], object]] = []
        self._worker = ThreadPoolExecutor(1, "offlinekit-store")
        self._wire = asyncio.Lock()
        self._wake = asyncio.Event()
        self._stopping = False
        self._round = 0
        self._failures = 0
        self._path = True  # whether the last call was answered
        self._refused: OfflinekitError | None = None  # why what was sent last cannot be taken at all
        self._left = False  # whether the authority could not answer all that was sent
        self._told: tuple[Any, float] = (None, 0.0)
        self._waiters: list[_Waiter] = []
        self._asked: set[asyncio.Task[Any]] = set()
        self.loop: asyncio.AbstractEventLoop | None = None

    # -- running

    async def run(self) -> None:
        """Syncs until `stop`; never raises for what a network, an authority or a full disk can do."""
        self.loop = asyncio.get_running_loop()
        try:
            while not self._stopping:
                self._wake.clear()
                delay = await self._attempt()
                if not self._stopping:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._wake.wait(), delay)
        finally:
            self._stopping = True
            for task in self._asked:  # nobody would ever answer who waits for it in another thread
                task.cancel()
            await asyncio.gather(*self._asked, return_exceptions=True)
            await self.transport.close()
            await self._work(self.exchanger.arrivals.release)
            self._set(state="stopped", progress=None)
            for waiter in self._waiters:
                if not waiter.future.done():
                    waiter.future.set_exception(NotSynced("the sync was stopped"))
            self._worker.shutdown(wait=True)

    def stop(self) -> None:
        """Ends `run` after the exchange under way; from the driver's own loop."""
        self._stopping = True
        self._wake.set()

    def wake(self) -> None:
        """There is something to do; safe from any thread."""
        if self.loop is not None and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._wake.set)

    async def _attempt(self) -> float:
        """One round; returns the seconds to wait for the next."""
        self._round += 1
        began = self._round
        if not self._failures:  # else what was wrong is shown until something is answered
            self._set(state="syncing", progress=None, detail="")
        try:
            await self._sync()
        except AuthenticationRequired as error:
            await self._failed("unauthenticated", str(error))
            return self.every
        except TransportError as error:
            self._failures += 1
            self._path = self._path and not isinstance(error, NotTheAuthority)
            _log.info("no path to the authority: %s", error)
            await self._failed("offline", str(error))
            return self._backoff(error.retry_after_s)
        except (OfflinekitError, OSError) as error:
            self._failures += 1
            _log.error("sync failed: %s", error)
            await self._failed("error", str(error))
            return self._backoff(None)
        except Exception as error:
            self._failures += 1
            _log.exception("sync failed unexpectedly")
            await self._failed("error", f"{type(error).__name__}: {error}")
            return self._backoff(None)
        self._failures = self._failures + 1 if self._left else 0
        await self._counted(state="online", progress=None, last_success=at(self.store.clock.now()))
        await self._release(began)
        await self._work(self.store.checkpoint)
        return self._backoff(None) if self._left else self.every

    async def _failed(self, state: SyncState, detail: str) -> None:
        """A round failed: the counts are taken all the same, unless it is the store that fails."""
        try:
            await self._counted(state=state, progress=None, detail=detail)
        except (OfflinekitError, OSError):
            self._set(state=state, progress=None, detail=detail)

    def _backoff(self, retry_after_s: float | None) -> float:
        """Doubling from a second up to `every`, with jitter, so that a fleet does not return all at once."""
        delay = min(self.every, BACKOFF_S * 2.0 ** min(self._failures - 1, 16))
        return max(retry_after_s or 0.0, delay * (0.5 + self._jitter()))

    # -- one round

    async def _sync(self) -> None:
        self.report, self._left = SyncReport(), False
        clock = self.store.clock
        load, repeats = False, 0
        while repeats < REPEATS_MAX:
            started = clock.monotonic()
            if not self._path:  # no push finds out whether there is one again: one that fails binds what it sent
                await self._drive(self.exchanger.ping())
            await self._push_if_taken()
            self.report.seconds["push"] = self.report.seconds.get("push", 0.0) + clock.monotonic() - started
            started = clock.monotonic()
            moved, detail = await self._pull(load=load)
            self.report.seconds["pull"] = self.report.seconds.get("pull", 0.0) + clock.monotonic() - started
            self._note(moved, detail)
            if moved.kind in ("new_history", "stale", "cancelled"):
                repeats += 1
            elif not moved.more:
                if self._refused is not None:
                    raise self._refused
                return
            load = load or moved.more  # what is held is up to date; then comes what is not, group by group
            await self._counted()
        raise TransportError("what is asked for changed again and again while it was answered; trying later")

    async def _pull(self, *, load: bool) -> tuple[Moved, str]:
        self._told = None, self.store.clock.monotonic()
        moved = await self._drive(self.exchanger.pull(report=True, load=load), fetching=True)
        return moved, moved.detail or await self._work(self._problem)

    def _note(self, moved: Moved, detail: str) -> None:
        self.report.answers.append(moved.kind)
        self.report.file_bytes += moved.bytes
        for into, part in ((self.report.received, moved.put), (self.report.dropped, moved.drop)):
            for name, count in part.items():
                into[name] = into.get(name, 0) + count
        changed = {n for n, c in (*moved.put.items(), *moved.drop.items()) if c}
        if changed or moved.kind == "new_history":
            self._tell(changed)
        blocked = moved.kind if moved.kind in get_args(Blocked) else ""
        self._set(blocked=blocked, detail=detail, progress=None, unfit=moved.unfit or self.status.unfit)
        if blocked:
            _log.warning("the authority holds back the answer: %s %s", blocked, moved.detail)

    async def _push_if_taken(self) -> None:
        """Pushes; what is pulled does not wait for what cannot be sent, which is raised when the round ends."""
        self._refused = None
        try:
            await self._push_all()
        except (ProtocolError, NotAllowed) as error:
            self._refused = error

    async def _push_all(self) -> None:
        while True:
            pushed = await self._drive(self.exchanger.push())
            if pushed.kind == "nothing":
                return
            self.report.answers.append(pushed.kind)
            if pushed.kind == "pushed":
                self.report.sent += pushed.sent
                for outcome, count in pushed.outcomes.items():
                    self.report.outcomes[outcome] = self.report.outcomes.get(outcome, 0) + count
                self._tell(set())
                await self._counted()
                if sum(pushed.outcomes.values()) < pushed.sent:
                    self._left = True
                    return  # some stay unanswered for now
            elif pushed.kind == "revoked":
                self._set(blocked="revoked")
                return
            elif pushed.kind == "fork":
                _log.warning("this replica is a copy of another device; it goes on as a device of its own")

    async def _drive(self, steps: Generator[Effect, bytes, T], *, fetching: bool = False) -> T:
        """Carries the effects of an exchange to the transport and back; pushes go on between the chunks of a file."""
        try:
            effect = await self._work(next, steps)
            while effect is not None:
                if isinstance(effect, Fetch):
                    try:
                        if self._stopping:
                            raise Offline("the sync was stopped; it goes on from here")
                        if fetching and self._wake.is_set():
                            self._wake.clear()
                            await self._push_if_taken()
                        answer = await self._call(self.transport.fetch, effect.name, effect.offset, effect.arrived)
                    except (TransportError, ProtocolError) as error:  # raised again by the exchange, which may go on from here
                        effect = await self._work(steps.throw, error)
                        continue
                else:
                    answer = await self._call(self.transport.exchange, effect.body, effect.arrived)
                effect = await self._work(steps.send, answer)
        except _Done as done:
            return done.value  # type: ignore[no-any-return]
        finally:
            await self._work(steps.close)
        raise AssertionError("an exchange ended without a result")

    async def _call(self, verb: Callable[..., Any], *args: Any) -> bytes:
        async with self._wire:
            try:
                answer: bytes = await verb(*args)
            except BaseException:
                self._path = False
                raise
            self._path = True
        if self._failures and self.status.state != "syncing":
            self._set(state="syncing", progress=None, detail="")
        return answer

    async def _work(self, function: Callable[..., Any], *args: Any) -> Any:
        """Store work, on the worker thread."""

        def call() -> Any:
            try:
                return function(*args)
            except StopIteration as stop:  # which no future can carry
                raise _Done(stop.value) from None

        return await asyncio.get_running_loop().run_in_executor(self._worker, call)

    async def ask(self, steps: Generator[Effect, bytes, T]) -> T:
        """Runs an exchange of the application's, such as a remote read, beside the sync."""
        if self._stopping:
            steps.close()
            raise Offline("the sync was stopped")
        task = asyncio.ensure_future(self._drive(steps))
        self._asked.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            if self._stopping:
                raise Offline("the sync was stopped") from None
            raise
        finally:
            self._asked.discard(task)

    # -- status

    def on_status(self, listener: Callable[[Status], object]) -> None:
        """Calls back with every new status, in the driver's thread."""
        self._listeners.append(listener)
        listener(self.status)

    def _set(self, **changes: Any) -> None:
        status = evolve(self.status, **changes)
        if status != self.status:
            self.status = status
            for listener in list(self._listeners):
                try:
                    listener(status)
                except Exception:
                    _log.exception("a callback for the status failed")

    def _progressed(self, progress: Progress) -> None:
        """Tells of the beginning and the end of each phase, and now and then between; of a message only when it takes long."""
        now, (before, when) = self.store.clock.monotonic(), self._told
        stage = (progress.phase, progress.complete) if progress.collections else before
        if self.loop is not None and (stage != before or not 0 <= now - when < PROGRESS_S):
            self._told = stage, now
            self.loop.call_soon_threadsafe(lambda: self._set(progress=progress))

    async def _counted(self, **changes: Any) -> None:
        counts = await self._work(counts_of, self.store)
        self._set(**{**counts, **changes})

    # -- waiting

    async def wait_synced(self, timeout: float | None = None) -> Status:
        """Until all that was committed or saved before the call is answered and pulled; raises NotSynced."""
        mark = await self._work(_last_mutation, self.store)
        waiter = _Waiter(mark, self._round, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        self._wake.set()
        try:
            await asyncio.wait_for(waiter.future, timeout)
        except NotSynced:
            raise
        except TimeoutError:
            raise NotSynced(self.status.detail or f"still {self.status.state} after {timeout} s") from None
        finally:
            self._waiters.remove(waiter)
        return self.status

    async def _release(self, began: int) -> None:
        """Lets go who waited for this round; a round that is blocked tells them so."""
        for waiter in list(self._waiters):
            if waiter.future.done() or began <= waiter.round:
                continue
            if self.status.blocked:
                waiter.future.set_exception(NotSynced(f"{self.status.blocked} {self.status.detail}".strip()))
            elif not await self._work(_unanswered, self.store, waiter.mutation):
                waiter.future.set_result(None)
        if any(not w.future.done() for w in self._waiters):
            self._wake.set()


class _Done(Exception):
    """The result of an exchange, on its way out of the worker thread."""

    def __init__(self, value: Any) -> None:
        self.value = value


def counts_of(store: ReplicaStore) -> dict[str, Any]:
    """The figures of a status that the store knows."""
    db = store.reader()
    counts = dict(db.execute("SELECT state,count(*) FROM ok_mutation GROUP BY 1"))
    level = cursors(store, db)
    return {
        "pending": counts.get("pending", 0), "parked": counts.get("parked", 0), "rejected": counts.get("rejected", 0),
        "consistent": b"" not in level and store.meta("level", db) == level, "forked": store.meta("forked", db) is not None,
    }  # fmt: skip


def _last_mutation(store: ReplicaStore) -> int:
    return int(store.reader().execute("SELECT coalesce(max(seq),0) FROM ok_mutation").get)


def _unanswered(store: ReplicaStore, mark: int) -> bool:
    db = store.reader()
    pending = db.execute("SELECT 1 FROM ok_mutation WHERE state='pending' AND seq<=? LIMIT 1", (mark,)).get is not None
    return pending or (store.meta("selected", db) or selection_bytes(store, db)) != selection_bytes(store, db)
