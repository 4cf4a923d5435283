"""A web application configures on its event loop and in its threads, whichever shell the sync runs in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from offlinekit.configurator import Mark
from offlinekit.testing.pair import Pair
from offlinekit.transport.memory import Memory
from tests.configurator.world import Customer, Product, opened


@pytest.fixture
def pair() -> Iterator[Pair]:
    with opened() as pair:
        pair.replica._link = None
        yield pair


async def steps(pair: Pair) -> None:
    """The requests of a user who goes through the four steps; each takes up what the one before kept."""
    replica = pair.replica
    kept = replica.configure().quick("mine").all_of(Customer.visits >= 1).selection.encode()
    take = replica.configure(kept)
    page = await take.candidates(Customer).order_by(Customer.name).limit(10).with_total().fetch()
    assert (page.offline, len(page), set(page.marks)) == (False, 10, {Mark.FILTER})
    kept = take.unpick(Customer, *(c.code for c in page[:3])).quick("all").selection.encode()
    take = replica.configure(kept)
    assert list(await take.fetch_chosen(Customer, page)) == [Mark.UNPICK] * 3 + [Mark.FILTER] * 7
    assert await take.candidates(Customer, show="chosen").fetch_count() == (page.total or 0) - 3
    preview = await take.fetch_preview()
    assert (preview.offline, preview.of(Customer).hold, preview.of(Product).hold) == (False, (page.total or 0) - 3, 36)
    assert await asyncio.to_thread(take.preview) == preview, "threads may block"
    assert await asyncio.to_thread(take.candidates(Customer).count) == page.total
    take.save()


def memory(pair: Pair) -> Memory:
    return Memory(pair.authority, lambda: (pair.identity, pair.claims or {}))


def test_on_a_loop_while_the_sync_runs_in_a_thread_of_its_own(pair: Pair) -> None:
    link = pair.replica.start_sync(memory(pair), every=3600)
    asyncio.run(steps(pair))
    link.wait_synced(20)
    assert pair.replica.select(Product).count() == 36
    link.stop()


def test_on_the_loop_on_which_the_sync_runs(pair: Pair) -> None:
    async def program() -> None:
        async with pair.replica.keep_synced(memory(pair), every=3600) as link:
            await steps(pair)
            await link.wait_synced(20)
            assert pair.replica.select(Product).count() == 36

    asyncio.run(program())


def test_in_many_threads_at_once(pair: Pair) -> None:
    link = pair.replica.start_sync(memory(pair), every=3600)
    link.wait_synced(20)

    def look(n: int) -> tuple[int, int]:
        take = pair.replica.configure().quick("mine").unpick(Customer, *(f"c{i:04}" for i in range(3 * n)))
        return take.candidates(Customer, show="chosen").count(), take.preview().of(Customer).hold

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(look, range(20))) == [(60 - 2 * n, 60 - 2 * n) for n in range(20)]
    link.stop()
