"""The simulation passes, is the same for the same seed, and its checkers find what is planted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from offlinekit.testing.simulate import PROFILES, Outcome, add, run_seed, run_seeds
from offlinekit.testing.simulation import KINDS, Settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.invariant("I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I10", "I11", "I13")
def test_every_promise_holds_under_every_fault() -> None:
    profile, total = PROFILES["dev"], Counter[str]()
    failures: list[Outcome] = []
    for outcome in run_seeds(range(profile.runs), profile.settings):
        add(total, outcome.counts)
        failures += [outcome] if outcome.checker else []
    assert [(f.seed, f.step, f.checker, f.detail, f.trace[-10:]) for f in failures] == []
    for counted in ("mutation accepted", "mutation transformed", "mutation rejected", "mutation parked", "files", "pull delta",
                    "push new_history", "corrections done", "given up"):  # fmt: skip
        assert total[counted], counted
    assert [f for f in KINDS if not total[f"fault: {f}"]] == []


@pytest.mark.slow
def test_same_seed_gives_same_trace_whatever_python_hashes() -> None:
    command = [sys.executable, "-m", "offlinekit.testing.simulate", "--seed", "5", "--steps", "150", "--trace"]
    found = set()
    for hashes in ("0", "1"):
        env = {**os.environ, "PYTHONHASHSEED": hashes}
        run = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, encoding="utf-8", check=True)
        found.add(next(line for line in run.stdout.splitlines() if line.startswith("seed 5: ")))
    found.add(f"seed 5: {run_seed(5, Settings(steps=150)).digest}")
    assert len(found) == 1


@pytest.mark.slow
def test_a_planted_bug_is_found_and_told_with_its_seed_step_and_checker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offlinekit.store.sqlite.outbox.Outbox._after", lambda self, changes: set())
    outcome = run_seed(0, Settings(steps=100))
    assert (outcome.seed, outcome.checker) == (0, "order")
    assert outcome.step
    assert outcome.trace


def test_every_mutant_fits_the_package() -> None:
    command = [sys.executable, "tools/mutants/run.py", "--check"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_kind_of_fault_is_in_the_document() -> None:
    document = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert [k for k in KINDS if f"`{k}`" not in document] == []
