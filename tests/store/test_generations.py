"""The generations of a collection's own file: who follows, what is deleted when, and what an upgrade makes of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from offlinekit import Always, Collection, Field, Offer, Replica, Schema, everything, field
from offlinekit.exceptions import StoreTooNew
from offlinekit.exchange import Exchanger
from offlinekit.store.pieces import Pieces
from offlinekit.store.sqlite import replica_files
from offlinekit.store.sqlite.bulk import packed_rows
from offlinekit.store.sqlite.connection import connect
from offlinekit.store.sqlite.generations import Build
from offlinekit.store.sqlite.inspecting import check_file
from offlinekit.store.sqlite.replica_files import discard, file_of
from offlinekit.testing.pair import Pair, linked_pair
from offlinekit.view import View

ROWS = 20


class Part(Collection, own_file=True):
    sku: Field[str] = field(key=True)
    name: Field[str] = field(search=True)
    maker: Field[str] = field(default="ACME")


SCHEMA = Schema(Part)
OFFER = Offer(always=[Always(Part)])


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with linked_pair(SCHEMA, scopes={Part: everything}, offer=OFFER, folder=str(tmp_path)) as made:
        made.authority.puller.inline_rows = 3
        put(made, 0, ROWS)
        yield made


def put(pair: Pair, first: int, last: int) -> None:
    """Parts at the authority."""
    pair.authority.load(Part(sku=f"{n:03}", name=f"bolt {n}") for n in range(first, last))


def again(pair: Pair, schema: Schema = SCHEMA) -> Replica:
    """A second replica on the same file, in the same process."""
    return Replica.open(pair.replica.store.path, schema, offer=OFFER, identity=pair.identity, zone="UTC", clock=pair.clock)


def files(pair: Pair) -> list[str]:
    """The files beside the main one."""
    folder, name = os.path.split(pair.replica.store.path)
    return sorted(n for n in os.listdir(folder) if n.startswith(name + ".") and not n.endswith(("-wal", "-shm")))


def test_a_second_replica_in_the_process_sees_what_the_first_made_current(pair: Pair) -> None:
    with again(pair) as other:
        assert other.select(Part).count() == 0
        assert pair.sync().answers == ["bulk"]
        assert other.select(Part).count() == ROWS
        put(pair, ROWS, 2 * ROWS)
        assert pair.drive(Exchanger(other.store).pull()).kind == "bulk"
        assert pair.replica.select(Part).count() == 2 * ROWS
    assert check_file(pair.replica.store.path) == []


def test_what_a_thread_still_reads_is_deleted_when_it_has_moved_on(pair: Pair) -> None:
    steps, done = threading.Barrier(2, timeout=30), threading.Barrier(2, timeout=30)
    seen: list[int] = []

    def read() -> None:
        for _ in range(2):
            seen.append(pair.replica.select(Part).count())
            steps.wait()
            done.wait()

    reader = threading.Thread(target=read)
    reader.start()
    steps.wait()
    pair.sync()
    assert files(pair) == ["replica.db.part.0", "replica.db.part.1"]
    done.wait()
    steps.wait()
    pair.sync()
    assert files(pair) == ["replica.db.part.1"]
    done.wait()
    reader.join()
    assert seen == [0, ROWS]


def test_closing_deletes_what_was_still_read(pair: Pair) -> None:
    steps = threading.Barrier(2, timeout=30)

    def read() -> None:
        pair.replica.select(Part).count()
        steps.wait()
        steps.wait()

    reader = threading.Thread(target=read)
    reader.start()
    steps.wait()
    pair.sync()
    assert len(files(pair)) == 2
    pair.replica.close()
    assert files(pair) == ["replica.db.part.1"]
    steps.wait()
    reader.join()


def test_a_deletion_that_the_system_refuses_is_tried_again(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    remove = os.remove

    def refuse(path: str) -> None:
        if ".part." in path:
            raise PermissionError(path)
        remove(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "remove", refuse)
        assert pair.sync().answers == ["bulk"]
        assert len(files(pair)) == 2
        again(pair).close()
    pair.sync()
    assert files(pair) == ["replica.db.part.1"]


def test_a_file_is_discarded_only_when_nobody_has_it_open(tmp_path: Path) -> None:
    path = str(tmp_path / "replica.db.part.7")
    with closing(connect(path)) as db:
        db.execute("CREATE TABLE t(a)")
        assert not discard(path)
    assert discard(path)
    with closing(apsw.Connection(path)) as db:
        for statement in ("PRAGMA locking_mode=exclusive", "PRAGMA journal_mode=off", "CREATE TABLE t(a)"):
            db.execute(statement)
        assert not discard(path)
    assert discard(path)
    assert discard(path)
    assert os.listdir(tmp_path) == []


def test_opening_sweeps_what_killed_programs_have_left_and_nothing_else(pair: Pair, tmp_path: Path) -> None:
    left = ["part.7", "part.7-wal", "part.8-journal", "ok_incoming.5", "ok_incoming.5.zst", "ok_incoming.6.db"]
    kept = ["part.bak", "part.0.bak", "part", "other.3", "parts.1", "3"]
    for name in left + kept:
        (tmp_path / f"replica.db.{name}").write_bytes(b"no database " * 500)
    again(pair).close()
    assert files(pair) == sorted(f"replica.db.{name}" for name in ["part.0", *kept])


def test_a_build_whose_file_is_gone_does_not_become_current(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    seal = Build.seal

    def sealed(build: Build, *args: Any) -> None:
        seal(build, *args)
        os.remove(build.path)
        monkeypatch.undo()

    monkeypatch.setattr(Build, "seal", sealed)
    assert pair.sync().answers == ["stale", "bulk"]
    assert pair.replica.select(Part).count() == ROWS
    assert check_file(pair.replica.store.path) == []


def test_a_build_that_fails_leaves_no_file(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(build: Build, *args: Any) -> None:
        raise OSError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(Build, "seal", full)
        with pytest.raises(OSError, match="no room"):
            pair.sync()
    assert files(pair) == ["replica.db.part.0"]
    assert pair.sync().answers == ["bulk"]


def test_a_small_answer_follows_a_generation_that_is_replaced_while_it_looks(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at the number and the opening of the file, somebody else's load becomes current."""
    pair.sync()
    pair.authority.puller.inline_rows = 1000
    with again(pair) as other:
        replaced: list[str] = []

        def slow(path: str, **options: Any) -> apsw.Connection:
            if path.endswith("part.1") and not replaced:
                replaced.append(path)
                build = Build(other.store.path, SCHEMA.info("part"), 1, 2)
                held = View(range(1, ROWS + 1))
                build.finish(path, held, View(), [])
                token, cursor = other.store.reader().execute("SELECT token,cursor FROM ok_file_part.ok_group").get
                build.seal(build.view(), token, cursor)
                with other.store.write(0) as db:
                    db.execute("UPDATE ok_file SET generation=2")
                build.close()
                other.store.replaced("part", 1)
            return connect(path, **options)

        put(pair, ROWS, ROWS + 2)
        monkeypatch.setattr(replica_files, "connect", slow)
        assert pair.sync().answers == ["delta"]
        assert replaced
        assert other.select(Part).count() == ROWS + 2


