"""Lets devices live for a while, all in one process: they pull at their times, write orders, choose otherwise."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from attrs import Factory, define

from benchmarks.fleet.company import CUSTOMERS_EACH
from benchmarks.fleet.device import Device, Post
from offlinekit.protocol.codec import CONTENT_TYPE

__all__ = ["Lines", "Seen", "lines_to"]

ORDER, EDIT, ROAM = 0.1, 0.02, 0.1  # how often a device writes an order, edits its selection, is answered by another process
TIMEOUT = aiohttp.ClientTimeout(total=120)


def _percentiles(name: str, seconds: Sequence[float]) -> dict[str, float]:
    """Milliseconds: p50, p95, p99."""
    if len(seconds) < 2:
        return {}
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {f"{name}_p{n}_ms": 1000 * cuts[n - 1] for n in (50, 95, 99)}


@define
class Seen:
    """What devices saw in a stretch of time: how long pulls and pushes took, and how they ended."""

    pulls: list[float] = Factory(list)
    pushes: list[float] = Factory(list)
    kinds: Counter[str] = Factory(Counter)
    requests: int = 0
    accepted: int = 0

    def figures(self) -> dict[str, float]:
        """Percentiles, and requests for each pull."""
        found = _percentiles("pull", self.pulls) | _percentiles("push", self.pushes)
        return found | {"requests_a_pull": self.requests / max(len(self.pulls), 1)}


class Lines:
    """Connections from all devices to all processes of the authority."""

    def __init__(self, session: aiohttp.ClientSession, urls: Sequence[str], seed: int) -> None:
        self.session, self.urls, self.chance = session, urls, random.Random(seed)

    def post(self, device: Device) -> Post:
        """To the process that answers this device now: mostly the same one."""
        at = self.chance.randrange(len(self.urls)) if self.chance.random() < ROAM else device.number % len(self.urls)
        url = f"{self.urls[at]}/sync/exchange"
        headers = {"Authorization": f"Bearer {device.number}", "Content-Type": CONTENT_TYPE}

        async def post(body: bytes) -> bytes:
            async with self.session.post(url, data=body, headers=headers) as response:
                response.raise_for_status()
                return await response.read()

        return post

    async def told(self) -> list[dict[str, Any]]:
        """What the processes tell of themselves."""
        found = []
        for url in self.urls:
            async with self.session.get(f"{url}/bench/counts") as response:
                found.append(await response.json())
        return found

    async def pull(self, device: Device, seen: Seen) -> None:
        """One pull."""
        started = time.perf_counter()
        kind, requests = await device.pull(self.post(device))
        seen.pulls.append(time.perf_counter() - started)
        seen.kinds[kind] += 1
        seen.requests += requests

    async def push(self, device: Device, devices: int, seen: Seen) -> None:
        """One order, written and sent."""
        device.order(f"C{device.number + devices * device.chance.randrange(CUSTOMERS_EACH):06}")
        started = time.perf_counter()
        seen.accepted += await device.push(self.post(device))
        seen.pushes.append(time.perf_counter() - started)

    async def live(self, devices: Sequence[Device], seconds: float, every: float) -> Seen:
        """Each pulls once in `every` seconds, from a time of its own on; who is late goes on at once."""
        seen, began = Seen(), time.perf_counter()

        async def one(device: Device) -> None:
            due = device.chance.random() * every
            while due < seconds:
                await asyncio.sleep(max(0.0, began + due - time.perf_counter()))
                if device.chance.random() < EDIT:
                    device.edit()
                if device.chance.random() < ORDER:
                    await self.push(device, len(devices), seen)
                await self.pull(device, seen)
                due = max(due + every, time.perf_counter() - began)

        await asyncio.gather(*map(one, devices))
        return seen

    async def flat_out(self, devices: Sequence[Device], seconds: float, parallel: int) -> tuple[Seen, float]:
        """So many at a time pull as fast as they are answered, in turns; and for how long."""
        seen, began, turn = Seen(), time.perf_counter(), iter(range(10**9))

        async def worker() -> None:
            while time.perf_counter() - began < seconds:
                await self.pull(devices[next(turn) % len(devices)], seen)

        await asyncio.gather(*(worker() for _ in range(min(parallel, len(devices)))))
        return seen, time.perf_counter() - began


@asynccontextmanager
async def lines_to(urls: Sequence[str], seed: int) -> AsyncIterator[Lines]:
    """Lines that are closed in the end."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64), timeout=TIMEOUT) as session:
        yield Lines(session, urls, seed)
