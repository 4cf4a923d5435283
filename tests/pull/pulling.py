"""One pull of one device, step by step, with what the oracle says about its answer when it was made, and about the wire."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from offlinekit.compress import decompress
from offlinekit.exchange import Effect, Fetch
from offlinekit.protocol import messages as m
from offlinekit.protocol.codec import decode_answer
from offlinekit.store.sqlite.groups import asked_for
from offlinekit.sync import counts_of
from offlinekit.testing._files import databases, rows_in, whole
from offlinekit.view import unpack_view
from tests.pull.oracle import OWN_FILE, Oracle, differences
from tests.pull.world import DAY, Dev

if TYPE_CHECKING:
    from tests.pull.walk import Walk


class Pulling:
    """One pull of one device, step by step, with what the oracle says about its answer when it was made.

    `silent`: since the last pull nothing changed that devices hold, so no record travels that this one holds already.
    """

    def __init__(self, walk: Walk, dev: Dev, *, load: bool | None = None, silent: bool = False) -> None:
        self.walk, self.dev, self.head, self.silent = walk, dev, dev.head, silent
        self.chosen, self.zone = json.loads(json.dumps(dev.chosen)), dev.zone
        _tuples(self.chosen)
        self.before = walk.held(dev)
        self.device_now = dev.clock.now() + self.before.offset
        self.times = dict(walk.times[dev.identity])
        groups = dev.groups()
        if load is None:  # only where it makes a difference, so that other walks stay as they are
            load = not all(g.tokens for g in groups) and walk.rng.random() < 0.6
        self.asked = {c for g in asked_for(groups, load=load) for c in g.collections}
        self.steps = dev.exchanger.pull(report=True, load=load)
        self.effect: Effect | None = next(self.steps)
        self.result: Any = None
        self.body = b""
        self.must: Any = None
        self.bound = 0.0
        if isinstance(self.effect, Fetch):  # an earlier answer's file is gone on with
            self.must, self.bound, self.body = walk.arriving[dev.identity, frozenset(self.asked)]
            walk.counts["resumed"] += 1

    @property
    def kind(self) -> str:
        """How it ended."""
        return "" if self.result is None else str(self.result.kind)

    def ask(self) -> bytes:
        """Lets the authority answer; the device has not seen the answer yet."""
        assert self.effect is not None
        if isinstance(self.effect, Fetch):
            return self.head.authority.fetch(self.effect.name, self.effect.offset, self.dev.identity)
        body = self.head.handle(self.effect.body, self.dev.identity)
        answer = decode_answer(body)
        kind = type(answer).__name__
        self.walk.counts[_snake(kind)] += kind not in ("Delta", "Same")  # those are counted when they are applied
        if isinstance(answer, m.Delta | m.Same):
            self._ask_oracle(answer, body)
        return body

    def _ask_oracle(self, answer: m.Delta | m.Same, body: bytes) -> None:
        now = self.head.clock.now()
        self.bound = max([now, *(t for t in self.times.values() if t <= now + DAY)])
        dump = self.walk.dump()
        claims = self.head.claims[self.dev.identity]
        oracle = Oracle(dump, claims, self.bound, self.zone)
        created = self.before.implicit(self.device_now)
        self.walk.counts["implicit"] += bool(created)
        self.walk.counts["unfit"] += any(dump.unfit.values())
        self.must = oracle.must_hold(self.chosen, created)
        if isinstance(answer, m.Delta):
            self.body = body
            self._check_wire(answer, body, oracle)
            if answer.files():
                self.walk.arriving[self.dev.identity, frozenset(self.asked)] = self.must, self.bound, body

    def _check_wire(self, answer: m.Delta, body: bytes, oracle: Oracle) -> None:
        """Nothing outside the scope is in the answer, and only what the device held is dropped."""
        content = decompress(body[4:], 1 << 25) if body[3] else body[4:]
        assert b"HUSH" not in content, "a field that does not replicate travelled"
        fields = self.dev.store.fields
        rows: dict[str, list[Any]] = {}
        for group in answer.groups:
            for name, part in group.collections.items():
                rows[name] = [(list(fields[name]), r) for r in part.put]
                if part.added is not None:
                    rows[name] += [(part.added.fields, r) for r in part.added.rows]
                if part.image is None:
                    assert set(unpack_view(part.drop)) <= self.before.views[name], f"more is dropped from {name} than was held"
        told = dict.fromkeys(rows, self.silent)
        for manifest, image in answer.files():
            data = whole(self.head.authority.fetch, manifest.name, self.dev.identity)
            assert not any(b"HUSH" in content for _, content in databases(data))
            if image:
                told[image] = False  # it is the same for all who ask for it
            for name, found in rows_in(data).items():
                rows.setdefault(name, []).extend((list(fields[name]), r) for r in found)
        for name, found in rows.items():
            allowed = oracle.ordinals_in_scope(name)
            for names, (ordinal, *values) in found:
                assert ordinal in allowed, f"{name} {ordinal} is not in scope and travelled: {values}"
                assert len(values) == len(names)
                hidden = told[name] and ordinal in self.before.views[name]
                assert not hidden, f"{self.walk}: {name} {ordinal} travelled, so that something hidden has changed in it"

    def give(self, back: bytes) -> bool:
        """Gives an answer to the device; False when the pull has ended."""
        try:
            self.effect = self.steps.send(back)
        except StopIteration as stop:
            self.effect, self.result = None, stop.value
            self.check()
            return False
        return True

    def finish(self) -> str:
        """Lets it run to its end."""
        while self.effect is not None and self.give(self.ask()):
            pass
        return self.kind

    def until_delta(self) -> bytes | None:
        """Runs until the authority made its final answer, which is returned and not given; None when there is none."""
        while self.effect is not None:
            back = self.ask()
            if self.must is not None:
                return back
            if not self.give(back):
                break
        return None

    def check(self, made: Pulling | None = None) -> None:
        """The oracle's verdict on what the device holds now; `made`: the pull whose answer was given."""
        made = made or self
        walk = self.walk
        walk.counts[self.kind] += self.kind not in ("new_history", "expired", "held_back", "revoked")
        if self.kind not in ("same", "delta", "bulk"):
            return
        held = walk.held(self.dev)
        for name, token in held.tokens.items():
            if token != self.before.tokens[name]:
                walk.times[self.dev.identity][name] = made.bound
        fields = {c.name: c.replicated for c in self.dev.schema}
        found = differences(made.must, held, {name: fields[name] for name in self.asked})
        assert not found, f"{walk}: after {self.kind}: " + "\n".join(found)
        for name in fields.keys() - self.asked:
            untouched = (held.rows[name], held.views[name]) == (self.before.rows[name], self.before.views[name])
            assert untouched, f"{walk}: {name} was not asked for, and moved"
        whole = self.asked == fields.keys()
        assert counts_of(self.dev.store)["consistent"] == whole == (not self.result.more), f"{walk}: after {self.kind}"
        walk.counts["loaded apart"] += not whole
        walk.counts["joined"] += whole and len({self.before.tokens[n] for n in self.asked if n not in OWN_FILE}) > 1
        walk.compared += sum(map(len, held.rows.values()))
        walk.pulls += 1


def _snake(name: str) -> str:
    return "".join("_" + c.lower() if c.isupper() else c for c in name).lstrip("_")


def _tuples(chosen: Any) -> None:
    for choice in chosen.values():
        for name in ("picks", "unpicks"):
            choice[name] = {tuple(k) for k in choice.get(name, ())}
