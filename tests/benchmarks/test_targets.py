"""What is to be reached stands once in the program and once in the document, and the two agree; so does what a run shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.picture import draw
from benchmarks.table import NO_IMAGE, table
from benchmarks.targets import NEEDS, SCENARIOS, TARGETS, markdown, verdict
from tests.evidence import ROOT

ORIGIN = {"rows": 1000, "seed": 7, "date": "2026-11-24", "commit": "c" * 40, "machine": "a <machine>", "versions": {}}
SPREAD = {"delta.ratio_naive": [3.0, 3.5], "idle.bytes": [251, 251]}
FOUND: dict[str, Any] = {
    "initial.ratio_naive": 21.5, "initial_cold.ratio_naive": 0.5, "delta.ratio_naive": 3.25, "idle.bytes": 251,
    "first_usable_share": 0.125, "refilter.rows_moved": 101, "refilter.rows_differ": 100, "delta.seconds": 0.5,
    "fleet.way": "one process", "peers.initial_ratio": None,
    "commands": {
        "bench": {**ORIGIN, "details": {"rounds": 3, "image": True, "spread": SPREAD}},
        "fleet": {**ORIGIN, "details": ["of another form"]},
    },
}  # fmt: skip


def test_document_holds_the_table_of_targets() -> None:
    document = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert markdown() in document
    assert len({t.key for t in TARGETS}) == len(TARGETS)
    assert set(NEEDS) <= set(SCENARIOS)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("initial.ratio_naive", "stretch"),
        ("initial_cold.ratio_naive", "missed"),
        ("delta.ratio_naive", "reached"),
        ("idle.bytes", "reached"),
        ("first_usable_share", "reached"),
        ("refilter.rows_moved", "missed"),
    ],
)
def test_figure_is_judged_by_the_right_side_of_its_target(key: str, expected: str) -> None:
    assert verdict(next(t for t in TARGETS if t.key == key), FOUND) == expected


def test_table_says_what_was_found_and_what_was_not_run() -> None:
    lines = table(FOUND).splitlines()
    assert [line.split() for line in lines if line.startswith("delta.ratio")] == [
        ["delta.ratio_naive", "3.25×", "3×", "–", "3.5×", "≥", "2×", "≥", "4×", "reached"]
    ]
    assert any(line.startswith("delta.seconds") for line in lines)
    assert [line.split()[:4] for line in lines if line.startswith("idle.bytes")] == [["idle.bytes", "251", "bytes", "≤"]]
    assert [line.split() for line in lines if line.startswith("fleet.way")] == [["fleet.way", "one", "process"]]
    assert [line.split()[1] for line in lines if line.startswith("peers.")] == ["–"]
    assert lines[-1].startswith("not run: initial_existing.ratio_naive, rows_in_place.ratio_naive")
    assert "refilter.rows_moved" not in lines[-1]


def test_picture_shows_each_figure_and_where_it_comes_from(tmp_path: Path) -> None:
    root = ElementTree.parse(draw(FOUND, tmp_path / "performance.svg")).getroot()
    shown = ["".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"21.5×", "0.5×", "3.25×", "251 bytes", "12.5 %"} <= set(shown)
    assert any("seed 7" in line and "2026-11-24" in line and "c" * 12 in line for line in shown)
    assert any("a <machine>" in line for line in shown)
    bars = [rect for rect in root.iter("{http://www.w3.org/2000/svg}rect") if rect.get("class") in ("bar", "missed")]
    assert [bar.get("class") for bar in bars] == ["bar", "missed", "bar"]
    widths = [float(bar.get("width", "0")) for bar in bars]
    assert widths[0] > widths[2] > widths[1] > 0


def test_nobody_is_told_of_an_image_that_was_not_prepared(tmp_path: Path) -> None:
    bench = FOUND["commands"]["bench"]
    without = {**FOUND, "commands": {"bench": {**bench, "details": {**bench["details"], "image": False}}}}
    for found, told in ((FOUND, False), (without, True)):
        picture = draw(found, tmp_path / "performance.svg").read_text(encoding="utf-8")
        assert (NO_IMAGE in table(found), NO_IMAGE in picture, "image ready" in picture) == (told, told, not told)
