"""Killed in the middle: a device while it writes, pushes or applies, and either of two authority processes on one file.

All are processes of their own. Between them is a line that does harm. A device says the id of each transaction after its call
has returned; when everything has settled, each of them is on the authority exactly once.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.evidence import keep
from tests.process.faulty_line import FAULTS, FaultyLine
from tests.process.parties import make_tables

ROOT = Path(__file__).resolve().parents[2]
SEED = int(os.environ.get("SIGKILL_SEED", "7"))
ROUNDS = 200
LINES_MAX = 48  # that a device says before something is killed: seven or so of its transactions
DELAY_S_MAX = 0.01
WHO, PHASES = ("device", "authority"), ("write", "push", "pull", "answer")
STRIDE = 1000  # numbers of orders that are kept for one life of a device


class Nursery:
    """A process that starts one party again and again; the party's process is `pid`."""

    def __init__(self, folder: Path, what: str, port: int) -> None:
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.process.parties", str(folder), what, str(port)], cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.pid = 0

    def start(self, *words: object) -> None:
        """Starts the party."""
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        self.pid = int(self.read()[1])

    def read(self) -> list[str]:
        """The words of the next line that is not empty; a line that the kill has cut is read as it is."""
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            if line.strip():
                return line.split()
        raise AssertionError("a nursery ended")

    def kill(self, delay_s: float = 0.0) -> list[list[str]]:
        """As a power cut would, for the process, after a while; returns what it had still said."""
        blow = threading.Timer(delay_s, os.kill, (self.pid, signal.SIGKILL))
        blow.start()
        said = []
        while (words := self.read())[0] != "exit":
            said.append(words)
        blow.join()
        assert words[1] == str(-signal.SIGKILL), said
        return said

    def close(self) -> None:
        """Ends the nursery; its party must have ended."""
        self._process.communicate()


class World:
    """A device, two authority processes, and the line between them."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.folder, self.rng = folder, rng
        make_tables(str(folder))
        ports = [free_port(), free_port()]
        self.line = FaultyLine(ports, SEED)
        self.authorities = [Nursery(folder, "serve", port) for port in ports]
        self.device = Nursery(folder, "device", self.line.port)
        self.committed: list[str] = []
        self.kills: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self._lives = 0

    def serve(self, number: int) -> None:
        """Starts an authority, and waits until it serves."""
        self.authorities[number].start()
        assert self.authorities[number].read() == ["ready"]

    def use(self) -> None:
        """Starts the device, which writes orders of its own numbers."""
        self._lives += 1
        self.device.start(self._lives * STRIDE)

    def hear(self, words: list[str], phase: str) -> str:
        """Notes a line of the device; returns the phase that it is in then."""
        if words[0] == "committed" and len(words) == 2:
            self.committed.append(words[1])
        elif words[0] == "error":
            self.errors[words[-1]] += 1
        elif words[0] == "in" and len(words) == 2:
            return words[1]
        return phase

    def round(self) -> None:
        """The device works for a while; then it or an authority is killed, and started again."""
        phase = "start"
        for _ in range(self.rng.randrange(1, LINES_MAX)):
            phase = self.hear(self.device.read(), phase)
        delay_s = self.rng.random() * DELAY_S_MAX  # so that the blow falls anywhere between two lines
        victim = self.rng.choice(["device", "device", "authority 0", "authority 1"])
        if victim == "device":
            for words in self.device.kill(delay_s):
                phase = self.hear(words, phase)
            self.use()
        else:
            self.authorities[int(victim[-1])].kill(delay_s)
            self.serve(int(victim[-1]))
        self.kills[f"{victim.rstrip(' 01')} in {phase}"] += 1

    def settle(self) -> list[str]:
        """Without harm, until nothing moves any more; returns what the device then says."""
        for words in self.device.kill():
            self.hear(words, "")
        self.line.mend()
        self.device.start(0, "settle")
        while (words := self.device.read())[0] != "settled":
            assert words[0] != "exit", words
        assert self.device.read() == ["exit", "0"]
        return words[1:]


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """Everything started; and ended, whatever happens."""
    made = World(folder, random.Random(SEED))
    try:
        for number in range(2):
            made.serve(number)
        made.use()
        yield made
    finally:
        made.line.close()
        for nursery in (made.device, *made.authorities):
            if nursery.pid and Path(f"/proc/{nursery.pid}").exists():
                os.kill(nursery.pid, signal.SIGKILL)
            nursery.close()


def column(path: Path, sql: str) -> list[str]:
    """The first column of a query, by a process of its own: no two copies of SQLite on one file."""
    script = "import sqlite3, sys; print(*(r[0] for r in sqlite3.connect(sys.argv[1]).execute(sys.argv[2])))"
    done = subprocess.run([sys.executable, "-c", script, str(path), sql], capture_output=True, text=True, check=True)
    return done.stdout.split()


def report(found: World, effects: Counter[str], lost: int, doubled: int, seconds: float) -> None:
    """Writes what happened."""
    figures = {
        "seconds": round(seconds, 1),
        "rounds": ROUNDS, "committed": len(found.committed), "effects": sum(effects.values()), "lost": lost, "doubled": doubled,
        "kills": dict(sorted(found.kills.items())), "connections": dict(sorted(found.line.counts.items())),
        "errors": dict(sorted(found.errors.items())), "sqlite": sqlite3.sqlite_version,
    }  # fmt: skip
    keep("sigkill", figures, seed=SEED)


@pytest.mark.slow
@pytest.mark.invariant("I1", "I3", "I9")
def test_what_was_committed_is_on_the_authority_exactly_once(tmp_path: Path) -> None:
    began = time.monotonic()
    with world(tmp_path) as it:
        for _ in range(ROUNDS):
            it.round()
        pending, refused, *shown = it.settle()
    held = column(tmp_path / "head.db", 'SELECT id FROM "order"')
    effects = Counter(column(tmp_path / "head.db", "SELECT id FROM effect"))
    lost = [id_ for id_ in it.committed if not effects[id_]]
    doubled = [id_ for id_, times in effects.items() if times > 1]
    report(it, effects, len(lost), len(doubled), time.monotonic() - began)
    assert (lost, doubled) == ([], [])
    assert (pending, refused) == ("0", "0")
    assert sorted(shown) == sorted(held) == sorted(effects)
    assert len(set(it.committed)) == len(it.committed) > ROUNDS
    assert {*FAULTS, "away"} <= set(it.line.counts), "a fault never happened"
    assert {f"{who} in {phase}" for who in WHO for phase in PHASES} <= set(it.kills), "nobody was killed there"
