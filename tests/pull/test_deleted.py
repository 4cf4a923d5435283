"""Within a history, a deleted record never comes back unless somebody writes it again: whatever is late, lost or long away.

The only thing believed here is what the authority's program wrote and deleted; the oracle of the other tests is not asked.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offlinekit.exchange import Effect
from offlinekit.protocol import messages as m
from offlinekit.protocol.codec import decode_answer
from tests.pull.pair import Pair, shown
from tests.pull.world import DAY, Chosen, day_of

Place = tuple[str, str]  # collection and key
PLACES: list[Place] = [*(("order", f"o{n}") for n in range(3)), *(("product", f"p{n}") for n in range(2))]
ALL: Chosen = {"order": {"quick": {"big": {}}}, "product": {"quick": {"like": {"text": "cal"}}}}
SOME: Chosen = {"order": {"picks": [("o0",)]}, "product": {"picks": [("p0",)]}}


class Story:
    """What happens to five records, of which one device knows by its pulls alone."""

    def __init__(self, folder: Path) -> None:
        self.pair = Pair(folder)
        self.head, self.ana = self.pair.head, self.pair.ana
        self.ana.select(ALL)
        self.gone: set[Place] = set()  # deleted, and not written again
        self.known: set[Place] = set()  # those that the device has pulled since
        self.late: list[bytes] = []  # answers that the network may deliver once more
        self.kinds: set[str] = set()

    # -- what the authority's programs do

    def write(self, place: Place) -> None:
        """Writes the record, whether it was there or not."""
        collection, key = place
        values = {"order": ("k0", day_of(self.head), "open", 60), "product": ("Cal", "g0", 1, 1)}[collection]
        self.head.sql(f'REPLACE INTO "{collection}" VALUES(?,?,?,?,?)', key, *values)
        self.rewritten(place)

    def delete(self, place: Place) -> None:
        """Deletes the record."""
        collection, key = place
        self.head.db.execute(f'DELETE FROM "{collection}" WHERE {self.key(place)}=?', (key,))
        if self.head.db.changes():
            self.gone.add(place)

    @staticmethod
    def key(place: Place) -> str:
        """The name of the key."""
        return "id" if place[0] == "order" else "sku"

    def rewritten(self, place: Place) -> None:
        """Somebody wrote it again, so that it may be seen again."""
        self.gone.discard(place)
        self.known.discard(place)

    # -- what happens to the device

    def pull(self, place: Place) -> None:
        """A pull that goes through knows of every deletion before it."""
        gone = set(self.gone)
        steps = self.ana.exchanger.pull()
        self.finish(steps, next(steps), gone)

    def finish(self, steps: object, effect: Effect, gone: set[Place]) -> None:
        """Drives a pull to its end."""
        try:
            while True:
                body = self.ana.serve(effect)
                if isinstance(self.ana.answers[-1], m.Delta):
                    self.late = [*self.late[-4:], body]
                effect = steps.send(body)  # type: ignore[attr-defined]
        except StopIteration as stop:
            kind = stop.value.kind
        self.kinds.add(kind)
        assert kind in ("same", "delta", "bulk"), kind
        self.known |= gone & self.gone

    def lost(self, place: Place) -> None:
        """The answer to a pull is lost, or comes later."""
        steps = self.ana.exchanger.pull()
        body = self.ana.serve(next(steps))
        steps.close()
        if isinstance(decode_answer(body), m.Delta):
            self.late = [*self.late[-4:], body]

    def overtaken(self, place: Place) -> None:
        """The record is deleted, and the deletion pulled, while an answer that still holds it is on its way."""
        steps = self.ana.exchanger.pull()
        body = self.ana.serve(next(steps))
        self.delete(place)
        self.pull(place)
        self.give(steps, body)

    def replayed(self, place: Place) -> None:
        """The network gives an old answer to a new request."""
        if self.late:
            steps = self.ana.exchanger.pull()
            next(steps)
            self.give(steps, self.late[0])

    def give(self, steps: object, body: bytes) -> None:
        try:
            steps.send(body)  # type: ignore[attr-defined]
        except StopIteration as stop:
            self.kinds.add(stop.value.kind)
        steps.close()  # type: ignore[attr-defined]

    def away(self, place: Place) -> None:
        """The device is away for longer than anything is kept."""
        self.pair.clock.seconds += 400 * DAY

    def forget(self, place: Place) -> None:
        """The authority's process starts anew."""
        self.head.restart()

    def reopen(self, place: Place) -> None:
        """So does the device's."""
        self.ana.reopen()

    def narrow(self, place: Place) -> None:
        """Less is chosen: what goes was not deleted."""
        self.ana.select(SOME)

    def widen(self, place: Place) -> None:
        """All is chosen again."""
        self.ana.select(ALL)

    def edit(self, place: Place) -> None:
        """The device changes a record that may be deleted, and sends that: it is no new record."""
        if place[0] == "order":
            self.ana.write(("UPDATE \"order\" SET status='done' WHERE id=?", (place[1],)))
            self.ana.push()

    def insert(self, place: Place) -> None:
        """The device writes a record anew, which is somebody."""
        if place[0] == "order" and self.ana.write(
            ("INSERT INTO \"order\"(id,customer,day,status,total) VALUES(?,'k0',?,'open',60)", (place[1], day_of(self.head)))
        ):
            self.rewritten(place)
            self.ana.push()

    # -- the rule

    def check(self) -> None:
        """Nothing that the device knows to be deleted is shown, but for records with changes that are not settled."""
        pending = set(self.ana.store.reader().execute("SELECT collection,key FROM ok_touch"))
        if not pending:
            held = {(c, key) for c in ("order", "product") for key in shown(self.ana, c)}
            assert not held & self.known, f"back from the dead: {held & self.known}"


HAPPENS: dict[str, Callable[[Story, Place], None]] = {
    name: getattr(Story, name)
    for name in (
        "write", "delete", "pull", "lost", "overtaken", "replayed", "away", "forget", "reopen", "narrow", "widen", "edit",
        "insert",
    )
}  # fmt: skip
OFTEN = [*HAPPENS, "write", "delete", "delete", "pull", "pull", "pull"]


@pytest.mark.slow
@pytest.mark.invariant("I8")
@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from(OFTEN), st.sampled_from(PLACES)), min_size=10, max_size=40))
def test_a_deleted_record_never_comes_back(happens: list[tuple[str, Place]]) -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        story = Story(Path(folder))
        try:
            for place in PLACES:
                story.write(place)
            for what, place in happens:
                HAPPENS[what](story, place)
                story.check()
        finally:
            story.pair.close()


@pytest.mark.invariant("I8")
def test_a_deletion_outlives_every_answer_that_was_made_before_it(tmp_path: Path) -> None:
    """One such story, told to its end: an answer that holds the record comes after the deletion, twice, and a year later."""
    story = Story(tmp_path)
    place = ("order", "o0")
    story.write(place)
    story.overtaken(place)
    for _ in range(2):
        story.replayed(place)
        story.away(place)
        story.reopen(place)
        story.check()
    assert story.known == {place}
    assert "stale" in story.kinds
    story.write(place)
    story.pull(place)
    assert shown(story.ana, "order") == {"o0"}, "it was written again"
    story.pair.close()
