"""How long saves and reads of an application take while something else happens in its process."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any

__all__ = ["waits_beside"]


class _Timed(threading.Thread):
    """Does things by turns, again and again, and notes how long each took."""

    def __init__(self, works: Sequence[Callable[[], object]], pause_s: float) -> None:
        super().__init__(daemon=True)
        self.works, self.pause_s, self.waits = works, pause_s, list[float]()
        self.error: Exception | None = None
        self.over = threading.Event()

    def run(self) -> None:
        """Until it is over."""
        try:
            for work in cycle(self.works):
                if self.over.wait(self.pause_s):
                    return
                started = time.perf_counter()
                work()
                self.waits.append(time.perf_counter() - started)
        except Exception as error:
            self.error = error

    def end(self) -> dict[str, float]:
        """Milliseconds: median, 99th percentile, worst; and how often."""
        self.over.set()
        self.join()
        if self.error is not None:
            raise self.error
        waits = sorted(self.waits) or [0.0]
        return {
            "n": len(waits), "p50_ms": 1000 * statistics.median(waits), "p99_ms": 1000 * waits[int(len(waits) * 0.99)],
            "max_ms": 1000 * waits[-1],
        }  # fmt: skip


def waits_beside(
    save: Callable[[], object], reads: Sequence[Callable[[], object]], during: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """What `during` found, with the waits of saves and reads beside it."""
    save()  # the first one of a process compiles its statements
    saves, reading = _Timed([save], 0.02), _Timed(reads, 0.005)
    saves.start()
    reading.start()
    found = during()
    return {**found, "save": saves.end(), "read": reading.end()}
