"""Verification: what is damaged is found and mended, whatever it is, and hardly more than that crosses the wire."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest

from offlinekit.authority import Authority
from offlinekit.exceptions import StateError
from offlinekit.exchange import Exchanger, Fetch, Steps
from offlinekit.nodes import everything
from offlinekit.offer import Always, Offer
from offlinekit.replica import Replica
from offlinekit.schema import Collection, Field, Schema, field
from offlinekit.store.sqlite import SQLiteStore
from offlinekit.testing.pair import Pair, linked_pair
from offlinekit.transport.memory import Memory


class Part(Collection, writable=True):
    """In the main file, and changed on devices."""

    id: Field[int] = field(key=True)
    name: Field[str] = field(search=True)
    price: Field[float] = field(default=1.5)
    stock: Field[int | None] = field(default=None, index=True)


class Page(Collection, own_file=True):
    """In a file of its own."""

    id: Field[str] = field(key=True)
    text: Field[str] = field(search=True)


SCHEMA = Schema(Part, Page, intents=["count"])
OFFER = Offer(always=[Always(Part), Always(Page)])


@contextmanager
def opened(parts: int, pages: int = 0, folder: Path | None = None) -> Iterator[Pair]:
    """A pair in sync."""
    with linked_pair(SCHEMA, offer=OFFER, scopes={Part: everything, Page: everything},
                     folder=None if folder is None else str(folder)) as pair:  # fmt: skip
        pair.authority.allow("count", writes={Part: ("insert", "update", "delete")})
        pair.authority.load(Part(id=n, name=f"part {n}", stock=n % 7 or None) for n in range(parts))
        pair.authority.load(Page(id=f"p{n}", text=f"page {n}") for n in range(pages))
        pair.sync()
        yield pair


@contextmanager
def opened_only(folder: Path) -> Iterator[Pair]:
    """The same files again."""
    with linked_pair(SCHEMA, offer=OFFER, scopes={Part: everything, Page: everything}, folder=str(folder)) as pair:
        yield pair


@contextmanager
def behind_its_back(path: str) -> Iterator[apsw.Connection]:
    """A connection that the replica's triggers do not stop."""
    with closing(apsw.Connection(path)) as db:
        db.set_busy_timeout(10_000)  # ms
        db.execute("BEGIN IMMEDIATE")
        for (name,) in list(db.execute("SELECT name FROM sqlite_schema WHERE type='trigger' AND name LIKE 'ok_%'")):
            text = db.execute("SELECT sql FROM sqlite_schema WHERE name=?", (name,)).get
            db.execute(f'DROP TRIGGER "{name}"')
            db.execute("CREATE TEMP TABLE IF NOT EXISTS gone(sql)")
            db.execute("INSERT INTO temp.gone VALUES(?)", (text,))
        yield db
        for (text,) in list(db.execute("SELECT sql FROM temp.gone")):
            db.execute(text)
        db.execute("COMMIT")


def own_file(pair: Pair, collection: str) -> str:
    """The current file of a collection."""
    db = pair.replica.store.reader()
    return f"{pair.replica.store.path}.{collection}.{db.execute('SELECT generation FROM ok_file').get}"


def verify(pair: Pair) -> tuple[dict[str, int], dict[str, int], int]:
    """What a verification fetched and dropped, and its bytes on the wire."""
    pair.replica.want_verification()
    size = 0

    def counted(steps: Steps) -> Any:
        nonlocal size
        effect = next(steps)
        try:
            while True:
                if isinstance(effect, Fetch):
                    answer = pair.authority.fetch(effect.name, effect.offset, pair.identity)
                else:
                    answer = pair.authority.handle(effect.body, pair.identity, {})
                    size += len(effect.body)
                size += len(answer)
                effect = steps.send(answer)
        except StopIteration as stop:
            return stop.value

    counted(Exchanger(pair.replica.store).pull())
    done = pair.replica.verified
    assert done is not None
    return dict(done.fetched), dict(done.dropped), size


def agree(pair: Pair) -> None:
    """Both sides hold the same, and what is searched is found."""
    for kind in (Part, Page):
        ours = {r.id: r for r in pair.replica.select(kind)}  # type: ignore[attr-defined]
        with pair.authority.transaction() as tx:
            assert ours == {r.id: r for r in tx.select(kind)}  # type: ignore[attr-defined]
        for info in (SCHEMA.info(kind),):
            path = own_file(pair, info.name) if info.own_file else pair.replica.store.path
            with closing(apsw.Connection(path)) as db:
                db.execute(f"INSERT INTO ok_search_{info.name}(ok_search_{info.name}, rank) VALUES('integrity-check', 1)")
    assert pair.sync().answers == ["same"]


