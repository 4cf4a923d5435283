"""A download that is cut goes on at the device's offset, for as long as the file lives and the question is the same."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from offlinekit import Always, Collection, Field, Offer, Quick, Schema, everything, field
from offlinekit.exceptions import AuthenticationRequired, Offline, ProtocolError, TooLarge, TransportError
from offlinekit.exchange import Exchanger, Fetch
from offlinekit.testing.pair import Pair, linked_pair
from offlinekit.transport.memory import Memory

WAIT = 30.0
ROWS, PART = 3000, 10_000


class Page(Collection, own_file=True):
    number: Field[int] = field(key=True)
    text: Field[str]


class Note(Collection, writable=True):
    id: Field[str] = field(key=True)


SCHEMA = Schema(Page, Note, intents=["note"])
OFFER = Offer(Quick("notes", Note, everything), always=[Always(Page)])


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with linked_pair(SCHEMA, scopes={Page: everything, Note: everything}, offer=OFFER, folder=str(tmp_path)) as made:
        made.authority.allow("note", writes={Note: "insert"})
        made.authority.puller.inline_rows = 3
        chance = random.Random(5)
        made.authority.load(Page(number=n, text=chance.randbytes(60).hex()) for n in range(ROWS))
        made.replica._link = None
        yield made


class Cut(Memory):
    """A line that gives small parts, and breaks in the middle of some; counts what went over it."""

    def __init__(self, pair: Pair, faults: dict[int, TransportError]) -> None:
        super().__init__(pair.authority, lambda: (pair.identity, {}))
        self.faults, self.calls, self.bytes = faults, 0, 0
        self.asked: list[tuple[str, int]] = []

    async def fetch(self, name: str, offset: int) -> bytes:
        """A part of a file, or half of it for nothing."""
        part = (await super().fetch(name, offset))[:PART]
        self.calls += 1
        self.asked.append((name, offset))
        self.bytes += len(part)
        if self.calls in self.faults:
            raise self.faults[self.calls]
        return part


def incoming(pair: Pair) -> list[str]:
    """Files on their way."""
    return [n for n in os.listdir(os.path.dirname(pair.replica.store.path)) if "incoming" in n]


@pytest.mark.invariant("I7")
def test_a_download_that_is_cut_goes_on_at_its_offset(pair: Pair) -> None:
    cuts = (1, 4, 5, 20)
    faults: dict[int, TransportError] = {n: Offline("cut in the middle") for n in cuts}
    faults[9] = AuthenticationRequired("sign in again")
    line = Cut(pair, faults)
    link = pair.replica.start_sync(line, every=0.01)
    try:
        link.wait_synced(WAIT)
    finally:
        link.stop()
    assert pair.replica.select(Page).count() == ROWS
    assert len({name for name, _ in line.asked}) == 1, "a new answer was asked for"
    offsets = [offset for _, offset in line.asked]
    assert offsets == sorted(offsets)
    assert offsets[-1] > 20 * PART
    assert line.bytes <= offsets[-1] + PART + len(faults) * PART, "parts came more than once"
    assert incoming(pair) == []


class Steps:
    """A pull by hand, up to its file and a few parts of it."""

    def __init__(self, pair: Pair, exchanger: Exchanger) -> None:
        self.pair, self.steps = pair, exchanger.pull()
        self.effect: Any = next(self.steps)

    def go(self, parts: int) -> Steps:
        """Until so many parts of the file are here."""
        while parts or not isinstance(self.effect, Fetch):
            if isinstance(self.effect, Fetch):
                parts -= 1
            self.effect = self.steps.send(self.serve())
        return self

    def serve(self) -> bytes:
        """What the authority gives."""
        if isinstance(self.effect, Fetch):
            return self.pair.authority.fetch(self.effect.name, self.effect.offset, self.pair.identity)[:PART]
        return self.pair.authority.handle(self.effect.body, self.pair.identity, {})

    def cut(self, error: Exception) -> None:
        """The connection breaks."""
        with pytest.raises(type(error)):
            self.steps.throw(error)

    def end(self) -> str:
        """To the end; the kind of its result."""
        try:
            while True:
                self.effect = self.steps.send(self.serve())
        except StopIteration as stop:
            return str(stop.value.kind)


def test_what_was_pushed_meanwhile_does_not_throw_a_download_away(pair: Pair) -> None:
    pair.replica.configure().quick("notes").until(None).save()
    exchanger = Exchanger(pair.replica.store)
    Steps(pair, exchanger).go(3).cut(Offline("gone"))
    with pair.replica.transaction("note") as tx:
        tx.insert(Note(id="n1"))
    pair.drive(exchanger.push())
    steps = Steps(pair, exchanger)
    assert isinstance(steps.effect, Fetch)
    assert steps.effect.offset == 3 * PART
    assert steps.end() == "bulk"
    assert pair.replica.get(Note, "n1") is not None
    pair.sync()
    assert (pair.replica.select(Page).count(), pair.replica.select(Note).count()) == (ROWS, 1)


def test_an_edited_selection_throws_an_interrupted_download_away(pair: Pair) -> None:
    exchanger = Exchanger(pair.replica.store)
    Steps(pair, exchanger).go(3).cut(Offline("gone"))
    assert incoming(pair)
    pair.replica.configure().quick("notes").until(None).save()
    steps = Steps(pair, exchanger)
    assert not isinstance(steps.effect, Fetch)
    assert incoming(pair) == []
    assert steps.end() == "bulk"


@pytest.mark.parametrize("error", [ProtocolError("the file has expired; ask again"), TooLarge("over the limit")])
def test_what_trying_again_cannot_mend_is_asked_for_anew(pair: Pair, error: Exception) -> None:
    exchanger = Exchanger(pair.replica.store)
    Steps(pair, exchanger).go(3).cut(error)
    assert incoming(pair) == []
    steps = Steps(pair, exchanger)
    assert not isinstance(steps.effect, Fetch)
    assert steps.end() == "bulk"


def test_a_sync_that_is_stopped_leaves_no_file(pair: Pair) -> None:
    line = Cut(pair, {n: Offline("cut in the middle") for n in range(3, 10_000)})
    link = pair.replica.start_sync(line, every=0.01)
    try:
        while line.calls < 5:
            pair.replica.wait_until(lambda: line.calls >= 5, 0.05)
        assert incoming(pair)
    finally:
        link.stop()
    assert incoming(pair) == []


def test_a_part_too_many_or_none_is_no_file(pair: Pair) -> None:
    for wrong in (b"", bytes(1 << 20)):
        steps = Steps(pair, Exchanger(pair.replica.store)).go(1)
        with pytest.raises(ProtocolError, match="shorter or longer"):
            steps.steps.send(wrong)
        assert incoming(pair) == []


def test_a_chunk_that_is_not_what_was_promised_is_noticed_at_its_end(pair: Pair) -> None:
    steps = Steps(pair, Exchanger(pair.replica.store)).go(2)
    with pytest.raises(ProtocolError, match="not what its manifest says"):
        while True:
            assert isinstance(steps.effect, Fetch)
            part = steps.serve()
            steps.effect = steps.steps.send(part if steps.effect.offset != 2 * PART else bytes([part[0] ^ 1]) + part[1:])
    assert incoming(pair) == []


def test_a_long_download_does_not_shift_the_clock(pair: Pair) -> None:
    steps = Steps(pair, Exchanger(pair.replica.store)).go(2)
    pair.clock.move(minutes=20)
    assert steps.end() == "bulk"
    assert pair.replica.now() == pair.clock.now()
