"""Checkers: what a user sees and what crosses the wire, against what the oracle and the calls have promised.

They read the replica through its public API, the authority's application tables by plain SQL, and messages as anybody on the line
can. They never look at a table of ours. Every figure of `build/sim.json` is counted here or where a fault is done.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from offlinekit.compress import decompress
from offlinekit.exceptions import SelectionExpired
from offlinekit.protocol import messages as m
from offlinekit.testing._files import databases, rows_in
from offlinekit.testing.simulation.device import Device
from offlinekit.testing.simulation.head import Head
from offlinekit.testing.simulation.model import Flat, Model
from offlinekit.testing.simulation.oracle import FIELDS, Court, Rows, View
from offlinekit.view import unpack_view

__all__ = ["Checkers", "ViolationError"]

_TAG = re.compile(rb"<t\d+>")
_MODELS_MAX = 12
Option = Callable[[Model], bool | None]


class ViolationError(AssertionError):
    """A promise was broken; `checker` says which."""

    def __init__(self, checker: str, detail: str) -> None:
        super().__init__(f"{checker}: {detail}")
        self.checker = checker


class Checkers:
    """All checkers, and what they counted."""

    def __init__(self, head: Head) -> None:
        self.head, self.counts = head, Counter[str]()
        self.told: dict[str, set[bytes]] = {}  # tags that receipts have rightly told an identity of

    def fail(self, checker: str, detail: str) -> None:
        """Counts and raises."""
        self.counts[f"violated {checker}"] += 1
        raise ViolationError(checker, detail)

    def must(self, good: bool, checker: str, detail: str) -> None:
        """Fails unless it is good."""
        if not good:
            self.fail(checker, detail)

    # -- what a device shows

    def advance(self, dev: Device, what: str, *options: Option) -> None:
        """Something happened on a device: of what may have happened, at least one must agree with what its user sees.

        An option changes a copy of the model; False says that it is impossible.
        """
        possible = []
        for model in dev.models:
            for option in options:
                made = model.copy()
                if option(made) is not False:
                    possible.append(made)
        self.must(bool(possible), "view", f"{dev.name}: {what}: an answer leaves out what has changed, or is impossible")
        drafts, states = dev.drafts(), dev.states()
        try:
            seen: Flat | None = dev.visible()
            self.counts["views compared"] += 1
        except SelectionExpired:
            seen = None
        self.must(
            (seen is None) == dev.replica.expired, "expiry", f"{dev.name}: {what}: what is held can be read, or not, wrongly"
        )
        fitting = []
        for model in possible:
            if (
                (seen is None or model.shown() == seen)
                and model.drafts == drafts
                and all(model.in_state(state) == ids for state, ids in states.items())
            ):
                fitting.append(model)
        if not fitting:
            self._explain(dev, what, possible[0], seen, drafts, states)
        dev.models = _distinct(fitting)[:_MODELS_MAX]

    def _explain(self, dev: Device, what: str, model: Model, seen: Any, drafts: Any, states: Any) -> None:
        for state, ids in states.items():
            wanted = model.in_state(state)
            if wanted != ids:
                lost, more = [i.hex() for i in wanted if i not in ids], [i.hex() for i in ids if i not in wanted]
                self.fail("outbox", f"{dev.name}: {what}: {state}: lost {lost}, unexpected {more}, {len(ids)} of {len(wanted)}")
        self.must(model.drafts == drafts, "drafts", f"{dev.name}: {what}: {drafts} instead of {model.drafts}")
        if seen is None:
            self.fail("view", f"{dev.name}: {what}: nothing fits")
        shown = model.shown()
        lines = [f"{p} is missing: {shown[p]}" for p in shown if p not in seen]
        lines += [f"{p} is too much: {seen[p]}" for p in seen if p not in shown]
        lines += [f"{p} is {seen[p]}, not {shown[p]}" for p in shown if p in seen and seen[p] != shown[p]]
        self.fail("view", f"{dev.name}: {what}: " + "; ".join(lines[:6]))

    # -- the wire

    def no_leak(self, identity: str, body: bytes, allowed: Iterable[set[str]], *, receipts: bool = False,
                hidden: bool = False) -> None:  # fmt: skip
        """No content of a record outside the scope is in an answer, and no field that does not replicate."""
        content = _content(body)
        found = set(_TAG.findall(content))
        self.counts["tags seen on the wire"] += len(found)
        good = {t.encode() for tags in allowed for t in tags}
        told = self.told.setdefault(identity, set())
        if receipts:
            told |= found & good
            good |= told
        shows = b"HUSH" in content and not hidden
        self.counts["leaked"] += len(found - good) + shows
        self.must(found <= good, "scope", f"{identity} was told {sorted(found - good)[:5]}")
        self.must(not shows, "hidden", f"{identity} was told a field that does not replicate")

    def may_be_told(self, identity: str, court: Court) -> None:
        """What receipts may tell an identity for ever: records as they were in its scope when its mutations were answered."""
        self.told.setdefault(identity, set()).update(t.encode() for t in court.tellable)

    def no_leak_in_file(self, identity: str, data: bytes, allowed: Iterable[set[str]]) -> dict[str, set[int]]:
        """The same for a file; the ordinals in it by collection."""
        for _, content in databases(data):
            self.no_leak(identity, b"\0\0\0\0" + content, allowed)
        return {name: {int(str(row[0])) for row in rows} for name, rows in rows_in(data).items()}

    def records(self, dev: Device, collection: str, where: tuple[Any, ...], answer: m.Records) -> None:
        """A remote read holds exactly what passes in the scope, as it is now."""
        view = View(self.head.rows, self.head.rights(dev.identity))
        of = self.head.rows[collection]
        must = {k: r for k, r in of.items() if view.allowed(collection, k) and view.where(where, r) is True}
        rows = [dict(zip(answer.fields, row, strict=True)) for row in answer.rows]
        have = {Model.key_of(collection, r)[1]: r for r in rows}
        self.counts["remote reads compared"] += 1
        self.must(have == must and answer.total == len(must), "remote read",
                  f"{dev.name} reads {sorted(have)} of {collection}, not {sorted(must)}")  # fmt: skip

    def drops(self, dev: Device, held: Mapping[str, set[int]], answer: m.Delta, images: Mapping[str, set[int]]) -> None:
        """An answer names no record to be dropped that the device did not hold: its ordinal would tell of somebody else's.

        Nor any that was not in the image which comes with it.
        """
        for group in answer.groups:
            for name, part in group.collections.items():
                extra = set(unpack_view(part.drop)) - images.get(name, held.get(name, set()))
                self.must(not extra, "scope", f"{dev.name} is to drop {sorted(extra)[:5]} of {name}, which it never held")

    # -- pushes

    def sent(self, dev: Device, request: m.Push, before: frozenset[bytes]) -> None:
        """What leaves the device is what its user committed, in an order in which each follows what it waits for.

        `before`: what this very push has sent already, and its user may have given up since.
        """
        earlier: set[bytes] = set()
        ids = [w.id for w in request.mutations]
        for wire in request.mutations:
            told = dev.model.find(wire.id)
            if told is None and wire.id in before:
                continue
            if told is None:
                self.fail("outbox", f"{dev.name} sends {wire.id.hex()}, which its user has not committed or has taken back")
                continue
            self.must(wire.intent == told.intent, "outbox", f"{dev.name} sends another intent of {wire.id.hex()}")
            self.must(set(wire.after) == told.after, "order",
                      f"{dev.name}: {wire.id.hex()} waits for {[a.hex() for a in wire.after]}"
                      f" instead of {sorted(a.hex() for a in told.after)}")  # fmt: skip
            changes = {(c.collection, tuple(c.key)): (c.op, dict(c.after)) for c in wire.changes}
            wanted = {p: (op, {} if op == "delete" else values) for p, (op, values) in told.changes.items()}
            self.must(changes == wanted, "outbox", f"{dev.name} sends {changes} instead of {wanted}")
            late = [a for a in wire.after if a in ids and a not in earlier]
            self.must(not late, "order", f"{dev.name} sends {wire.id.hex()} before what it waits for")
            earlier.add(wire.id)
            told.sent = True
            self.counts["mutations sent"] += 1

    def judged(self, who: str, before: Court, predicted: Mapping[bytes, Any], answer: m.Pushed, known: set[bytes],
               effects: list[str]) -> None:  # fmt: skip
        """The authority did to its records, and told of each mutation, what the court says; nothing else."""
        said = {r.id: r for r in answer.results}
        self.must(len(said) == len(answer.results), "receipt", f"{who} is answered twice about one mutation")
        for id_ in sorted(said.keys() | predicted.keys()):
            have, want = said.get(id_), predicted.get(id_)
            told = None if have is None else (have.outcome, have.code)
            wanted = None if want is None else (want.outcome, want.code)
            self.must(told == wanted, "receipt" if id_ in known else "outcome",
                      f"{who}: {id_.hex()} is {told} ({have.message if have else ''}), not {wanted}")  # fmt: skip
            self.counts[f"mutation {wanted[0] if wanted else 'unanswered'}"] += id_ not in known
            if have is not None and want is not None and id_ not in known and want.outcome in ("accepted", "transformed"):
                values = {(r.collection, tuple(r.key)): r.values for r in have.records if r.gone or r.values is not None}
                self.must(values == dict(want.values), "outcome", f"{who}: {id_.hex()} tells {values}, not {dict(want.values)}")
        self.rows_are(before.rows, f"after a push of {who}")
        self.must(self.head.effects == effects + before.effects, "exactly once",
                  f"after a push of {who} hooks have left {self.head.effects[len(effects):]}, not {before.effects}")  # fmt: skip

    def rows_are(self, rows: Rows, when: str) -> None:
        """The authority's records are these."""
        self.counts["authority compared"] += 1
        for name in FIELDS:
            have, want = self.head.rows[name], rows[name]
            if have != want:
                keys = [k for k in sorted(have.keys() | want.keys(), key=repr) if have.get(k) != want.get(k)]
                self.fail("authority", f"{when}: {name} {keys[0]} is {have.get(keys[0])}, not {want.get(keys[0])}")

    # -- at the end

    def once(self) -> None:
        """Nothing took effect twice."""
        twice = [t for t, n in Counter(self.head.effects).items() if n > 1]
        self.counts["doubled"] += len(twice)
        self.must(not twice, "exactly once", f"took effect more than once: {twice[:5]}")

    def nothing_lost(self, dev: Device) -> None:
        """Every mutation is answered, its answer is the authority's, and what was accepted is in this history."""
        for told in dev.model.told:
            verdict = self.head.history.verdicts.get(told.id)
            who = f"{dev.name}: {told.id.hex()}"
            self.must(told.state != "pending", "settled", f"{who} is still unanswered")
            if told.state in ("accepted", "transformed"):
                self.counts["lost"] += verdict is None
                self.must(verdict is not None and verdict.outcome == told.state, "lost",
                          f"{who} is {told.state} here, and {verdict} there")  # fmt: skip
                self.must(told.settled, "settled", f"{who} is {told.state}, and its overlay still stands")
            elif told.state == "rejected" and not told.given_up:
                self.must(
                    verdict is not None and verdict.outcome == "rejected", "lost", f"{who} is refused here, {verdict} there"
                )

    def tags_of(self, identity: str, rows: Iterable[Rows]) -> list[set[str]]:
        """What an identity may be told."""
        return [View(of, self.head.rights(identity)).tags() for of in rows]


def _content(body: bytes) -> bytes:
    return decompress(body[4:], 1 << 25) if body[3:4] == b"\1" else body[4:]


def _distinct(models: list[Model]) -> list[Model]:
    """Models that differ in anything that matters later."""
    if len(models) == 1:
        return models
    found: list[Model] = []
    for model in models:
        if not any(model.same_as(other) for other in found):
            found.append(model)
    return found
