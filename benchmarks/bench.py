"""A run on its way: how many records, where its files are, and the samples that were taken."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.ground import Ground
from benchmarks.processes import Device, Server, http_json

__all__ = ["Bench"]

IMAGE = "image made"  # what the authority counts when it has prepared a file for many devices


class Bench:
    """What the scenarios share; `samples` are by name and in order, `keys` what is found."""

    def __init__(self, folder: Path, rows: int, rounds: int) -> None:
        self.folder, self.rows, self.rounds = folder, rows, rounds
        self.samples: dict[str, list[float]] = {}
        self.keys: dict[str, float] = {}
        self.spread: dict[str, tuple[float, float]] = {}
        self.details: dict[str, Any] = {"rounds": rounds}
        self._started, self._count = time.perf_counter(), 0
        self.say(f"making {rows:,} records")
        self.ground = Ground(folder / "ground", rows)

    def say(self, what: str) -> None:
        """Tells on the terminal how far it is."""
        print(f"{time.perf_counter() - self._started:6.1f} s  {what}", file=sys.stderr, flush=True)

    def note(self, name: str, value: float | None) -> None:
        """Takes a sample; None where the system does not tell."""
        if value is not None:
            self.samples.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        """The middle of the samples of a name."""
        return statistics.median(self.samples[name])

    def put(self, key: str, name: str, of: Callable[[list[float]], float] = statistics.median) -> None:
        """A key from the samples of a name, and their spread."""
        self.keys[key] = of(self.samples[name])
        self.spread[key] = min(self.samples[name]), max(self.samples[name])

    def ratio(self, key: str, over: str, under: str) -> None:
        """A key that is a ratio of medians, and the spread of the ratios of the rounds."""
        self.keys[key] = self.median(over) / self.median(under)
        each = [a / b for a, b in zip(self.samples[over], self.samples[under], strict=True)]
        self.spread[key] = min(each), max(each)

    def new(self, what: str) -> Path:
        """A path that nobody used."""
        self._count += 1
        return self.folder / f"{self._count}_{what}"

    # -- processes

    @contextmanager
    def authority(self, ground: Ground | None = None, variant: str = "full") -> Iterator[tuple[Server, Path]]:
        """An authority's process that has never answered anybody, and its file."""
        folder = self.new("hq")
        path = (ground or self.ground).copy(folder)
        with Server("serve", str(path), f"--files={folder / 'files'}", f"--variant={variant}") as server:
            yield server, path

    @contextmanager
    def naive_server(self) -> Iterator[tuple[Server, Path]]:
        """The same of the baseline."""
        path = self.ground.copy(self.new("naive"), "naive")
        with Server("naive", str(path)) as server:
            yield server, path

    def device(self, server: Server, variant: str = "full") -> Device:
        """A new device of a user of its own."""
        folder = self.new("device")
        return Device("ours", folder, server.url, identity=f"rep-{folder.name}", variant=variant)

    def again(self, device: Device) -> Device:
        """The same device, in a new process."""
        side, folder, url = device.made
        return Device(side, folder, url, **device.more)

    def naive_device(self, server: Server) -> Device:
        """A device of the baseline."""
        return Device("naive", self.new("device"), server.url)

    # -- images

    def warm(self, server: Server, ground: Ground) -> bool:
        """Two devices load, and then the authority has time to prepare an image for all others; whether it did."""
        for _ in range(2):
            with self.device(server) as device:
                device.ask("load")
                device.ask("check", truth=ground.truth)
        patience = time.perf_counter() + 2 + 30e-6 * ground.rows
        while not (made := http_json(f"{server.url}/bench/counts").get(IMAGE, 0) > 0) and time.perf_counter() < patience:
            time.sleep(0.1)
        return bool(made)
