"""A program with a replica that shares its file with others; run by tests, which tell it what to do line by line.

It evaluates each line and answers with the result as JSON. `stop_at("built")` makes it stop there in the next load: it says so,
and goes on after the next line.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from typing import Any

from offlinekit import Always, Authority, Collection, Field, Offer, Replica, Schema, SQLiteStore, everything, field
from offlinekit.exchange import Exchanger, Fetch
from offlinekit.protocol.codec import decode_answer
from offlinekit.store.sqlite.generations import Build
from offlinekit.store.sqlite.replica_store import ReplicaStore


class Part(Collection, own_file=True):
    sku: Field[str] = field(key=True)
    name: Field[str] = field(search=True)


class Order(Collection, writable=True):
    id: Field[str] = field(key=True)


SCHEMA = Schema(Part, Order, intents=["sell"])
OFFER = Offer(always=[Always(Part), Always(Order)])
# After which call a load stops; "flipped" is before the one that deletes what was replaced.
PLACES = {"built": (Build, "finish"), "sealed": (Build, "seal"), "flipped": (ReplicaStore, "replaced")}


def authority_in(folder: str) -> Authority:
    """The authority, which any process may serve."""
    store = SQLiteStore(os.path.join(folder, "head.db"))
    made = Authority(
        store,
        SCHEMA,
        offer=OFFER,
        scopes={Part: everything, Order: everything},
        files=os.path.join(folder, "files"),
        snapshot_age_s=0,
    )
    made.allow("sell", writes={Order: "insert"})
    made.puller.inline_rows = 3
    return made


class Program:
    """The replica and what tests ask of it."""

    def __init__(self, folder: str) -> None:
        self.path = os.path.join(folder, "replica.db")
        self.authority = authority_in(folder)
        self.open()

    def open(self) -> None:
        """As at the start of a program."""
        self.replica = Replica.open(self.path, SCHEMA, offer=OFFER, identity="ana", zone="UTC")
        self.replica.store.load_least = 3
        self.exchanger = Exchanger(self.replica.store)

    def close(self) -> None:
        """As at its end."""
        self.replica.close()

    def serve(self, effect: Any) -> bytes:
        """What the authority gives back."""
        if isinstance(effect, Fetch):
            return self.authority.fetch(effect.name, effect.offset, "ana")
        return self.authority.handle(effect.body, "ana", {})

    def ask(self, *, fetch: bool = False, load: bool = False) -> None:
        """The first half of a pull: until its answer, or the first part of its file, is here."""
        self.steps = self.exchanger.pull(load=load)
        effect = next(self.steps)
        self.body = self.serve(effect)
        while type(decode_answer(self.body)).__name__.startswith("Need"):
            self.body = self.serve(self.steps.send(self.body))
        if fetch:
            effect = self.steps.send(self.body)
            assert isinstance(effect, Fetch)
            self.body = self.serve(effect)

    def take(self) -> str:
        """The second half; the kind of its result."""
        try:
            while True:
                self.body = self.serve(self.steps.send(self.body))
        except StopIteration as stop:
            return str(stop.value.kind)

    def pull(self, *, load: bool = False) -> str:
        """Both; what another run of the program had begun is gone on with."""
        steps = self.exchanger.pull(load=load)
        try:
            effect = next(steps)
            while True:
                effect = steps.send(self.serve(effect))
        except StopIteration as stop:
            return str(stop.value.kind)

    def count(self) -> int:
        """The parts that a select sees."""
        return self.replica.select(Part).count()

    def found(self, word: str) -> int:
        """The parts that a search finds."""
        return self.replica.select(Part).search(word).count()

    def sell(self, id_: str) -> int:
        """Saves an order, and counts the parts that its transaction sees."""
        with self.replica.transaction("sell") as tx:
            tx.insert(Order(id=id_))
            return len(tx.select(Part).all())

    def begin(self) -> int:
        """Begins a read transaction and an iteration, and leaves both open."""
        self.reading = self.replica.store.reader()
        self.reading.execute("BEGIN")
        self.rows = iter(self.reading.execute("SELECT sku FROM part ORDER BY sku"))
        return 1 if next(self.rows, None) else 0

    def end(self) -> list[int]:
        """What the iteration, the transaction and then a new select see."""
        again = self.replica.store.reader()  # may not take away what is being read
        rest, inside = len(list(self.rows)), again.execute("SELECT count(*) FROM part").get
        self.reading.execute("COMMIT")
        return [rest, inside, self.count()]


def say(word: str, value: Any = None) -> None:
    """One line to the test."""
    print(json.dumps([word, value]), flush=True)


def stop_at(place: str) -> None:
    """Stops there, once, until the next line comes."""
    owner, name = PLACES[place]
    original = getattr(owner, name)

    @functools.wraps(original)
    def stopped(*args: Any) -> Any:
        setattr(owner, name, original)
        result = original(*args) if place != "flipped" else None
        say(place)
        sys.stdin.readline()
        return result if place != "flipped" else original(*args)

    setattr(owner, name, stopped)


def main() -> None:
    """Does what the lines say."""
    names: dict[str, Any] = {"stop_at": stop_at, "program": Program(sys.argv[1])}
    say("ready")
    for line in sys.stdin:
        say("done", eval(line, names))


if __name__ == "__main__":
    main()
