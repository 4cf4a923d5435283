"""An offer that drops what a saved selection names: everything goes on, nothing moves, nothing is widened, the user is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from offlinekit import Authority, Collection, Field, Include, Offer, Quick, Replica, Schema, SQLiteStore, everything, field
from offlinekit.exceptions import NotOffered
from offlinekit.exchange import Exchanger
from offlinekit.testing.pair import MovableClock, Pair
from offlinekit.transport import Memory

WAIT = 20.0


class Shop(Collection, writable=True):
    code: Field[str] = field(key=True)
    city: Field[str]
    open: Field[bool] = field(default=True)


class Visit(Collection):
    id: Field[str] = field(key=True)
    shop: Field[str] = field(ref=Shop)


SCHEMA = Schema(Shop, Visit, intents=["move"])
WIDE, NARROW = Quick("wide", Shop, Shop.open == True), Quick("narrow", Shop, Shop.city == "Recife")  # noqa: E712
VISITS = Include("visits", Shop, Visit.shop)
FULL = Offer(WIDE, NARROW, VISITS, advanced=[Shop.city])
LESS = {
    "narrow": Offer(WIDE, VISITS, advanced=[Shop.city]),
    "visits": Offer(WIDE, NARROW, advanced=[Shop.city]),
    "city": Offer(WIDE, NARROW, VISITS),
}


def sides(folder: Path, clock: MovableClock, device: Offer, office: Offer) -> Pair:
    """The two sides over the files in a folder, each with an offer of its own."""
    store = SQLiteStore(folder / "hq.db", clock=clock)
    authority = Authority(store, SCHEMA, offer=office, scopes={Shop: everything, Visit: everything}, files=str(folder / "files"))
    authority.allow("move", writes={Shop: "update"})
    replica = Replica.open(folder / "device.db", SCHEMA, offer=device, identity="rep", zone="UTC", clock=clock)
    return Pair(authority, replica, clock, "rep", {})


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def folder(tmp_path: Path, clock: MovableClock) -> Path:
    """A device that holds one shop of three, with its visit, by two quick filters, a condition and an include."""
    pair = sides(tmp_path, clock, FULL, FULL)
    pair.authority.load([Shop(code="a", city="Recife"), Shop(code="b", city="Belém"), Shop(code="c", city="Natal", open=False)])
    pair.authority.load([Visit(id="1", shop="a"), Visit(id="2", shop="b")])
    take = pair.replica.configure().quick("wide").quick("narrow").all_of(Shop.city.is_in(["Recife", "Natal"])).include("visits")
    take.save()
    pair.sync()
    close(pair)
    return tmp_path


def close(pair: Pair) -> None:
    pair.replica.close()
    pair.authority.close()


def held(replica: Replica) -> tuple[list[str], list[str]]:
    return [s.code for s in replica.select(Shop)], [v.id for v in replica.select(Visit)]


@pytest.mark.parametrize("dropped", LESS)
def test_a_dropped_choice_stops_pulls_alone(folder: Path, clock: MovableClock, dropped: str) -> None:
    pair = sides(folder, clock, LESS[dropped], LESS[dropped])
    replica = pair.replica
    assert held(replica) == (["a"], ["1"])
    assert replica.get(Shop, "a") is not None
    assert dropped in replica.selection_problem
    pair.authority.load([Shop(code="d", city="Recife")])
    with replica.transaction("move") as tx:
        tx.update(Shop(code="a", city="Recife"), city="Belém")
    report = pair.sync()
    assert (report.outcomes, report.answers[-1], report.received) == ({"accepted": 1}, "not_offered", {})
    assert held(replica) == (["a"], ["1"])
    moved = pair.drive(Exchanger(replica.store).pull())
    assert (moved.kind, dropped in moved.detail) == ("not_offered", True)
    close(pair)


def test_what_nothing_else_explains_is_explained_by_what_was_dropped(folder: Path, clock: MovableClock) -> None:
    pair = sides(folder, clock, LESS["narrow"], LESS["narrow"])
    shop, visit = pair.replica.get(Shop, "a"), pair.replica.get(Visit, "1")
    assert shop is not None
    assert visit is not None
    for record in (shop, visit):
        assert [(r.kind, r.name) for r in pair.replica.why(record)] == [("not_offered", "narrow")]
    close(pair)


def test_a_renewal_must_choose_anew_and_then_moves_on(folder: Path, clock: MovableClock) -> None:
    pair = sides(folder, clock, LESS["narrow"], LESS["narrow"])
    take = pair.replica.configure().renew()
    for call in (take.save, take.preview):
        with pytest.raises(NotOffered, match="no quick filter 'narrow'") as caught:
            call()
        assert (caught.value.collection, caught.value.choice) == ("shop", "narrow")
    take.clear(Shop).quick("wide")
    preview = take.preview()
    assert (preview.offline, preview.collections["shop"].hold) == (False, 2)
    take.save()
    assert pair.replica.selection_problem == ""
    pair.sync()
    assert held(pair.replica) == (["a", "b"], [])
    close(pair)


def test_an_authority_that_still_offers_it_answers_and_the_status_warns(folder: Path, clock: MovableClock) -> None:
    pair = sides(folder, clock, LESS["narrow"], FULL)
    pair.authority.load([Shop(code="d", city="Recife")])
    pair.replica._link = None
    status = pair.replica.start_sync(Memory(pair.authority, lambda: ("rep", {})), every=3600).wait_synced(WAIT)
    assert (status.blocked, "no quick filter 'narrow'" in status.detail) == ("", True)
    assert held(pair.replica) == (["a", "d"], ["1"])
    close(pair)


def test_a_device_that_is_older_than_the_offer_is_told_by_the_authority(folder: Path, clock: MovableClock) -> None:
    pair = sides(folder, clock, FULL, LESS["narrow"])
    assert pair.replica.selection_problem == ""
    with pytest.raises(NotOffered, match="choose anew: no quick filter 'narrow'"):
        pair.replica.configure().renew().preview()
    pair.replica._link = None
    told = []
    link = pair.replica.start_sync(Memory(pair.authority, lambda: ("rep", {})), every=3600)
    link.on_status(lambda status: told.append((status.blocked, status.detail)))
    with pytest.raises(TimeoutError, match="not_offered choose anew"):
        link.wait_synced(WAIT)
    assert told[-1][0] == "not_offered"
    assert held(pair.replica) == (["a"], ["1"])
    close(pair)
