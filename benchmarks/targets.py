"""What is measured, by which keys, and what is to be reached; docs/performance.md holds the same table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias

from attrs import frozen

__all__ = ["NAIVE_SHA256", "NEEDS", "SCENARIOS", "TARGETS", "Target", "bounds", "markdown", "shown", "verdict"]

Verdict: TypeAlias = Literal["stretch", "reached", "missed", ""]


@frozen
class Target:
    """A key, what it says, and what it should be: at least with `more`, else at most. A share is written in per cent."""

    scenario: str
    key: str
    what: str
    unit: Literal["×", "%", "ms", "MB", "bytes", "records"]
    reach: float | None = None
    stretch: float | None = None
    more: bool = False
    rows_min: int = 0  # with fewer it says nothing and is not measured
    command: str = "bench"


def _naive(scenario: str, what: str, reach: float, stretch: float) -> Target:
    """How many times as fast as the baseline."""
    return Target(scenario, f"{scenario}.ratio_naive", what, "×", reach, stretch, more=True)


TARGETS = (
    _naive("initial", "first sync of a new device, everything searchable and durable, image ready", 8, 20),
    _naive("initial_cold", "first sync, first request ever", 3, 5),
    _naive("initial_existing", "first sync into a replica that holds 2 %", 3, 5),
    _naive("rows_in_place", "records in place with their key, before indexes and search", 9, 15),
    Target("initial_cold", "first_usable_share", "first small collection usable, share of the whole load", "%", 0.15, 0.05),
    Target("during", "read_p99_ms_during_sync", "reads of the application during a load, 99th percentile", "ms", 50, 10),
    Target("during", "write_max_ms_during_sync", "worst wait of a local transaction during a load", "ms", 2500, 300),
    Target("resume", "resume.bytes_share", "killed at half of the bytes: what comes again, of the whole", "%", 0.55, 0.51),
    Target("idle", "idle.bytes", "pull with nothing changed: bytes of both bodies", "bytes", 400, 250),
    Target("idle", "idle.ratio_to_http_floor", "pull with nothing changed: time, over an empty request's", "×", 3, 1.5),
    _naive("delta", "1 % changed, spread", 2, 4),
    Target("refilter", "refilter.rows_moved", "filter edited so that 1 % differs: records moved", "records"),
    Target(
        "refilter", "refilter.share_of_initial", "filter edited so that 1 % differs: time, of the first sync's", "%", 0.10, 0.03
    ),
    _naive("push", "1,000 orders of 1 + 10 records written offline, then pushed, each exactly once", 8, 15),
    Target("capture", "capture.overhead", "a local write, over one that is not captured", "×", 2.5, 1.75),
    Target("memory", "memory.growth", "peak memory, over that with a tenth of the records; the worse side", "×", 1.3, 1.1),
    Target("memory", "memory.device_mb", "peak memory of the device", "MB", 120, 80),
    Target("scale", "scale.growth", "time a record, over that with 100,000; the worst above", "×", 1.3, 1.05, rows_min=1_000_000),
    Target("search", "search.p95_ms", "search of two words as they are typed, 95th percentile", "ms"),
    Target("peers", "peers.initial_ratio", "first sync, over the best durable peer", "×", 10, 30, more=True, command="peers"),
)
# The baseline was frozen after its first review; docs/performance.md gives the reason of every change.
NAIVE_SHA256 = "fec0c4aacf74b35934f08f0ee88c567cb7c4dbe1031db522bac3bdd4a4e5e87c"
SCENARIOS = tuple(dict.fromkeys(t.scenario for t in TARGETS if t.command == "bench"))
# What else must be measured for a scenario.
NEEDS = {"memory": ("initial", "initial_cold"), "scale": ("initial_cold",), "refilter": ("initial",)}


def shown(value: float | None, unit: str) -> str:
    """A figure with its unit."""
    if value is None:
        return "–"
    if unit == "%":
        return f"{100 * value:.3g} %"
    if unit == "records":
        return f"{value:,.0f}"
    figure = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return figure + unit if unit == "×" else f"{figure} {unit}"


def verdict(target: Target, found: Mapping[str, Any]) -> Verdict:
    """Whether a target is reached; empty where there is none."""
    value = found[target.key]
    if target.key == "refilter.rows_moved":
        return "reached" if value == found["refilter.rows_differ"] else "missed"
    if value is None or target.reach is None or target.stretch is None:
        return ""
    sign = 1 if target.more else -1
    return "stretch" if sign * value >= sign * target.stretch else "reached" if sign * value >= sign * target.reach else "missed"


def bounds(target: Target) -> tuple[str, str]:
    """What is to be reached, and the stretch, as they are written."""
    if target.key == "refilter.rows_moved":
        return "exact", ""
    sign = "≥" if target.more else "≤"
    reach, stretch = (f"{sign} {shown(b, target.unit)}" if b is not None else "" for b in (target.reach, target.stretch))
    return reach, stretch


def markdown(targets: Iterable[Target] = TARGETS) -> str:
    """The table of the document."""
    lines = ["| scenario | key | to reach | stretch |", "| --- | --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {t.what} | `{t.key}` | {' | '.join(bounds(t))} |" for t in targets)])
