"""The figures of `build/bench.json` as a table of text, each beside what is to be reached."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.report import COMMANDS
from benchmarks.targets import TARGETS, bounds, shown, verdict

__all__ = ["NO_IMAGE", "image_missed", "origin", "table"]

NO_IMAGE = "no image was prepared"


def table(whole: Mapping[str, Any]) -> str:
    """The targets in their order with what was found; then everything else; then where it comes from, and what was not run."""
    spread: dict[str, list[float]] = {}
    for by in whole[COMMANDS].values():
        if isinstance(details := by.get("details"), dict):
            spread |= {key: ends for key, ends in details.get("spread", {}).items() if ends[0] < ends[1]}
    rows: list[tuple[str, ...]] = [("key", "median", "rounds", "to reach", "stretch", "")]
    for target in TARGETS:
        if target.key in whole:
            between = " – ".join(shown(end, target.unit) for end in spread.get(target.key, ()))
            rows.append((target.key, shown(whole[target.key], target.unit), between, *bounds(target), verdict(target, whole)))
    rows.append(("",) * 6)
    for key in sorted(whole.keys() - {t.key for t in TARGETS} - {COMMANDS}):
        rows.append((key, _plain(whole[key]), " – ".join(_plain(end) for end in spread.get(key, ())), "", "", ""))
    widths = [max(len(row[n]) for row in rows) for n in range(6)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for name, by in whole[COMMANDS].items():
        lines += ["", f"{name}: {origin(by)}"]
    if image_missed(whole):
        lines += ["", f"{NO_IMAGE}: `initial` is a first sync like any other"]
    if missing := [t.key for t in TARGETS if t.key not in whole]:
        lines += ["", f"not run: {', '.join(missing)}"]
    return "\n".join(lines)


def _plain(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, int | float) else str(value)


def image_missed(whole: Mapping[str, Any]) -> bool:
    """Whether `initial` was measured although the authority had prepared nothing in time."""
    return "initial.ratio_naive" in whole and not whole[COMMANDS]["bench"]["details"].get("image")


def origin(by: Mapping[str, Any]) -> str:
    """Where the keys of a command come from."""
    versions = ", ".join(f"{what} {which}" for what, which in by["versions"].items())
    return f"{by['rows']:,} records, seed {by['seed']}, {by['date']}, commit {by['commit'][:12]}; {by['machine']}; {versions}"
