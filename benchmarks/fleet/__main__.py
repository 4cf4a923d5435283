"""A thousand devices pull from real authority processes over HTTP, while a plain program changes 1 or 100 records a second.

    python -m benchmarks.fleet                                     about a minute of measuring, at one process and at two
    python -m benchmarks.fleet --soak                              ten times as long
    python -m benchmarks.fleet --devices 50 --rows 2000 --seconds 8

Prints a table, and merges its keys (`fleet.*`) into build/bench.json; `--write-docs` writes docs/fleet.md.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.data import SEED
from benchmarks.fleet.company import FILTER, make
from benchmarks.fleet.device import Device, prepared
from benchmarks.fleet.drive import Lines, Seen, lines_to
from benchmarks.fleet.table import DOCS, lines, page
from benchmarks.processes import Server
from benchmarks.report import merge
from offlinekit.view import View
from tests.evidence import ROOT

COMMAND = "fleet"
RATES, PROCESSES = (1, 100), (1, 2)
PARALLEL = 16


@contextmanager
def writing(path: str, rate: int) -> Iterator[list[int]]:
    """Another program changes records meanwhile; afterwards how many."""
    command = [sys.executable, "-m", "benchmarks.fleet.write", path, str(rate)]
    changed: list[int] = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield changed
        finally:
            changed.append(int(process.communicate()[0]))


def _sum(told: list[dict[str, Any]], name: str) -> float:
    return float(sum(process["counts"].get(name, 0) for process in told))


def spent(before: list[dict[str, Any]], after: list[dict[str, Any]], seconds: float) -> dict[str, float]:
    """What the authority's processes did in a stretch of time."""
    cpu = sum(b["cpu_s"] - a["cpu_s"] for a, b in zip(before, after, strict=True))
    found = {"cpu_cores": cpu / seconds}
    for name, kinds in {"full": "evaluated", "incremental": "moved on"}.items():
        for suffix, of in {"": "", "_shared": f": {FILTER}"}.items():
            found[f"{name}{suffix}_s"] = (_sum(after, kinds + of) - _sum(before, kinds + of)) / seconds
    memory = [process["rss_mb"] for process in after]
    return found if None in memory else found | {"rss_mb": max(memory)}


