"""Memory does not grow with the records of an answer, on neither side: four times as many need no more."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw
import pytest

from offlinekit import Always, Collection, Field, Offer, Schema, everything, field
from offlinekit.exchange import Exchanger, Fetch
from offlinekit.testing.pair import linked_pair

FEW, MANY = 20_000, 80_000
GROWTH = 1_500_000  # bytes of Python, for parts of the file that are full now; a list of the further ordinals takes more
CACHES = 64_000_000  # bytes that SQLite may take, however many records there are


class Page(Collection):
    id: Field[int] = field(key=True)
    text: Field[str]


class Sheet(Collection, own_file=True):
    id: Field[int] = field(key=True)
    text: Field[str]


def measured(work: Callable[[], Any]) -> int:
    """The bytes that Python takes at most while it works."""
    apsw.memory_high_water(True)
    before = apsw.memory_used()
    tracemalloc.start()
    try:
        work()
        assert apsw.memory_high_water() - before < CACHES
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def peaks(kind: type[Collection], count: int, folder: Path) -> tuple[int, int]:
    """What the authority needs to answer a first pull of so many records, and the device to take it in."""
    folder.mkdir()
    with linked_pair(Schema(kind), scopes={kind: everything}, offer=Offer(always=[Always(kind)]), folder=str(folder)) as pair:
        pair.authority.load(kind(id=n, text=f"a text of no interest {n:09}") for n in range(count))
        steps = Exchanger(pair.replica.store).pull()
        effect, authority, served = next(steps), 0, b""

        def answer() -> None:
            nonlocal effect
            effect = steps.send(served)

        def serve() -> None:
            nonlocal served
            assert not isinstance(effect, Fetch)
            served = pair.authority.handle(effect.body, pair.identity, {})

        while not isinstance(effect, Fetch):
            authority = max(authority, measured(serve))
            answer()

        def apply() -> None:
            nonlocal effect
            with suppress(StopIteration):
                while isinstance(effect, Fetch):
                    effect = steps.send(pair.authority.fetch(effect.name, effect.offset, pair.identity))

        device = measured(apply)
        assert pair.replica.select(kind).count() == count
        return authority, device


@pytest.mark.slow
@pytest.mark.invariant("I15")
@pytest.mark.parametrize("kind", [Page, Sheet])
def test_a_first_load_takes_no_more_memory_for_more_records(kind: type[Collection], tmp_path: Path) -> None:
    few, many = peaks(kind, FEW, tmp_path / "few"), peaks(kind, MANY, tmp_path / "many")
    print(few, many)
    for side, small, large in zip(("authority", "device"), few, many, strict=True):
        assert large - small < GROWTH, side