def test_ten_damaged_records_of_a_hundred_thousand_are_found_for_a_few_bytes() -> None:
    with opened(100_000) as pair:
        whole = len(Path(pair.replica.store.path).read_bytes())
        assert verify(pair)[:2] == ({}, {})
        sound = verify(pair)[2]
        with behind_its_back(pair.replica.store.path) as db:
            chosen = random.Random(1).sample(range(100_000), 10)
            for n in chosen[:6]:
                db.execute("UPDATE part SET name='damaged' WHERE id=?", (n,))
            for n in chosen[6:9]:
                db.execute("DELETE FROM part WHERE id=?", (n,))
            db.execute("UPDATE part SET price=2 WHERE id=?", (chosen[9],))
        fetched, dropped, size = verify(pair)
        assert (fetched, dropped) == ({"part": 10}, {})
        assert size - sound < 10 * 256 * 16, "ten ranges of marks at the most, and ten records"
        assert sound < whole / 100
        agree(pair)


def test_whatever_was_done_to_a_file_is_mended(tmp_path: Path) -> None:
    with opened(700, 600, tmp_path) as pair:
        with pair.replica.transaction("count") as tx:
            tx.update(Part(id=5, name=""), stock=99)
            tx.insert(Part(id=9000, name="mine"))
            tx.delete(Part(id=6, name=""))
        with behind_its_back(pair.replica.store.path) as db:
            db.execute("UPDATE part SET stock=1 WHERE id=7")
            db.execute("UPDATE part SET stock=98, name='bad' WHERE id=5")  # over a base
            db.execute("UPDATE ok_base_part SET name='bad' WHERE id=5")
            db.execute("DELETE FROM ok_base_part WHERE id=6")
            db.execute("INSERT INTO part SELECT 60000, 9001, 'nobody sent this', 1.0, NULL")
            db.execute("UPDATE part SET id=9002 WHERE id=8")
        with behind_its_back(own_file(pair, "page")) as db:
            db.execute("UPDATE page SET text='damaged' WHERE id IN ('p1','p300')")
            db.execute("DELETE FROM page WHERE id='p2'")
            db.execute("INSERT INTO page SELECT 70000, 'p9001', 'nobody sent this'")
        fetched, dropped, _ = verify(pair)
        assert (fetched, dropped) == ({"part": 4, "page": 3}, {"part": 1, "page": 1})
        changed = pair.replica.get(Part, 5)
        assert changed is not None
        assert (changed.name, changed.stock) == ("part 5", 99), "what waits is shown over what was mended"
        assert pair.replica.get(Part, 6) is None
        assert pair.sync().outcomes == {"accepted": 1}
        agree(pair)


def test_a_range_of_which_no_record_is_left_is_fetched() -> None:
    with opened(700) as pair:
        with behind_its_back(pair.replica.store.path) as db:
            db.execute("DELETE FROM part WHERE id<600")
        assert verify(pair)[:2] == ({"part": 600}, {})
        agree(pair)


def test_many_damaged_ranges_are_sent_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offlinekit.authority.pulling.DETAILS_MAX", 1)
    with opened(1000) as pair:
        with behind_its_back(pair.replica.store.path) as db:
            db.execute("UPDATE part SET name='damaged' WHERE id IN (5, 500)")
        fetched, _, _ = verify(pair)
        assert 2 < fetched["part"] <= 512
        agree(pair)


def test_what_was_not_finished_is_done_by_the_next_sync() -> None:
    with opened(10) as pair:
        pair.replica.want_verification()
        steps = Exchanger(pair.replica.store).pull()
        next(steps)
        steps.close()
        before = pair.replica.verified
        pair.sync()
        after = pair.replica.verified
        assert (before, after and after.sound) == (None, True)
        assert pair.sync().answers == ["same"]


