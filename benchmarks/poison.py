"""How long a poisoned outbox takes to drain: one mutation in a hundred refused, with chains of others that wait for it.

    python -m benchmarks.poison --sizes 10000,100000        prints a table and writes build/poison.json

Each size runs in a process of its own, device and authority in it without a network, so that the peak of memory is of that size
alone. Of a hundred orders one is refused; four changes of it wait for it and are parked, and another order is changed as
often and accepted. Every refusal is then corrected and sent again, which frees what waited. At the end nothing may be left
over and every order must be at the authority as the device last wrote it.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from offlinekit import Changes, Collection, Context, Field, Offer, Quick, Reject, Schema, everything, field
from offlinekit.exchange import Exchanger
from offlinekit.testing.pair import Pair, linked_pair

SEED = 20261124
CHAIN = 4


class Order(Collection, writable=True, name="orders"):
    """What is sent."""

    id: Field[int] = field(key=True)
    total: Field[int]
    note: Field[str] = field(default="")


SCHEMA = Schema(Order, intents=["sell"])
OFFER = Offer(Quick("none", Order, Order.total == -1))


def judge(changes: Changes, ctx: Context) -> None:
    """Refuses what costs less than nothing."""
    for order in changes.inserted(Order):
        if order.total < 0:
            raise Reject("total", "an order cannot cost less than nothing", fields=[Order.total])


def acts(size: int) -> Iterator[tuple[int, int]]:
    """(order, how often it was written before), in an order by the seed: of a hundred writes ninety are insertions, two of
    whose orders are then changed at random later moments."""
    chance = random.Random(SEED)
    waiting: list[tuple[float, int, int]] = []
    order = 0
    for n in range(size):
        due = [w for w in waiting if w[0] <= n][:1]
        if due:
            waiting.remove(due[0])
            yield due[0][1], due[0][2]
            continue
        yield order, 0
        if order % 92 < 2:
            waiting += [(n + chance.uniform(t, t + 1) * 40, order, t) for t in range(1, CHAIN + 1)]
            waiting.sort()
        order += 1


def fill(pair: Pair, size: int) -> int:
    """Writes them on the device; the number that will be refused."""
    refused = 0
    for order, times in acts(size):
        with pair.replica.transaction("sell") as tx:
            if times:
                found = tx.get(Order, order)
                assert found is not None
                tx.update(found, note=f"change {times}")
            else:
                refused += order % 92 == 0
                tx.insert(Order(id=order, total=-5 if order % 92 == 0 else order))
    return refused


def drain(pair: Pair) -> Counter[str]:
    """Pushes until the outbox is empty, then pulls; outcomes by kind."""
    found: Counter[str] = Counter()
    exchanger = Exchanger(pair.replica.store)
    while (pushed := pair.drive(exchanger.push())).kind != "nothing":
        found.update(pushed.outcomes)
    pair.sync()
    return found


def timed(what: Any) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    started = time.perf_counter()
    result = what()
    return time.perf_counter() - started, result


def correct(pair: Pair) -> int:
    """Corrects every refusal and sends it again."""
    refusals = pair.replica.rejections()
    for refusal in refusals:
        with refusal.edit() as tx:
            order = tx.get(Order, refusal.changes[0].key[0])
            assert order is not None
            tx.update(order, total=0)
    return len(refusals)


def measure(size: int) -> dict[str, Any]:
    """One size, in this process."""
    with tempfile.TemporaryDirectory() as folder, \
            linked_pair(SCHEMA, offer=OFFER, scopes={Order: everything}, folder=folder) as pair:  # fmt: skip
        pair.authority.intent("sell", writes={Order: ("insert", "update")})(judge)
        pair.replica.configure().quick("none").until(None).save()
        pair.sync()
        filled, expected = timed(lambda: fill(pair, size))
        drained, outcomes = timed(lambda: drain(pair))
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        parked = len(pair.replica.parked())
        assert outcomes["rejected"] == expected, (outcomes, expected)
        assert outcomes["accepted"] + expected + parked == size, (outcomes, parked)
        corrected, count = timed(lambda: correct(pair))
        again, more = timed(lambda: drain(pair))
        assert (count, more["accepted"]) == (expected, expected + parked), more
        assert [*pair.replica.pending(), *pair.replica.parked(), *pair.replica.rejections()] == []
        shown = {o.id: (o.total, o.note) for o in pair.replica.select(Order).all()}
        with pair.authority.transaction() as tx:
            assert shown == {o.id: (o.total, o.note) for o in tx.select(Order)}
    return {
        "mutations": size, "rejected": expected, "parked": parked, "fill_s": filled, "drain_s": drained,
        "correct_s": corrected, "drain_again_s": again, "peak_mb": peak_mb,
    }  # fmt: skip


def main() -> None:
    """Measures, prints, writes; fails where the time is not linear."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,100000")
    parser.add_argument("--one", type=int)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one)))
        return
    runs = []
    for size in map(int, options.sizes.split(",")):
        command = [sys.executable, "-m", "benchmarks.poison", "--one", str(size)]
        runs.append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
        print(
            " ".join(
                f"{name}={value:,.1f}" if isinstance(value, float) else f"{name}={value:,}" for name, value in runs[-1].items()
            )
        )
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    times, more = (runs[-1][name] / runs[0][name] for name in ("drain_s", "mutations"))
    found = {"runs": runs, "times_drain": times, "times_mutations": more, "seed": SEED, "commit": commit,
             "date": datetime.now(UTC).isoformat(timespec="seconds"), "python": platform.python_version()}  # fmt: skip
    report = Path(__file__).parent.parent / "build" / "poison.json"
    report.parent.mkdir(exist_ok=True)
    report.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(f"×{more:.0f} mutations drain in ×{times:.1f} the time")
    if times > 1.2 * more:
        raise SystemExit(f"not linear: at most ×{1.2 * more:.1f} is expected")


if __name__ == "__main__":
    main()
