"""Random walks over an authority and two devices: lost, doubled and repeated messages, restarts, refusals, corrections.

Whatever happens, a mutation takes effect at most once and after those that it depends on, every mutation that is not resolved by
the app is still in the outbox, the journal or among the refused, and a device shows what the naive model in world.py says.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from offlinekit.exceptions import AlreadySent, ConstraintViolated, StateError
from offlinekit.replica import Transaction
from tests.evidence import keep, kept
from tests.push.world import INTENTS, Device, Head, Line, Order, Rows, is_push, rows_of

FAULTS = ("", "", "", "lost", "answer lost", "doubled", "server restarts")
NOTES = (None, None, None, None, "number", "number", "refuse", "hiccup", "fail")
ROUNDS_MAX = 12


@pytest.fixture(autouse=True)
def _no_log_of_failures_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "offlinekit.authority")


class Walk:
    """One random history."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.head = Head(folder, self.rng, compacts=seed % 2 == 1)
        self.devices = [Device(self.head, name, self.rng) for name in ("ana", "bea")]
        self.counts: Counter[str] = Counter()
        self.serial = 0

    def close(self) -> None:
        """Ends both sides."""
        for device in self.devices:
            device.replica.close()
        self.head.authority.close()

    # -- local transactions

    def change(self, tx: Transaction, rows: Rows) -> None:
        """One random write."""
        rng = self.rng
        self.serial += 1
        orders, lines = [k for c, k in sorted(rows) if c == "order"], [k for c, k in sorted(rows) if c == "line"]
        mark, note, qty = f"m{self.serial}", rng.choice(NOTES), rng.choice([rng.randrange(50), 60])
        kind = rng.randrange(12)
        if kind <= 1 or not orders:
            tx.insert(Order(id=f"o{self.serial}", qty=qty, note=note, mark=mark))
        elif kind <= 3:
            tx.insert(Line(id=f"l{self.serial}", order=rng.choice(orders), qty=qty, mark=mark))
        elif kind <= 5:
            order = tx.get(Order, rng.choice(orders))
            if order is not None:
                tx.update(order, qty=qty, note=note, mark=mark)
        elif kind == 6:
            tx.execute(
                'UPDATE "order" SET qty=qty+1, mark=?||id WHERE id IN (?,?)', (mark, rng.choice(orders), rng.choice(orders))
            )
        elif kind == 7:
            sql = 'INSERT INTO "order"(id,qty,note,mark) VALUES(?,?,?,?) ON CONFLICT(id) DO UPDATE SET qty=excluded.qty, mark=?'
            tx.execute(sql, (rng.choice([*orders, f"o{self.serial}"]), qty, note, mark, mark))
        elif kind == 8:
            sql = 'INSERT OR REPLACE INTO "order"(id,qty,note,mark) VALUES(?,?,?,?)'
            tx.execute(sql, (rng.choice([*orders, f"o{self.serial}"]), qty, note, mark))
        elif kind == 9 and lines:
            tx.execute("UPDATE OR IGNORE line SET qty=?, mark=?||id WHERE id=?", (qty, mark, rng.choice(lines)))
        elif kind == 10 and lines:
            tx.execute("DELETE FROM line WHERE id=?", (rng.choice(lines),))
        else:
            tx.execute('DELETE FROM "order" WHERE id=?', (rng.choice(orders),))

    def write(self, device: Device) -> None:
        """A local transaction; now and then it is given up half-way."""
        before = device.visible()
        intent = self.rng.choice([*INTENTS, "any", "any", "any", "any"])
        broken = self.rng.random() < 0.1
        tx = device.replica.transaction(intent)
        with suppress(ConstraintViolated, ZeroDivisionError), tx:
            for _ in range(self.rng.choice([1, 1, 1, 2, 3])):
                self.change(tx, rows_of(device.replica.store.db))
            if broken:
                raise ZeroDivisionError
        changes = {} if broken else device.changes_since(before)
        if changes:
            device.note(tx.mutation.id.bytes, intent, changes)
            self.counts["committed"] += 1
        else:
            with pytest.raises(StateError):
                _ = tx.mutation

    def resolve(self, device: Device) -> None:
        """The app looks at a refused, parked or unsent mutation."""
        replica = device.replica
        known = [*replica.rejections(), *replica.rejections(), *replica.parked(), *replica.pending()]
        if not known:
            return
        mutation, how = self.rng.choice(known), self.rng.randrange(3)
        try:
            if how == 0:
                mutation.withdraw()
                device.give_up(mutation.id.bytes)
            elif how == 1:
                device.correct(mutation, lambda tx: None)
            else:
                fixes = "UPDATE \"order\" SET note=NULL, qty=qty+1 WHERE note IN ('refuse','fail')"
                device.correct(mutation, lambda tx: tx.execute(fixes))
        except AlreadySent:
            assert mutation.now.sent
            self.counts["already sent"] += 1
        else:
            self.counts["resolved"] += 1

    # -- steps

    def step(self) -> None:
        """One thing happens."""
        device, dice = self.rng.choice(self.devices), self.rng.random()
        if dice < 0.42:
            self.write(device)
        elif dice < 0.62:
            self.counts[f"push {device.push(self.rng.choice(FAULTS))}"] += 1
        elif dice < 0.77:
            self.counts[f"pull {device.pull(self.rng.choice(FAULTS))}"] += 1
        elif dice < 0.83:
            self.head.write()
        elif dice < 0.91:
            self.resolve(device)
        elif dice < 0.94 and self.head.requests:
            body, identity = self.rng.choice(self.head.requests[-30:])
            self.counts["replayed push" if is_push(body) else "replayed pull"] += 1
            self.head.authority.handle(body, identity, {})
        elif dice < 0.97:
            device.restart()
        else:
            self.head.restart()
        for each in self.devices:
            each.check()

    def settle(self) -> None:
        """Faults stop: all is answered within a bounded number of rounds, and one more sync moves nothing."""
        for device in self.devices:
            for _ in range(ROUNDS_MAX):
                pushed, pulled = device.push(), device.pull()
                device.check()
                if pushed == "nothing" and pulled == "same" and not device.replica.pending():
                    break
            assert device.replica.pending() == []
        for device in self.devices:
            while device.pull() == "new_history":
                device.push()
        if any(device.replica.pending() for device in self.devices):
            return self.settle()
        for device in self.devices:
            before = device.visible()
            assert device.push() == "nothing"
            device.pull()
            assert device.result.kind == "same" or not any({**device.result.put, **device.result.drop}.values())
            assert device.visible() == before == self.head.rows()
        return None

    def judge(self) -> None:
        """What took effect, by the authority's own table."""
        effects = self.head.effects()
        times, first = Counter(effects), {mark: n for n, mark in reversed(list(enumerate(effects)))}
        for device in self.devices:
            states = {s.id: s for s in device.sent}
            for mutation in device.sent:
                self.counts[mutation.state] += 1
                assert mutation.state in ("accepted", "transformed", "rejected", "parked")
                taken = mutation.state in ("accepted", "transformed")
                for (collection, _), mark in device.marks[mutation.id].items():
                    least = 1 if taken and collection == "order" else 0
                    assert least <= times[mark] <= int(taken), (mutation, mark)
                if taken and mutation.after:
                    assert all(n in device.resolved or states[n].state != "rejected" for n in mutation.after)
                    mine = [first[k] for k in device.marks[mutation.id].values() if k in first]
                    theirs = [first[k] for n in mutation.after for k in device.marks[n].values() if k in first]
                    assert not mine or not theirs or min(mine) > max(theirs)