@pytest.mark.invariant("I6")
def test_after_a_restored_authority_only_differences_are_sent(tmp_path: Path) -> None:
    """Ordinals are given again to other records, so that equal sets prove nothing."""
    first = Part(id=17, name="part 17", stock=3)
    with opened(3000, folder=tmp_path) as pair:
        agree(pair)
    shutil.copy(tmp_path / "authority.db", tmp_path / "backup.db")
    with opened(0, folder=tmp_path) as pair:
        pair.authority.load(Part(id=n, name=f"forgotten {n}") for n in range(5000, 5003))
        with pair.authority.transaction() as tx:
            tx.update(first, name="forgotten")
        assert pair.sync().received == {"part": 4}
    shutil.copy(tmp_path / "backup.db", tmp_path / "authority.db")
    with opened_only(tmp_path) as pair:
        pair.authority.load(Part(id=n, name=f"new {n}") for n in range(7000, 7003))
        report = pair.sync()
        assert report.answers == ["new_history", "delta"]
        assert (report.received, report.dropped) == ({"part": 4, "page": 0}, {"part": 0, "page": 0})
        assert pair.replica.get(Part, 17) == first
        agree(pair)


@pytest.mark.parametrize("seed", range(20))
def test_random_damage_is_mended_whatever_happened_at_the_authority(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    with opened(chance.randrange(1, 900), chance.randrange(1, 600), tmp_path) as pair:
        expected, gone = dict.fromkeys(("part", "page"), 0), dict.fromkeys(("part", "page"), 0)
        for name, path in (("part", pair.replica.store.path), ("page", own_file(pair, "page"))):
            with behind_its_back(path) as db:
                ids = [row[0] for row in db.execute(f"SELECT id FROM {name}")]
                for id_ in chance.sample(ids, chance.randrange(min(40, len(ids)))):
                    expected[name] += 1
                    text = "name" if name == "part" else "text"
                    if chance.random() < 0.3:
                        db.execute(f"DELETE FROM {name} WHERE id=?", (id_,))
                    else:
                        db.execute(f"UPDATE {name} SET {text}=? WHERE id=?", (chance.randbytes(3).hex(), id_))
        with pair.authority.transaction() as tx:  # of what was damaged, and of what was not
            for name in gone:
                tx.connection.execute(f"DELETE FROM {name} WHERE abs(random()) % 9 = 0")
                gone[name] = tx.connection.changes()
        fetched, dropped, _ = verify(pair)
        assert dropped == {n: c for n, c in gone.items() if c}
        assert all(fetched.get(n, 0) <= c for n, c in expected.items())
        agree(pair)


@pytest.mark.parametrize("seed", range(20, 26))
def test_random_damage_alone_is_fetched_to_the_record(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    with opened(chance.randrange(100, 900), folder=tmp_path) as pair:
        ids = chance.sample(range(100), chance.randrange(1, 40))
        with behind_its_back(pair.replica.store.path) as db:
            db.executemany("UPDATE part SET name='damaged' WHERE id=?", [(n,) for n in ids])
        assert verify(pair)[:2] == ({"part": len(ids)}, {})
        agree(pair)


def test_a_running_sync_verifies_for_its_program(tmp_path: Path) -> None:
    with opened(50, folder=tmp_path) as pair:
        with behind_its_back(pair.replica.store.path) as db:
            db.execute("UPDATE part SET name='damaged' WHERE id=5")
        found = pair.replica.verify()
        assert (found.sound, found.fetched, found.when) == (False, {"part": 1}, pair.replica.verified and found.when)
        assert pair.replica.verify().sound
    with Replica.open(tmp_path / "replica.db", SCHEMA, offer=OFFER, identity="tester") as replica:
        with pytest.raises(StateError, match="needs a sync that runs"):
            replica.verify()
        store = SQLiteStore(str(tmp_path / "authority.db"))
        authority = Authority(store, SCHEMA, offer=OFFER, scopes={Part: everything, Page: everything})
        with closing(authority):
            link = replica.start_sync(Memory(authority, lambda: ("tester", {})))
            with behind_its_back(replica.store.path) as db:
                db.execute("UPDATE part SET name='damaged' WHERE id=5")
            assert replica.verify(timeout=30).fetched == {"part": 1}
            link.stop()


def test_a_program_on_an_event_loop_verifies_too(tmp_path: Path) -> None:
    with opened(50, folder=tmp_path) as pair:
        path = pair.replica.store.path
        with behind_its_back(path) as db:
            db.execute("UPDATE part SET name='damaged' WHERE id=5")
        pair.replica._link = None

        async def run() -> None:
            async with pair.replica.keep_synced(Memory(pair.authority, lambda: ("tester", {}))) as link:
                assert (await link.verify(timeout=30)).fetched == {"part": 1}

        asyncio.run(run())