def test_a_transaction_reads_what_became_current_just_before_it_began(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    with again(pair) as other:
        follow = replica_files.follow

        def slow(*args: Any) -> None:
            follow(*args)
            monkeypatch.undo()
            assert pair.sync().answers == ["bulk"]

        monkeypatch.setattr("offlinekit.store.sqlite.replica_store.follow", slow)
        with other.store.locked() as db:
            assert db.execute("SELECT count(*) FROM part").get == ROWS


@pytest.mark.slow
def test_a_build_takes_no_more_memory_for_more_records(pair: Pair, tmp_path: Path) -> None:
    """Its cache and the sorting for its indexes stay small, whatever arrives."""
    text, rows = "x" * 400, 100_000
    info = SCHEMA.info("part")
    records = ((n, f"{n * 7919 % rows:09}{text}", "", "") for n in range(1, rows + 1))
    pieces = [piece for packed in packed_rows(info, info.replicated, records) for piece in Pieces().feed(packed)]
    used = apsw.memory_used()
    apsw.memory_high_water(True)
    build = Build(pair.replica.store.path, info, 1, 7)
    for piece in pieces:
        build.add(piece)
    build.finish(file_of(pair.replica.store.path, "part", 0), View(), View(), [])
    build.seal(build.view(), b"", b"")
    build.close()
    assert os.path.getsize(build.path) > 80 << 20
    assert apsw.memory_high_water() - used < 24 << 20


# -- upgrades


def newer(*, search: tuple[str, ...] = ("name",), index: bool = False, color: bool = False) -> Schema:
    """What a later program declares."""

    class Part(Collection, own_file=True):
        sku: Field[str] = field(key=True)
        name: Field[str] = field(search="name" in search)
        maker: Field[str] = field(default="ACME", search="maker" in search, index=index)
        if color:
            tint: Field[str] = field(default="vermelho", search="tint" in search)

    return Schema(Part, version=2)


def search(replica: Replica, schema: Schema, text: str) -> int:
    """How many parts a search finds."""
    return replica.select(schema.info("part").cls).search(text).count()


@pytest.mark.parametrize("declared", [("name", "maker"), ("maker",), ("maker", "tint")])
def test_a_search_over_other_fields_of_an_own_file_is_made_anew_by_an_upgrade(pair: Pair, declared: tuple[str, ...]) -> None:
    pair.sync()
    pair.replica.close()
    schema = newer(search=declared, color="tint" in declared)
    for _ in range(2):
        with again(pair, schema) as replica:
            assert search(replica, schema, "acme") == ROWS
            assert search(replica, schema, "bolt") == (ROWS if "name" in declared else 0)
            assert search(replica, schema, "verm") == (ROWS if "tint" in declared else 0)
            path = file_of(replica.store.path, "part", replica.store.generations["part"])
            with closing(connect(path)) as db:
                db.execute("INSERT INTO ok_search_part(ok_search_part, rank) VALUES('integrity-check', 1)")


def test_an_index_is_added_to_an_own_file_by_an_upgrade(pair: Pair) -> None:
    pair.sync()
    pair.replica.close()
    with again(pair, newer(index=True)) as replica:
        plan = replica.store.reader().execute("EXPLAIN QUERY PLAN SELECT * FROM part WHERE maker='x'").get
        assert "ok_index_part.maker" in str(plan)


def test_answers_go_on_as_before_after_an_upgrade(pair: Pair) -> None:
    pair.sync()
    pair.replica.close()
    pair.replica = again(pair, newer(search=("name", "maker"), index=True))
    pair.authority.puller.inline_rows = 1000
    put(pair, ROWS, ROWS + 2)
    assert pair.sync().answers == ["delta"]
    pair.authority.puller.inline_rows = 3
    put(pair, ROWS + 2, 2 * ROWS)
    assert pair.sync().answers == ["bulk"]
    schema = newer(search=("name", "maker"), index=True)
    assert search(pair.replica, schema, "acme") == search(pair.replica, schema, "bolt") == 2 * ROWS
    assert check_file(pair.replica.store.path) == []


def test_an_upgrade_that_is_cut_short_is_finished_at_the_next_open(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.sync()
    pair.replica.close()
    schema = newer(search=("maker",))
    with monkeypatch.context() as patch:
        patch.setattr("offlinekit.store.sqlite.replica_store.reshape", lambda db, info: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            again(pair, schema)
    with again(pair, schema) as replica:
        assert search(replica, schema, "acme") == ROWS


def test_a_program_that_was_open_during_an_upgrade_makes_no_file_of_the_old_kind_current(pair: Pair) -> None:
    again(pair, newer(color=True)).close()
    with pytest.raises(StoreTooNew):
        pair.sync()
    assert files(pair) == ["replica.db.part.0"]
