"""What a search finds after changes in place is what it would find in a file made anew, however many changes came together."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from offlinekit import Always, Collection, Field, Offer, Schema, everything, field
from offlinekit.store.sqlite import searching
from offlinekit.store.sqlite.inspecting import check_file
from offlinekit.testing.pair import Pair, linked_pair

ROWS = 400
WORDS = ["bolt", "nut", "washer", "screw", "rivet"]


class Item(Collection, own_file=True):
    sku: Field[str] = field(key=True)
    name: Field[str] = field(search=True)
    price: Field[int] = field(default=0)
    weight: Field[float] = field(default=0.0)


SCHEMA = Schema(Item)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    offer = Offer(always=[Always(Item)])
    with linked_pair(SCHEMA, scopes={Item: everything}, offer=offer, folder=str(tmp_path)) as made:
        chance = random.Random(1)
        made.authority.load(Item(sku=f"{n:03}", name=f"{chance.choice(WORDS)} {n}") for n in range(ROWS))
        made.authority.puller.inline_rows = 3
        made.sync()
        yield made


def write(pair: Pair, *statements: str) -> None:
    with pair.authority.transaction() as tx:
        for statement in statements:
            tx.connection.execute(statement)


def compared(pair: Pair) -> None:
    """Every word finds what it should, and SQLite finds nothing wrong with the index."""
    for word in [*WORDS, "other", "again"]:
        with pair.authority.transaction() as tx:
            should = {sku for (sku,) in tx.connection.execute("SELECT sku FROM item WHERE name LIKE ?", (f"%{word}%",))}
        assert {i.sku for i in pair.replica.select(Item).search(word)} == should, word
    with pair.replica.store.locked():
        path = f"{pair.replica.store.path}.item.{pair.replica.store.generations['item']}"
    db = apsw.Connection(path)
    db.execute("INSERT INTO ok_search_item(ok_search_item) VALUES('integrity-check')")
    db.close()
    assert check_file(pair.replica.store.path) == []


@pytest.mark.parametrize("least", [0, 1 << 30], ids=["together", "by triggers"])
def test_what_is_found_does_not_depend_on_how_the_index_was_kept(pair: Pair, least: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "LEAST", least)
    chance = random.Random(7)
    for turn in range(25):
        n = chance.randrange(2, 9)
        write(pair, chance.choice([
            f"UPDATE item SET name='other '||sku WHERE sku%{n}=0",
            f"UPDATE item SET price=price+1, weight=weight+0.5 WHERE sku%{n}=0",
            f"DELETE FROM item WHERE sku%{n + 20}=1",
            f"UPDATE item SET name='{chance.choice(WORDS)} {turn}' WHERE sku%{n}=1",
            "INSERT OR REPLACE INTO item SELECT printf('%03d',sku+400),'again',1,1.5 FROM item"
            f" WHERE sku%{n}=0 AND sku<400",
        ]))  # fmt: skip
        pair.sync()
        compared(pair)
    assert pair.replica.store.generations["item"] == 1, "it was built anew"


def test_a_record_that_takes_the_key_of_another_one_leaves_no_word_behind(pair: Pair) -> None:
    """As after a restore, in which ordinals were given otherwise."""
    write(pair, *(f"DELETE FROM item WHERE sku='{n:03}'" for n in range(60)), "DELETE FROM ok_mark",
          "DELETE FROM ok_side_item WHERE sku<'060'",
          *(f"INSERT INTO item VALUES('{n:03}','again {n}',0,0)" for n in range(59, -1, -1)))  # fmt: skip
    pair.sync()
    compared(pair)
