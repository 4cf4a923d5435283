"""Measures offlinekit against a baseline on this machine; prints a table, and keeps its figures in `build/bench.json`.

    python -m benchmarks --rows 1000000                              everything, at most a quarter of an hour
    python -m benchmarks --rows 100000 --only initial,delta          some scenarios, with what they need
    python -m benchmarks --svg                                       draws docs/performance.svg as well

Figures that miss their targets are printed as such and fail nothing; wrong data and missing keys do.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.data import SEED
from benchmarks.lived import capture, lived
from benchmarks.loads import during, limits, loads, resume, sizes
from benchmarks.report import merge
from benchmarks.table import table
from benchmarks.targets import NEEDS, SCENARIOS, TARGETS


def measure(b: Bench, picked: set[str]) -> None:
    """All scenarios that were picked."""
    if picked & {"initial", "initial_cold", "initial_existing", "rows_in_place", "resume", "during"}:
        with b.authority() as (server, _):
            loads(b, server, picked)
            if "resume" in picked:
                resume(b, server)
            if "during" in picked:
                during(b, server)
    if picked & {"memory", "scale"}:
        sizes(b, picked)
    lived(b, picked)
    if "capture" in picked:
        capture(b)
    limits(b)


def scenarios(text: str) -> set[str]:
    """The scenarios of an option, with what they need."""
    names = set(text.split(",")) if text else set(SCENARIOS)
    if unknown := sorted(names - set(SCENARIOS)):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(SCENARIOS)}")
    return names


def main() -> None:
    """Measures, prints, keeps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3, help="how often each side takes its turn; the median counts")
    parser.add_argument("--only", type=scenarios, default=set(SCENARIOS), help=", ".join(SCENARIOS))
    parser.add_argument("--svg", action="store_true", help="draw docs/performance.svg")
    options = parser.parse_args()
    picked = options.only | {needed for name in options.only for needed in NEEDS.get(name, ())}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        b = Bench(Path(folder), options.rows, options.rounds)
        measure(b, picked)
    details: dict[str, Any] = {**b.details, "samples": b.samples, "spread": b.spread, "scenarios": sorted(picked)}
    whole = merge(b.keys, command="bench", rows=options.rows, seed=SEED, details=details)
    print(table(whole))
    wanted = [t for t in TARGETS if t.command == "bench" and t.scenario in picked and t.rows_min <= options.rows]
    if missing := [t.key for t in wanted if t.key not in b.keys]:
        raise SystemExit(f"missing keys: {', '.join(missing)}")
    if options.svg:
        from benchmarks.picture import draw

        print(f"drawn: {draw(whole)}")


if __name__ == "__main__":
    main()
