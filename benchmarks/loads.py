"""First syncs, by turns with the baseline's: with an image, without one, into a replica that holds something, of bare rows."""

from __future__ import annotations

import json
from collections.abc import Set

from benchmarks.bench import Bench
from benchmarks.catalogue import group_names
from benchmarks.ground import Ground, truth
from benchmarks.processes import Server, run

__all__ = ["during", "limits", "loads", "resume", "sizes"]

PART = list(range(4))  # groups: 2 % of the products
LIMITS = {"initial": "copy", "initial_cold": "built", "initial_existing": "built", "rows_in_place": "rows", "delta": "change"}
SCALE = (10_000, 100_000, 1_000_000, 5_000_000)


def loads(b: Bench, server: Server, picked: Set[str]) -> None:
    """Rounds of first syncs, each of a new device; `server` is the authority that serves many."""
    ours = {"initial", "initial_cold", "initial_existing", "rows_in_place"} & picked
    if "initial" in picked:
        b.say("two devices load, then an image is awaited")
        b.details["image"] = b.warm(server, b.ground)
    with b.naive_server() as (naive, _):
        for n in range(b.rounds if ours else 0):
            b.say(f"first syncs, round {n + 1} of {b.rounds}")
            with b.naive_device(naive) as device:
                found = device.ask("load")
                b.note("naive", found["seconds"])
                b.note("naive.in_place", found["in_place"])
                device.ask("check", truth=b.ground.truth)
            if "initial" in picked:
                _initial(b, server, b.ground)
            if "initial_cold" in picked:
                _cold(b, b.ground)
            if "initial_existing" in picked:
                _existing(b, server)
            if "rows_in_place" in picked:
                with b.authority(variant="rows") as (rows, _), b.device(rows, "rows") as device:
                    b.note("rows_in_place", device.ask("load")["seconds"])
                    device.ask("check", truth=b.ground.truth)
    for name in ours:
        b.ratio(f"{name}.ratio_naive", "naive.in_place" if name == "rows_in_place" else "naive", name)
        b.put(f"{name}.seconds", name)
    if ours:
        b.put("naive.seconds", "naive")
    if "initial_cold" in ours:
        b.put("first_usable_share", "first_usable")


def _initial(b: Bench, server: Server, ground: Ground, name: str = "initial") -> None:
    with b.device(server) as device:
        b.note(name, device.ask("load")["seconds"])
        device.ask("check", truth=ground.truth)
        b.note(f"{name}.device_mb", device.peak_mb)
    b.note(f"{name}.authority_mb", server.peak_mb)


def _cold(b: Bench, ground: Ground, name: str = "initial_cold") -> None:
    with b.authority(ground) as (server, _), b.device(server) as device:
        found = device.ask("load", small=ground.customers)
        b.note(name, found["seconds"])
        if name == "initial_cold":
            b.note("first_usable", found["usable"] / found["seconds"])
        device.ask("check", truth=ground.truth)
        b.note(f"{name}.device_mb", device.peak_mb)
        b.note(f"{name}.authority_mb", server.peak_mb)


def _existing(b: Bench, server: Server) -> None:
    with b.device(server) as device:
        device.ask("load", groups=PART)
        device.ask("check", truth=truth(b.ground.hq, group_names(PART)))
        b.note("initial_existing", device.ask("edit")["seconds"])
        device.ask("check", truth=b.ground.truth)


def during(b: Bench, server: Server) -> None:
    """The application reads and saves while a replica that holds something is filled."""
    for n in range(b.rounds):
        b.say(f"reads and saves during a sync, round {n + 1} of {b.rounds}")
        with b.device(server) as device:
            device.ask("load", groups=PART)
            found = device.ask("during")
            device.ask("check", truth=b.ground.truth)
        b.note("read_p99_ms", found["read"]["p99_ms"])
        b.note("write_max_ms", found["save"]["max_ms"])
        b.details.setdefault("during", []).append(found)
    b.put("read_p99_ms_during_sync", "read_p99_ms")
    b.put("write_max_ms_during_sync", "write_max_ms", of=max)


def resume(b: Bench, server: Server) -> None:
    """A device is killed when half of the bytes are there, and goes on in a new process."""
    b.say("a sync that is killed half-way")
    with b.device(server) as device:
        whole = device.ask("load")["bytes"]
    with b.device(server) as device:
        device.killed("load", kill_at=whole / 2)
    with b.again(device) as device:  # what was chosen stays chosen
        found = device.ask("sync")
        device.ask("check", truth=b.ground.truth)
    b.keys["resume.bytes_share"] = found["bytes"] / whole
    b.details["resume"] = {"bytes": whole, "bytes_again": found["bytes"], "seconds_again": found["seconds"]}


def sizes(b: Bench, picked: Set[str]) -> None:
    """First syncs of fewer records: how time and memory grow."""
    tenth = b.rows // 10
    scale = [s for s in SCALE if s < b.rows and "scale" in picked]
    for size in sorted({*scale, *([tenth] if "memory" in picked else [])}):
        b.say(f"first syncs of {size:,} records")
        ground = Ground(b.new("ground"), size)
        for _ in range(b.rounds):
            _cold(b, ground, f"cold_{size}")
        if size == tenth and "memory" in picked:
            with b.authority(ground) as (server, _):
                b.details["image_tenth"] = b.warm(server, ground)
                _initial(b, server, ground, "tenth")
    if "scale" in picked:
        each = {s: b.median(f"cold_{s}") / s for s in scale} | {b.rows: b.median("initial_cold") / b.rows}
        for size, seconds in each.items():
            b.keys[f"scale.us_per_row_{size}"] = 1e6 * seconds
        if above := [seconds for size, seconds in each.items() if size > 100_000 and 100_000 in each]:
            b.keys["scale.growth"] = max(above) / each[100_000]
    if "memory" in picked and "initial.device_mb" in b.samples:
        worst = {}
        for side in ("device", "authority"):
            whole, part = (
                max(b.samples[f"{cold}.{side}_mb"] + b.samples[f"{warm}.{side}_mb"])
                for cold, warm in (("initial_cold", "initial"), (f"cold_{tenth}", "tenth"))
            )
            b.keys[f"memory.{side}_mb"], worst[side] = whole, whole / part
            b.keys[f"memory.growth_{side}"] = worst[side]
        b.keys["memory.growth"] = max(worst.values())


def limits(b: Bench) -> None:
    """What SQLite and the file system take for the same, and how many times that each scenario takes."""
    if not LIMITS.keys() & b.samples.keys():
        return
    for n in range(b.rounds):
        b.say(f"limits of the machine, round {n + 1} of {b.rounds}")
        folder = b.new("limits")
        folder.mkdir()
        for name, seconds in json.loads(run("limits", str(b.ground.hq), str(folder))).items():
            b.note(f"limit.{name}", seconds)
    for name, limit in LIMITS.items():
        if name in b.samples:
            b.ratio(f"{name}.times_limit", name, f"limit.{limit}")
