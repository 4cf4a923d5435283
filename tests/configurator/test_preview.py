"""A preview says what saving moves: the same records, nearly the same bytes, what it leaves behind, and whether it fits."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from attrs import frozen

from offlinekit import Replica
from offlinekit.configurator import Budget, Configuration, Preview, PreviewOf
from offlinekit.exchange import Exchanger, Fetch, Moved
from offlinekit.testing.pair import Pair
from tests.configurator.world import CITIES, Customer, Item, Order, Product, Rank, opened


@frozen
class Crossed:
    """A pull, and the bytes of everything that came over the wire for it."""

    moved: Moved
    bytes: int


def pull(pair: Pair) -> Crossed:
    """Pulls, counting answers and files as they cross."""
    steps, count = Exchanger(pair.replica.store).pull(), 0
    try:
        effect = next(steps)
        while True:
            if isinstance(effect, Fetch):
                answer = pair.authority.fetch(effect.name, effect.offset, pair.identity)
            else:
                answer = pair.authority.handle(effect.body, pair.identity, pair.claims or {})
            count += len(answer)
            effect = steps.send(answer)
    except StopIteration as stop:
        return Crossed(stop.value, count)


def agrees(preview: Preview, crossed: Crossed) -> None:
    """The counts are exact; bytes are within a fifth, or 2 kB."""
    for name, part in preview.collections.items():
        moved = (crossed.moved.put.get(name, 0), crossed.moved.drop.get(name, 0))
        assert (part.fetch, part.drop) == moved, f"{name}: the preview said {part}, the pull moved {moved}"
    assert set(crossed.moved.put) <= set(preview.collections)
    assert abs(preview.fetch_bytes - crossed.bytes) <= max(2000, crossed.bytes * 0.2), (preview.fetch_bytes, crossed.bytes)


def choose(take: Configuration, r: random.Random) -> Configuration:
    """Something that a user might choose."""
    choices: list[Callable[[], object]] = [
        lambda: take.quick("mine"),
        lambda: take.quick("in_city", city=r.choice(CITIES)),
        lambda: take.quick("buying").include("bought"),
        lambda: take.quick("mine").include("orders").unpick(Customer, *(f"c{r.randrange(90):04}" for _ in range(9))),
        lambda: take.any_of(Customer.visits >= r.randrange(9), Customer.rank == Rank.LARGE).include("bought"),
        lambda: take.quick("recent").include("items"),
        lambda: take.all_of(Order.open == True).pick(Order, *(f"o{r.randrange(180):05}" for _ in range(5))),  # noqa: E712
        lambda: take.quick("group", grp=f"g{r.randrange(3)}"),
        lambda: take.quick("all").unpick(Product, "p00001", "p00002"),
        lambda: take.pick(Product, *(f"p{r.randrange(40):05}" for _ in range(7))),
        lambda: take.quick("mine").pick_none(Customer).pick(Customer, "c0001", "c0002"),
    ]
    for change in r.sample(choices, r.randrange(1, 5)):
        change()
    return take


@pytest.mark.parametrize("inline_rows", [5000, 30])
@pytest.mark.parametrize("seed", range(10))
def test_what_a_preview_says_is_what_the_pull_moves(seed: int, inline_rows: int) -> None:
    r = random.Random(seed)
    with opened(seed=seed) as pair:
        pair.authority.puller.inline_rows = inline_rows
        rows: list[Any] = [*pair.authority.select(Customer), *pair.authority.select(Order)]
        kinds = set()
        for _ in range(8):
            take = choose(pair.replica.configure(), r)
            preview = take.preview()
            assert not preview.offline
            take.save()
            crossed = pull(pair)
            agrees(preview, crossed)
            kinds.add(crossed.moved.kind)
            assert take.preview().fetch == take.preview().drop == 0
            assert take.preview().rows == sum(pair.replica.select(c).count() for c in (Customer, Order, Item, Product)) + 2
            with pair.authority.transaction() as tx:
                for record in r.sample(rows, 8):
                    if isinstance(record, Customer):
                        tx.update(record, rep=r.choice(["me", "you"]), visits=r.randrange(9))
                    elif tx.get(Order, record.id) is not None:
                        tx.update(record, open=r.random() < 0.5) if r.random() < 0.7 else tx.delete(record)
        assert kinds >= ({"delta"} if inline_rows == 5000 else {"bulk"})


@pytest.mark.invariant("I10")
def test_a_preview_moves_nothing_and_tells_nothing_of_others(pair: Pair) -> None:
    replica = pair.replica
    before = replica.store.meta("selection"), replica.select(Customer).count()
    preview = replica.configure().quick("mine").pick(Customer, "c0000", "c0003", "c0006").quick("all").preview()
    assert (preview.of(Customer).hold, preview.of(Product).hold) == (60, 36), (
        "picks of another rep's, and secrets, are not counted"
    )
    assert (replica.store.meta("selection"), replica.select(Customer).count()) == before


@pytest.fixture
def pair() -> Iterator[Pair]:
    with opened() as pair:
        pair.replica.configure().quick("mine").include("orders").save()
        pair.sync()
        yield pair


def test_what_fits_a_message_is_weighed_and_not_estimated() -> None:
    with opened(customers=2000, products=900) as pair:
        preview = pair.replica.configure().quick("mine").quick("all").preview()
        pair.replica.configure().quick("mine").quick("all").save()
        crossed = pull(pair)
        assert (crossed.moved.kind, crossed.bytes > 30_000) == ("delta", True)
        assert abs(preview.fetch_bytes - crossed.bytes) < 800, "all but tokens and claims"


# -- large selections


def used_bytes(replica: Replica) -> int:
    """What the replica's files really hold."""
    folder, name = os.path.split(replica.store.path)
    total = 0
    for entry in os.listdir(folder):
        if entry.startswith(name) and not entry.endswith(("-wal", "-shm")):
            db = apsw.Connection(str(Path(folder) / entry), flags=apsw.SQLITE_OPEN_READONLY)
            pages = int(db.pragma("page_count")) - int(db.pragma("freelist_count"))
            total += pages * int(db.pragma("page_size"))
            db.close()
    return total


