"""What a replica records is played over a new one and comes to the same, and a bug makes it come to something else."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from offlinekit.exceptions import SchemaError, TransportError
from offlinekit.exchange import Exchanger, Send
from offlinekit.recording import Mask
from offlinekit.recording.lines import plain, read_lines
from offlinekit.schema import Schema
from offlinekit.store.sqlite import overlay
from offlinekit.store.sqlite.outbox import Outbox
from offlinekit.testing.pair import Pair, linked_pair
from offlinekit.testing.replay import ReplayDiffers, replay
from offlinekit.transport import Memory
from tests.recording.world import IDENTITY, OFFER, REP, SCHEMA, SCOPES, Customer, Order, Product, Session, decide

MASKS: list[Mask] = [None, "text", [Customer.code, Customer.name, Customer.mail, Order.text]]
WAIT = 20.0


@pytest.fixture
def pair() -> Iterator[Pair]:
    with linked_pair(SCHEMA, offer=OFFER, scopes=SCOPES, identity=IDENTITY, claims={"rep": REP},
                     conflicts={Order: "authority_wins"}) as pair:  # fmt: skip
        pair.authority.intent("sell", writes={Order: ["insert", "update", "delete"], Customer: ["insert", "update"]})(decide)
        pair.authority.load([Customer(code=f"C{n}", name=f"Ana {n}", rep=REP) for n in range(5)])
        pair.authority.load([Order(id=n, customer=f"C{n}", text=f"first {n}") for n in range(5)])
        pair.authority.load([Product(sku=f"P{n}", name=f"Tea {n}") for n in range(5)])
        pair.replica.configure().quick("mine").quick("any").quick("products").save()
        pair.sync()
        yield pair


def order(place: Any, key: int) -> Order:
    """An order that is there."""
    found = place.get(Order, key)
    assert isinstance(found, Order)
    return found


def lose(pair: Pair, kind: str) -> None:
    """A push whose answer gets lost, or a pull whose request does."""
    exchanger = Exchanger(pair.replica.store)
    steps = exchanger.push() if kind == "push" else exchanger.pull()
    effect = next(steps)
    assert isinstance(effect, Send)
    if kind == "push":
        pair.authority.handle(effect.body, IDENTITY, {"rep": REP})
    steps.close()


def live(pair: Pair) -> None:
    """A little of everything that happens to a device."""
    replica = pair.replica
    with replica.transaction("sell") as tx:
        tx.update(order(replica, 1), text="once")
    with replica.transaction("sell") as tx:
        tx.update(order(replica, 1), text="twice", qty=7)  # is corrected by the authority
    with replica.transaction("sell") as tx:
        tx.update(order(replica, 2), text="mine")
        tx.insert(Order(id=100, customer="C1", qty=13))  # is refused
    with replica.transaction("sell") as tx:
        tx.update(order(replica, 100), text="waits for it")
    with pair.authority.transaction() as hq:
        hq.update(order(hq, 1), text="theirs")
        hq.delete(order(hq, 3))
    pair.sync()
    with replica.rejections()[0].edit() as tx:
        tx.update(order(tx, 100), qty=1)
    lose(pair, "push")
    with replica.transaction("sell") as tx:
        tx.update(order(replica, 4), qty=13)
    pair.authority.load([Order(id=n, customer=None) for n in range(1000, 7000)])
    pair.authority.load([Product(sku=f"Q{n}", name=f"Tea {n}") for n in range(20)])
    lose(pair, "pull")
    pair.sync()
    replica.rejections()[0].discard()
    with replica.transaction("sell") as tx:
        tx.delete(order(replica, 4))
    replica.pending()[0].withdraw()
    replica.configure().quick("few", qty=2).quick("mine").save()
    pair.sync()


@pytest.mark.parametrize("mask", MASKS, ids=["plain", "text", "fields"])
def test_session_replays_to_the_same(pair: Pair, tmp_path: Path, mask: Mask):
    path = tmp_path / "session.jsonl"
    with pair.replica.record(path, mask=mask):
        live(pair)
    done = replay(path, SCHEMA)
    assert done.complete
    assert {"commit", "resolve", "select", "begin", "answer", "left", "file", "part", "end"} <= set(done.events)


EVERYTHING = {
    "answer lost", "request lost", "cut", "part", "pull NotTheAuthority", "pull TransportError", "pull bulk", "pull cancelled",
    "pull delta", "pull expired", "pull new_history", "pull same", "pull stale", "push fork", "push new_history", "push pushed",
    "edit", "resend", "discard", "withdraw", "edit unsent", "verify", "restore",
}  # fmt: skip


def test_sessions_by_chance_replay_to_the_same_and_meet_everything(tmp_path: Path):
    met: set[str] = set()
    for seed in range(24):  # ids and marks are made by chance, so that eight may not meet everything
        if seed >= 8 and not EVERYTHING - met:
            break
        folder = tmp_path / str(seed)
        folder.mkdir()
        session = Session(folder, seed)
        session.run(60)
        for n, mask in enumerate(MASKS):
            session.done.clear()
            with session.replica.record(folder / f"{n}.jsonl", mask=mask):
                session.run(80)
            met |= session.done
            done = replay(folder / f"{n}.jsonl", SCHEMA)
            assert done.complete, (seed, n)
        session.close()
    assert EVERYTHING - met == set()


def test_threads_are_recorded_in_the_order_in_which_they_wrote(pair: Pair, tmp_path: Path):
    replica, path = pair.replica, tmp_path / "session.jsonl"
    replica._link = None
    link = replica.start_sync(Memory(pair.authority, lambda: (IDENTITY, {"rep": REP})), every=0.01)
    recording = replica.record(path)

    def write(name: str, key: int) -> None:
        for n in range(40):
            with replica.transaction("sell") as tx:
                tx.update(order(tx, key), text=f"{name} {n}")

    threads = [threading.Thread(target=write, args=writer) for writer in (("a", 1), ("b", 1), ("c", 2))]
    for thread in threads:
        thread.start()
    for n in range(40):
        with pair.authority.transaction() as hq:
            hq.update(order(hq, 2), qty=n + 100)
    for thread in threads:
        thread.join(WAIT)
    link.wait_synced(WAIT)
    recording.stop()
    link.stop()
    assert replay(path, SCHEMA).events["commit"] == 120


BUGS: dict[str, tuple[Any, str, Any]] = {
    "base forgotten on second edit": (overlay, "_is_touched", lambda *args: False),
    "overlays of accepted mutations stay": (Outbox, "settle", lambda self, ids: []),
    "what is refused stays in view": (overlay, "untouch", lambda db, mutation: []),
    "the journal is dropped early": (Outbox, "forget_durable", lambda self, position: self._remove(1)),
}


@pytest.mark.parametrize("bug", BUGS)
def test_bug_in_the_replica_is_found_by_the_replay(pair: Pair, tmp_path: Path, bug: str):
    path = tmp_path / "session.jsonl"
    with pair.replica.record(path):
        live(pair)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(*BUGS[bug])
        with pytest.raises(ReplayDiffers) as caught:
            replay(path, SCHEMA)
    assert caught.value.recorded != caught.value.replayed
    assert re.match(rf"line {caught.value.line}: .*: recorded .*, replayed ", str(caught.value))
    assert replay(path, SCHEMA).complete  # and without it all is well


@pytest.mark.parametrize(
    ("kind", "changed"),
    [("commit", {"after": [bytes(16)]}), ("answer", {"states": {"pending": 99}}), ("begin", {"asks": {"kind": "part"}}),
     ("resolve", {"states": {}}), ("end", {"digests": {}}), ("end", {"mutations": []})],
)  # fmt: skip
def test_everything_that_is_recorded_is_compared(pair: Pair, tmp_path: Path, kind: str, changed: dict[str, Any]):
    path = tmp_path / "session.jsonl"
    with pair.replica.record(path):
        live(pair)
    lines = path.read_bytes().splitlines(keepends=True)
    line = next(n for n, event in read_lines(path) if event["event"] == kind)
    event = msgspec.json.decode(lines[line - 1])
    lines[line - 1] = msgspec.json.encode({**event, **plain(changed)}) + b"\n"
    path.write_bytes(b"".join(lines))
    with pytest.raises(ReplayDiffers) as caught:
        replay(path, SCHEMA)
    assert caught.value.line == line


def test_recording_of_another_schema_is_refused(pair: Pair, tmp_path: Path):
    path = tmp_path / "session.jsonl"
    pair.replica.record(path).stop()
    with pytest.raises(SchemaError, match="another declaration"):
        replay(path, Schema(Customer, Order))


def test_recording_that_begins_with_everything_under_way_replays(pair: Pair, tmp_path: Path):
    replica = pair.replica
    for qty in (7, 13):
        with replica.transaction("sell") as tx:
            tx.insert(Order(id=200 + qty, customer="C1", qty=qty))
    lose(pair, "push")
    with replica.transaction("sell") as tx:
        tx.update(order(replica, 213), text="waits")
    with replica.record(tmp_path / "session.jsonl"):
        pair.sync()
        replica.rejections()[0].discard()
    done = replay(tmp_path / "session.jsonl", SCHEMA)
    assert (done.complete, done.events["resolve"], "commit" in done.events) == (True, 1, False)


def test_file_that_was_being_fetched_before_the_recording_is_fetched_anew(pair: Pair, tmp_path: Path):
    exchanger = Exchanger(pair.replica.store)
    pair.authority.load([Product(sku=f"N{n}", name=f"Tea {n}") for n in range(6000)])
    steps = exchanger.pull()
    pair.authority.puller.forget()
    effect = next(steps)
    while isinstance(effect, Send):
        effect = steps.send(pair.authority.handle(effect.body, IDENTITY, {"rep": REP}))
    effect = steps.send(pair.authority.fetch(effect.name, 0, IDENTITY)[:1000])
    with pytest.raises(TransportError):  # as a driver does when the line breaks; the file would be gone on with
        steps.throw(TransportError("cut"))
    with pair.replica.record(tmp_path / "session.jsonl"):
        assert isinstance(next(exchanger.pull()), Send)
        pair.sync()
    assert replay(tmp_path / "session.jsonl", SCHEMA).complete


def test_correction_that_takes_changes_back_replays(pair: Pair, tmp_path: Path):
    replica = pair.replica
    with replica.record(tmp_path / "session.jsonl"):
        with replica.transaction("sell") as tx:
            tx.update(order(replica, 1), text="no", qty=13)
            tx.update(order(replica, 2), text="neither")
        with replica.transaction("sell") as tx:
            tx.update(order(replica, 1), customer=None)
        pair.sync()
        with replica.rejections()[0].edit() as tx:
            tx.update(order(tx, 1), text="first 1", qty=2)
            tx.update(order(tx, 2), text="first 2")
        assert [dict(c.after) for c in tx.mutation.changes] == [{"qty": 2}]
    assert replay(tmp_path / "session.jsonl", SCHEMA).complete
