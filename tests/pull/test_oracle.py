"""A random walk through everything that may happen between two devices and an authority; after every pull the oracle agrees.

`OFFLINEKIT_SEEDS` says how many walks are made, and more are made while a kind of answer is still missing. What occurred is
counted and written to `build/pull_oracle.json`; a kind of answer that never occurred in three times as many walks fails the run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.evidence import keep
from tests.pull.walk import Walk

SEEDS = int(os.environ.get("OFFLINEKIT_SEEDS", "16"))
STEPS = 120
ROOT = Path(__file__).parent.parent.parent
WANTED = (
    "same", "delta", "bulk", "need_state", "need_selection", "need_view", "need_schema", "new_history", "expired",
    "held_back", "revoked", "unvouched", "added fields", "stale", "cancelled", "crash", "crash between groups",
    "unfit", "preview", "restore", "restore after writes", "implicit", "hushed", "older snapshot", "loaded apart", "joined",
    "evaluated", "moved on", "resumed", "image made", "image named",
)  # fmt: skip


WALK = """
import sys
from pathlib import Path
from tests.pull.walk import Walk
walk = Walk(int(sys.argv[1]), Path(sys.argv[2]))
walk.run(int(sys.argv[3]))
walk.close()
print(walk.head.trace.hexdigest())
"""


@pytest.mark.slow
def test_a_walk_depends_on_its_seed_alone(tmp_path):
    """A failure that is found must be met again: no order of a set or of a folder may show in what is sent."""
    found = set()
    for hashes in ("1", "2"):
        (folder := tmp_path / hashes).mkdir()
        command = [sys.executable, "-c", WALK, "4", str(folder), str(STEPS)]
        environment = {**os.environ, "PYTHONHASHSEED": hashes, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8", check=False)
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
    assert len(found) == 1


@pytest.mark.slow
def test_the_oracle_agrees_after_every_pull(tmp_path):
    counts: Counter[str] = Counter()
    pulls = compared = 0
    walks = 0
    while walks < SEEDS or (walks < 3 * SEEDS and any(not counts[kind] for kind in WANTED)):
        seed, walks = walks, walks + 1
        folder = tmp_path / str(seed)
        folder.mkdir()
        walk = Walk(seed, folder)
        walk.run(STEPS)
        walk.close()
        counts += walk.counts
        pulls, compared = pulls + walk.pulls, compared + walk.compared
    report = {
        "pulls": pulls, "records compared": compared, "seeds": walks, "steps": STEPS, "kinds": dict(sorted(counts.items())),
    }  # fmt: skip
    keep("pull_oracle", report)
    print(report)
    missing = [kind for kind in WANTED if not counts[kind]]
    assert not missing, f"never occurred: {missing}"
