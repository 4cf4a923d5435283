"""Killed in the middle: a device process while it writes, pushes or applies, and the authority's process while it serves.

The two are processes of their own and speak HTTP. A device prints the id of each transaction after its call has returned; when
everything has settled, each of them is on the authority exactly once.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

COUNTS = Path(__file__).resolve().parents[2] / "build" / "sigkill.json"
CONTRACT = """
from offlinekit import Collection, Field, Offer, Quick, Schema, field
from offlinekit.nodes import everything
class Order(Collection, writable=True):
    id: Field[str] = field(key=True)
    note: Field[str] = field(default="")
schema = Schema(Order, intents=["sell"])
offer = Offer(Quick("all", Order, everything))
"""
SERVER = """
import sys
from aiohttp import web
from contract import Order, everything, offer, schema
from offlinekit import Authority, SQLiteStore
from offlinekit_adapters.aiohttp_server import sync_routes
authority = Authority(SQLiteStore("head.db"), schema, offer=offer, scopes={Order: everything}, files="files")
with authority.transaction() as tx:
    tx.connection.execute("CREATE TABLE IF NOT EXISTS effect(id TEXT)")
@authority.intent("sell", writes={Order: "insert"})
def sell(changes, ctx):
    for order in changes.inserted(Order):
        ctx.connection.execute("INSERT INTO effect VALUES(?)", (order.id,))
app = web.Application()
app.add_routes(sync_routes(authority, authenticate=lambda request: ("ana", {})))
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
"""
DEVICE = """
import asyncio, os, sys
from contract import Order, offer, schema
from offlinekit import Replica
from offlinekit.exceptions import OfflinekitError
from offlinekit.exchange import Exchanger, Fetch
from offlinekit_adapters.http import HTTP
url = sys.argv[1]
def say(*words): print(*words, flush=True)
async def run(steps, transport):
    try:
        effect = next(steps)
        while True:
            fetching = isinstance(effect, Fetch)
            answer = await (transport.fetch(effect.name, effect.offset) if fetching else transport.exchange(effect.body))
            say("phase", "answer")
            effect = steps.send(answer)
    except StopIteration as stop:
        return stop.value.kind
async def main(first, count):
    replica = Replica.open("ana.db", schema, offer=offer, identity="ana")
    replica.configure().quick("all").until(None).save()
    transport, exchanger, n = HTTP(url), Exchanger(replica.store), first
    while count <= 0 or n < first + count:
        if count >= 0:
            say("phase", "write")
            with replica.transaction("sell") as tx:
                tx.insert(Order(id=f"o{n}"))
            say("committed", f"o{n}")
            n += 1
        kinds = []
        for phase, steps in (("push", exchanger.push), ("pull", exchanger.pull)):
            say("phase", phase)
            try:
                kinds.append(await run(steps(), transport))
            except OfflinekitError as error:
                say("error", type(error).__name__)
                kinds.append("error")
        if count < 0 and kinds[0] == "nothing" and kinds[1] == "same":
            break
    await transport.close()
    say("end", len(replica.pending()), len(replica.rejections()), replica.select(Order).count())
for line in sys.stdin:  # each order is run in a child, which need not import anything again
    pid = os.fork()
    if pid == 0:
        try:
            say("pid", os.getpid())
            asyncio.run(main(*map(int, line.split())))
        finally:
            os._exit(1 if sys.exc_info()[0] else 0)
    say("\\nexit", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


class World:
    """The two processes in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, text in (("contract", CONTRACT), ("server", SERVER), ("device", DEVICE)):
            (folder / f"{name}.py").write_text(text, encoding="utf-8")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.committed: list[str] = []
        self.runs = 0
        self.counts: Counter[str] = Counter()
        self.nursery = subprocess.Popen(
            [sys.executable, "device.py", f"http://127.0.0.1:{self.port}/sync"],
            cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.serve()

    def close(self) -> None:
        """Ends both."""
        self.server.kill()
        self.server.wait()
        self.nursery.communicate()

    def serve(self) -> None:
        """Starts the authority, and waits for its port."""
        self.server = subprocess.Popen([sys.executable, "server.py", str(self.port)], cwd=self.folder, stderr=subprocess.DEVNULL)
        for _ in range(400):
            with suppress(subprocess.TimeoutExpired):
                self.server.wait(timeout=0.02)
            assert self.server.poll() is None
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
        raise AssertionError("the server did not open its port")

    def device(self, count: int, *, lines: int | None, kill_server: bool = False, delay: float = 0.0) -> list[str]:
        """Runs the device; after so many lines of output it, or the authority, is killed."""
        self.runs += 1
        assert self.nursery.stdin is not None
        assert self.nursery.stdout is not None
        self.nursery.stdin.write(f"{self.runs * 1000} {count}\n")
        self.nursery.stdin.flush()
        said: list[str] = []
        pid = int(self.nursery.stdout.readline().split()[1])
        while not (line := self.nursery.stdout.readline()).startswith("exit "):
            if line.strip():
                said.append(line.strip())
            if lines is not None and len(said) == lines:
                lines = None
                threading.Timer(delay, os.kill, (self.server.pid if kill_server else pid, signal.SIGKILL)).start()
                if kill_server:
                    self.server.wait()
                    self.counts[f"authority in {' '.join(w.rstrip('0123456789') for w in said[-1].split())}"] += 1
                    self.serve()
        code = int(line.split()[1])
        if code == -signal.SIGKILL:
            self.counts[f"device in {' '.join(w.rstrip('0123456789') for w in said[-1].split())}"] += 1
        else:
            assert code == 0, said
        self.committed += [line.split()[1] for line in said if line.startswith("committed ")]
        return said


@pytest.mark.slow
@pytest.mark.invariant("I1", "I3", "I9")
def test_what_was_committed_is_on_the_authority_exactly_once(tmp_path: Path) -> None:
    rng, world = random.Random(7), World(tmp_path)
    try:
        for _ in range(50):
            world.device(0, lines=rng.randrange(2, 40), delay=rng.random() * 0.01)
        for _ in range(50):
            world.device(6, lines=rng.randrange(2, 20), kill_server=True, delay=rng.random() * 0.01)
        _, pending, refused, shown = world.device(-1, lines=None)[-1].split()
    finally:
        world.close()
    script = "import sqlite3; d = sqlite3.connect('head.db'); print(*(r[0] for r in d.execute('SELECT id FROM effect')))"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    effects = Counter(done.stdout.split())
    assert len(set(world.committed)) == len(world.committed) > 70
    assert (pending, refused, shown) == ("0", "0", str(len(effects)))
    assert [id_ for id_ in world.committed if effects[id_] != 1] == []
    assert set(effects.values()) == {1}
    world.counts["committed"] = len(world.committed)
    COUNTS.parent.mkdir(exist_ok=True)
    COUNTS.write_text(json.dumps(dict(sorted(world.counts.items())), indent=1), encoding="utf-8")
