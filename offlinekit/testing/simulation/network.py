"""The simulated line between devices and head office: messages in a queue, and what may happen to each of them.

Exchanges are the library's own generators, driven by hand. A request may be lost, doubled, delayed and so overtaken, refused
with 401 or by a proxy before or after the authority has handled it; an answer may be lost, delayed, cut, replaced by a login
page, or be that of an earlier exchange. When an answer is made, the oracle writes down what whoever applies it must hold.
"""

from __future__ import annotations

import random
from functools import partial
from itertools import product
from typing import Any, Protocol

from attrs import evolve

from offlinekit.exceptions import AuthenticationRequired, Offline, OfflinekitError, ProtocolError, RecordNotFound, TransportError
from offlinekit.exchange import Effect, Fetch, Steps
from offlinekit.protocol import messages as m
from offlinekit.protocol.codec import decode_answer, decode_request
from offlinekit.query import Query
from offlinekit.testing._files import whole
from offlinekit.testing.simulation.breaking import Breaker, CrashError
from offlinekit.testing.simulation.checkers import Checkers, Option
from offlinekit.testing.simulation.choices import CONDITIONS
from offlinekit.testing.simulation.contract import Chosen, condition, selection_of
from offlinekit.testing.simulation.device import Device
from offlinekit.testing.simulation.exchanges import Case, Exchange, Packet, brief
from offlinekit.testing.simulation.head import DAY, Head
from offlinekit.testing.simulation.model import PRIORITY, Model, Told
from offlinekit.testing.simulation.oracle import CREATED_S, Court, Rows, View
from offlinekit.testing.simulation.promises import Must, Promise, answered, applied, partly, push_options, subsets
from offlinekit.view import unpack_view

__all__ = ["Network"]


class Around(Protocol):
    """The run that the line is part of."""

    step: int
    messages: int
    head: Head
    checkers: Checkers
    ledger: dict[bytes, Told]

    def note(self, line: str) -> None:
        """A line of the trace."""

    def hit(self, fault: str) -> bool:
        """Whether a fault happens now."""

    def breaker(self, path: str, whose: str, most: int) -> Breaker | None:
        """Whether a process ends, or a disk is full, in what is done next, and where."""

    def ended(self, breaker: Breaker | None) -> None:
        """Counts where it came to an end."""


