"""No power cut takes what a user was told: I1 and I2, on a device and on an authority.

Here every eighth state that a cut can leave is looked at (CRASH_SHARE in the environment names another share, as "3/8"); `make
crash` looks at all of them.
"""

from __future__ import annotations

import os

import pytest

from tests.crash.survived import survive
from tests.crash.sweep import sweep
from tests.crash.workloads import WORKLOADS, Workload

_SHARE = os.environ.get("CRASH_SHARE", "1/8").split("/")
PART = int(_SHARE[0]) % int(_SHARE[1]), int(_SHARE[1])
by_name = pytest.mark.parametrize("workload", WORKLOADS, ids=lambda w: f"{w.name}, {w.side}")


@pytest.mark.slow
@pytest.mark.invariant("I1", "I2", "I5")
@by_name
def test_a_power_cut_loses_doubles_and_halves_nothing(workload: Workload) -> None:
    result = sweep(workload, part=PART)
    assert result.failures == []
    assert 30 < result.operations <= 300
    assert result.states > 10


@pytest.mark.slow
@pytest.mark.invariant("I1", "I2")
@pytest.mark.parametrize("fault", ["full", "io"])
@by_name
def test_a_program_outlives_a_disk_that_is_full_or_fails(workload: Workload, fault: str) -> None:
    result = survive(workload, fault, part=(PART[0], 3 * PART[1]))
    assert result.failures == []
    assert result.points > 1
