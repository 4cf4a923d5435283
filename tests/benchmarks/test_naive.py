"""The baseline does not move: whoever changes it says why."""

from __future__ import annotations

from hashlib import sha256

from benchmarks.data import PRODUCT, product
from benchmarks.targets import NAIVE_SHA256
from tests.evidence import ROOT


def test_baseline_is_the_one_that_was_reviewed() -> None:
    source = (ROOT / "benchmarks" / "naive.py").read_text(encoding="utf-8")
    assert sha256(source.encode()).hexdigest() == NAIVE_SHA256, "give the reason in docs/performance.md, then the new hash"


def test_data_of_the_seed_stays_the_same() -> None:
    digest = sha256()
    for n in range(0, 1_000_000, 997):
        digest.update(repr(product(n)).encode())
    assert len(PRODUCT) == len(product(0)) == 12
    assert digest.hexdigest() == "a87f509f564cdf598c9e0aa11481d009edf4f218bc6fb8de457b2cc8e5840188"
