"""No power cut takes what a user was told: I1 and I2, on a device and on an authority.

Here every sixteenth state that a cut can leave is looked at; CRASH_SHARE in the environment names another share, as "3/16".
`make crash` looks at all of them.
"""

from __future__ import annotations

import os

import pytest

from tests.crash.survived import Fault, survive
from tests.crash.sweep import sweep
from tests.crash.workloads import WORKLOADS, Workload

_SHARE = os.environ.get("CRASH_SHARE", "1/16").split("/")
PART = int(_SHARE[0]) % int(_SHARE[1]), int(_SHARE[1])


@pytest.mark.slow
@pytest.mark.invariant("I1", "I2", "I5")
@pytest.mark.parametrize("workload", WORKLOADS, ids=str)
def test_a_power_cut_loses_doubles_and_halves_nothing(workload: Workload) -> None:
    result = sweep(workload, part=PART)
    assert result.failures == []
    assert 30 < result.operations <= 300
    assert result.states > 5


@pytest.mark.slow
@pytest.mark.invariant("I1", "I2")
@pytest.mark.parametrize(("workload", "fault"), [(w, f) for w in WORKLOADS for f in w.faults], ids=str)
def test_a_program_outlives_a_disk_that_is_full_or_fails(workload: Workload, fault: Fault) -> None:
    result = survive(workload, fault, part=PART if fault == "sync" else (PART[0], 2 * PART[1]))
    assert result.failures == []
    assert result.points > 0
