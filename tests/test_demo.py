"""The demo runs as it stands, with a small company, and what it tells is so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parent.parent / "examples" / "company_demo"


@pytest.mark.slow
def test_the_demo_tells_a_story_in_which_nothing_is_lost_or_doubled() -> None:
    run = subprocess.run(
        [sys.executable, "-X", "utf8", str(DEMO), "--products", "300", "--customers", "60"],
        check=False, capture_output=True, encoding="utf-8", timeout=60,
    )  # fmt: skip
    said = run.stdout
    print(said)
    assert run.returncode == 0, said + run.stderr
    assert run.stderr == ""
    assert re.search(r"^ +300 products", said, re.M)
    assert re.search(r"^ +applying: .*\b300 products \([\d.]+ kB\)$", said, re.M), "no progress was shown"
    chapters = re.findall(r"^(\d)\. ", said, re.M)
    assert chapters == list("123456")

    assert re.search(r"^ +customers +0 +(\d+) +\1 +\1 +\1$", said, re.M), "the preview and the sync differ"
    assert re.search(r"^ +lampada led branc +[1-9]", said, re.M), "the search found nothing"
    assert "status: offline, 5 to send" in said
    assert "5 are still pending, and are sent again" in said

    answers = dict(re.findall(r"^ +([A-E]) +(accepted|rejected|parked) ", said, re.M))
    assert answers == {"A": "accepted", "B": "accepted", "C": "rejected", "D": "rejected", "E": "parked"}
    assert re.search(r"^ +C +rejected +credit: credit left is [\d.]+; look at: total", said, re.M)
    assert re.search(r"^ +D +rejected +price: .* costs at least [\d.]+; look at: price", said, re.M)
    assert re.search(r"^ +C +[\d,]+ +R\$ [\d,.]+ +2$", said, re.M), "the line that waited did not follow"
    assert re.search(r"received: .*\b[1-9]\d* products?", said), "the new prices did not arrive"
    assert "dropped: 1 customer" in said
    assert "rejections left: 0, parked: 0, pending: 0" in said

    compared = re.findall(r"^ +(payment terms|products|customers|orders|order lines) +([\d,]+) +([\d,]+) +(\d+)$", said, re.M)
    assert [name for name, *_ in compared] == ["payment terms", "products", "customers", "orders", "order lines"]
    assert all(here == there and here != "0" and differ == "0" for _, here, there, differ in compared)
    assert "lost 0, doubled 0" in said
    assert "one more sync moves 0 records" in said
    assert "Both sides hold the same." in said
