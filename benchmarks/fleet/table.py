"""The figures of a run as a table: for people at a terminal, and as docs/fleet.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.evidence import ROOT

__all__ = ["DOCS", "lines", "page"]

DOCS = ROOT / "docs" / "fleet.md"
ROWS = (
    ("pulls_s", "pulls a second"),
    ("wanted_pulls_s", "… that the devices wanted"),
    ("flat_out_pulls_s", "pulls a second, as fast as answered"),
    ("pull_p50_ms", "a pull, ms: p50"),
    ("pull_p95_ms", "… p95"),
    ("pull_p99_ms", "… p99"),
    ("push_p50_ms", "a push, ms: p50"),
    ("push_p95_ms", "… p95"),
    ("push_p99_ms", "… p99"),
    ("requests_a_pull", "requests a pull"),
    ("full_shared_s", "the shared filter evaluated in full, a second"),
    ("incremental_shared_s", "… moved forward, a second"),
    ("full_s", "all filters evaluated in full, a second"),
    ("incremental_s", "… moved forward, a second"),
    ("cpu_cores", "cores that the authority used"),
    ("rss_mb", "memory of a process at the end, MB"),
    ("rss_growth", "memory of all processes at the end, over that at the beginning"),
)
INTRO = """# A fleet: many devices, one authority

`python -m benchmarks.fleet --write-docs` measures, and writes this page. Devices are sessions of the protocol in one process,
with tokens and views and without records; the authority's processes are real ones, over HTTP on loopback, and a program that
knows nothing of offlinekit changes records by SQL: by turns a product (one time in twenty whether it is active, else its
stock) and a customer (one time in twenty whose it is, else its phone). All devices hold the active products of the catalogue,
which is one shared filter, and each its own customers with their orders. Before one pull in ten a device writes an order and
pushes it, before one in fifty its selection is edited, and one in ten goes to whichever process. The device's driver, the
writer and the authority share the machine.

*As fast as answered*: 16 devices at a time pull again and again, in turns. A filter is *moved forward* when records that it
may concern were touched, and only these are looked up again; it is evaluated in full where that is quicker, as it is for the
thirty customers of one person when hundreds of customers were touched, because an index leads to the thirty. After a push a
device is answered from a snapshot that holds it, so beside pushes there are more snapshots than four a second.
"""


def _columns(found: Mapping[str, Any]) -> list[str]:
    """The stretches of a run, by the middle of their keys: changes a second and processes."""
    return list(dict.fromkeys(k.split(".", 1)[1].rsplit(".", 1)[0] for k in found if k.startswith("fleet.changes_")))


def _title(column: str) -> str:
    changes, processes = (part.rsplit("_", 1)[1] for part in column.split("."))
    return f"{changes} changes/s, {processes} process{'es' if processes != '1' else ''}"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _rows(found: Mapping[str, Any]) -> list[list[str]]:
    columns = sorted(_columns(found), key=lambda c: tuple(int(part.rsplit("_", 1)[1]) for part in reversed(c.split("."))))
    rows = [["", *map(_title, columns)]]
    return rows + [[what, *(_figure(found.get(f"fleet.{c}.{key}")) for c in columns)] for key, what in ROWS]


def _idle(found: Mapping[str, Any]) -> str:
    cpu = {int(k.rsplit("_", 1)[1]): v for k, v in found.items() if k.startswith("fleet.idle_cpu_ms_")}
    each = ", ".join(f"{cpu[n]:.2f} ms with {n:,} devices" for n in sorted(cpu))
    return f"CPU of a pull that finds nothing: {each}."


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The table as text."""
    rows = _rows(found)
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(w) if n == 0 else cell.rjust(w) for n, (cell, w) in enumerate(zip(row, widths, strict=True)))
    yield _idle(found)
    yield f"Evaluations of the shared filter a second, at 1 change a second: {_figure(found['fleet.evaluations_shared_s'])}."


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *rest = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rest)) + "\n"


def page(found: Mapping[str, Any]) -> str:
    """The document."""
    by = found["commands"]["fleet"]
    of = by["details"]
    memory = ", ".join(
        f"{_title(name)}: {samples[0][1]:.0f} to {samples[-1][1]:.0f}" for name, samples in of["memory"].items() if samples
    )
    return "\n".join([
        INTRO,
        f"## {of['devices']:,} devices, {by['rows']:,} products, a pull every {of['every']:g} s\n",
        _markdown(_rows(found)),
        f"{_idle(found)} Evaluations of the shared filter a second, at 1 change a second and one process: "
        f"{_figure(found['fleet.evaluations_shared_s'])}.\n",
        f"Memory of all processes, MB, from the beginning of each stretch to its end: {memory}.\n",
        f"{of['seconds']:g} s of measuring. Seed {by['seed']}, {by['date']}, commit {by['commit'][:10]}, on {by['machine']}.",
        f"Versions: {', '.join(f'{name} {version}' for name, version in by['versions'].items())}.\n",
    ])  # fmt: skip
