"""A device on a slow line asks for no images: they take twice the bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from offlinekit import Always, Collection, Field, Offer, Schema, everything, field
from offlinekit.exchange import IMAGE_BYTES_S, Exchanger, Fetch
from offlinekit.protocol import messages as m
from offlinekit.protocol.codec import decode_request
from offlinekit.testing.pair import Pair, linked_pair


class Page(Collection, own_file=True):
    number: Field[int] = field(key=True)
    text: Field[str]


SCHEMA = Schema(Page)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with linked_pair(SCHEMA, scopes={Page: everything}, offer=Offer(always=[Always(Page)]), folder=str(tmp_path)) as made:
        made.authority.puller.inline_rows = 3
        made.authority.load(Page(number=n, text=f"{n * 7919 % 10007:09}" * 20) for n in range(4000))
        yield made


@pytest.mark.parametrize(("seconds", "layout"), [(0.0, True), (0.01, True), (0.5, False)])
def test_a_slow_line_gets_records_and_no_images(pair: Pair, seconds: float, layout: bool) -> None:
    exchanger = Exchanger(pair.replica.store)
    steps, size = exchanger.pull(), 0
    effect: Any = next(steps)
    with pytest.raises(StopIteration):
        while True:
            if isinstance(effect, Fetch):
                data = pair.authority.fetch(effect.name, effect.offset, pair.identity)
                size = max(size, len(data))
                pair.clock.move(seconds=seconds)
            else:
                data = pair.authority.handle(effect.body, pair.identity, {})
            effect = steps.send(data)
    assert size / IMAGE_BYTES_S < 0.5
    with pair.authority.store.unit() as unit:
        unit.connection.execute("DELETE FROM ok_mark")  # as after a restore: all is asked about again
    pair.drive(exchanger.pull())
    request = decode_request(next(exchanger.pull()).body)
    assert isinstance(request, m.Pull)
    assert bool(request.layout) == layout
