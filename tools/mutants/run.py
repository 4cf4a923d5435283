"""Plants known bugs into a copy of the package, one at a time, and demands that the simulation finds each: `make mutants`.

A mutant is found when a run of the simulation fails within the time. It is not enough that something fails: the checker that
failed is printed, with seed and step, and stands in `build/mutants.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MUTANTS = Path(__file__).with_name("mutants.toml")
TIME_S = 60.0
SEEDS = 600


def planted(edits: list[dict[str, str]], package: Path) -> None:
    """Changes the copy; a text that does not stand there exactly once ends the program."""
    for edit in edits:
        path = package / edit["file"]
        text = path.read_text(encoding="utf-8")
        if text.count(edit["old"]) != 1:
            sys.exit(f"{edit['file']} holds this {text.count(edit['old'])} times, not once:\n{edit['old']}")
        path.write_text(text.replace(edit["old"], edit["new"]), encoding="utf-8")


def hunted(folder: Path, time_s: float) -> dict[str, Any]:
    """Runs the simulation on the copy until it fails or the time is over."""
    command = [sys.executable, "-m", "offlinekit.testing.simulate", "--profile", "ci", "--runs", str(SEEDS), "--stop"]
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    env = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", env=env, cwd=folder,
                               start_new_session=True)  # fmt: skip
    try:
        out, _ = process.communicate(timeout=time_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # with the processes that it has started
        out, _ = process.communicate()
    found = re.search(r"^seed (\d+), step (\d+), checker '(.+?)': (.*)$", out, re.M)
    seconds = round(time.monotonic() - started, 1)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = round(used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime, 1)
    if found is None:
        return {"found": False, "seconds": seconds, "cpu_seconds": cpu, "end": out[-300:]}
    seed, step, checker, detail = found.groups()
    return {"found": True, "seed": int(seed), "step": int(step), "checker": checker, "detail": detail[:300], "seconds": seconds,
            "cpu_seconds": cpu}  # fmt: skip


def _git(*command: str) -> str | None:
    """What git says of this repository; None where it has nothing to say."""
    said = subprocess.run(["git", *command], capture_output=True, encoding="utf-8", check=False, cwd=ROOT)
    return said.stdout.strip() or None if said.returncode == 0 else None


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="mutants whose names contain this")
    parser.add_argument("--time", type=float, default=TIME_S, help="seconds for each")
    parser.add_argument("--rotate", type=int, help="only so many: others at each commit")
    parser.add_argument("--check", action="store_true", help="only see that all of them fit")
    args = parser.parse_args()
    mutants = [m for m in tomllib.loads(MUTANTS.read_text(encoding="utf-8"))["mutant"] if args.only in m["name"]]
    if args.rotate is not None:
        first = args.rotate * int(_git("rev-list", "--count", "HEAD") or 0)
        mutants = [mutants[(first + n) % len(mutants)] for n in range(args.rotate)]
    results = []
    for mutant in mutants:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            shutil.copytree(ROOT / "offlinekit", folder / "offlinekit", ignore=shutil.ignore_patterns("__pycache__"))
            planted(mutant["edits"], folder / "offlinekit")
            if args.check:
                continue
            result = {"mutant": mutant["name"], **hunted(folder, args.time)}
        results.append(result)
        how = f"seed {result['seed']}, step {result['step']}, {result['checker']}" if result["found"] else "NOT FOUND"
        print(f"{mutant['name']}: {how} ({result['seconds']} s, {result['cpu_seconds']} s of CPU)", flush=True)
    if args.check:
        print(f"{len(mutants)} mutants fit")
        return 0
    missed = [r["mutant"] for r in results if not r["found"]]
    report = {"commit": _git("rev-parse", "HEAD"), "date": datetime.now(UTC).isoformat(timespec="seconds"),
              "planted": len(results), "found": len(results) - len(missed), "mutants": results}  # fmt: skip
    target = ROOT / "build" / "mutants.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{len(results) - len(missed)} of {len(results)} found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