def walk(folder: Path, seed: int, steps: int, *, restores: bool = False) -> Counter[str]:
    """Runs one history to its end."""
    world = Walk(folder, seed)
    try:
        for n in range(steps):
            if restores and n % 40 == 15:
                world.head.copy()
            if restores and n % 40 == 35 and world.head.restore():
                world.counts["restored"] += 1
            world.step()
        world.settle()
        world.judge()
        for device in world.devices:  # what is refused is given up by the app in the end
            while refused := device.replica.rejections():
                refused[0].discard()
                device.give_up(refused[0].id.bytes)
                device.check()
            assert [s.after for s in device.sent if s.state == "parked"] == []
        world.counts["steps"] = steps
        world.counts["heard late"] = sum(device.counts.get("heard late", 0) for device in world.devices)
        return world.counts
    finally:
        world.close()


@pytest.mark.slow
@pytest.mark.invariant("I3", "I4", "I9", "I13")
def test_every_mutation_takes_effect_once_and_in_order(tmp_path: Path) -> None:
    total: Counter[str] = Counter()
    for seed in range(14):
        (tmp_path / str(seed)).mkdir()
        total += walk(tmp_path / str(seed), seed, 120)
    _write("walks", total)
    for seen in (
        "accepted",
        "transformed",
        "rejected",
        "push answer lost",
        "push lost",
        "replayed push",
        "resolved",
        "heard late",
    ):
        assert total[seen], seen


@pytest.mark.slow
@pytest.mark.invariant("I3", "I9")
def test_a_restored_authority_gets_what_it_has_lost_once(tmp_path: Path) -> None:
    total: Counter[str] = Counter()
    for seed in range(100, 110):
        (tmp_path / str(seed)).mkdir()
        total += walk(tmp_path / str(seed), seed, 100, restores=True)
    _write("restored", total)
    assert total["restored"]
    assert total["push new_history"] + total["pull new_history"]
    assert total["heard late"]


def _write(part: str, counts: Counter[str]) -> None:
    keep("push_oracle", {**kept("push_oracle"), part: dict(sorted(counts.items()))})
