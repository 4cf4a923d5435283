"""Rules for every run: which Hypothesis profile applies, and that no test is skipped without a written reason.

A skipped test, and an expected failure, is reported as failed unless `skips.txt` beside this file names it. The
outcome is changed where the report is made, so the rule holds in xdist's worker processes as well.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

SKIPS = Path(__file__).with_name("skips.txt")

# A loaded machine is no reason to fail: no profile has a deadline, and in CI slow input generation is no error.
settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("soak", deadline=None, max_examples=20_000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))


def read_skips(path: Path) -> dict[str, str]:
    """Read the tests that may be skipped: `node id  # reason` on each line. Raises ValueError for a missing reason."""
    skips = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        if not line.strip() or line.startswith("#"):
            continue
        node_id, mark, reason = line.partition("  #")
        if not mark or not reason.strip():
            raise ValueError(f"{path.name}: two spaces, '#' and a reason are missing after {line.strip()!r}")
        skips[node_id.strip()] = reason.strip()
    return skips


def may_skip(node_id: str, skips: dict[str, str]) -> bool:
    """Say whether a line names this test, its function (for all parameters), its class or its file."""
    return any(node_id == name or node_id.startswith((f"{name}[", f"{name}::")) for name in skips)


def _refuse_unexplained(report: Any) -> None:
    if report.outcome == "skipped" and not may_skip(report.nodeid, read_skips(SKIPS)):
        said = report.longrepr[2] if isinstance(report.longrepr, tuple) else getattr(report, "wasxfail", "")
        report.outcome = "failed"
        report.longrepr = f"not run: {said}\nA test may be left out only with a line in tests/{SKIPS.name}."


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Refuse a skip inside a test, by a mark, or by an expected failure."""
    report = yield
    _refuse_unexplained(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Refuse a skip of a whole module (`importorskip`, `allow_module_level`)."""
    report = yield
    _refuse_unexplained(report)
    return report
