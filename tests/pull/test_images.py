"""Images equal the full answer: whatever changed since one was made, whatever a device holds, whoever writes."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offlinekit import Collection, Field, Offer, Quick, Replica, Schema, claim, everything, field, param
from offlinekit.exchange import Exchanger, Fetch, Moved
from offlinekit.protocol import messages as m
from offlinekit.protocol.codec import decode_answer
from offlinekit.store.sqlite.inspecting import check_file
from offlinekit.testing._files import databases, whole
from offlinekit.testing.pair import Pair, linked_pair

ROWS = 60


class Ware(Collection, own_file=True):
    """The catalogue."""

    sku: Field[str] = field(key=True)
    name: Field[str] = field(search=True)
    shelf: Field[int] = field(index=True)
    land: Field[str] = field(default="br")
    cost: Field[int] = field(default=0, online_only=True)


SCHEMA = Schema(Ware)
OFFER = Offer(
    Quick("all", Ware, everything),
    Quick("shelf", Ware, Ware.shelf == param("shelf")),
)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with linked(tmp_path) as made:
        yield made


def linked(folder: Path) -> AbstractContextManager[Pair]:
    return linked_pair(SCHEMA, scopes={Ware: Ware.land == claim("land")}, offer=OFFER, folder=str(folder), claims={"land": "br"})


def eager(pair: Pair) -> None:
    """Makes images of little, for the first who asks."""
    pair.authority.puller.inline_rows = 3
    images = pair.authority.puller.answering.images
    images.least, images.asked_least = 1, 1


def stock(pair: Pair, first: int, last: int, land: str = "br") -> None:
    pair.authority.load(Ware(sku=f"{n:03}", name=f"bolt {n}", shelf=n % 3, land=land) for n in range(first, last))


def device(pair: Pair, name: str) -> Replica:
    """Another device."""
    folder = os.path.dirname(pair.replica.store.path)
    return Replica.open(
        os.path.join(folder, f"{name}.db"), SCHEMA, offer=OFFER, identity=pair.identity, zone="UTC", clock=pair.clock
    )


def pulled(pair: Pair, replica: Replica) -> Moved:
    return pair.drive(Exchanger(replica.store).pull())


def shown(replica: Replica) -> list[tuple[object, ...]]:
    """What a device holds, by key and by search."""
    found = sorted((w.sku, w.name, w.shelf) for w in replica.select(Ware))
    assert sorted(w.sku for w in replica.select(Ware).search("bolt")) == [r[0] for r in found if "bolt" in str(r[1])]
    assert check_file(replica.store.path) == []
    return list(found)


def allowed(pair: Pair, sql: str = "1") -> list[tuple[object, ...]]:
    """What it should hold."""
    with pair.authority.transaction() as tx:
        return sorted(tx.connection.execute(f"SELECT sku,name,shelf FROM ware WHERE land='br' AND {sql}"))


def write(pair: Pair, sql: str) -> None:
    with pair.authority.transaction() as tx:
        tx.connection.execute(sql)


def named(pair: Pair) -> int:
    return pair.authority.puller.counts.get("image named", 0)


def test_what_two_have_asked_for_the_third_adopts(pair: Pair) -> None:
    eager(pair)
    pair.authority.puller.answering.images.asked_least = 2
    stock(pair, 0, ROWS)
    for n, name in enumerate(("a", "b", "c", "d")):
        with device(pair, name) as replica:
            replica.configure().quick("all").until(None).save()
            moved = pulled(pair, replica)
            assert (moved.kind, moved.put, moved.drop) == ("bulk", {"ware": ROWS}, {"ware": 0})
            assert shown(replica) == allowed(pair)
            assert named(pair) == max(0, n - 1)
            assert pulled(pair, replica).kind == "same"
    assert pair.authority.puller.counts["image made"] == 1


def test_an_image_comes_with_what_changed_since_as_one_change(pair: Pair) -> None:
    eager(pair)
    stock(pair, 0, ROWS)
    with device(pair, "a") as replica:
        replica.configure().quick("all").until(None).save()
        pulled(pair, replica)
    write(pair, "UPDATE ware SET name='new bolt' WHERE sku<'004'")
    write(pair, "UPDATE ware SET cost=5")
    stock(pair, ROWS, ROWS + 5)
    with device(pair, "b") as replica:
        replica.configure().quick("all").until(None).save()
        pulled(pair, replica)
        assert named(pair) == 1
        assert shown(replica) == allowed(pair)
        write(pair, "DELETE FROM ware WHERE sku<'003'")
        stock(pair, ROWS + 5, ROWS + 7)
        pulled(pair, replica)
        assert shown(replica) == allowed(pair)


@pytest.mark.invariant("I10")
@pytest.mark.parametrize("gone", ["DELETE FROM ware WHERE sku='007'", "UPDATE ware SET land='ar' WHERE sku='007'"])
def test_an_image_with_a_record_that_left_the_scope_is_given_to_nobody(pair: Pair, gone: str) -> None:
    eager(pair)
    stock(pair, 0, ROWS)
    write(pair, "UPDATE ware SET name='SECRET' WHERE sku='007'")
    with device(pair, "a") as replica:
        replica.configure().quick("all").until(None).save()
        pulled(pair, replica)
    write(pair, gone)
    for name in ("b", "c"):
        with device(pair, name) as replica:
            replica.configure().quick("all").until(None).save()
            assert b"SECRET" not in wire(pair, replica)
            assert shown(replica) == allowed(pair)
    assert (pair.authority.puller.counts["image made"], named(pair)) == (2, 1)


def wire(pair: Pair, replica: Replica) -> bytes:
    """Everything that crosses the wire in a pull, unpacked."""
    steps, seen = Exchanger(replica.store).pull(), b""
    try:
        effect = next(steps)
        while True:
            if isinstance(effect, Fetch):
                effect = steps.send(pair.authority.fetch(effect.name, effect.offset, pair.identity))
                continue
            answer = pair.authority.handle(effect.body, pair.identity, pair.claims or {})
            decoded = decode_answer(answer)
            if isinstance(decoded, m.Delta):
                for manifest, _ in decoded.files():
                    file = whole(pair.authority.fetch, manifest.name, pair.identity)
                    seen += b"".join(content for _, content in databases(file))
            seen += answer
            effect = steps.send(answer)
    except StopIteration:
        return seen


def test_images_of_other_rights_are_others(pair: Pair) -> None:
    eager(pair)
    stock(pair, 0, ROWS)
    stock(pair, ROWS, 2 * ROWS, land="ar")
    with device(pair, "a") as replica:
        replica.configure().quick("all").until(None).save()
        pulled(pair, replica)
    pair.claims = {"land": "ar"}
    with device(pair, "b") as replica:
        replica.configure().quick("all").until(None).save()
        pulled(pair, replica)
        assert named(pair) == 0
        assert {w.sku for w in replica.select(Ware)} == {f"{n:03}" for n in range(ROWS, 2 * ROWS)}


def test_a_free_page_tells_nothing_of_what_others_were_sent(pair: Pair) -> None:
    pair.authority.puller.inline_rows = 3
    stock(pair, 0, ROWS, land="ar")
    stock(pair, ROWS, 2 * ROWS)
    write(pair, "UPDATE ware SET name='SECRET' WHERE land='ar'")
    for land in ("ar", "br"):
        pair.claims = {"land": land}
        with device(pair, land) as replica:
            replica.configure().quick("all").until(None).save()
            assert (b"SECRET" in wire(pair, replica)) == (land == "ar")


CHANGES = [
    "UPDATE ware SET shelf=(shelf+1)%3 WHERE sku%5={n}%5",
    "UPDATE ware SET name='bolt x'||{n} WHERE sku%7={n}%7",
    "UPDATE ware SET land='ar' WHERE sku={n}",
    "UPDATE ware SET land='br' WHERE land='ar'",
    "DELETE FROM ware WHERE sku={n}",
    "INSERT OR REPLACE INTO ware VALUES(printf('%03d',{n}),'bolt again',{n}%3,'br',1)",
    "UPDATE ware SET cost=cost+1",
]


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False))
def test_whatever_happens_a_device_holds_what_the_filter_selects(
    tmp_path_factory: pytest.TempPathFactory, chance: random.Random
) -> None:
    with linked(tmp_path_factory.mktemp("images")) as pair:
        eager(pair)
        pair.authority.puller.answering.stale = chance.choice([1, 4])
        stock(pair, 0, ROWS)
        replicas = [device(pair, name) for name in "abc"]
        chosen = dict.fromkeys(range(3), "0")
        for _ in range(12):
            n, shelf = chance.randrange(3), chance.randrange(3)
            replica = replicas[n]
            if chance.random() < 0.6:
                whole_ = chance.random() < 0.5
                choice = replica.configure().quick("all") if whole_ else replica.configure().quick("shelf", shelf=shelf)
                choice.until(None).save()
                chosen[n] = "1" if whole_ else f"shelf={shelf}"
            for _ in range(chance.randrange(3)):
                write(pair, chance.choice(CHANGES).format(n=chance.randrange(ROWS + 20)))
            if pulled(pair, replica).kind in ("delta", "bulk", "same"):
                assert shown(replica) == allowed(pair, chosen[n])
        for replica in replicas:
            replica.close()
