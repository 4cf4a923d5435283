"""The figures of a run as a table: for people at a terminal, and as docs/peers.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.report import BENCH
from tests.evidence import ROOT

__all__ = ["DOCS", "lines", "page"]

DOCS = ROOT / "docs" / "peers.md"
HEAD = ("", "initial rows/s", "from–to", "1 % delta, s", "1,000 orders, orders/s", "MB device / server")
INTRO = """# Peers: other products on the same data

`python -m benchmarks.peers --write-docs` measures, and writes this page. It installs the peers by itself, in pinned versions
(it needs Linux, Node.js with npm, and pip). Products of 12 columns come from a fixed seed; each contestant has processes of its
own, which talk HTTP over loopback; all take turns in one command, and the medians of the rounds stand here.

A device starts empty and gets everything (*initial*); then one product in a hundred changes (*delta*); then the device sends
1,000 orders of ten lines each. After the first two the device's rows are counted and a column is summed, after the third the
orders at the server are counted. Memory is the peak of the process during the initial load; a database server below it is not
counted. Machines drift by tens of per cent: only ratios within one run mean something.
"""
NOT_DONE = """## What each did, and did not do

No two of them do the same work. What somebody *left out* is work that others did within their times. What somebody is *not made
for* was not measured, of anybody; it is what we know of its documentation.

"""


def no_image(contestants: Sequence[Mapping[str, Any]]) -> bool:
    """Whether devices that should have found an image did not."""
    return any(not by.get("image", True) for by in contestants)


def _cells(of: Mapping[str, Any]) -> list[str]:
    """A row of the table."""

    def number(name: str, form: str) -> str:
        return "–" if of.get(name) is None else format(of[name], form)

    if of["failed"] and "rows_s" not in of:
        return [of["title"], f"not measured: {of['failed']}", *[""] * (len(HEAD) - 2)]
    low_high = "–".join(f"{n / 1000:,.1f}k" for n in of["rows_s_range"])
    both = f"{number('device_mb', '.0f')} / {number('server_mb', '.0f')}"
    return [of["title"], number("rows_s", ",.0f"), low_high, number("delta_s", ".3f"), number("push_s", ",.0f"), both]


def lines(contestants: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The table as text."""
    rows = [HEAD, *map(_cells, contestants)]
    widths = [max(len(row[n]) for row in rows) for n in range(len(HEAD))]
    widths[1] = len(HEAD[1])  # why something was not measured may stand out
    for row in rows:
        yield "  ".join(
            cell.ljust(width) if n == 0 else cell.rjust(width) for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *rest = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rest)) + "\n"


def page(commands: Sequence[Mapping[str, Any]]) -> str:
    """The document: a section for each number of products that was measured."""
    parts = [INTRO]
    for by in commands:
        details = by["details"]
        every = details["contestants"]
        parts.append(f"## {by['rows']:,} products\n\n" + _markdown([HEAD, *map(_cells, every)]))
        if details["ratios"]:
            parts.append(" ".join(f"{text}: **{value:.1f} ×**." for text, value in details["ratios"].items()) + "\n")
        if no_image(every):
            parts.append("No image had been made of what the two other devices loaded: *prepared* is a misnomer in this run.\n")
        if late := [f"{c['title']}: {c['failed']}" for c in every if c["failed"] and "rows_s" in c]:
            parts.append(f"Broken off: {'; '.join(late)}.\n")
        used = ", ".join(f"{name} {version}" for name, version in by["versions"].items())
        parts.append(
            f"Rounds: {details['rounds']}. Seed {by['seed']}, {by['date']}, commit {by['commit'][:10]}, on {by['machine']}.\n"
            f"Versions: {used}.\n"
        )
    head = ("", "what ran", "left out", "not made for")
    named = {
        c["key"]: (c["title"], c["what"], c["left_out"], c["not_offered"])
        for by in commands
        for c in by["details"]["contestants"]
    }
    parts.append(NOT_DONE + _markdown([head, *named.values()]))
    parts.append(f"The raw figures of all rounds are under `commands` in `{BENCH.relative_to(ROOT).as_posix()}`.\n")
    return "\n".join(parts)
