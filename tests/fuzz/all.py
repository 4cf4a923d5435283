"""Runs every target under atheris, two at a time, and writes what they did to build/fuzz.json.

    python -m tests.fuzz.all SECONDS [SEED]

Ends with an error if a target has found something: what it was is printed, and its input is in build/fuzz.
"""

from __future__ import annotations

import re
import secrets
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.evidence import keep
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).resolve().parents[2]
AT_ONCE = 2
TOLD_LINES = 40


def run(name: str, seconds: int, seed: int) -> dict[str, Any]:
    """One target, in a process of its own."""
    command = [sys.executable, "-m", "tests.fuzz.run", name, f"-max_total_time={seconds}", f"-seed={seed}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", errors="replace", check=False)
    executed = re.findall(r"stat::number_of_executed_units:\s+(\d+)", done.stderr)
    covered = re.findall(r"cov: (\d+)", done.stderr)
    found = {
        "executed": int(executed[-1]) if executed else 0,
        "covered": int(covered[-1]) if covered else 0,
        "failed": done.returncode,
    }
    print(
        f"{name:12} {found['executed']:9,} inputs {found['covered']:6,} edges {'ok' if not done.returncode else 'FAILED'}",
        flush=True,
    )
    if done.returncode:
        print("\n".join((done.stdout + done.stderr).splitlines()[-TOLD_LINES:]), flush=True)
    return found


def main(seconds: int, seed: int) -> int:
    """All of them; 1 if any has failed."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = dict(zip(TARGETS, pool.map(lambda name: run(name, seconds, seed), TARGETS), strict=True))
    figures = {"seconds": seconds,
               "failed": sum(bool(f["failed"]) for f in found.values()), "targets": found}  # fmt: skip
    keep("fuzz", figures, seed=seed)
    return int(any(f["failed"] for f in found.values()))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else secrets.randbelow(2**31) + 1))
