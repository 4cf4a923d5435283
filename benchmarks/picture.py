"""The picture of a run, docs/performance.svg: how many times as fast as the baseline, and the other figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment

from benchmarks.report import COMMANDS
from benchmarks.table import NO_IMAGE, image_missed
from benchmarks.targets import TARGETS, bounds, shown, verdict
from tests.evidence import ROOT

__all__ = ["PICTURE", "draw"]

PICTURE = ROOT / "docs" / "performance.svg"
TEMPLATE = Path(__file__).with_name("performance.svg.jinja")
NAMES = {
    "initial": "first sync, image ready",
    "initial_cold": "first sync, first request ever",
    "initial_existing": "first sync into a replica in use",
    "rows_in_place": "records with their key alone",
    "delta": "1 % changed",
    "push": "1,000 orders pushed",
}
DECADES = (0.1, 100.0)


def draw(whole: Mapping[str, Any], path: Path = PICTURE) -> Path:
    """Draws what is in `build/bench.json`."""
    low, high = map(math.log10, DECADES)

    def place(value: float) -> float:
        """Where a ratio stands, from 0 to 1."""
        return min(max((math.log10(value) - low) / (high - low), 0.0), 1.0)

    names = NAMES | ({"initial": f"first sync ({NO_IMAGE})"} if image_missed(whole) else {})
    found = [t for t in TARGETS if t.key in whole]
    bars = [t for t in found if t.key.endswith("ratio_naive")]
    text = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(TEMPLATE.read_text("utf-8")).render(
        bars=bars, others=[t for t in found if t not in bars], whole=whole, place=place, names=names, shown=shown, bounds=bounds,
        verdict=verdict, by=whole[COMMANDS]["bench"], ticks=[10.0**n for n in range(round(low), round(high) + 1)],
    )  # fmt: skip
    path.write_text(text + "\n", "utf-8")
    return path
