"""The power is cut after every operation of a workload, in every mode; what is left is opened, looked at, and must settle."""

from __future__ import annotations

import hashlib
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from attrs import Factory, evolve, mutable

from offlinekit.testing.crash import MODES, Disk, Operation, write_files
from tests.crash.workloads import Workload, checkpoints
from tests.crash.world import SIDES, Expected, World, damaged, differences, found, unsettled

__all__ = ["Result", "sweep"]

_USUAL = ("nothing", "pushed", "same", "delta", "bulk")


@mutable
class Result:
    """What a sweep found: points are cuts, or faults, of which each was looked at; cuts that left equal files are one state."""

    workload: str
    side: str
    operations: int = 0
    points: int = 0
    states: int = 0
    lost: int = 0
    doubled: int = 0
    half: int = 0
    corrupt: int = 0
    other: int = 0
    failures: list[str] = Factory(list)

    def add(self, place: str, wrong: list[str]) -> None:
        """Counts what is wrong at a place."""
        for kind in ("lost", "doubled", "half", "corrupt", "other"):
            if any(w.startswith(kind) for w in wrong):
                setattr(self, kind, getattr(self, kind) + 1)
        if wrong:
            self.failures.append(f"{self.workload}, {place}: {'; '.join(wrong)}")


@contextmanager
def scratch() -> Iterator[str]:
    """A folder for many small files, in memory where there is such a place: what is durable is counted, not waited for."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory, ignore_cleanup_errors=True) as folder:
        yield os.path.realpath(folder)


def sweep(workload: Workload, *, seed: int = 0, part: tuple[int, int] = (0, 1),
          forgets: Callable[[Operation], bool] = lambda operation: False) -> Result:  # fmt: skip
    """Cuts the power of one side after each operation; of `part` (i, of n) only every n-th different state is looked at.

    `forgets` are syncs that the program is taken not to have done: a mistake that must be found.
    """
    result = Result(workload.name, workload.side)
    with scratch() as folder:
        disk, world = recorded(workload, folder)
        disk.done[:] = [evolve(o, kind="nothing") if forgets(o) else o for o in disk.done]
        result.operations = sum(o.path.startswith(workload.side + "/") for o in disk.done)
        seen: set[bytes] = set()
        for n in range(disk.operations + 1):
            kept = disk.after(n, "kept")
            for mode in MODES:
                left = disk.after(n, mode, random.Random(f"{seed} {workload.name} {n}"))
                files = {p: (left if side == workload.side else kept)[p] for side in SIDES
                         for p in (left if side == workload.side else kept) if p.startswith(side + "/")}  # fmt: skip
                told = disk.told(n)
                result.points += 1
                state = _digest(files, told)
                if state not in seen:
                    seen.add(state)
                    if len(seen) % part[1] == part[0]:
                        result.states += 1
                        result.add(f"{mode} after operation {n}", looked_at(files, told, world))
    return result


def recorded(workload: Workload, folder: str) -> tuple[Disk, World]:
    """The workload's run, and the world at its end."""
    with checkpoints(workload.pages):
        world = World(folder)
        workload.before(world)
        world.close()
        world.disk = disk = Disk(folder)
        with disk.recording():
            disk.note(("told", world.expected))
            workload.run(world)
            end = disk.operations
            world.close()
        del disk.done[end:]
    return disk, world


def _digest(files: dict[str, bytes], told: list[Any]) -> bytes:
    state = hashlib.sha256(repr(told[-2:]).encode())
    for path in sorted(files):
        state.update(path.encode() + b"\0" + hashlib.sha256(files[path]).digest())
    return state.digest()


def allowed(told: list[tuple[str, Expected]]) -> list[Expected]:
    """What may be found: what was told last, or what a call leads to that had not returned."""
    last = [expected for kind, expected in told if kind == "told"][-1]
    return [last, told[-1][1]] if told[-1][0] == "doing" else [last]


def looked_at(files: dict[str, bytes], told: list[tuple[str, Expected]], end: World) -> list[str]:
    """What is wrong with the files that a cut left, once both programs were started again."""
    with scratch() as folder:
        write_files(files, folder)
        world = World(folder, seed=1)
        world.schema, world.history = end.schema, end.history
        try:
            return judge(world, allowed(told))
        finally:
            world.close()


def judge(world: World, may: list[Expected]) -> list[str]:
    """What is wrong, before and after both have settled."""
    try:
        wrong = unsettled(world)
        first = len(world.answers)
        world.settle()
        said = world.answers[first:]
        wrong += [f"other: answered {kind}" for kind in said if kind not in _USUAL and kind != world.history]
        at_end = found(world)
        if at_end not in may:
            wrong += _named(at_end, may[0])
        wrong += [f"corrupt: {what}" for what in differences(world)]
        again = len(world.answers)
        world.settle()
        if (moved := world.answers[again:]) != ["nothing", "same"]:
            wrong.append(f"other: a further sync answers {moved}")
        world.close_replica()
        _ = world.replica  # a new program deletes what the former left
        wrong += [f"corrupt: {what}" for what in damaged(world.folder)]
        left = [n for n in os.listdir(os.path.join(world.folder, "device")) if "incoming" in n or n.endswith("-journal")]
        wrong += [f"other: {name} stays" for name in left]
    except AssertionError as error:
        return [f"other: {error}"]
    except Exception as error:  # whatever it is: the files of a cut must open and settle
        return [f"corrupt: {type(error).__name__}: {error}"]
    return wrong


def _named(at_end: Expected, told: Expected) -> list[str]:
    """How what is there differs from what somebody was told."""
    wrong = []
    for mark, (kind, count) in told.fates.items():
        now = at_end.fates.get(mark)
        if now is None:
            wrong.append(f"lost: '{mark}', which is {kind}")
        elif now != (kind, count):
            name = "doubled" if now[0] == kind and now[1] > count else "half" if now[0] == kind else "other"
            wrong.append(f"{name}: '{mark}' is {now} instead of {(kind, count)}")
    wrong += [f"other: '{mark}' is there, {fate}" for mark, fate in at_end.fates.items() if mark not in told.fates]
    for what in ("drafts", "cities", "written"):
        if missing := getattr(told, what) - getattr(at_end, what):
            wrong.append(f"lost: {what} {sorted(missing)}")
    return wrong or [f"other: {at_end} instead of {told}"]
