"""All crash sweeps, exhaustively: `make crash` writes build/crash.json and fails if anything was lost, doubled, half or corrupt.

Power cuts of one side after each operation of each workload in five modes; disks that are full, fail or do not sync at each.
`--seed` picks what a cut keeps by chance, `--share 1/4` looks at every fourth state and fault only.
"""

from __future__ import annotations

import argparse
import logging
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any, cast

from attrs import asdict

from offlinekit.testing.crash import MODES
from tests.crash.survived import FAULTS, Fault, survive
from tests.crash.sweep import Result, sweep
from tests.crash.workloads import WORKLOADS
from tests.evidence import keep

KINDS = ("lost", "doubled", "half", "corrupt", "other")


def run(job: tuple[int, str, int, tuple[int, int]]) -> Result:
    """One sweep: of a workload, by power cuts or by a fault."""
    number, fault, seed, part = job
    logging.disable(logging.CRITICAL)  # the authority's log tells of each error that was made
    if fault == "cut":
        return sweep(WORKLOADS[number], seed=seed, part=part)
    return survive(WORKLOADS[number], cast(Fault, fault), part=part)


def main() -> None:
    """Runs, prints, writes; fails where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", default="0/1")
    options = parser.parse_args()
    which, of = map(int, options.share.split("/"))
    started = time.monotonic()
    jobs = [(n, fault, options.seed, (which % of, of)) for fault in ("cut", *FAULTS) for n, w in enumerate(WORKLOADS)
            if fault in ("cut", *w.faults)]  # fmt: skip
    results: list[dict[str, Any]] = []
    with ProcessPoolExecutor(2) as pool:
        for (_, fault, *_), result in zip(jobs, pool.map(run, jobs), strict=True):
            results.append({"kind": fault, **asdict(result)})
            wrong = {kind: getattr(result, kind) for kind in KINDS}
            print(f"{fault:<5} {result.side:<7}{result.workload:<40}{result.operations:>4} operations {result.points:>5} points"
                  f" {result.states:>4} states  {wrong if any(wrong.values()) else 'nothing wrong'}", flush=True)  # fmt: skip
            print("".join(f"      {failure}\n" for failure in result.failures[:3]), end="")
    names = ("points", "states", *KINDS)
    total = {kind: {name: sum(r[name] for r in results if (r["kind"] == "cut") is (kind == "cuts")) for name in names}
             for kind in ("cuts", "faults")}  # fmt: skip
    report = {
        "total": total, "modes": MODES, "share": options.share, "seconds": round(time.monotonic() - started, 1),
        "sweeps": results,
    }  # fmt: skip
    keep("crash", report, seed=options.seed)
    print(f"{total} in {report['seconds']} s")
    if any(result["failures"] for result in results):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
