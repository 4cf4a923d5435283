"""The parties of `test_sigkill.py`: an authority that serves over HTTP, and a device that writes, pushes and pulls without end.

    python -m tests.process.parties FOLDER serve|device PORT

Each line of the input starts one of them in a child process, which need not import anything again; its words are the child's
arguments. The child says `pid N` at once and what it does as it does it; when it has ended, the parent says `exit N`.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from typing import Any

from aiohttp import web

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
from offlinekit.exceptions import OfflinekitError
from offlinekit.exchange import Exchanger, Fetch, Steps
from offlinekit_adapters.aiohttp_server import sync_routes
from offlinekit_adapters.http import HTTP


class Order(Collection, writable=True):
    """What the device writes; long enough to be cut."""

    id: Field[str] = field(key=True)
    note: Field[str] = field(default="")


ROUNDS_MAX = 30  # within which all settles, once nothing does harm any more
SCHEMA = Schema(Order, intents=["sell"])
OFFER = Offer(Quick("all", Order, everything))


def say(*words: object) -> None:
    """One line to whoever started this."""
    print(*words, flush=True)


def make_tables(folder: str) -> None:
    """The authority's file, with a table that shows how often each order took effect."""
    authority = Authority(SQLiteStore(os.path.join(folder, "head.db")), SCHEMA, offer=OFFER, scopes={Order: everything})
    with authority.transaction() as tx:
        tx.connection.execute("CREATE TABLE effect(id TEXT)")
    authority.close()


def serve(folder: str, port: int) -> None:
    """Serves until it is killed."""
    store = SQLiteStore(os.path.join(folder, "head.db"))
    authority = Authority(store, SCHEMA, offer=OFFER, scopes={Order: everything}, files=os.path.join(folder, "files"))

    @authority.intent("sell", writes={Order: "insert"})
    def sell(changes: Changes, ctx: Context) -> None:
        for order in changes.inserted(Order):
            ctx.connection.execute("INSERT INTO effect VALUES(?)", (order.id,))

    async def main() -> None:
        app = web.Application()
        app.add_routes(sync_routes(authority, authenticate=lambda request: ("ana", {})))
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        say("ready")
        await asyncio.Event().wait()

    asyncio.run(main())


async def exchange(steps: Steps, transport: HTTP) -> str:
    """Drives one exchange to its end; says when an answer has come and is about to be taken in."""
    try:
        effect = next(steps)
        while True:
            if isinstance(effect, Fetch):
                answer = await transport.fetch(effect.name, effect.offset)
            else:
                answer = await transport.exchange(effect.body)
            say("in", "answer")
            effect = steps.send(answer)
    except StopIteration as stop:
        return str(stop.value.kind)


async def use(folder: str, port: int, first: int, settling: bool) -> None:
    """Writes orders from a number on, each followed by a push and a pull, until it is killed; or settles, and ends."""
    replica = Replica.open(os.path.join(folder, "ana.db"), SCHEMA, offer=OFFER, identity="ana")
    replica.configure().quick("all").until(None).save()
    transport, exchanger, number = HTTP(f"http://127.0.0.1:{port}/sync"), Exchanger(replica.store), first
    for _ in range(ROUNDS_MAX) if settling else itertools.count():
        if not settling:
            say("in", "write")
            with replica.transaction("sell") as tx:
                tx.insert(Order(id=f"o{number}", note=f"{number} " * 40))
            say("committed", f"o{number}")
            number += 1
        kinds: list[str] = []
        for phase, steps in (("push", exchanger.push), ("pull", exchanger.pull)):
            say("in", phase)
            try:
                kinds.append(await exchange(steps(), transport))
            except OfflinekitError as error:
                say("error", type(error).__name__)
                kinds.append("")
        if settling and kinds == ["nothing", "same"]:
            break
    await transport.close()
    say("settled", len(replica.pending()), len(replica.rejections()), *sorted(order.id for order in replica.select(Order)))
    replica.close()


def main(folder: str, what: str, port: int) -> None:
    """Starts a child for each line."""
    runs: dict[str, Any] = {
        "serve": lambda words: serve(folder, port),
        "device": lambda words: asyncio.run(use(folder, port, int(words[0]), words[1:] == ["settle"])),
    }
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                say("pid", os.getpid())
                runs[what](line.split())
            finally:
                os._exit(1 if sys.exc_info()[0] else 0)
        say("\nexit", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
