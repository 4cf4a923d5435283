"""The driver in both shells: status, waiting, pauses, back-off, watching, remote reads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from offlinekit.exceptions import NotSynced, Offline, Reject, StateError
from offlinekit.protocol import messages as m
from offlinekit.protocol.codec import decode_request
from offlinekit.sync import Driver, Status
from offlinekit.testing.pair import Pair
from offlinekit.transport import Arrived, Memory
from tests.replica.world import Order, opened

WAIT = 20.0


@pytest.fixture
def pair() -> Iterator[Pair]:
    def judge(changes: object, ctx: object) -> None:
        for order in changes.inserted(Order):
            if order.note == "no":
                raise Reject("no", "no")

    with opened(hook=judge) as pair:
        pair.replica._link = None
        yield pair


def memory(pair: Pair) -> Memory:
    """A transport to the pair's authority."""
    return Memory(pair.authority, lambda: None if pair.claims is None else (pair.identity, pair.claims))


class Until:
    """Waits in the caller's thread until a status passes."""

    def __init__(self) -> None:
        self.seen: list[Status] = []
        self._changed = threading.Condition()

    def __call__(self, status: Status) -> None:
        with self._changed:
            self.seen.append(status)
            self._changed.notify_all()

    def state(self, name: str, after: int = 0) -> Status:
        """The first status of that state after so many."""
        with self._changed:
            assert self._changed.wait_for(lambda: any(s.state == name for s in self.seen[after:]), WAIT), self.seen
            return next(s for s in self.seen[after:] if s.state == name)


def test_a_thread_syncs_and_says_how_it_stands(pair: Pair) -> None:
    link, until = pair.replica.start_sync(memory(pair), every=3600), Until()
    link.on_status(until)
    with pair.replica.transaction("sell") as tx:
        tx.insert(Order(id="x"))
    assert tx.mutation.settled(WAIT).state == "accepted"
    with pair.replica.transaction("sell") as tx:
        tx.insert(Order(id="y", note="no"))
    status = link.wait_synced(WAIT)
    assert (status.state, status.pending, status.rejected, status.consistent) == ("online", 0, 1, True)
    assert status.last_success is not None
    link.stop()
    assert link.status.state == "stopped"
    states = [s.state for s in until.seen]
    assert {"syncing", "online"} <= set(states)
    assert states[-1] == "stopped"
    with pytest.raises(StateError, match="stopped"):
        link.wait_synced(WAIT)
    with pair.replica.transaction("sell") as tx:
        tx.insert(Order(id="z"))
    assert tx.mutation.settled(0.01).state == "pending"


def test_a_wait_ends_at_its_time_out(pair: Pair) -> None:
    transport = memory(pair)
    transport.plugged = False
    link = pair.replica.start_sync(transport, every=3600)
    with pair.replica.transaction("sell") as tx:
        tx.insert(Order(id="x"))
    with pytest.raises(NotSynced, match="what was written is safe"):
        link.wait_synced(0.05)
    with pytest.raises(Offline):
        pair.replica.remote.select(Order).all()
    transport.plugged = True
    assert link.wait_synced(WAIT).state == "online"
    assert tx.mutation.state == "accepted"


def test_a_wait_that_an_expired_selection_blocks_says_so(pair: Pair) -> None:
    pair.replica.configure().quick("orders").save()
    pair.sync()
    pair.clock.move(days=2)
    link = pair.replica.start_sync(memory(pair), every=3600)
    with pytest.raises(NotSynced, match="expired"):
        link.wait_synced(WAIT)
    assert link.status.blocked == "expired"
    pair.replica.configure().renew().save()
    assert link.wait_synced(WAIT).blocked == ""


def test_a_401_pauses_and_nothing_is_refused(pair: Pair) -> None:
    claims, pair.claims = pair.claims, None
    link, until = pair.replica.start_sync(memory(pair), every=3600), Until()
    link.on_status(until)
    with pair.replica.transaction("sell") as tx:
        tx.insert(Order(id="x"))
    assert until.state("unauthenticated").detail
    assert tx.mutation.state == "pending"
    pair.claims = claims
    link.sync_now()
    assert link.wait_synced(WAIT).rejected == 0
    assert tx.mutation.state == "accepted"


def test_what_is_written_without_a_path_can_still_be_taken_back(pair: Pair) -> None:
    transport = memory(pair)
    transport.plugged = False

    async def main() -> None:
        driver = Driver(pair.replica.store, transport, every=30.0, tell=lambda names: None)
        driver.loop = asyncio.get_running_loop()
        await driver._attempt()  # finds out that there is no path
        with pair.replica.transaction("sell") as tx:
            tx.insert(Order(id="x"))
        await driver._attempt()
        assert not tx.mutation.now.sent, "a push without a path bound what it could not send"
        tx.mutation.withdraw()
        with pair.replica.transaction("sell") as tx:
            tx.insert(Order(id="y"))
        transport.plugged = True
        await driver._attempt()
        assert (driver.status.state, tx.mutation.state) == ("online", "accepted")
        driver._worker.shutdown()

    asyncio.run(main())
    assert pair.replica.get(Order, "x") is None


