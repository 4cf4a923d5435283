"""A disk that is full, or fails once, at each operation of a workload; the program lives on, is told why, and tries again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

from offlinekit.exceptions import OfflinekitError, StoreError, TransportError
from offlinekit.testing.crash import Disk, read_files, write_files
from tests.crash.sweep import Result, judge, scratch
from tests.crash.workloads import Workload, checkpoints
from tests.crash.world import World

__all__ = ["FAULTS", "Fault", "survive"]

Fault: TypeAlias = Literal["full", "io", "sync"]
FAULTS: tuple[Fault, ...] = get_args(Fault)


def survive(workload: Workload, fault: Fault, *, part: tuple[int, int] = (0, 1)) -> Result:
    """Runs the workload once for each operation that may fail; of `part` (i, of n) only every n-th."""
    result = Result(f"{workload.name}, {fault}", workload.side)
    with checkpoints(workload.pages):
        with scratch() as folder:
            world = World(folder)
            workload.before(world)
            world.close()
            start, first = read_files(folder), world
        n, met = part[0] or part[1], True
        while met:
            with scratch() as folder:
                write_files(start, folder)
                world = World(folder, seed=1)
                world.expected, world.history = first.expected, first.history
                met, wrong = _failed_at(n, world, workload, fault)
            if met:
                result.operations, result.points = n, result.points + 1
            result.add(f"operation {n}", wrong)
            n += part[1]
    return result


def _failed_at(n: int, world: World, workload: Workload, fault: Fault) -> tuple[bool, list[str]]:
    """Whether there was an operation of this number; what is wrong when all is over."""
    count, good, over, wrong = 0, False, False, list[str]()

    def fails(path: str) -> bool:
        nonlocal count
        if over or not path.startswith(workload.side + "/"):
            return False
        if fault == "sync" and (world.closing or not path.endswith("-wal")):
            return False  # an error that SQLite passes over, see Disk.recording
        count += 1
        return count == n or (fault == "full" and count > n and not good)

    def attempt(step: Callable[[], Any]) -> Any:
        nonlocal good
        try:
            return step()
        except OfflinekitError as error:
            if not isinstance(error, StoreError) and not (isinstance(error, TransportError) and workload.side == "head"):
                wrong.append(f"other: is told {type(error).__name__}: {error}")
        except Exception as error:
            wrong.append(f"other: raises {type(error).__name__}: {error}")
        good = True  # somebody made room
        return step()

    world.attempt = attempt
    try:
        disk = Disk(world.folder)
        with disk.recording(fails_to_sync=fails) if fault == "sync" else disk.failing(fails, fault):
            workload.run(world)
            over = True
            wrong += judge(world, [world.expected])
    except Exception as error:
        wrong.append(f"other: in the end {type(error).__name__}: {error}")
    finally:
        world.close()
    return count >= n, wrong
