"""What was wrong once when a program died or a disk was full: a plain test for each defect."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw
import pytest

from offlinekit import Changes, Context, Replica, everything
from offlinekit.exceptions import StoreError, StoreFull, TransportError
from offlinekit.exchange import Exchanger, Fetch
from offlinekit.testing.crash import Disk, write_files
from offlinekit.testing.pair import Pair, linked_pair
from tests.crash.world import OFFER, SCHEMA, Customer, Order, Part

ALL = {Customer: everything, Part: everything, Order: everything}


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with linked_pair(SCHEMA, scopes=ALL, offer=OFFER, folder=str(tmp_path)) as made:
        made.replica.configure().until(None).save()
        yield made


def fill(db: apsw.Connection, left: int = 0) -> None:
    """The database may grow by so many pages: as on a full disk, SQLite refuses in the middle of a transaction."""
    db.pragma("max_page_count", db.pragma("page_count") + left)


def empty(db: apsw.Connection) -> None:
    """There is room again."""
    db.pragma("max_page_count", 1 << 30)


def test_a_replica_whose_making_was_cut_off_opens(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    disk = Disk(tmp_path / "here")
    with disk.recording():
        Replica.open(tmp_path / "here" / "replica.db", SCHEMA, offer=OFFER, identity="ana", zone="UTC").close()
    hot = [n for n, o in enumerate(disk.done, 1) if o.kind == "write" and o.path == "replica.db"]
    write_files(disk.after(hot[0], "kept"), tmp_path)
    assert (tmp_path / "replica.db-journal").exists()
    Replica.open(tmp_path / "replica.db", SCHEMA, offer=OFFER, identity="ana", zone="UTC").close()


def test_a_full_disk_is_told_inside_a_transaction_which_is_over_then(pair: Pair) -> None:
    fill(pair.replica.store.db)
    with suppress(StoreError), pair.replica.transaction("sell") as tx:
        with pytest.raises(StoreFull, match="make room") as caught:
            tx.insert(Order(id="o1", mark="x" * 50_000))
        assert isinstance(caught.value.__cause__, apsw.FullError)
        pair.replica.store.db.execute("ROLLBACK")  # as SQLite does by itself after graver errors
        with pytest.raises(StoreError, match="rolled the transaction back"):
            tx.insert(Order(id="later"))
    assert pair.replica.select(Order).all() == []
    assert pair.replica.pending() == []
    empty(pair.replica.store.db)
    with pair.replica.transaction("sell") as tx:
        tx.insert(Order(id="o1"))
    assert [o.id for o in pair.replica.select(Order).all()] == ["o1"]


def test_an_authority_whose_disk_is_full_counts_no_failure_of_the_mutation(pair: Pair) -> None:
    @pair.authority.intent("sell", writes={Order: "insert"})
    def sell(changes: Changes, ctx: Context) -> None:
        ctx.connection.execute("INSERT INTO ballast SELECT zeroblob(50000) FROM (VALUES(1),(2),(3))")

    with pair.authority.transaction() as tx:
        tx.connection.execute("CREATE TABLE ballast(x NOT NULL)")
        fill(tx.connection, 8)  # room for a note that a mutation failed, were it noted
    with pair.replica.transaction("sell") as local:
        local.insert(Order(id="o1"))
    for _ in range(6):
        with pytest.raises(TransportError, match="the authority failed"):
            pair.sync()
    assert [m.id for m in pair.replica.pending()] == [local.mutation.id]
    with pair.authority.transaction() as tx:
        empty(tx.connection)
    pair.sync()
    assert local.mutation.state == "accepted"


def test_a_hook_that_passes_over_a_rolled_back_transaction_writes_nothing(pair: Pair) -> None:
    @pair.authority.intent("sell", writes={Order: "insert"})
    def sell(changes: Changes, ctx: Context) -> None:
        if any(o.id == "o1" for o in changes.inserted(Order)) and broken:
            ctx.connection.execute("ROLLBACK")  # as SQLite does by itself when a disk fails

    broken = True
    for id_ in ("o1", "o2"):
        with pair.replica.transaction("sell") as tx:
            tx.insert(Order(id=id_))
    with pytest.raises(TransportError):
        pair.sync()
    assert pair.authority.select(Order).all() == []
    broken = False
    pair.sync()
    assert [o.id for o in pair.authority.select(Order).all()] == ["o1", "o2"]


def loading(pair: Pair) -> tuple[Any, Any]:
    """A load whose answer is here and whose file is not."""
    pair.authority.load([Part(sku=f"p{n}", name=f"part {n}") for n in range(9)])
    pair.authority.puller.inline_rows = 3
    steps = Exchanger(pair.replica.store).pull()
    effect = next(steps)
    while not isinstance(effect, Fetch):
        effect = steps.send(pair.authority.handle(effect.body, "tester", {}))
    return steps, pair.authority.fetch(effect.name, effect.offset, "tester")


@pytest.mark.parametrize("what", [".zst", ".part."])
def test_a_load_that_meets_a_full_disk_says_so_and_gives_its_room_back(pair: Pair, tmp_path: Path, what: str) -> None:
    pair.sync()
    with Disk(tmp_path).failing(lambda path: full and path.startswith("replica.db.") and what in path.removeprefix("replica.db")):
        full = False
        steps, part = loading(pair)
        full = True
        with pytest.raises(StoreFull, match="make room"):
            steps.send(part)
        assert not [n for n in os.listdir(tmp_path) if "incoming" in n]
        full = False
        pair.sync()
    assert len(pair.replica.select(Part).search("part").all()) == 9


@pytest.mark.slow
def test_a_disk_that_fails_at_the_end_of_a_load_is_told_in_our_words(pair: Pair, tmp_path: Path) -> None:
    pair.sync()
    told, writes = [], 0

    def fails(path: str) -> bool:
        nonlocal writes
        writes += path.startswith("replica.db.part.")
        return path.startswith("replica.db.part.") and writes == at

    for at in range(1, 60):
        writes = 0
        with Disk(tmp_path).failing(fails, "io"):
            with pair.authority.transaction() as tx:
                tx.connection.execute("DELETE FROM part")
            steps, part = loading(pair)
            try:
                steps.send(part)
            except StopIteration:
                pass
            except StoreError as error:
                told.append(str(error))
        if writes < at:
            break
    assert len(told) > 3
    assert all("check the path" in text for text in told)