def test_a_device_without_a_path_backs_off_with_jitter(pair: Pair) -> None:
    transport = memory(pair)
    transport.plugged = False

    async def main() -> list[float]:
        driver = Driver(pair.replica.store, transport, every=30.0, tell=lambda names: None, jitter=lambda: 0.25)
        driver.loop = asyncio.get_running_loop()
        delays = [await driver._attempt() for _ in range(8)]
        assert driver.status.state == "offline"
        transport.plugged = True
        delays.append(await driver._attempt())
        assert driver.status.state == "online"
        driver._worker.shutdown()
        return delays

    assert asyncio.run(main()) == [0.75, 1.5, 3.0, 6.0, 12.0, 22.5, 22.5, 22.5, 30.0]


def test_a_loop_keeps_synced_and_is_never_blocked(pair: Pair) -> None:
    replica = pair.replica

    async def main() -> None:
        async with replica.keep_synced(memory(pair), every=3600) as link:
            with replica.transaction("sell") as tx:
                tx.insert(Order(id="x"))
            assert (await tx.mutation.wait(WAIT)).state == "accepted"
            assert (await link.wait_synced(WAIT)).state == "online"
            page = await replica.remote.select(Order).where(Order.cost == 0).with_total().limit(2).fetch()
            assert (len(page), page.total) == (2, 3)
            for call in (lambda: tx.mutation.settled(1), lambda: replica.remote.select(Order).all()):
                with pytest.raises(StateError, match="block the running event loop"):
                    call()
            with pytest.raises(StateError, match="runs already"):
                replica.start_sync(memory(pair))
        with pytest.raises(Offline):
            await replica.remote.select(Order).fetch()
        assert replica.driver is None

    asyncio.run(main())


def test_a_preview_on_a_loop_asks_the_authority_through_either_shell(pair: Pair) -> None:
    class NeverPulls(Memory):
        async def exchange(self, request: bytes, arrived: Arrived | None = None) -> bytes:
            if type(decode_request(request)) is m.Pull:
                raise Offline("so that what a pull would move stays to be moved")
            return await super().exchange(request, arrived)

    replica, line = pair.replica, NeverPulls(pair.authority, lambda: (pair.identity, {"rep": "r"}))
    pair.authority.load([Order(id="c", note="new")])

    async def look() -> None:
        take = replica.configure().renew()
        preview = await take.fetch_preview()
        assert (preview.offline, preview.collections["order"].fetch, preview.collections["order"].hold) == (False, 1, 3)
        with pytest.raises(StateError, match=r"block the running event loop; use await .*fetch_preview"):
            take.preview()
        with pytest.raises(StateError, match=r"block the running event loop; use await .*fetch\(\)"):
            replica.remote.select(Order).all()
        assert len(await replica.remote.select(Order).fetch()) == 3
        assert (await asyncio.to_thread(take.preview)).collections == preview.collections, "other threads may block"
        assert len(await asyncio.to_thread(replica.remote.select(Order).all)) == 3

    async def kept() -> None:
        line.plugged = False
        async with replica.keep_synced(line, every=3600):
            assert (await replica.configure().renew().fetch_preview()).offline, "the line is cut"
            line.plugged = True
            await look()
        assert (await replica.configure().renew().fetch_preview()).offline, "no sync runs"

    asyncio.run(kept())
    link = replica.start_sync(line, every=3600)
    asyncio.run(look())
    link.stop()


def test_who_waits_for_an_answer_is_told_when_the_sync_stops(pair: Pair) -> None:
    class Mute(Memory):
        async def exchange(self, request: bytes, arrived: Arrived | None = None) -> bytes:
            if asking:
                asked.set()
                await asyncio.Event().wait()
            return await super().exchange(request, arrived)

    asking, asked, said = [], threading.Event(), []
    link = pair.replica.start_sync(Mute(pair.authority, lambda: (pair.identity, pair.claims or {})), every=3600)
    link.wait_synced(WAIT)

    def ask() -> None:
        try:
            pair.replica.remote.select(Order).all()
        except Offline as error:
            said.append(str(error))

    asking.append(True)
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    assert asked.wait(WAIT)
    link.stop()
    thread.join(WAIT)
    assert said == ["the sync was stopped"]


def test_a_live_query_yields_whenever_its_records_are_others(pair: Pair) -> None:
    replica = pair.replica

    async def main() -> None:
        pages = replica.watch(replica.select(Order).where(Order.note == "x"))
        assert [o.id for o in await anext(pages)] == []
        with replica.transaction("sell") as tx:
            tx.insert(Order(id="n", note="x"))
        assert [o.id for o in await asyncio.wait_for(anext(pages), WAIT)] == ["n"]
        async with replica.keep_synced(memory(pair), every=3600) as link:
            await link.wait_synced(WAIT)
            with pair.authority.transaction() as head:
                head.insert(Order(id="o", note="x"))
            link.sync_now()
            assert [o.id for o in await asyncio.wait_for(anext(pages), WAIT)] == ["n", "o"]
        await pages.aclose()

    asyncio.run(main())


def test_remote_reads_through_the_thread_are_paged(pair: Pair) -> None:
    pair.replica.start_sync(memory(pair), every=3600)
    first = pair.replica.remote.select(Order).order_by(Order.id).limit(1).all()
    second = pair.replica.remote.select(Order).order_by(Order.id).limit(1).after(first.next).all()
    assert [o.id for o in (*first, *second)] == ["a", "b"]
