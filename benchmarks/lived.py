"""A device that has everything and goes on: filters are edited, records change, orders are written and sent."""

from __future__ import annotations

import time
from collections.abc import Set
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.catalogue import group_names
from benchmarks.data import GROUPS
from benchmarks.ground import change, pushed, truth
from benchmarks.processes import Device

__all__ = ["capture", "lived"]

ORDERS = 1000
SETTLED_S = 0.5  # an authority may answer from a snapshot of a quarter of a second ago


def lived(b: Bench, picked: Set[str]) -> None:
    """One device of ours and one of the baseline, by turns."""
    both = {"delta", "push"} & picked
    if not both | {"refilter", "idle", "search"} & picked:
        return
    with b.authority() as (server, hq), b.naive_server() as (naive, naive_path), \
            b.device(server) as ours, b.naive_device(naive) as theirs:  # fmt: skip
        b.say("a device of either side loads, to go on from there")
        ours.ask("load", groups=list(range(GROUPS - 1)))
        if "refilter" in picked:
            _refilter(b, ours, hq)
        ours.ask("edit")
        if both:
            theirs.ask("load")
        if "delta" in picked:
            _delta(b, ours, theirs, hq, naive_path)
        if "idle" in picked:
            _idle(b, ours)
        if "search" in picked:
            b.details["search"] = found = ours.ask("search", times=200)
            b.keys |= {f"search.{name}": value for name, value in found.items()}
        if "push" in picked:
            _push(b, ours, theirs, hq, naive_path)


def _refilter(b: Bench, ours: Device, hq: Path) -> None:
    """One group of 200 goes and another comes, to and fro."""
    held = set(range(GROUPS - 1))
    for n in range(b.rounds):
        b.say(f"edited filter, round {n + 1} of {b.rounds}")
        (missing,) = set(range(GROUPS)) - held
        held = held - {n} | {missing}
        found = ours.ask("edit", groups=sorted(held))
        b.note("refilter", found["seconds"])
        b.note("refilter.rows", found["put"] + found["drop"])
        ours.ask("check", truth=truth(hq, group_names(held)))
    b.put("refilter.rows_moved", "refilter.rows")
    b.keys["refilter.rows_differ"] = b.rows // GROUPS * 2
    b.ratio("refilter.share_of_initial", "refilter", "initial")
    b.put("refilter.seconds", "refilter")


def _delta(b: Bench, ours: Device, theirs: Device, hq: Path, naive_path: Path) -> None:
    for n in range(b.rounds):
        b.say(f"1 % changed, round {n + 1} of {b.rounds}")
        for path in (hq, naive_path):
            change(path, n)
        time.sleep(SETTLED_S)
        b.note("delta.naive", theirs.ask("pull")["seconds"])
        b.note("delta", ours.ask("sync")["seconds"])
        now = truth(hq)
        ours.ask("check", truth=now)
        theirs.ask("check", truth=now)
    b.ratio("delta.ratio_naive", "delta.naive", "delta")
    b.put("delta.seconds", "delta")


def _idle(b: Bench, ours: Device) -> None:
    b.say("pulls that find nothing")
    for _ in range(b.rounds):
        found = ours.ask("idle", times=100)
        b.note("idle.bytes", found["bytes"])
        b.note("idle.pull_ms", 1000 * found["pull_s"])
        b.note("idle.round_ms", 1000 * found["round_s"])
        b.note("idle.floor_ms", 1000 * found["floor_s"])
        b.details["idle"] = found
    b.ratio("idle.ratio_to_http_floor", "idle.pull_ms", "idle.floor_ms")
    for name in ("idle.bytes", "idle.pull_ms", "idle.round_ms"):
        b.put(name, name)


def _push(b: Bench, ours: Device, theirs: Device, hq: Path, naive_path: Path) -> None:
    for n in range(b.rounds):
        b.say(f"{ORDERS:,} orders, round {n + 1} of {b.rounds}")
        b.note("push.naive", theirs.ask("push", orders=ORDERS)["seconds"])
        found = ours.ask("push", orders=ORDERS)
        b.note("push", found["seconds"])
        b.note("push.synced", found["synced_s"])
        b.note("push.write", found["write_s"])
        orders = ORDERS * (n + 1)
        for path in (hq, naive_path):
            if (there := pushed(path)) != (orders, 10 * orders, 55 * orders):
                raise AssertionError(f"{path.name} has {there} after {orders} orders: not each exactly once")
    b.ratio("push.ratio_naive", "push.naive", "push")
    b.put("push.seconds", "push")
    b.put("push.synced_seconds", "push.synced")
    b.put("push.write_seconds", "push.write")


def capture(b: Bench) -> None:
    """Transactions that are captured beside ones that are not, on a device without a line."""
    b.say("local writes, captured and not")
    with Device("ours", b.new("device"), "http://127.0.0.1:9") as device:
        device.ask("capture", orders=20)
        for _ in range(b.rounds):
            for name, seconds in device.ask("capture", orders=200).items():
                b.note(f"capture.{name}", seconds)
    b.ratio("capture.overhead", "capture.captured", "capture.uncaptured")
    b.put("capture.seconds", "capture.captured")
