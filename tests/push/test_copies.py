"""A mutation takes effect at most once: sent to several processes at the same time, and from older copies of a device's file."""

from __future__ import annotations

import base64
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from offlinekit import (
    Authority,
    Changes,
    Collection,
    Context,
    Field,
    Offer,
    Quick,
    Replica,
    Schema,
    SQLiteStore,
    everything,
    field,
)
from offlinekit.exchange import Exchanger, Send
from offlinekit.protocol import messages as m
from offlinekit.protocol.codec import decode_answer
from offlinekit.testing.pair import MovableClock, Pair

PROCESSES = 4


class Order(Collection, writable=True):
    id: Field[str] = field(key=True)
    note: Field[str] = field(default="")


SCHEMA, OFFER = Schema(Order, intents=["sell"]), Offer(Quick("all", Order, everything))


def serve(folder: Path) -> Authority:
    """One process's authority over the file that all share; every effect is written down."""
    authority = Authority(SQLiteStore(folder / "hq.db"), SCHEMA, offer=OFFER, scopes={Order: everything})
    with authority.transaction() as tx:
        tx.connection.execute("CREATE TABLE IF NOT EXISTS effect(id TEXT)")

    @authority.intent("sell", writes={Order: ["insert", "update"]})
    def sell(changes: Changes, ctx: Context) -> None:
        for order in (*changes.inserted(Order), *(u.record for u in changes.updated(Order))):
            ctx.connection.execute("INSERT INTO effect VALUES(?)", (f"{order.id}{order.note}",))

    return authority


PROCESS = """
import base64, sys
from pathlib import Path
from tests.push.test_copies import serve
authority = serve(Path(sys.argv[1]))
print("ready", flush=True)
for line in sys.stdin:
    print(base64.b64encode(authority.handle(base64.b64decode(line), "ana", {})).decode(), flush=True)
"""


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Authority]:
    made = serve(tmp_path)
    yield made
    made.close()


def device(authority: Authority, path: Path) -> Pair:
    replica = Replica.open(path, SCHEMA, offer=OFFER, identity="ana", zone="UTC")
    return Pair(authority, replica, MovableClock(), "ana", {})


def sell(pair: Pair, *ids: str) -> None:
    for id_ in ids:
        with pair.replica.transaction("sell") as tx:
            tx.insert(Order(id=id_))


def effects(authority: Authority) -> list[str]:
    with authority.transaction() as tx:
        return sorted(row[0] for row in tx.connection.execute("SELECT id FROM effect"))


@pytest.mark.slow
@pytest.mark.invariant("I3")
def test_a_push_that_several_processes_get_at_once_takes_effect_once(authority: Authority, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROCESS, str(tmp_path)]
    root = Path(__file__).resolve().parents[2]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="ascii", cwd=root)
        for _ in range(PROCESSES)
    ]
    pair = device(authority, tmp_path / "device.db")
    pair.replica.configure().quick("all").until(None).save()
    pair.sync()
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for turn in range(8):
            sell(pair, *(f"{turn}-{n}" for n in range(5)))
            steps = Exchanger(pair.replica.store).push()
            effect = next(steps)
            assert isinstance(effect, Send)
            for process in processes:
                assert process.stdin is not None
                process.stdin.write(base64.b64encode(effect.body).decode() + "\n")
                process.stdin.flush()
            said = [process.stdout.readline() for process in processes if process.stdout is not None]
            answers = [decode_answer(base64.b64decode(line)) for line in said]
            assert all(isinstance(a, m.Pushed) for a in answers), answers
            outcomes = {tuple((r.id, r.outcome, r.position) for r in a.results) for a in answers if isinstance(a, m.Pushed)}
            assert len(outcomes) == 1, "all give the same receipts"
            assert len({a.turn for a in answers if isinstance(a, m.Pushed)}) == 1, "and the same next turn"
            with suppress(StopIteration):
                steps.send(base64.b64decode(said[turn % PROCESSES]))
        assert pair.replica.pending() == pair.replica.rejections() == []
        assert effects(authority) == sorted(f"{turn}-{n}" for turn in range(8) for n in range(5))
    finally:
        for process in processes:
            process.communicate()
        pair.replica.close()


