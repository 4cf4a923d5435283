"""A small fleet lives for a moment: what its devices hold is right, every figure is there, and table and page show them."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from benchmarks.fleet.__main__ import Run, figures
from benchmarks.fleet.table import ROWS, lines, page

ORIGIN = {"rows": 200, "seed": 7, "date": "2026-11-24", "commit": "c" * 40, "machine": "a machine", "versions": {"python": "3"}}


@pytest.mark.slow
def test_a_small_fleet_is_measured_whole(tmp_path: Path) -> None:
    options = argparse.Namespace(devices=6, rows=200, every=0.2, seconds=4.0)
    run = Run(options, tmp_path)
    run.measure()  # each device checks the digest of every view that it is promised
    columns = [f"fleet.changes_{changes}.processes_{processes}" for processes in (1, 2) for changes in (1, 100)]
    missing = {f"{c}.{key}" for c in columns for key, _ in ROWS if "push" not in key} - set(run.keys)
    assert not missing
    assert run.keys["fleet.idle_cpu_growth"] > 0
    details = {"devices": 6, "every": 0.2, "seconds": 4.0, "memory": run.memory}
    whole = {**figures(run.keys), "commands": {"fleet": {**ORIGIN, "details": details}}}
    text = list(lines(whole))
    assert text[0].split("  ")[-4:] == [
        "1 changes/s, 1 process", "100 changes/s, 1 process", "1 changes/s, 2 processes", "100 changes/s, 2 processes"
    ]  # fmt: skip
    assert all(line.rstrip()[-1].isdigit() for line in text[1:5])
    assert "## 6 devices, 200 products" in page(whole)