class Run:
    """A run on its way."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder, self.path = options, folder, str(folder / "hq.db")
        self.same: dict[bytes, View] = {}
        self.devices: list[Device] = []
        self.keys: dict[str, Any] = {}
        self.memory: dict[str, list[tuple[float, float]]] = {}
        self.began = time.perf_counter()

    def say(self, what: str) -> None:
        """Tells on the terminal how far it is."""
        print(f"{time.perf_counter() - self.began:6.1f} s  {what}", file=sys.stderr, flush=True)

    def measure(self) -> None:
        """Everything."""
        o = self.options
        self.say(f"making {o.rows:,} products and {o.devices:,} devices")
        make(self.path, o.rows, o.devices)
        for processes in PROCESSES:
            with ExitStack() as stack:
                urls = [stack.enter_context(Server("fleet.serve", self.path)).url for _ in range(processes)]
                if not self.devices:
                    self.devices = [prepared(self.folder, urls[0], SEED, self.same)]
                    self.devices += [Device(n, SEED, self.same) for n in range(1, o.devices)]
                    for device in self.devices[1:]:
                        device.prepared_as(self.devices[0])
                asyncio.run(self._against(urls))

    async def _against(self, urls: list[str]) -> None:
        async with lines_to(urls, SEED) as lines:
            self.say(f"{len(urls)} processes: all devices pull")
            await self._everybody(lines, self.devices)
            if len(urls) == 1:
                await self._idle(lines)
            for rate in RATES:
                await self._beside(lines, rate)

    async def _everybody(self, lines: Lines, devices: list[Device]) -> None:
        """Each pulls as often as it is in the list."""
        seen, waiting = Seen(), iter(devices)

        async def worker() -> None:
            for device in waiting:
                await lines.pull(device, seen)

        await asyncio.gather(*(worker() for _ in range(PARALLEL)))

    async def _idle(self, lines: Lines) -> None:
        """What a pull costs that finds nothing, with a tenth and a hundredth of the devices and with all."""
        for share in (100, 10, 1):
            devices = self.devices[: max(self.options.devices // share, 1)]
            await self._everybody(lines, 2 * devices)  # so that what a first pull finds out is known
            before = await lines.told()
            seen, _ = await lines.flat_out(devices, self.options.seconds / 20, PARALLEL)
            after = await lines.told()
            assert set(seen.kinds) == {"same"}, f"something has changed: {seen.kinds}"
            cpu = sum(b["cpu_s"] - a["cpu_s"] for a, b in zip(before, after, strict=True))
            self.keys[f"fleet.idle_cpu_ms_{len(devices)}"] = 1000 * cpu / len(seen.pulls)
        found = list(self.keys.values())
        self.keys["fleet.idle_cpu_growth"] = found[-1] / found[0]

    async def _beside(self, lines: Lines, rate: int) -> None:
        """Devices live beside a writer; then they pull as fast as they can."""
        name, o = f"changes_{rate}.processes_{len(lines.urls)}", self.options
        share = o.seconds / len(RATES) / len(PROCESSES)
        self.say(f"{name}: {share:.0f} s")
        samples: list[tuple[float, float]] = []

        async def watch() -> None:
            while True:
                told = await lines.told()
                samples.append((time.perf_counter() - self.began, sum(process["rss_mb"] or 0 for process in told)))
                await asyncio.sleep(max(share / 60, 1.0))

        with writing(self.path, rate) as changed:
            await lines.live(self.devices, min(2.0, share / 4), o.every)
            watching, before, began = asyncio.create_task(watch()), await lines.told(), time.perf_counter()
            seen = await lines.live(self.devices, share * 0.7, o.every)
            seconds, after = time.perf_counter() - began, await lines.told()
            fast, fast_s = await lines.flat_out(self.devices, share * 0.3, PARALLEL)
            watching.cancel()
        found = {
            "pulls_s": len(seen.pulls) / seconds, "wanted_pulls_s": o.devices / o.every, **seen.figures(),
            **spent(before, after, seconds), "flat_out_pulls_s": len(fast.pulls) / fast_s,
        }  # fmt: skip
        self.keys |= {f"fleet.{name}.{figure}": value for figure, value in found.items()}
        self.memory[name] = samples
        if samples[0][1]:
            self.keys[f"fleet.{name}.rss_growth"] = samples[-1][1] / samples[0][1]
        self.say(f"{name}: {dict(seen.kinds)}, {seen.accepted} of {len(seen.pushes)} orders accepted, {changed[0]} changes")


def figures(keys: Mapping[str, Any]) -> Mapping[str, Any]:
    """The keys, with what the targets ask for."""
    name = f"fleet.changes_{RATES[0]}.processes_{PROCESSES[0]}"
    return {**keys, "fleet.evaluations_shared_s": keys[f"{name}.full_shared_s"] + keys[f"{name}.incremental_shared_s"]}


def main() -> None:
    """Measures, prints, keeps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="products in the catalogue")
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--every", type=float, default=30.0, help="seconds between the pulls of one device")
    parser.add_argument("--seconds", type=float, default=60.0, help="of measuring, in all")
    parser.add_argument("--soak", action="store_true", help="ten minutes of measuring")
    parser.add_argument("--write-docs", action="store_true", help="write docs/fleet.md")
    options = parser.parse_args()
    options.seconds = 600.0 if options.soak else options.seconds
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        run = Run(options, Path(folder))
        run.measure()
    details = {**{n: getattr(options, n) for n in ("devices", "every", "seconds")}, "memory": run.memory}
    whole = merge(figures(run.keys), command=COMMAND, rows=options.rows, seed=SEED, details=details)
    print("\n".join(lines(whole)))
    if options.write_docs:
        DOCS.write_text(page(whole), encoding="utf-8")
        print(f"written: {DOCS}")


if __name__ == "__main__":
    main()