@pytest.mark.slow
@pytest.mark.invariant("I3")
@pytest.mark.parametrize("seed", range(4))
def test_older_copies_of_a_device_double_nothing_and_lose_nothing(authority: Authority, tmp_path: Path, seed: int) -> None:
    """The file is copied and put back at any moment, also while the answer to a push is lost; sometimes both copies go on."""
    rng, path, sold = random.Random(seed), tmp_path / "device.db", 0
    pair = device(authority, path)
    pair.replica.configure().quick("all").until(None).save()
    copies: list[Path] = []
    forks = 0
    for n in range(60):
        happens = rng.randrange(7)
        if happens < 2:
            sold += 1
            sell(pair, f"o{sold:03}")
        elif happens == 2:
            pair.sync()
        elif happens == 3:  # the answer is lost
            steps = Exchanger(pair.replica.store).push()
            for effect in steps:
                assert isinstance(effect, Send)
                authority.handle(effect.body, "ana", {})
                break
            steps.close()
        elif happens == 4 or not copies:
            pair.replica.close()
            copies.append(tmp_path / f"copy{n}.db")
            shutil.copyfile(path, copies[-1])
            pair = device(authority, path)
        else:
            old = rng.choice(copies)
            if happens == 5:  # the copy goes on, and the device stays where it is
                other = device(authority, old)
                forks += "fork" in other.sync().answers
                other.replica.close()
                copies.remove(old)
            else:
                pair.sync()  # what was never sent is not in the copy
                pair.replica.close()
                shutil.copyfile(old, path)
                pair = device(authority, path)
    forks += "fork" in pair.sync().answers
    assert effects(authority) == [f"o{n:03}" for n in range(1, sold + 1)]
    pair.sync()
    assert [o.id for o in pair.replica.select(Order)] == effects(authority)
    assert pair.replica.pending() == pair.replica.rejections() == []
    assert forks
    pair.replica.close()


@pytest.mark.invariant("I3")
def test_ten_thousand_lost_replies_raise_no_fork(authority: Authority, tmp_path: Path) -> None:
    """Also where the program ends before the reply, and where the request did not even arrive."""
    chance, lost, made = random.Random(5), 0, 0
    replica = Replica.open(tmp_path / "ana.db", SCHEMA, offer=OFFER, identity="ana")
    replica.configure().quick("all").until(None).save()
    Pair(authority, replica, MovableClock(), "ana", {}).sync()  # from now on the authority knows the fields
    for db in (authority.store._writer, replica.store.db):
        db.pragma("synchronous", "off")  # no power cut here, and thousands of transactions
    while lost < 10_000:
        if chance.random() < 0.05:
            made += 1
            with replica.transaction("sell") as tx:
                tx.insert(Order(id=f"o{made}"))
        steps = Exchanger(replica.store).push()
        send = next(steps, None)
        if send is None:
            continue
        assert isinstance(send, Send)
        if chance.random() < 0.9:
            answer = authority.handle(send.body, "ana", {})
            if chance.random() < 0.01:
                with suppress(StopIteration):
                    steps.send(answer)
                continue
        lost += 1
        steps.close()
        if chance.random() < 0.002:
            replica.close()
            replica = Replica.open(tmp_path / "ana.db", SCHEMA, offer=OFFER, identity="ana")
    Pair(authority, replica, MovableClock(), "ana", {}).sync()
    assert authority.pusher.counts.get("fork", 0) == 0
    assert authority.pusher.counts["repeat"] > 7000
    with authority.transaction() as tx:
        assert sorted(row[0] for row in tx.connection.execute("SELECT id FROM effect")) == sorted(
            f"o{n + 1}" for n in range(made)
        )
    assert (len(replica.pending()), made > 300) == (0, True)
    replica.close()
