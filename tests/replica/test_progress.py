"""How far an answer is: records and bytes of each collection, in every phase, over both transports and in both shells."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from offlinekit import Always, Collection, Field, Filter, Offer, Progress, Schema, Status, everything, field
from offlinekit.exchange import Exchanger, Send
from offlinekit.protocol import messages as m
from offlinekit.protocol.codec import decode_answer
from offlinekit.store.sqlite import applying, generations
from offlinekit.testing.pair import MovableClock, Pair, linked_pair
from offlinekit.testing.transports import CLAIMS, IDENTITY
from offlinekit.transport import Memory, Transport
from tests.adapters.serving import on_aiohttp, wired

WAIT = 30.0
BOOKS, PAGES = 400, 9000


class Ticking(MovableClock):
    """Every look at it finds a second more, so that nothing is left out for having come too soon."""

    def monotonic(self) -> float:
        self.time += 1.0
        return self.time


class Book(Collection):
    id: Field[int] = field(key=True)
    title: Field[str]


class Page(Collection, own_file=True):
    id: Field[int] = field(key=True)
    text: Field[str]


OFFER = Offer(always=[Always(Book), Always(Page)])


@contextmanager
def in_memory(pair: Pair) -> Iterator[Transport]:
    """The transport of tests."""
    yield Memory(pair.authority, lambda: (IDENTITY, CLAIMS))


@contextmanager
def over_http(pair: Pair) -> Iterator[Transport]:
    """The transport of devices."""
    with wired(on_aiohttp, pair.authority) as wire:
        yield wire.transport


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    monkeypatch.setattr(applying, "TOLD_EVERY", 100)
    monkeypatch.setattr(generations, "RANGE", 1000)
    with linked_pair(Schema(Book, Page), scopes={Book: everything, Page: everything}, offer=OFFER, identity=IDENTITY,
                     clock=Ticking(), folder=str(tmp_path)) as made:  # fmt: skip
        made.replica._link = None
        yield made


def synced(pair: Pair, transport: Transport) -> list[Progress]:
    """What a sync tells of its answer, without what is told twice."""
    seen: list[Status] = []
    link = pair.replica.start_sync(transport, every=3600)
    link.on_status(seen.append)
    link.wait_synced(WAIT)
    link.stop()
    assert seen[-1].progress is None, "nothing is on its way any more"
    return [s.progress for s in seen if s.progress is not None]


def _rising(numbers: list[int]) -> bool:
    return numbers == sorted(numbers) and len(set(numbers)) > 2


Over = Callable[[Pair], AbstractContextManager[Transport]]


@pytest.mark.parametrize("over", [in_memory, over_http])
def test_a_file_is_told_of_by_collection_while_it_comes_and_while_it_is_applied(pair: Pair, over: Over) -> None:
    chance = random.Random(1)
    pair.authority.load(Book(id=n, title="a" * 300) for n in range(BOOKS))
    pair.authority.load(Page(id=n, text=chance.randbytes(50).hex()) for n in range(PAGES))
    with over(pair) as transport:
        told = [p for p in synced(pair, transport) if p.collections]
    coming, applied = [p for p in told if p.phase == "downloading"], [p for p in told if p.phase == "applying"]
    assert told == coming + applied
    size = coming[0].total
    assert {p.total for p in told} == {size}
    assert 400_000 < size < 1 << 20, "one chunk, as most packages are"
    assert all({n: c.records_total for n, c in p.collections.items()} == {"book": BOOKS, "page": PAGES} for p in told)
    for one in told:
        assert sum(c.bytes for c in one.collections.values()) == one.done
        assert sum(c.bytes_total for c in one.collections.values()) == one.total
        assert all(c.bytes <= c.bytes_total and c.records <= c.records_total for c in one.collections.values())
        assert 0 < one.collections["book"].bytes_total < 0.05 * size, "what compresses well takes a small part of the file"
    assert coming[0].done == 0
    assert _rising([p.done for p in coming]), "within the chunk"
    assert coming[-1].complete
    assert _rising([p.collections["page"].records for p in coming])
    assert [p.done for p in applied] == [size] * len(applied)
    assert applied[0].records == 0
    assert _rising([p.collections["book"].records for p in applied])
    pages = [p.collections["page"].records for p in applied]  # built while they came
    assert pages == sorted(pages)
    assert applied[-1].complete


@pytest.mark.parametrize("over", [in_memory, over_http])
def test_a_message_is_told_of_while_it_comes_and_by_collection_while_it_is_applied(pair: Pair, over: Over) -> None:
    chance = random.Random(2)
    pair.authority.load(Book(id=n, title=chance.randbytes(500).hex()) for n in range(BOOKS))
    pair.authority.load([Page(id=1, text="x")])
    with over(pair) as transport:
        told = synced(pair, transport)
    applied = [p for p in told if p.phase == "applying"]
    coming = [p for p in told if p.phase == "downloading" and p.total == applied[0].total]  # and not other messages
    assert all(not p.collections for p in coming), "of which collections it is, only its end says"
    assert _rising([p.done for p in coming])
    assert coming[-1].complete
    for one in applied:
        book, page = one.collections["book"], one.collections["page"]
        assert (book.records_total, page.records_total) == (BOOKS, 1)
        assert book.bytes_total + page.bytes_total == one.total == one.done
        assert page.bytes_total < 0.01 * book.bytes_total
    assert _rising([p.collections["book"].records for p in applied])
    assert applied[-1].complete


def test_where_time_stands_still_only_the_ends_of_phases_are_told(tmp_path: Path) -> None:
    scopes: dict[type[Collection], Filter] = {Book: everything, Page: everything}
    with linked_pair(Schema(Book, Page), scopes=scopes, offer=OFFER, identity=IDENTITY, folder=str(tmp_path)) as pair:
        pair.replica._link = None
        pair.authority.load(Book(id=n, title=os.urandom(50).hex()) for n in range(6000))
        told = synced(pair, Memory(pair.authority, lambda: (IDENTITY, CLAIMS)))
        assert [(p.phase, p.done > 0, p.records) for p in told] == [
            ("downloading", False, 0), ("downloading", True, 6000), ("applying", True, 0), ("applying", True, 6000),
        ]  # fmt: skip
        assert synced(pair, Memory(pair.authority, lambda: (IDENTITY, CLAIMS))) == [], "an idle sync has nothing to tell"


def test_a_manifest_tells_the_bytes_of_each_collection(pair: Pair) -> None:
    pair.authority.load(Book(id=n, title=os.urandom(30).hex()) for n in range(3000))
    pair.authority.load(Page(id=n, text="") for n in range(3000))
    steps = Exchanger(pair.replica.store).pull()
    effect, data = next(steps), b""
    while isinstance(effect, Send):
        data = pair.authority.handle(effect.body, pair.identity, {})
        effect = steps.send(data)
    steps.close()
    answer = decode_answer(data)
    assert isinstance(answer, m.Delta)
    manifest = answer.file
    assert manifest is not None
    assert sum(size for _, size in manifest.parts) == manifest.size
    sizes = dict(manifest.parts)
    assert sizes["book"] > 3000 * 30, "what cannot be compressed takes its own size at least"
    assert 0 < sizes["page"] < 30_000
