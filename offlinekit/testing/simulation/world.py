"""One simulated run: what programs, people, operators, clocks, lines, disks and power cuts do, by a seed."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

from attrs import frozen

from offlinekit.exceptions import AlreadySent, SelectionExpired
from offlinekit.testing.simulation.acts import acts_of
from offlinekit.testing.simulation.breaking import Breaker, FullDisk
from offlinekit.testing.simulation.checkers import Checkers
from offlinekit.testing.simulation.choices import choose, claims_of, edited
from offlinekit.testing.simulation.contract import plain
from offlinekit.testing.simulation.device import Device, Writing
from offlinekit.testing.simulation.head import DAY, Clock, Head
from offlinekit.testing.simulation.model import Model, Told, fields_of
from offlinekit.testing.simulation.network import Network
from offlinekit.testing.simulation.oracle import Rows

__all__ = ["FAULTS", "KINDS", "Settings", "World"]

ROUNDS_MAX = 14
BACKUP_DAYS = 4  # with the two days and twenty hours by which clocks are wrong, less than the promised week

# How often each fault is met where it can happen. A run leaves some of them out altogether.
FAULTS: dict[str, float] = {
    "request lost": 0.06, "request doubled": 0.08, "reordered": 0.5, "delayed": 0.12, "401": 0.03, "5xx before": 0.03,
    "5xx after": 0.04, "answer lost": 0.07, "answer cut": 0.02, "login page": 0.02, "answer of an earlier exchange": 0.08,
    "crash of a device": 0.05, "disk of a device full": 0.03, "crash of an authority": 0.04, "disk of an authority full": 0.02,
    "caches emptied": 0.1, "partition": 0.02, "clock of a device": 0.03, "clock of head office": 0.02, "backup": 0.03,
    "restore": 0.012, "writes past a restore": 0.5, "file rolled back": 0.012, "file copied": 0.006, "claims changed": 0.02,
    "scope changed": 0.01,
    "selection edited": 0.04, "selection ends": 0.25, "request cut": 0.05,
    "schema upgraded": 0.02, "process restarted": 0.02, "hook fails": 0.08, "days pass": 0.02,
}  # fmt: skip
# What happens by itself, and is counted where it does.
KINDS = (*FAULTS, "lost in a partition", "answered by another process", "plain write", "selection edited during a pull")
ALWAYS = ("reordered", "writes past a restore", "backup", "selection edited")  # they are no faults by themselves


@frozen
class Settings:
    """How large a run is."""

    steps: int = 400
    devices: int = 3


class World:
    """One run. Raises ViolationError at the first promise that is broken."""

    def __init__(self, seed: int, folder: Path, settings: Settings) -> None:
        self.seed, self.folder, self.settings = seed, folder, settings
        self.rng, ids = random.Random(f"{seed} what happens"), random.Random(f"{seed} ids")
        self.step = self.messages = 0
        self.trace: list[str] = []
        self.faults = {f: p for f, p in FAULTS.items() if f in ALWAYS or self.rng.random() < 0.7}
        self.time = Clock()
        self.tempo = self.rng.choice([[0.02, 0.1, 0.1, 0.3, 5.0, 60.0], [0.02, 0.1, 0.1, 0.3, 5.0, 60.0], [0.002, 0.004]])
        self.head = Head(folder, self.rng, ids, self.time, age_s=self.rng.choice([0.0, 0.25]))
        self.checkers = Checkers(self.head)
        self.network = Network(self, self.rng)
        self.ledger: dict[bytes, Told] = {}
        self.made = 0
        self.saved: list[tuple[Path, str, list[Model], Any, dict[str, set[int]]]] = []
        self.devices: list[Device] = []
        for n in range(settings.devices):
            identity = ("ana", "bob", "cyd", "dan", "eva", "flo")[n % 6]
            self.head.claims[identity] = claims_of(self.rng, f"r{min(n % 3, 1) if n % 3 != 1 else 0}")
            dev = Device(folder / identity, identity, self.time, ids, old=self.rng.random() < 0.5)
            self.devices.append(dev)
            dev.select(choose(self.rng, self.head.day()), self.rng.choice(["UTC", "America/Sao_Paulo", "Asia/Tokyo"]))
        self.ids = ids
        for _ in range(90):
            self.head.write()
        self.head.dump()

    # -- the record of what happened

    def note(self, line: str) -> None:
        """A line of the trace."""
        self.trace.append(f"{self.step}: {line.replace(str(self.folder), '')}")

    def digest(self) -> str:
        """Of the whole trace."""
        return blake2b("\n".join(self.trace).encode(), digest_size=16).hexdigest()

    def hit(self, fault: str) -> bool:
        """Whether a fault happens now."""
        if self.rng.random() >= self.faults.get(fault, 0.0):
            return False
        self.checkers.counts[f"fault: {fault}"] += 1
        self.note(fault)
        return True

    def breaker(self, path: str, whose: str, most: int) -> Breaker | None:
        """Whether a process ends, or a disk is full, in what is done next, and where."""
        r = self.rng
        if self.hit(f"crash of a{'n' if whose == 'authority' else ''} {whose}"):
            return Breaker(path, r.randrange(1, r.choice([4, 10, 30, most]) + 1), after_commit=r.random() < 0.35)
        if self.hit(f"disk of a{'n' if whose == 'authority' else ''} {whose} full"):
            return FullDisk(path, r.randrange(1, r.choice([4, 10, 30, most]) + 1))
        return None

    def ended(self, breaker: Breaker | None) -> None:
        """Counts where it came to an end."""
        if breaker is not None and breaker.point:
            kind = "disk full" if isinstance(breaker, FullDisk) else "crash"
            self.checkers.counts[f"{kind} at: {breaker.point}"] += 1

    # -- running

    def run(self) -> None:
        """A first load, all steps, then peace, then the last judgement."""
        faults, self.faults = self.faults, {}
        for dev in self.devices:
            if self.rng.random() < 0.6:  # the others load amid the faults
                self._rounds(dev)
        self.faults = faults
        for step in range(1, self.settings.steps + 1):
            self.step = step
            self.one()
        self.settle()
        for _ in range(4):
            self.alone()
        self.judge()

    def one(self) -> None:
        """One thing happens."""
        r = self.rng
        self.time.seconds += r.choice(self.tempo)
        dev = r.choice(self.devices)
        for fault, happens in self.accidents(dev):
            if self.hit(fault):
                happens()
        dice = r.random()
        if dice < 0.45 and self.network.deliver():
            return
        if dice < 0.62:
            self.write(dev)
        elif dice < 0.72:
            self.checkers.counts["fault: plain write"] += 1
            self.head.write()
            self.head.dump()
        elif dice < 0.84:
            self.start(dev, r.choice(["push", "push", "pull"]))
        elif dice < 0.92:
            self.start(dev, "pull")
        elif dice < 0.96:
            self.resolve(dev)
        elif dice < 0.98:
            self.ask(dev)
        else:
            self.draft(dev)

    def accidents(self, dev: Device) -> list[tuple[str, Callable[[], None]]]:
        """What may befall a device, or head office."""
        return [
            ("partition", lambda: setattr(dev, "cut_off", self.step + self.rng.randrange(5, 40))),
            ("clock of a device", lambda: self.skew(dev)),
            ("clock of head office", self.skew_head),
            ("days pass", lambda: setattr(self.time, "seconds", self.time.seconds + self.rng.choice([0.2, 1.0, 3.0]) * DAY)),
            ("backup", self.head.backup),
            ("restore", self.restore),
            ("file rolled back", lambda: self.roll_back(dev)),
            ("file copied", lambda: self.copy(dev)),
            ("claims changed", lambda: self.change_claims(dev)),
            ("scope changed", self.head.change_scopes),
            ("selection edited", lambda: self.edit(dev)),
            ("schema upgraded", lambda: self.upgrade(dev)),
            ("process restarted", lambda: self.restart(dev)),
        ]

    def start(self, dev: Device, kind: str) -> None:
        """A device asks head office, unless it waits for an answer that may still come."""
        exchange = dev.exchanges.get(kind)
        if exchange is None or exchange.waits == 0 or self.rng.random() < 0.1:
            self.network.begin(dev, kind, load=self.rng.random() < 0.5)

    def ask(self, dev: Device) -> None:
        """A user looks at what is not held, or at what another selection would bring."""
        r, network = self.rng, self.network
        if r.random() < 0.5:
            network.query(dev, r.choice(["customer", "order", "line", "product"]), r)
        else:
            network.preview(dev, edited(r, dev.chosen, self.head.day()))

    # -- accidents

    def skew(self, dev: Device) -> None:
        """A device's clock is wrong."""
        dev.clock.ahead = self.rng.choice([0.0, 0.0, -400 * DAY, -3.5 * DAY, -3600.0, 3600.0, 40 * DAY, 10_000 * DAY])

    def skew_head(self) -> None:
        """Head office's clock is wrong for a while."""
        self.head.clock.ahead = self.rng.choice(
            [0.0, -7200.0, -20 * 3600.0, 6 * 3600.0, 20 * 3600.0, 20 * 3600.0, 2 * DAY, 25_000 * DAY]
        )
        if self.head.clock.ahead > BACKUP_DAYS * DAY:
            self.head.backups.clear()  # devices are told that a week has passed, and forget what they sent before it

    def restore(self) -> None:
        """A backup of less than the days that head office has promised to keep is put back."""
        head = self.head
        while head.backups and self.time.now() - head.backups[0].taken > BACKUP_DAYS * DAY:
            head.backups.pop(0)
        if head.backups:
            head.restore(self.rng.randrange(len(head.backups)))
            if self.hit("writes past a restore"):
                for _ in range(self.rng.randrange(1, 8)):
                    head.write()
                head.dump()

    def _close(self, dev: Device) -> None:
        for kind in list(dev.exchanges):
            self.network.give_up(dev, kind)
        dev.kill()

    def save(self, dev: Device) -> None:
        """Somebody keeps a copy of a device's files."""
        self._close(dev)
        place = self.folder / f"saved{len(self.saved)}"
        dev.copy_to(place)
        views = {c: set(v) for c, v in dev.views.items()}
        self.saved.append((place, dev.name, [m.copy() for m in dev.models], (dev.chosen, dev.zone, dev.until), views))
        dev.open()

    def roll_back(self, dev: Device) -> None:
        """A device's files are put back from an older copy; without one, a copy is made."""
        mine = [s for s in self.saved if s[1] == dev.name]
        if not mine:
            self.save(dev)
            return
        place, _, models, (dev.chosen, dev.zone, dev.until), views = self.rng.choice(mine)
        self._close(dev)
        shutil.rmtree(dev.folder)
        shutil.copytree(place, dev.folder)
        dev.models, dev.copied = [m.copy() for m in models], True
        dev.views = {c: set(v) for c, v in views.items()}
        dev.open()
        self.checkers.advance(dev, "rolled back", lambda model: None)

    def copy(self, dev: Device) -> None:
        """The files go to another device, and both go on."""
        if len(self.devices) > self.settings.devices + 1:
            return
        self._close(dev)
        folder = self.folder / f"{dev.name}x{len(self.devices)}"
        dev.copy_to(folder)
        dev.open()
        other = Device(folder, dev.identity, self.time, self.ids, old=dev.model.old)
        other.models = [m.copy() for m in dev.models]
        other.chosen, other.zone, other.until = dev.chosen, dev.zone, dev.until
        other.views = {c: set(v) for c, v in dev.views.items()}
        other.copied = dev.copied = True
        self.devices.append(other)
        self.checkers.advance(other, "copied", lambda model: None)

    def change_claims(self, dev: Device) -> None:
        """Somebody's claims change."""
        self.head.claims[dev.identity] = claims_of(self.rng, f"r{self.rng.randrange(2)}")

    def edit(self, dev: Device) -> None:
        """Somebody edits a selection, perhaps while an answer to the former one is on its way."""
        r, until = self.rng, None
        self.checkers.counts["fault: selection edited during a pull"] += "pull" in dev.exchanges
        if self.hit("selection ends"):
            until = self.head.clock.now() + r.choice([1.0, 600.0, 6 * 3600.0, DAY])
        dev.select(edited(r, dev.chosen, self.head.day()), r.choice(["UTC", "America/Sao_Paulo", "Asia/Tokyo"]), until)
        self.note(f"{dev.name} chooses {plain(dev.chosen)}")

    def upgrade(self, dev: Device) -> None:
        """A newer program opens the files, whose schema has more fields."""
        if dev.model.old:
            self._close(dev)
            for model in dev.models:
                model.upgrade()
            dev.open()
            self.checkers.advance(dev, "upgraded", lambda model: None)

    def restart(self, dev: Device) -> None:
        """The program of a device, or the processes of head office, end and start again."""
        if self.rng.random() < 0.4:
            self.head.restart()
            return
        self._close(dev)
        dev.open()
        self.checkers.advance(dev, "restarted", lambda model: None)

    # -- what users do

    def write(self, dev: Device, mutation: Any = None) -> None:
        """A local transaction, or the correction of a mutation."""
        r = self.rng
        if dev.replica.expired:
            self._locked(dev)
            return
        before = dev.visible()
        self.made += 1
        acts = acts_of(r, self.head, f"{dev.name}{self.made}", before, hook_fails=self.hit("hook fails"))
        fitting = ["sell"] * 4
        fitting += ["visit"] * all(p[0] == "customer" for _, p, _ in acts) * 4
        fitting += ["limited"] * all(what == "update" and p[0] == "order" for what, p, _ in acts) * 4
        intent = r.choice(fitting if r.random() < 0.96 else ["visit", "limited", "unknown"])
        writing = Writing(intent)
        breaker = self.breaker(dev.path, "device", 70)
        listed = set(dev.model.in_state("pending"))
        dev.write(writing, acts, breaker=breaker, fails=r.random() < 0.03, mutation=mutation)
        self.ended(breaker)
        self.note(f"{dev.name} writes {intent} {acts!r}: {writing.ended} {writing.why}")
        if mutation is not None:
            self._corrected(dev, mutation.id.bytes, writing, listed)
            return
        self.checkers.counts[f"transactions {writing.ended}"] += 1
        if writing.ended == "crashed":
            new = [i for i in dev.states()["pending"] if i not in listed]
            self.checkers.must(len(new) <= 1 and (not new or writing.inside is not None), "atomic",
                               f"{dev.name}: {len(new)} mutations of one transaction, some of it unwritten")  # fmt: skip
            writing.id = new[0] if new else b""
        if writing.ended == "refused" or not writing.id:
            self.checkers.advance(dev, f"transaction {writing.ended}", lambda model: None)
            return
        changes = dev.changes(writing, before)
        self.checkers.advance(dev, "transaction", lambda model: self._note(model, writing, changes, before))

    def _locked(self, dev: Device) -> None:
        """The selection is over: no new document is begun, and its user renews it, for the next pull."""
        try:
            dev.replica.transaction("sell")
        except SelectionExpired:
            self.checkers.counts["locked out"] += 1
        else:
            self.checkers.fail("expiry", f"{dev.name} begins a document after the end of its selection")
        if self.rng.random() < 0.5:
            dev.select(dev.chosen, dev.zone)

    def _note(self, model: Model, writing: Writing, changes: Any, before: Any) -> None:
        self.ledger[writing.id] = model.note(writing.id, writing.intent, changes, before)

    # -- what users do about refusals

    def resolve(self, dev: Device) -> None:
        """A refused mutation is corrected or given up, an unsent one withdrawn or edited."""
        r = self.rng
        refused, pending = dev.replica.rejections(), dev.replica.pending()
        if refused and (not pending or r.random() < 0.7):
            rejection = r.choice(refused)
            if rejection.code not in ("dependency_discarded", "dependency_withdrawn") and r.random() < 0.6:
                self.write(dev, rejection)
            else:
                self._give_up(dev, rejection.id.bytes, rejection.discard)
        elif pending:
            mutation = r.choice(pending)
            told = dev.model.find(mutation.id.bytes)
            if r.random() < 0.5:
                self.write(dev, mutation)
                return
            try:
                self._give_up(dev, mutation.id.bytes, mutation.withdraw)
            except AlreadySent:
                self.checkers.counts["already sent"] += 1
                return
            self.checkers.must(told is not None and not told.sent, "exactly once", f"{dev.name} took back what it has sent")

    def _give_up(self, dev: Device, id_: bytes, how: Callable[[], None]) -> None:
        how()
        self.note(f"{dev.name} gives up {id_.hex()}")
        self.checkers.counts["given up"] += 1
        self.checkers.advance(dev, "given up", lambda model: model.give_up(id_))

    def _corrected(self, dev: Device, old: bytes, writing: Writing, listed: set[bytes]) -> None:
        self.checkers.counts[f"corrections {writing.ended}"] += 1
        told = dev.model.find(old)
        if writing.ended == "crashed":
            new = [i for i in dev.states()["pending"] if i not in listed and dev.model.find(i) is None]
            writing.id = new[0] if new else b""
        if writing.ended in ("refused", "already sent") or not writing.id:
            self.checkers.advance(dev, f"correction {writing.ended}", lambda model: None)
            return
        self.checkers.must(told is not None and (told.state == "rejected" or not told.sent), "exactly once",
                           f"{dev.name} corrected what it has sent")  # fmt: skip
        assert told is not None
        writing.intent = told.intent

        def corrected(model: Model) -> None:
            _, follow = model.correct(old)
            before = model.shown()
            new = model.note(writing.id, writing.intent, dev.changes(writing, before), before)
            self.ledger[writing.id] = new
            follow(new)

        self.checkers.advance(dev, "correction", corrected)

    def draft(self, dev: Device) -> None:
        """Something that never leaves the device."""
        n, text = self.rng.randrange(5), f"DRAFT{self.head.tag()}"
        dev.draft(n, text)
        self.checkers.advance(dev, "draft", lambda model: model.drafts.update({n: text}))

    # -- the end

    def settle(self) -> None:
        """Faults stop: all is answered within a bounded number of rounds, and one more sync moves nothing."""
        self.note("peace")
        self.faults = {}
        self.network.queue.clear()
        self.head.clock.ahead = 0.0
        self.time.seconds += 60.0
        for dev in self.devices:
            dev.clock.ahead, dev.cut_off = 0.0, 0
            if dev.until is not None:
                dev.select(dev.chosen, dev.zone)
            for kind in list(dev.exchanges):
                self.network.give_up(dev, kind)
        for _ in range(2):  # the second time for what others have sent meanwhile
            for dev in self.devices:
                self._rounds(dev)
        for dev in self.devices:
            self.time.seconds += 10.0
            self._drain(dev, "pull")
            for kind, wanted in (("push", "nothing"), ("pull", "same")):
                result = self._drain(dev, kind)
                self.checkers.must(result == wanted, "settled", f"{dev.name}: one more {kind} is {result}")

    def alone(self) -> None:
        """One write that nothing else hides: every device that pulls then has seen it."""
        self.head.write()
        self.head.dump()
        self.time.seconds += 10.0
        for dev in self.devices:
            self._drain(dev, "pull")

    def _rounds(self, dev: Device) -> None:
        for n in range(ROUNDS_MAX):
            self.time.seconds += 10.0
            push, pull = self._drain(dev, "push"), self._drain(dev, "pull")
            self.checkers.counts["rounds at the end, at most"] = max(n + 1, self.checkers.counts["rounds at the end, at most"])
            if push == "nothing" and pull == "same":
                return
        self.checkers.counts["unsettled"] += 1
        self.checkers.fail("settled", f"{dev.name} is not settled after {ROUNDS_MAX} rounds: {push}, {pull}")

    def _drain(self, dev: Device, kind: str) -> str:
        before = self.checkers.counts.copy()
        self.network.begin(dev, kind, load=True)
        while self.network.deliver():
            pass
        done = [k for k, n in self.checkers.counts.items() if k.startswith(f"{kind} ") and n > before[k]]
        return done[0].removeprefix(f"{kind} ") if len(done) == 1 else str(done)

    def judge(self) -> None:
        """What took effect, and what every device shows in the end."""
        self.checkers.once()
        for dev in self.devices:
            self.checkers.nothing_lost(dev)
        rows: Rows = self.head.dump()
        self.checkers.rows_are(rows, "at the end")
        self.note(f"rows {blake2b(repr(rows).encode(), digest_size=8).hexdigest()}")
        assert fields_of(False)

    def close(self) -> None:
        """Closes all files."""
        for dev in self.devices:
            dev.kill()
        self.head.stop()
        self.checkers.counts.update(
            {"fault: answered by another process": self.head.others, "receipts made compact": self.head.compacted}
        )
