"""Runs the simulation: `python -m offlinekit.testing.simulate --profile ci`.

Profiles: `dev` takes seconds, `ci` two minutes and is the same every time, `soak` goes on until something breaks or it is
stopped. A failure prints its seed, step and checker and the end of its trace; `--seed N` runs that seed alone, to the letter.
A whole profile also fails when it never met some kind of fault.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from attrs import Factory, frozen, mutable

from offlinekit.testing.simulation import KINDS, Settings, ViolationError, World

__all__ = ["PROFILES", "Outcome", "Profile", "main", "run_seed", "run_seeds"]

TRACE_LINES = 40
TWICE_EVERY = 25  # every so many seeds one is run twice, and the traces are compared
_MOST = ("rounds at the end, at most",)  # counters of which the largest counts, not the sum


@frozen
class Profile:
    """How many runs of how many steps; no runs: without end."""

    runs: int
    settings: Settings


PROFILES = {
    "dev": Profile(12, Settings(steps=150)),
    "ci": Profile(200, Settings(steps=300)),
    "soak": Profile(0, Settings(steps=500, devices=4)),
}


@mutable
class Outcome:
    """What a run came to: empty `checker` for a good one."""

    seed: int
    step: int = 0
    checker: str = ""
    detail: str = ""
    digest: str = ""
    trace: list[str] = Factory(list)
    counts: Counter[str] = Factory(Counter)


def run_seed(seed: int, settings: Settings) -> Outcome:
    """One run in a folder of its own."""
    logging.getLogger("offlinekit").setLevel(logging.CRITICAL + 1)  # refusals and failing hooks are what is being made
    outcome = Outcome(seed)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        world = World(seed, Path(folder), settings)
        try:
            world.run()
        except ViolationError as violation:
            outcome.checker, outcome.detail = violation.checker, str(violation)
        except Exception as error:
            outcome.checker, outcome.detail = "no exception", f"{type(error).__name__}: {error}"
        finally:
            world.close()
        outcome.step, outcome.digest = world.step, world.digest()
        outcome.trace = world.trace[-TRACE_LINES:] if outcome.checker else []
        outcome.counts = world.checkers.counts
        outcome.counts.update({"steps": world.step, "messages": world.messages, "runs": 1})
    return outcome


def _twice(seed: int, settings: Settings) -> Outcome:
    """A run, and once more the same: its trace must be the same."""
    outcome, again = run_seed(seed, settings), run_seed(seed, settings)
    outcome.counts["runs compared with themselves"] += 1
    if outcome.digest != again.digest and not outcome.checker:
        outcome.checker, outcome.detail = "same seed, same trace", f"{outcome.digest} and {again.digest}"
    return outcome


def _job(task: tuple[int, Settings, bool]) -> Outcome:
    seed, settings, twice = task
    return _twice(seed, settings) if twice else run_seed(seed, settings)


def run_seeds(seeds: Iterable[int], settings: Settings, jobs: int = 1, twice_every: int = TWICE_EVERY) -> Iterator[Outcome]:
    """Runs of many seeds, in several processes; in the order of the seeds."""
    tasks = ((seed, settings, n % twice_every == twice_every - 1) for n, seed in enumerate(seeds))
    if jobs == 1:
        yield from map(_job, tasks)
        return
    with ProcessPoolExecutor(jobs) as pool:
        while batch := list(itertools.islice(tasks, 8 * jobs)):
            yield from pool.map(_job, batch)


def add(total: Counter[str], counts: Counter[str]) -> None:
    """Sums what runs have counted."""
    for name, n in counts.items():
        total[name] = max(total[name], n) if name in _MOST else total[name] + n


def figures(profile: str, total: Counter[str], failures: list[Outcome], seconds: float) -> dict[str, object]:
    """What stands in `build/sim.json`: what the checkers and the faults counted, nothing else."""
    git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, encoding="utf-8", check=False)
    named = {"runs": total["runs"], "steps": total["steps"], "messages": total["messages"]}
    named |= {n: total[n] for n in ("lost", "doubled", "leaked", "unsettled", "views compared", "authority compared")}
    faults = {f: total[f"fault: {f}"] for f in KINDS}
    rest = {n: c for n, c in sorted(total.items()) if n not in named and ": " not in n}
    places = {kind: sum(1 for n in total if n.startswith(f"{kind} at: ")) for kind in ("crash", "disk full")}
    return {
        "commit": git.stdout.strip() if git.returncode == 0 else None,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "profile": profile, "seconds": round(seconds, 1), **named,
        "crash points": places["crash"], "points where the disk was full": places["disk full"], "faults": faults, "counted": rest,
        "failures": [{"seed": f.seed, "step": f.step, "checker": f.checker, "detail": f.detail} for f in failures],
    }  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m offlinekit.testing.simulate", description=__doc__)
    parser.add_argument("--profile", choices=sorted(PROFILES), default="dev")
    parser.add_argument("--seed", type=int, help="run this seed alone")
    parser.add_argument("--first", type=int, help="the first seed (default: 0; soak: by chance, and printed)")
    parser.add_argument("--runs", type=int, help="how many seeds")
    parser.add_argument("--steps", type=int, help="steps of a run")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--stop", action="store_true", help="stop at the first failure")
    parser.add_argument("--trace", action="store_true", help="print the digest of every trace")
    args = parser.parse_args(argv)
    profile = PROFILES[args.profile]
    settings = Settings(steps=args.steps or profile.settings.steps, devices=profile.settings.devices)
    runs = 1 if args.seed is not None else args.runs or profile.runs
    first = args.seed if args.seed is not None else args.first
    if first is None:
        first = 0 if runs else secrets.randbelow(10**9)
    print(f"profile {args.profile}, {runs or 'all'} seeds from {first}, {settings.steps} steps each", flush=True)
    started, total, failures = time.monotonic(), Counter[str](), list[Outcome]()
    seeds = range(first, first + runs) if runs else itertools.count(first)
    for outcome in run_seeds(seeds, settings, 1 if runs == 1 else args.jobs):
        add(total, outcome.counts)
        if args.trace:
            print(f"seed {outcome.seed}: {outcome.digest}")
        if outcome.checker:
            failures.append(outcome)
            print("\n".join(outcome.trace))
            print(f"seed {outcome.seed}, step {outcome.step}, checker '{outcome.checker}': {outcome.detail}")
            print(f"again: python -m offlinekit.testing.simulate --profile {args.profile} --seed {outcome.seed}", flush=True)
            if args.stop or not runs:
                break
    seconds = time.monotonic() - started
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        found = figures(args.profile, total, failures, seconds)
        args.json.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    whole = args.seed is None and args.runs is None and args.steps is None
    never = [f for f in KINDS if not total[f"fault: {f}"]] if whole and not failures else []
    if never:
        print(f"never met: {', '.join(never)}; a run that met no such fault proves nothing about it")
    print(f"{total['runs']} runs, {total['steps']} steps, {total['messages']} messages, {len(failures)} failed, {seconds:.0f} s")
    return 1 if failures or never else 0


if __name__ == "__main__":
    sys.exit(main())
