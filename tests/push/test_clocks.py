"""Whatever a device's clock says, nothing is lost and nothing doubled; validity and time bounds are the authority's to judge."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from offlinekit import Authority, Collection, Field, Offer, Quick, Replica, Schema, SQLiteStore, everything, field, today
from offlinekit.exceptions import SelectionExpired
from offlinekit.exchange import Exchanger
from offlinekit.testing.pair import MovableClock, Pair

DAY = 86_400.0


class Task(Collection, writable=True):
    id: Field[str] = field(key=True)
    count: Field[int] = field(default=0)
    day: Field[date] = field(default=date(2027, 1, 15))


SCHEMA = Schema(Task, intents=["work"])
OFFER = Offer(Quick("all", Task, everything), Quick("today", Task, Task.day == today()))


class Office:
    """An authority that counts what takes effect, and devices whose clocks go as they like."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock, self.effects = folder, MovableClock(), Counter[str]()
        store = SQLiteStore(folder / "hq.db", clock=self.clock)
        self.authority = Authority(store, SCHEMA, offer=OFFER, scopes={Task: everything}, files=str(folder / "files"))
        self.devices: list[Pair] = []

        @self.authority.intent("work", writes={Task: ["insert", "update"]})
        def work(changes: Any, ctx: Any) -> None:
            for task in (*changes.inserted(Task), *(u.record for u in changes.updated(Task))):
                self.effects[f"{task.id}:{task.count}"] += 1

    def device(self, name: str, quick: str = "all") -> Pair:
        """A device with a clock of its own."""
        clock = MovableClock(self.clock.now())
        replica = Replica.open(self.folder / f"{name}.db", SCHEMA, offer=OFFER, identity=name, zone="UTC", clock=clock)
        replica.configure().quick(quick).until(None).save()
        self.devices.append(Pair(self.authority, replica, clock, name, {}))
        return self.devices[-1]

    def close(self) -> None:
        """Closes all files."""
        for device in self.devices:
            device.replica.close()
        self.authority.close()


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path)
    yield made
    made.close()


WRONG = [-30 * 365 * DAY, -400 * DAY, -3600.0, -0.001, 0.0, 0.0, 0.001, 3600.0, 400 * DAY, 72 * 365 * DAY]


@pytest.mark.slow
@pytest.mark.invariant("I11")
@pytest.mark.parametrize("seed", range(6))
def test_a_clock_that_jumps_loses_and_doubles_nothing(office: Office, seed: int) -> None:
    rng, counts, committed = random.Random(seed), Counter[str](), list[str]()
    devices = [office.device("ana"), office.device("bea")]
    for n in range(120):
        device = rng.choice(devices)
        device.clock.time = office.clock.now() + rng.choice(WRONG)
        happens = rng.randrange(8)
        if happens < 4:
            with device.replica.transaction("work") as tx:
                own = f"{device.identity}{rng.randrange(n + 1)}"
                counts[own] += 1
                record = tx.get(Task, own)
                if record is None:
                    tx.insert(Task(id=own, count=counts[own]))
                else:
                    tx.update(record, count=counts[own])
            committed.append(f"{own}:{counts[own]}")
        elif happens < 6:
            device.sync()
        elif happens == 6:  # the answer to a push is lost
            steps = Exchanger(device.replica.store).push()
            for effect in steps:
                office.authority.handle(effect.body, device.identity, {})
                break
            steps.close()
        else:
            office.clock.move(seconds=rng.choice([0.0, 0.0, 60.0, DAY]))
    for device in devices * 2:
        device.clock.time = office.clock.now() + rng.choice(WRONG)
        device.sync()
    assert office.effects == Counter(committed), "each took effect once"
    assert {t.id: t.count for t in office.authority.select(Task)} == counts, "and in the order of its device"
    for device in devices:
        assert {t.id: t.count for t in device.replica.select(Task)} == counts
        assert device.replica.pending() == device.replica.rejections() == []
        device.sync()  # the last answer has put the clock right, and with it which own records are a month old
        assert device.sync().answers == ["same"]


@pytest.mark.invariant("I11")
@pytest.mark.parametrize("wrong", [-400 * DAY, -3600.0, 3600.0, 400 * DAY])
def test_the_authority_s_clock_decides_how_long_a_selection_holds(office: Office, wrong: float) -> None:
    office.authority.load([Task(id="a")])
    device = office.device("ana")
    until = office.clock.now() + 1800.0
    device.replica.configure().quick("all").until(datetime.fromtimestamp(until, UTC)).save()
    device.clock.move(seconds=wrong)
    assert device.sync().answers == ["delta"], "it is valid, whatever the device believes"
    assert device.replica.select(Task).count() == 1, "and the device believes the authority once it was answered"
    office.clock.move(seconds=3600.0)
    assert device.sync().answers == ["expired"], "now it is not, whatever the device believes"
    with pytest.raises(SelectionExpired):
        device.replica.select(Task).all()
    device.replica.configure().renew().until(None).save()
    assert device.sync().answers == ["same"]
    assert device.replica.select(Task).count() == 1, "nothing was lost meanwhile"


@pytest.mark.invariant("I11")
@pytest.mark.parametrize("wrong", WRONG)
def test_the_authority_s_clock_cuts_time_bounds(office: Office, wrong: float) -> None:
    day = datetime.fromtimestamp(office.clock.now(), UTC).date()
    office.authority.load(Task(id=str(n), day=day + timedelta(days=n)) for n in range(-1, 2))
    device = office.device("ana", "today")
    device.clock.move(seconds=wrong)
    device.sync()
    assert [t.id for t in device.replica.select(Task)] == ["0"]
    office.clock.move(days=1)
    device.sync()
    assert [t.id for t in device.replica.select(Task)] == ["1"]
