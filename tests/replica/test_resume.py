"""A download that is cut goes on at the device's offset, for as long as the file lives and the question is the same."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from offlinekit import Always, Collection, Field, Offer, Quick, Replica, Schema, everything, field
from offlinekit.exceptions import AuthenticationRequired, Offline, ProtocolError, TooLarge, TransportError
from offlinekit.exchange import Exchanger, Fetch, Moved
from offlinekit.sync import counts_of
from offlinekit.testing.pair import Pair, linked_pair
from offlinekit.transport import Arrived, Memory

WAIT = 30.0
ROWS, PART = 3000, 10_000


class Page(Collection, own_file=True):
    number: Field[int] = field(key=True)
    text: Field[str]


class Note(Collection, writable=True):
    id: Field[str] = field(key=True)


SCHEMA = Schema(Page, Note, intents=["note"])
OFFER = Offer(Quick("notes", Note, everything), always=[Always(Page)])


class City(Collection):
    """Wanted first."""

    code: Field[str] = field(key=True)


class Book(Collection, priority=1):
    """Large, and in the main file."""

    number: Field[int] = field(key=True)
    text: Field[str]


class Map(Collection, own_file=True, priority=1):
    """Comes with the books, in a file of its own."""

    number: Field[int] = field(key=True)
    text: Field[str]


class Street(Collection, priority=2):
    """Wanted last."""

    name: Field[str] = field(key=True)


APART = Schema(City, Book, Map, Street)


def random_texts(kind: Any) -> Iterator[Any]:
    """Records that no compression makes small."""
    chance = random.Random(5)
    return (kind(number=n, text=chance.randbytes(60).hex()) for n in range(ROWS))


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with linked_pair(SCHEMA, scopes={Page: everything, Note: everything}, offer=OFFER, folder=str(tmp_path)) as made:
        made.authority.allow("note", writes={Note: "insert"})
        made.authority.puller.inline_rows = 3
        made.authority.load(random_texts(Page))
        made.replica._link = None
        yield made


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[Pair]:
    """A first load in three groups, of which the second one is large."""
    kinds = (City, Book, Map, Street)
    offer = Offer(always=[Always(kind) for kind in kinds])
    with linked_pair(APART, scopes=dict.fromkeys(kinds, everything), offer=offer, folder=str(tmp_path)) as made:
        made.authority.puller.inline_rows = 3
        made.authority.load([City(code="ana"), Street(name="south")])
        for kind in (Book, Map):
            made.authority.load(random_texts(kind))
        made.replica._link = None
        yield made


class Cut(Memory):
    """A line that gives small parts, and breaks in the middle of some; counts what went over it."""

    def __init__(self, pair: Pair, faults: dict[int, TransportError]) -> None:
        super().__init__(pair.authority, lambda: (pair.identity, {}))
        self.faults, self.calls, self.bytes = faults, 0, 0
        self.asked: list[tuple[str, int]] = []

    async def fetch(self, name: str, offset: int, arrived: Arrived | None = None) -> bytes:
        """A part of a file, or half of it for nothing."""
        part = (await super().fetch(name, offset, arrived))[:PART]
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

    def __init__(self, pair: Pair, exchanger: Exchanger, *, load: bool = False) -> None:
        self.pair, self.steps = pair, exchanger.pull(load=load)
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

    def moved(self) -> Moved:
        """To the end; its result."""
        with pytest.raises(StopIteration) as stop:
            while True:
                self.effect = self.steps.send(self.serve())
        assert isinstance(stop.value.value, Moved)
        return stop.value.value

    def end(self) -> str:
        """To the end; the kind of its result."""
        return self.moved().kind


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


def test_a_sync_that_is_stopped_is_gone_on_with_after_a_restart_of_the_program(pair: Pair) -> None:
    line = Cut(pair, {n: Offline("cut in the middle") for n in range(3, 10_000)})
    link = pair.replica.start_sync(line, every=0.01)
    try:
        while line.calls < 5:
            pair.replica.wait_until(lambda: line.calls >= 5, 0.05)
        assert incoming(pair)
    finally:
        link.stop()
    assert incoming(pair)
    path, identity = pair.replica.store.path, pair.identity
    pair.replica.close()
    pair.replica = Replica.open(path, SCHEMA, offer=OFFER, identity=identity, zone="UTC", clock=pair.clock)
    again = Cut(pair, {})
    link = pair.replica.start_sync(again, every=0.01)
    try:
        link.wait_synced(WAIT)
    finally:
        link.stop()
    assert pair.replica.select(Page).count() == ROWS
    assert again.asked[0][0] == line.asked[0][0], "a new answer was asked for"
    assert again.asked[0][1] > 0
    assert incoming(pair) == []


def test_a_part_too_many_or_none_is_no_file(pair: Pair) -> None:
    for wrong in (b"", bytes(1 << 20)):
        steps = Steps(pair, Exchanger(pair.replica.store)).go(1)
        with pytest.raises(ProtocolError, match="shorter or longer"):
            steps.steps.send(wrong)
        assert incoming(pair) == []


def test_a_chunk_that_is_not_what_was_promised_is_noticed_at_its_end(pair: Pair) -> None:
    steps = Steps(pair, Exchanger(pair.replica.store)).go(2)
    with pytest.raises(ProtocolError, match="not what its digest says"):
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


def loaded(pair: Pair) -> dict[str, int]:
    """How many records are there, by collection."""
    return {kind.__name__.lower(): pair.replica.select(kind).count() for kind in (City, Book, Map, Street)}


@pytest.mark.invariant("I7")
def test_a_priority_whose_download_is_cut_is_resumed_and_applied_to_its_group(apart: Pair) -> None:
    exchanger, store = Exchanger(apart.replica.store), apart.replica.store
    assert Steps(apart, exchanger).end() == "delta"
    Steps(apart, exchanger, load=True).go(3).cut(Offline("gone"))
    assert len(incoming(apart)) > 0
    first = store.meta("pulled")
    apart.clock.move(minutes=5)
    apart.authority.load([City(code="bea"), Street(name="west")])
    held = Steps(apart, exchanger)  # what is held is kept up to date while the file waits
    assert not isinstance(held.effect, Fetch)
    moved = held.moved()
    assert (moved.kind, moved.put, moved.more) == ("delta", {"city": 1}, True)
    steps = Steps(apart, exchanger, load=True)
    assert isinstance(steps.effect, Fetch)
    assert steps.effect.offset == 3 * PART
    moved = steps.moved()
    assert (moved.kind, moved.put, moved.more) == ("bulk", {"book": ROWS, "map": ROWS}, True)
    assert loaded(apart) == {"city": 2, "book": ROWS, "map": ROWS, "street": 0}
    assert store.meta("pulled") == first + 300.0, "the answer that was overtaken is the older one"
    assert store.meta("selected") is None
    assert not counts_of(store)["consistent"]
    assert Steps(apart, exchanger, load=True).moved().put == {"street": 2}
    joined = Steps(apart, exchanger, load=True).moved()
    assert (sum(joined.put.values()), joined.more, counts_of(store)["consistent"]) == (0, False, True)
    assert incoming(apart) == []


def test_a_sync_goes_on_with_the_file_of_a_priority_beside_what_it_holds(apart: Pair) -> None:
    line = Cut(apart, {n: Offline("cut in the middle") for n in (2, 3, 9)})
    link = apart.replica.start_sync(line, every=0.01)
    try:
        assert link.wait_synced(WAIT).consistent
    finally:
        link.stop()
    assert loaded(apart) == {"city": 1, "book": ROWS, "map": ROWS, "street": 1}
    assert len({name for name, _ in line.asked}) == 1, "a new answer was asked for"
    offsets = [offset for _, offset in line.asked]
    assert offsets == sorted(offsets)
    assert incoming(apart) == []


def test_a_file_of_before_another_history_is_given_up(apart: Pair) -> None:
    exchanger, other = Exchanger(apart.replica.store), Exchanger(apart.replica.store)
    assert Steps(apart, exchanger).end() == "delta"
    Steps(apart, exchanger, load=True).go(3).cut(Offline("gone"))
    with apart.authority.store.unit() as unit:
        unit.connection.execute("DELETE FROM ok_mark")  # as if restored: no cursor of before is known any more
    assert Steps(apart, other).end() == "new_history"  # another program is the one that meets it
    assert Steps(apart, other).end() == "delta"
    steps = Steps(apart, exchanger, load=True)
    assert not isinstance(steps.effect, Fetch)
    assert incoming(apart) == []
    assert steps.end() == "bulk"


def test_a_file_of_before_another_history_is_not_applied(apart: Pair) -> None:
    exchanger, other = Exchanger(apart.replica.store), Exchanger(apart.replica.store)
    assert Steps(apart, exchanger).end() == "delta"
    steps = Steps(apart, exchanger, load=True).go(3)
    with apart.authority.store.unit() as unit:
        unit.connection.execute("DELETE FROM ok_mark")
    assert Steps(apart, other).end() == "new_history"
    assert steps.end() == "stale"
    assert loaded(apart)["book"] == 0


def test_a_file_of_a_priority_that_another_program_has_loaded_is_given_up(apart: Pair) -> None:
    exchanger, other = Exchanger(apart.replica.store), Exchanger(apart.replica.store)
    assert Steps(apart, exchanger).end() == "delta"
    Steps(apart, exchanger, load=True).go(3).cut(Offline("gone"))
    assert Steps(apart, other, load=True).end() == "bulk"
    steps = Steps(apart, exchanger, load=True)
    assert not isinstance(steps.effect, Fetch)
    assert incoming(apart) == []
    assert steps.moved().put == {"street": 1}
