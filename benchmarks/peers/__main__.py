"""Measures offlinekit beside other products, in turns, on the same data.

    python -m benchmarks.peers                              100,000 products, three rounds
    python -m benchmarks.peers --rows 1000000 --rounds 1    what takes over --limit seconds is broken off and says so
    python -m benchmarks.peers --only naive,kinto           some of them

Prints a table and merges its keys into build/bench.json; `--write-docs` writes docs/peers.md from all such runs in that file.
A peer that cannot be had or fails is listed with the reason.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.data import SEED
from benchmarks.peers.contestants import CONTESTANTS, Contestant
from benchmarks.peers.install import Missing, pinned
from benchmarks.peers.running import ORDERS, Broken, Work, make_work, measure
from benchmarks.peers.table import DOCS, lines, no_image, page
from benchmarks.report import merge

COMMAND, USUAL = "peers", 100_000
Runs = dict[str, list[dict[str, Any]]]


def rounds_of(taking_part: Sequence[Contestant], work: Work, rounds: int) -> tuple[Runs, dict[str, str]]:
    """The figures of each, and why the others have none."""
    runs: Runs = {}
    failed: dict[str, str] = {}
    for number in range(rounds):
        for one in taking_part:
            if one.key in failed:
                continue
            try:
                runs.setdefault(one.key, []).append(measure(one, work))
            except (Broken, Missing) as error:
                failed[one.key] = str(error)
            print(f"round {number + 1}: {one.title}: {failed.get(one.key, 'done')}", file=sys.stderr, flush=True)
    return runs, failed


def summary(one: Contestant, runs: Sequence[Mapping[str, Any]], failed: str | None, rows: int) -> dict[str, Any]:
    """Medians of one contestant, and what is said of it."""
    found: dict[str, Any] = {
        "key": one.key,
        "title": one.title,
        "what": one.what,
        "left_out": one.left_out,
        "not_offered": one.not_offered,
        "failed": failed,
    }
    if not runs:
        return found

    def median(name: str) -> float | None:
        values = [run[name] for run in runs if run.get(name) is not None]
        return statistics.median(values) if values else None

    rates = sorted(rows / run["initial_s"] for run in runs)
    push_s = median("push_s")
    found |= {
        "rows_s": statistics.median(rates), "rows_s_range": [rates[0], rates[-1]], "delta_s": median("delta_s"),
        "push_s": None if push_s is None else ORDERS / push_s, "device_mb": median("device_mb"),
        "server_mb": median("server_mb"), "runs": list(runs),
    }  # fmt: skip
    return found | ({"image": all(run["image"] for run in runs)} if one.before else {})


def ratios_of(taking_part: Sequence[Contestant], by_key: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, float]]:
    """Ours against the best durable peer over HTTP, by the name of the key: in words, and the figure."""
    peers = [one for one in taking_part if one.peer and "rows_s" in by_key[one.key]]
    if not peers:
        return {}
    best = max(peers, key=lambda one: float(by_key[one.key]["rows_s"]))
    return {
        f"initial{one.key.removeprefix('offlinekit')}_ratio": (
            f"{one.title} ÷ {best.title}, initial", by_key[one.key]["rows_s"] / by_key[best.key]["rows_s"],
        )
        for one in taking_part
        if one.ours and "rows_s" in by_key[one.key]
    }  # fmt: skip


def main() -> None:
    """Measures, prints and keeps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=USUAL)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for each step")
    parser.add_argument("--only", default="", help=", ".join(one.key for one in CONTESTANTS))
    parser.add_argument("--write-docs", action="store_true")
    options = parser.parse_args()
    taking_part = [one for one in CONTESTANTS if not options.only or one.key in options.only.split(",")]
    runs, failed = rounds_of(taking_part, make_work(options.rows, options.limit), options.rounds)
    found = [summary(one, runs.get(one.key, []), failed.get(one.key), options.rows) for one in taking_part]
    ratios = ratios_of(taking_part, {by["key"]: by for by in found})
    scenario = COMMAND if options.rows == USUAL else f"{COMMAND}_{options.rows}"
    keys: dict[str, Any] = {f"{scenario}.{name}": value for name, (_, value) in ratios.items()}
    for by in found:
        for name in ("rows_s", "delta_s", "push_s", "device_mb", "server_mb"):
            if by.get(name) is not None:
                keys[f"{scenario}.{by['key']}.{'push_orders_s' if name == 'push_s' else name}"] = by[name]
    spread = {f"{scenario}.{by['key']}.rows_s": by["rows_s_range"] for by in found if "rows_s" in by}
    details = {"spread": spread, "rounds": options.rounds, "contestants": found, "ratios": dict(ratios.values())}
    whole = merge(keys, command=scenario, rows=options.rows, seed=SEED, versions_more=pinned(), details=details)
    print("\n".join(lines(found)))
    print("\n".join(f"{text}: {value:.1f} ×  [{scenario}.{name}]" for name, (text, value) in ratios.items()))
    if no_image(found):
        print("no image had been made: what is called prepared is not")
    if options.write_docs:
        every = [by for name, by in whole["commands"].items() if name.partition("_")[0] == COMMAND]
        DOCS.write_text(page(sorted(every, key=lambda by: int(by["rows"]))), "utf-8")


if __name__ == "__main__":
    main()