class Network:
    """The line, its queue, and the exchanges over it."""

    def __init__(self, world: Around, rng: random.Random) -> None:
        self.world, self.rng, self.checkers, self.head = world, rng, world.checkers, world.head
        self.queue: list[Packet] = []
        self.arriving: dict[tuple[str, str], Promise] = {}  # by identity and name of the file
        self.count = 0

    def hit(self, fault: str) -> bool:
        """Whether a fault happens now; it is counted."""
        return self.world.hit(fault)

    # -- exchanges

    def begin(self, dev: Device, kind: str, steps: Steps | None = None, wanted: Any = None, *, load: bool = False) -> None:
        """Starts an exchange; of each kind there is one at a time."""
        self.give_up(dev, kind)
        self.count += 1
        if steps is None:
            steps = dev.exchanger.push() if kind == "push" else dev.exchanger.pull(report=self.rng.random() < 0.5, load=load)
        now = dev.replica.now()
        created = tuple(sorted((p for p, (at, _) in dev.model.created.items() if at > now - CREATED_S), key=repr))
        asked = dev.model.asked(load=load) if kind == "pull" else PRIORITY
        exchange = Exchange(
            self.count, dev, kind, load, steps, chosen=dev.chosen, zone=dev.zone, selection=dev.selection(), created=created,
            bounds=tuple(sorted(t for c, t in dev.model.bounds.items() if c in asked)),
            held={c: set(v) for c, v in dev.views.items()},
            since=min(model.since for model in dev.models), wanted=wanted,
            base={c: set(rows) for c, rows in dev.model.base.items()} if len(dev.models) == 1 else None,
        )  # fmt: skip
        dev.exchanges[kind] = exchange
        self._run(exchange, None)

    def query(self, dev: Device, collection: str, rng: random.Random) -> None:
        """A remote read: whatever lies in the scope, held or not."""
        where = rng.choice(CONDITIONS[collection])
        query = Query(collection, condition(collection, where), total=True, limit=1000)
        self.begin(dev, "query", dev.exchanger.query(query), wanted=(collection, where))

    def preview(self, dev: Device, chosen: Chosen) -> None:
        """What another selection would bring."""
        self.give_up(dev, "preview")
        candidate = selection_of(chosen, dev.identity, dev.zone, None)
        self.begin(dev, "preview", dev.exchanger.preview(candidate), wanted=chosen)

    def give_up(self, dev: Device, kind: str) -> None:
        """The device waits no longer for an answer."""
        exchange = dev.exchanges.pop(kind, None)
        if exchange is not None and not exchange.over:
            self.world.note(f"{dev.name} gives up {kind} {exchange.n}")
            if isinstance(exchange.effect, Fetch):
                self._fails(exchange, Offline("no answer came"))
            else:
                exchange.steps.close()
            exchange.over = True

    def _fails(self, exchange: Exchange, error: OfflinekitError) -> None:
        """The exchange is told that no piece of the file came."""
        try:
            exchange.steps.throw(error)
        except OfflinekitError:
            return
        except StopIteration:
            return
        exchange.steps.close()

    def _run(self, exchange: Exchange, answer: bytes | None) -> None:
        """Gives an answer to the exchange, or starts it; the device may crash or its disk be full meanwhile."""
        dev = exchange.dev
        breaker = self.world.breaker(dev.path, "device", 100)
        try:
            if breaker is not None:
                with breaker.armed():
                    effect = self._step(exchange, answer)
            else:
                effect = self._step(exchange, answer)
        except StopIteration as stop:
            self._over(exchange)
            self._ended(exchange, stop.value)
            return
        except CrashError:
            self.world.note(f"{dev.name} crashes in {exchange.kind} {exchange.n}")
            self._over(exchange)
            dev.kill()
            dev.open()
            self._uncertain(exchange, "a crash")
            return
        except OfflinekitError as error:
            self.world.note(f"{dev.name} {exchange.kind} {exchange.n} fails: {type(error).__name__}")
            self.checkers.counts[f"failed {type(error).__name__}"] += 1
            self._over(exchange)
            self._uncertain(exchange, type(error).__name__)
            return
        finally:
            self.world.ended(breaker)
        self._post(exchange, effect)

    def _step(self, exchange: Exchange, answer: bytes | None) -> Effect:
        effect: Effect = next(exchange.steps) if answer is None else exchange.steps.send(answer)
        if isinstance(effect, Fetch):
            exchange.file = effect.name
        return effect

    def _over(self, exchange: Exchange) -> None:
        exchange.over = True
        if exchange.dev.exchanges.get(exchange.kind) is exchange:
            del exchange.dev.exchanges[exchange.kind]

    # -- messages

    def _post(self, exchange: Exchange, effect: Effect) -> None:
        """A request leaves the device."""
        dev = exchange.dev
        exchange.effect, exchange.sequence, exchange.waits = effect, exchange.sequence + 1, 0
        if not isinstance(effect, Fetch):
            request = decode_request(effect.body)
            self.world.note(f"{dev.name} sends {exchange.kind} {exchange.n} {brief(effect.body)}")
            self.checkers.must(b"DRAFT" not in effect.body, "drafts", f"{dev.name} sends what never leaves the device")
            if isinstance(request, m.Push):
                self.checkers.sent(dev, request, exchange.sent)
                exchange.sent = frozenset(w.id for w in request.mutations)
        packet = Packet(self._due(), exchange, exchange.sequence, effect)
        self.world.messages += 1
        if self.hit("request lost"):
            return
        self._enqueue(packet)
        if self.hit("request doubled"):
            self._enqueue(evolve(packet, due=self._due()))

    def _due(self) -> int:
        return self.world.step + (self.rng.randrange(2, 25) if self.hit("delayed") else 0)

    def _enqueue(self, packet: Packet) -> None:
        packet.exchange.waits += 1
        self.queue.append(packet)

    def deliver(self) -> bool:
        """Some message arrives; False when none is due."""
        due = [p for p in self.queue if p.due <= self.world.step]
        if not due:
            return False
        packet = self.rng.choice(due) if self.hit("reordered") else due[0]
        self.queue.remove(packet)
        packet.exchange.waits -= 1
        if packet.exchange.dev.cut_off > self.world.step:
            self.checkers.counts["fault: lost in a partition"] += 1
            return True
        if packet.answer is None:
            self._arrives(packet)
        else:
            self._returns(packet)
        return True

    def _arrives(self, packet: Packet) -> None:
        """A request arrives at head office."""
        exchange = packet.exchange
        answer: bytes | Exception | None
        if self.hit("401"):
            answer = AuthenticationRequired("sign in again")
        elif self.hit("5xx before"):
            answer = Offline("502")
        elif not isinstance(packet.effect, Fetch) and self.hit("request cut"):
            answer = self._cut(exchange, packet.effect.body)
        else:
            answer = self._ask(exchange, packet.effect)
            if answer is not None and self.hit("5xx after"):
                answer = Offline("504")
        if answer is None or self.hit("answer lost"):
            return
        if isinstance(answer, bytes):
            answer = self._damaged(exchange, answer)
        self._enqueue(Packet(self._due(), exchange, packet.sequence, packet.effect, answer))

    def _cut(self, exchange: Exchange, body: bytes) -> bytes | None:
        """A request of which only a part arrived is refused, and nothing comes of it."""
        answer = self.head.handle(body[: self.rng.randrange(len(body))], exchange.dev.identity)
        assert answer is not None
        refused = decode_answer(answer)
        self.checkers.must(isinstance(refused, m.Refused), "request cut", f"a cut request is answered {refused}")
        before = self.head.rows
        self.head.dump()
        self.checkers.rows_are(before, "after a request that was cut")
        return answer

    def _damaged(self, exchange: Exchange, answer: bytes) -> bytes:
        """What the line makes of an answer."""
        strays = exchange.dev.strays.get(exchange.kind, [])
        if self.hit("answer cut"):
            return answer[: self.rng.randrange(len(answer) + 1)]
        if self.hit("login page"):
            return b"<html>please sign in</html>"
        if strays and not isinstance(exchange.effect, Fetch) and self.hit("answer of an earlier exchange"):
            return self.rng.choice(strays)
        return answer

    def _returns(self, packet: Packet) -> None:
        """An answer arrives at the device, which may have stopped waiting."""
        exchange = packet.exchange
        if exchange.over or packet.sequence != exchange.sequence:
            self.checkers.counts["late answers"] += 1
            return
        if isinstance(packet.answer, Exception):
            self.world.note(f"{exchange.dev.name} {exchange.kind} {exchange.n}: {packet.answer}")
            if isinstance(packet.effect, Fetch) and isinstance(packet.answer, TransportError | ProtocolError):
                self._fails(exchange, packet.answer)
            else:
                exchange.steps.close()
            self._over(exchange)
            return
        assert packet.answer is not None
        exchange.given = packet.answer
        promise = exchange.dev.promises.get(packet.answer)
        if promise is not None and isinstance(promise.answer, m.Delta) and promise.answer.files():
            for manifest, _ in promise.answer.files():
                self.arriving[exchange.dev.identity, manifest.name] = promise
        self._run(exchange, packet.answer)

    # -- at head office

    def _ask(self, exchange: Exchange, effect: Effect) -> bytes | Exception | None:
        """The authority's answer; None when the process that made it has died."""
        dev, head = exchange.dev, self.head
        if isinstance(effect, Fetch):
            try:
                return head.fetch(effect.name, effect.offset, dev.identity)
            except RecordNotFound:
                return ProtocolError("the file has expired; ask again")
        request = decode_request(effect.body)
        # Field lists are committed before the push: who counts commits must not count that one.
        breaker = None if isinstance(request, m.Push) and request.fields else self.world.breaker(head.path, "authority", 90)
        if self.hit("caches emptied"):
            for process in head.processes:
                process.puller.forget()
        if isinstance(request, m.Push):
            return self._push(exchange, effect.body, request, breaker)
        body = head.handle(effect.body, dev.identity, breaker=breaker)
        self.world.ended(breaker)
        if body is None:
            self.world.note("a process of head office crashes")
            return None
        answer = decode_answer(body)
        kind = type(answer).__name__.lower()
        self.world.note(f"head answers {dev.name} {exchange.n}: {kind} {brief(body)}")
        self.checkers.counts[f"answer {kind}"] += 1
        rows = head.candidates()
        tags = self.checkers.tags_of(dev.identity, [of for _, of in rows])
        self.checkers.no_leak(dev.identity, body, tags, hidden=isinstance(answer, m.Records))
        if isinstance(answer, m.Records):
            collection, where = exchange.wanted
            self.checkers.records(dev, collection, where, answer)
        if isinstance(answer, m.Previewed):
            self._previewed(exchange, answer, rows)
        if isinstance(answer, m.Delta | m.Same):
            self._promise(exchange, answer, body, rows, tags)
        return body

    def _bound(self, exchange: Exchange) -> float:
        """When head office cuts time bounds: now, and never before it did for this device, by a day at most."""
        now = self.head.clock.now()
        return max([now, *(t for t in exchange.bounds if t <= now + DAY)])

    def _previewed(self, exchange: Exchange, answer: m.Previewed, rows: list[tuple[int, Rows]]) -> None:
        """A preview counts what a pull would leave and drop."""
        if exchange.base is None or exchange.over:
            return
        claims = self.head.rights(exchange.dev.identity)
        musts = [
            View(of, claims, self._bound(exchange), exchange.zone).must_hold(exchange.wanted, exchange.created) for _, of in rows
        ]
        # A pull may have been applied while the preview was under way: then it may count against what is held since.
        bases = [exchange.base, *({c: set(rows) for c, rows in model.base.items()} for model in exchange.dev.models)]
        self.checkers.counts["previews compared"] += 1
        for collection in PRIORITY:
            part = answer.collections.get(collection, m.PreviewPart())
            said = (part.hold, part.drop)
            possible = {
                (len(must[collection]), len(base[collection] - must[collection].keys())) for must in musts for base in bases
            }
            self.checkers.must(said in possible, "preview", f"{exchange.dev.name} is told {said} of {collection}, not {possible}")

    def _promise(self, exchange: Exchange, answer: m.Delta | m.Same, body: bytes, rows: list[tuple[int, Rows]],
                 tags: list[set[str]]) -> None:  # fmt: skip
        dev = exchange.dev
        bound = self._bound(exchange)
        musts: list[Must] = []
        for serial, of in rows:
            if serial < exchange.since:
                continue  # a snapshot holds what the device had seen when it asked
            view = View(of, self.head.rights(dev.identity), bound, exchange.zone)
            must = view.must_hold(exchange.chosen or {}, exchange.created)
            known = next((n for n, have in enumerate(musts) if have.rows == must), None)
            if known is None:
                musts.append(Must(must, serial, serial))
            else:
                musts[known] = evolve(musts[known], oldest=serial)
        groups: tuple[tuple[str, ...], ...] = ()
        puts: dict[str, set[int]] = {}
        if isinstance(answer, m.Delta):
            groups = tuple(tuple(sorted(g.collections)) for g in answer.groups)
            puts = {c: {row[0] for row in p.put} for g in answer.groups for c, p in g.collections.items()}
            images: dict[str, set[int]] = {}
            for manifest, image in answer.files():
                data = whole(self.head.fetch, manifest.name, dev.identity)
                for name, found in self.checkers.no_leak_in_file(dev.identity, data, tags).items():
                    puts[name] = puts.get(name, set()) | found
                    if image:
                        images[name] = found
                self.checkers.counts["images" if image else "files"] += 1
            if not exchange.over:
                self.checkers.drops(dev, exchange.held or {}, answer, images)
        if body not in dev.promises:
            dev.promises[body] = Promise(tuple(musts), groups, answer, bound, exchange.selection, puts, exchange.load)
            dev.strays["pull"] = [*dev.strays["pull"][-4:], body]

    def _push(self, exchange: Exchange, body: bytes, request: m.Push, breaker: Breaker | None) -> bytes | None:
        """Lets a push be answered, and compares all that it did with what the court says."""
        dev, head, checkers = exchange.dev, self.head, self.checkers
        court = Court(head.rows, head.history, dev.identity, head.rights(dev.identity), head.attempts)
        ledger = self.world.ledger
        seen = [Case(w, ledger[w.id].seen) for w in request.mutations]
        predicted = court.push(seen, {w.id: ledger[w.id].fields for w in request.mutations})
        known, effects, old = set(head.history.verdicts), list(head.effects), head.rows
        answer_body = head.handle(body, dev.identity, breaker=breaker)
        self.world.ended(breaker)
        rows = head.dump()
        who = f"{dev.name} in push {exchange.n}"
        if answer_body is None:
            self.world.note("a process of head office crashes")
            processed = breaker is not None and breaker.commits > 0
            checkers.rows_are(court.rows if processed else old, f"after a crash in a push of {who}")
            if processed:
                head.history = court.uncounted
                checkers.may_be_told(dev.identity, court)
            return None
        answer = decode_answer(answer_body)
        kind = type(answer).__name__.lower()
        self.world.note(f"head answers {dev.name} {exchange.n}: {kind} {brief(answer_body)}")
        checkers.counts[f"answer {kind}"] += 1
        if isinstance(answer, m.Pushed):
            checkers.judged(who, court, predicted, answer, known, effects)
            head.history = court.history
            checkers.may_be_told(dev.identity, court)
            checkers.no_leak(dev.identity, answer_body, checkers.tags_of(dev.identity, [rows]), receipts=True)
            dev.strays["push"] = [*dev.strays["push"][-4:], answer_body]
            dev.pushed[answer_body] = head.serial
        else:
            checkers.rows_are(old, f"after an answer {kind} to {who}")
            checkers.must(head.effects == effects, "exactly once", f"an answer {kind} to {who} had effects")
        return answer_body

    # -- at the device

    def _ended(self, exchange: Exchange, result: Any) -> None:
        """The exchange has a result: the device shows what was promised."""
        dev, checkers = exchange.dev, self.checkers
        kind = str(getattr(result, "kind", "done"))
        self.world.note(f"{dev.name} {exchange.kind} {exchange.n} ends: {kind}")
        checkers.counts[f"{exchange.kind} {kind}"] += 1
        checkers.counts["pulls with more to load"] += bool(getattr(result, "more", False))
        what = f"{exchange.kind} {exchange.n} {kind}"
        if kind in ("new_history", "fork"):
            possible = self.head.epoch > 0 if kind == "new_history" else dev.copied
            checkers.must(possible, "spurious", f"{dev.name} was told {kind}, and nothing was restored or copied")
        if kind == "new_history":
            checkers.advance(dev, what, Model.unanswered)
        elif exchange.kind == "push" and kind == "pushed":
            answer = decode_answer(exchange.given)
            assert isinstance(answer, m.Pushed)
            serial = dev.pushed.get(exchange.given, 0)
            checkers.advance(dev, what, lambda model: answered(model, answer, serial))
        elif kind in ("same", "delta", "bulk"):
            promise = self._arrived(exchange) if kind == "bulk" else dev.promises.get(exchange.given)
            checkers.must(promise is not None, "view", f"{dev.name} applies an answer that head office never made")
            assert promise is not None
            checkers.must(promise.selection == exchange.selection == dev.selection(), "selection",
                          f"{dev.name} applies an answer to another selection than the saved one")  # fmt: skip
            options: list[Option] = [partial(applied, promise=promise, must=must) for must in promise.musts]
            checkers.advance(dev, what, *options)
            self._move_views(dev, promise, certain=True)
        elif kind in ("stale", "cancelled"):
            self._uncertain(exchange, kind)
        else:
            checkers.advance(dev, what, lambda model: None)

    def _arrived(self, exchange: Exchange) -> Promise | None:
        """What was promised with the file that an exchange fetched, perhaps to an earlier run of the program."""
        return self.arriving.get((exchange.dev.identity, exchange.file))

    def _uncertain(self, exchange: Exchange, why: str) -> None:
        """Nobody knows how far it came: whatever is whole is allowed."""
        dev = exchange.dev
        what = f"{exchange.kind} {exchange.n} after {why}"
        options: list[Option] = [lambda model: None]
        if exchange.kind == "push" and exchange.given:
            options += push_options(exchange.given)
        elif exchange.kind == "pull":
            promise = dev.promises.get(exchange.given)
            if promise is None or (isinstance(promise.answer, m.Delta) and promise.answer.files()):
                promise = self._arrived(exchange)
            if promise is not None:
                for must, some in product(promise.musts, subsets(promise.groups)):
                    for settled, durable in ((True, True), (True, False), (False, False)):
                        if settled or set(some) <= {("product",)}:
                            options.append(
                                partial(partly, promise=promise, must=must, groups=some, settled=settled, durable=durable)
                            )
                self._move_views(dev, promise, certain=False)
            elif exchange.given and b"new_history" in exchange.given:
                options += [Model.unanswered, Model.file_unloaded]
        self.checkers.advance(dev, what, *options)

    def _move_views(self, dev: Device, promise: Promise, *, certain: bool) -> None:
        """Which ordinals the device holds, by what crossed the wire."""
        if isinstance(promise.answer, m.Delta):
            for group in promise.answer.groups:
                for name, part in group.collections.items():
                    base = set() if part.image else dev.views.get(name, set())
                    new = (base | promise.puts.get(name, set())) - set(unpack_view(part.drop))
                    dev.views[name] = new if certain else new | dev.views.get(name, set())