@pytest.mark.slow
def test_a_preview_of_a_hundred_thousand_records_is_close(record_property: Callable[[str, object], None]) -> None:
    with opened(customers=15_000, products=100_000) as pair:
        empty = used_bytes(pair.replica)
        take = pair.replica.configure().quick("mine").quick("all").include("orders")
        preview = take.preview()
        take.save()
        crossed = pull(pair)
        disk = used_bytes(pair.replica) - empty
        for name, value in (("records", preview.rows), ("bytes said", preview.fetch_bytes), ("bytes crossed", crossed.bytes),
                            ("disk said", preview.disk_bytes), ("disk used", disk)):  # fmt: skip
            record_property(name, value)
            print(f"{name}: {value:,}")
        agrees(preview, crossed)
        assert crossed.moved.kind == "bulk"
        assert preview.of(Product).fetch == 90_000
        assert abs(preview.disk_bytes - disk) <= disk * 0.25
        again = pair.replica.configure().renew().quick("group", grp="g1").preview()
        assert (again.of(Product).fetch, again.of(Product).drop) == (0, 60_000)


# -- whether it fits


def test_a_preview_is_compared_with_what_a_device_has_room_for() -> None:
    preview = Preview({"a": PreviewOf(fetch=5, hold=10, disk_bytes=4096), "b": PreviewOf(hold=1, disk_bytes=100)})
    assert (preview.rows, preview.disk_bytes) == (11, 4196)
    assert preview.fits(4196)
    assert not preview.fits(4195)
    assert preview.fits(Budget(records=11))
    assert not preview.fits(Budget(records=10, bytes=10**9))
    assert preview.fits(Budget())


# -- what would be left behind


def test_pending_changes_on_records_that_would_leave_are_named(pair: Pair) -> None:
    replica = pair.replica
    customers = replica.select(Customer).limit(3).all()
    with replica.transaction("sell") as tx:
        tx.update(customers[0], visits=99)
        tx.update(customers[1], visits=99)
    first = tx.mutation.id
    with replica.transaction("sell") as tx:
        tx.delete(customers[2])
        tx.insert(Order(id="new", customer=customers[0].code, day=customers[0].since))
    second = tx.mutation.id
    assert replica.configure().renew().preview().stranded == ()
    some = replica.configure().renew().unpick(Customer, customers[1].code, customers[2].code).preview()
    assert [(s.mutation, s.intent, s.records) for s in some.stranded] == [
        (first, "sell", (("customer", customers[1].code),)), (second, "sell", (("customer", customers[2].code),)),
    ]  # fmt: skip
    take = replica.configure().quick("group", grp="g1")
    everything = take.preview()
    assert [s.mutation for s in everything.stranded] == [first, second]
    assert len(everything.stranded[0].records) == 2
    take.save()
    assert pull(pair).moved.drop["customer"] == everything.of(Customer).drop
    assert {c.code for c in replica.select(Customer)} == {customers[0].code, customers[1].code}, "visible until they are answered"
    report = pair.sync()
    assert report.outcomes == {"accepted": 2}, "nothing of it was lost"
    assert replica.select(Customer).count() == 0


def test_what_would_be_left_behind_is_named_offline_too(pair: Pair) -> None:
    replica = pair.replica
    customers = replica.select(Customer).limit(2).all()
    with replica.transaction("sell") as tx:
        tx.update(customers[0], visits=99)
    pair.pull_the_plug()
    preview = replica.configure().renew().unpick(Customer, customers[0].code).preview()
    assert (preview.offline, [s.mutation for s in preview.stranded]) == (True, [tx.mutation.id])
    assert (preview.of(Customer).hold, preview.of(Customer).drop) == (59, 1)
    assert 0 < preview.disk_bytes <= used_bytes(replica), "what is held is known offline"
    assert replica.configure().renew().preview().stranded == ()
