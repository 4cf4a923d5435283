"""The fuzz targets without a fuzzer: every input of the corpus, and neighbours of them by Hypothesis, wherever the tests run."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.mutating import mutated
from tests.fuzz.seeds import CORPUS
from tests.fuzz.targets import TARGETS

EXAMPLES = {"answers": 40, "bulk": 25, "http_client": 40}  # slow ones; the others get more
SIZE_MAX = 40_000


@cache
def call_of(name: str) -> Callable[[bytes], None]:
    return TARGETS[name].make()


def kept(name: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


def neighbour(data: bytes, seed: int, packed: bool) -> bytes:
    """The input with something changed by chance."""
    if packed and seed % 4:
        for skip in (1, 0):
            try:
                return data[:skip] + mutated(data[skip:], seed)
            except ValueError:
                continue
    rng = random.Random(seed)
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.randrange(4)) + data[at + rng.randrange(4) :]


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_whatever_comes_is_an_error_of_ours_or_means_something(name: str) -> None:
    call, inputs = call_of(name), kept(name)

    @settings(max_examples=EXAMPLES.get(name, 150), suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(inputs), st.integers(0, 2**32), st.binary(max_size=60))
    def try_(data: bytes, seed: int, other: bytes) -> None:
        call(neighbour(data, seed, TARGETS[name].packed))
        call(other)

    for data in inputs:
        call(data)
    try_()


def test_the_corpus_is_small_and_of_targets_that_are_there() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < SIZE_MAX
