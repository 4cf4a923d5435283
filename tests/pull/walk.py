"""A random walk: what programs, people, operators, clocks, networks and power cuts do to an authority and two devices."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from offlinekit.exceptions import TransportError
from offlinekit.protocol import messages as m
from offlinekit.protocol.codec import decode_answer
from tests.pull.crashing import CrashError, broken_off, crashing
from tests.pull.hushing import hush, hush_write
from tests.pull.oracle import Dump, Held
from tests.pull.pulling import Pulling
from tests.pull.world import (
    COLLECTIONS,
    DAY,
    OLD,
    SCHEMA,
    ZONES,
    Chosen,
    Dev,
    Head,
    VirtualClock,
    claims_of,
    day_of,
    prioritised,
    selection_of,
)

ALL = {c.name: tuple(c.fields) for c in SCHEMA}
_LETTER = {"city": "c", "customer": "k", "order": "o", "product": "p"}


class Walk:
    """One random walk."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed, self.rng, self.counts = seed, random.Random(seed), Counter[str]()
        self.arriving: dict[tuple[str, frozenset[str]], tuple[Any, float, bytes]] = {}
        self.compared = self.pulls = self.at = 0
        self.log: list[str] = []
        self.clock = VirtualClock()
        self.head = Head(folder, self.rng, self.clock)
        self.head.inline_rows, self.head.guard_held = 7, 4
        self.head.images = (1, 1) if seed % 2 else self.head.images
        self.head.snapshot_age_s = 0.25 if seed % 2 else 0.0
        self.head.after_answer = self.look
        self.dumps, self.answered_from = dict[bytes, Dump](), b""
        self.head.restart()
        self.head.sql("CREATE UNIQUE INDEX product_label ON product(name,price)")  # so that REPLACE deletes others
        self.head.store.reconcile()
        chance = random.Random(seed)
        priorities = {c: chance.randrange(3) for c in COLLECTIONS} if seed % 4 > 1 else {}
        self.old_schema, self.schema = prioritised(OLD, priorities), prioritised(SCHEMA, priorities)
        self.times: dict[str, dict[str, float]] = {}
        self.devs = []
        for n, identity in enumerate(("ana", "bob")):
            self.head.claims[identity] = dict(claims_of(self.rng, f"r{n}"))
            old = self.rng.random() < 0.5
            ahead = self.rng.choice([0.0, -3.5, 40.0]) * DAY
            self.devs.append(Dev(folder, self.head, identity, ahead, self.old_schema if old else self.schema))
            self.times[identity] = {}
        self.old: dict[str, list[Pulling]] = {d.identity: [] for d in self.devs}

        self.made = 0
        self.writes(250)

    def __str__(self) -> str:
        return f"seed {self.seed}, step {self.at}: {' '.join(self.log[-12:])}"

    def close(self) -> None:
        """Closes all files."""
        for dev in self.devs:
            dev.store.close()
        self.head.stop()
        told = ("unvouched", "added fields", "evaluated", "moved on", "image made", "image named")
        self.counts.update({k: self.head.counts.get(k, 0) for k in told})

    def held(self, dev: Dev) -> Held:
        """A dump of a replica."""
        return Held(str(dev.path), {c.name: c.replicated for c in dev.schema})

    def look(self) -> None:
        """Dumps the authority's file where a snapshot was just taken, which may be answered from after later writes."""
        if self.head.snapshot_age_s:
            with self.head.store.snapshot(age_s=self.head.snapshot_age_s) as snapshot:
                if snapshot.cursor not in self.dumps:
                    self.dumps[snapshot.cursor] = Dump(str(self.head.path), ALL)
                self.answered_from = snapshot.cursor

    def dump(self) -> Dump:
        """A dump of what the last answer was made from."""
        now = Dump(str(self.head.path), ALL)
        if not self.head.snapshot_age_s:
            return now
        then = self.dumps[self.answered_from]
        self.counts["older snapshot"] += then.rows != now.rows
        return then

    # -- what the authority's programs do

    def write(self) -> None:
        """A plain write."""
        r, head = self.rng, self.head
        city, cust, order, sku = f"c{r.randrange(4)}", f"k{r.randrange(12)}", f"o{r.randrange(20)}", f"p{r.randrange(12)}"
        verb = r.choice(["INSERT", "INSERT OR IGNORE", "INSERT OR REPLACE", "REPLACE"])
        match r.randrange(20):
            case 0:
                head.sql(f"{verb} INTO city VALUES(?,?)", city, r.choice(["north", "south", None]))
            case 1 | 2 | 3:
                head.sql(
                    f"{verb} INTO customer VALUES(?,?,?,?,?,?,?)", cust, r.choice(["Zé", "Ana", "ANA", "Bo"]),
                    r.choice([city, city, None]), f"r{r.randrange(2)}", r.choice([None, day_of(head, -r.randrange(60))]),
                    int(r.random() < 0.15), f"HUSH{r.random()}",
                )  # fmt: skip
            case 4 | 5 | 6:
                day = "soon" if r.random() < 0.05 else day_of(head, r.randrange(-9, 3))
                status = r.choice(["open", "done", None])
                head.sql(f'{verb} INTO "order" VALUES(?,?,?,?,?)', order, cust, day, status, r.randrange(100))
            case 7 | 8:
                head.sql(f"{verb} INTO item VALUES(?,?,?,?)", order, r.randrange(3), r.choice([sku, None]), r.randrange(5))
            case 9 | 10:
                head.sql(
                    f"{verb} INTO product VALUES(?,?,?,?,?)", sku, r.choice(["Pá", "pa", "Cal", "SAL"]),
                    r.choice(["g0", "g1", "g2", None]), r.randrange(6), r.randrange(9),
                )  # fmt: skip
            case 11:
                head.sql(f"{verb} INTO leaflet VALUES(?,?,?)", r.randrange(8), r.choice([sku, sku, None]), f"t{r.randrange(9)}")
            case 12:
                table, key = r.choice([("customer", cust), ("city", city), ("order", order), ("product", sku)])
                head.sql(f'DELETE FROM "{table}" WHERE {"id" if table == "order" else "sku" if sku == key else "code"}=?', key)
            case 13:
                head.sql('DELETE FROM item WHERE line=? AND "order"=?', r.randrange(3), order)
            case 14:
                head.sql("UPDATE customer SET rep=? WHERE code=?", f"r{r.randrange(2)}", cust)
                head.sql('UPDATE "order" SET customer=? WHERE id=?', cust, order)
            case 15:
                head.sql('UPDATE "order" SET day=? WHERE id=?', "soon" if r.random() < 0.1 else day_of(head), order)
                head.sql("UPDATE OR REPLACE product SET sku=? WHERE sku=?", f"p{r.randrange(12)}", sku)
            case 16:
                head.sql("UPDATE product SET grp=?, cost=cost+1 WHERE sku=?", r.choice(["g0", "g1", "g2", None]), sku)
                head.sql("UPDATE leaflet SET text=text||'' WHERE product=?", sku)
            case 17 | 18:
                hush_write(head, r)
            case _:
                head.sql(
                    "UPDATE customer SET blocked=?, city=? WHERE code=?", int(r.random() < 0.2), r.choice([city, None]), cust
                )

    def writes(self, count: int) -> None:
        """Plain writes."""
        for _ in range(count):
            self.write()

    def restore(self) -> None:
        """The authority's file is put back, perhaps written by a plain program before anybody asks."""
        head = self.head
        while head.copies and head.copies[0][0] < self.clock.now() - 5 * DAY:
            head.copies.pop(0)
        if not head.copies:
            head.copy()
            return
        head.restore(self.rng.randrange(len(head.copies)))
        self.counts["restore"] += 1
        if self.rng.random() < 0.5:
            self.counts["restore after writes"] += 1
            self.writes(self.rng.randrange(1, 6))

    def claims(self) -> None:
        """Somebody's claims change."""
        dev = self.rng.choice(self.devs)
        self.head.claims[dev.identity] = dict(claims_of(self.rng, f"r{self.rng.randrange(2)}"))

    def tick(self) -> None:
        """Time passes; rarely the authority's clock is wrong for a while."""
        r = self.rng
        if r.random() < 0.15:
            self.clock.ahead = r.choice([0.0, 0.0, -7200.0, 25_000 * DAY])
        self.clock.seconds += r.choice([600.0, 3600.0, 3600.0, 5 * 3600.0, 5 * 3600.0, DAY, 3 * DAY])

    # -- what people do on their devices

    def choose(self) -> Chosen:
        """A random selection."""
        r = self.rng
        quick: dict[str, list[tuple[str, dict[str, Any]]]] = {
            "customer": [("mine", {}), ("in_city", {"city": f"c{r.randrange(4)}"}), ("in_region", {"region": "south"}),
                         ("has_open", {}), ("new", {})],
            "order": [("recent", {}), ("old", {}), ("big", {}), ("regional", {"region": "north"}), ("without", {})],
            "product": [("group", {"groups": r.sample(["g0", "g1", "g2"], r.randrange(4))}), ("like", {"text": r.choice("aáS")})],
            "leaflet": [("any", {})],
            "item": [],
        }  # fmt: skip
        where: dict[str, list[Any]] = {
            "customer": [("=", "city", "c1"), ("null", "city"), ("starts", "name", "z"), ("in", "name", ["Ana", "Bo"])],
            "order": [("=", "status", "open"), ("null", "status"), (">=", "total", 40), ("<", "day", day_of(self.head))],
            "item": [(">=", "qty", 2), ("<", "qty", 3)],
            "product": [("<", "price", 4), ("null", "grp"), ("=", "grp", "g1")],
        }
        includes = {"customer": ["orders"], "order": ["owner", "goods", "siblings"], "product": ["leaflets"]}
        chosen: Chosen = {}
        for name in r.sample(sorted(quick), r.choice([1, 2, 3, 4, 5])):
            c: dict[str, Any] = {"quick": dict(r.sample(quick[name], min(len(quick[name]), r.choice([0, 1, 1, 1, 1, 1, 2]))))}
            if name in where and r.random() < (0.3 if c["quick"] else 0.7):
                one, two = r.choice(where[name]), r.choice(where[name])
                c["where"] = r.choice([one, ("not", one), ("and", one, ("not", two)), ("or", one, two)])
            if name in includes and r.random() < 0.6:
                c["includes"] = r.sample(includes[name], r.randrange(1, len(includes[name]) + 1))
            for what in ("picks", "unpicks"):
                c[what] = [self.key(name) for _ in range(r.choice([0, 0, 1, 3]))]
            chosen[name] = c
        return chosen

    def key(self, name: str) -> tuple[Any, ...]:
        """A key, perhaps of nothing."""
        n = self.rng.randrange(20)
        return (f"o{n}", n % 3) if name == "item" else (n % 9,) if name == "leaflet" else (f"{_LETTER[name]}{n}",)

    def edit(self, dev: Dev) -> None:
        """A selection is edited: afresh, or by picks and unpicks."""
        r = self.rng
        chosen = self.choose()
        if dev.chosen and r.random() < 0.5:
            chosen = {n: {**c} for n, c in dev.chosen.items()}
            name = r.choice(sorted(chosen))
            what = r.choice(["picks", "unpicks"])
            chosen[name][what] = [*chosen[name].get(what, ()), self.key(name)][-r.randrange(1, 6) :]
        until = r.choice([None, None, self.clock.now() + DAY])
        dev.select(chosen, r.choice(ZONES), until)

    def preview(self, dev: Dev) -> None:
        """What a preview says is what the pull then moves."""
        chosen = self.choose()
        try:
            parts = dev.run(dev.exchanger.preview(selection_of(chosen, dev.identity))).parts
        except TransportError:
            return
        dev.select(chosen)
        pull = Pulling(self, dev)
        if pull.finish() in ("delta", "bulk"):
            self.counts["preview"] += 1
            for name in pull.asked:
                part = parts.get(name, m.PreviewPart())
                moved = (pull.result.put.get(name, 0), pull.result.drop.get(name, 0))
                expected = len(pull.must[name])
                assert part.drop == moved[1], f"{self}: the preview of {name} said {part.drop} of {moved[1]} drops"
                assert part.fetch == moved[0], f"{self}: the preview of {name} said {part}"
                assert name not in parts or part.hold == expected, f"{self}: the preview of {name} said {part}"

    def sell(self, dev: Dev) -> None:
        """A local transaction."""
        r = self.rng
        self.made += 1
        shown = [c for (c,) in dev.store.reader().execute("SELECT code FROM customer")]
        orders = [o for (o,) in dev.store.reader().execute('SELECT id FROM "order"')]
        items = "item" in dev.schema.collections
        order = f"d{self.made}"
        if orders and r.random() < 0.5:
            order = r.choice(orders)
            sql, values = r.choice([
                ('UPDATE "order" SET status=? WHERE id=?', (r.choice(["open", "done"]), order)),
                ('DELETE FROM "order" WHERE id=?', (order,)),
                *[('INSERT OR REPLACE INTO item("order",line,product,qty) VALUES(?,7,NULL,?)', (order, r.randrange(5)))] * items,
            ])  # fmt: skip
            dev.write((sql, values))
        elif shown:
            values = (order, r.choice(shown), day_of(self.head), "open")
            dev.write(
                ('INSERT INTO "order"(id,customer,day,status) VALUES(?,?,?,?)', values),
                *[('INSERT INTO item("order",line,product,qty) VALUES(?,1,NULL,?)', (order, r.randrange(5)))] * items,
            )  # fmt: skip

    def push(self, dev: Dev) -> None:
        """A push, whose answer may be lost."""
        steps = dev.exchanger.push()
        if self.rng.random() < 0.3:
            for effect in steps:
                dev.serve(effect)
                break
            steps.close()
            return
        kind = dev.run(steps).kind
        self.counts[kind] += kind in ("fork", "revoked", "new_history")

    # -- pulls

    def pull(self, dev: Dev) -> None:
        """A pull, and what may go wrong on its way."""
        r = self.rng
        how = r.choice(
            [
                self.plain,
                self.plain,
                self.lost,
                self.twice,
                self.overtaken,
                self.replayed,
                self.edited,
                self.crashed,
                lambda dev: broken_off(self, dev),
            ]
        )
        self.log.append(how.__name__)
        how(dev)

    def plain(self, dev: Dev) -> None:
        """Nothing goes wrong, but perhaps the authority's caches are lost on the way."""
        pull = Pulling(self, dev)
        while pull.effect is not None:
            if self.rng.random() < 0.2:
                self.head.puller.forget()
            back = pull.ask()
            if self.may_repeat(pull, back):
                self.old[dev.identity] = [*self.old[dev.identity][-5:], pull]
            if not pull.give(back):
                break

    @staticmethod
    def may_repeat(pull: Pulling, back: bytes) -> bool:
        """Whether this is an answer that may be given once more later."""
        return bool(pull.body) and back == pull.body

    def lost(self, dev: Dev) -> None:
        """The device goes away before a request was handled, or after it."""
        pull = Pulling(self, dev)
        for _ in range(self.rng.randrange(6)):
            if pull.effect is None or not pull.give(pull.ask()):
                return
        if self.rng.random() < 0.7:
            pull.ask()
        pull.steps.close()
        if self.rng.random() < 0.5:
            dev.reopen()

    def twice(self, dev: Dev) -> None:
        """Each request arrives twice; the device sees the answer to the first or to the second."""
        pull = Pulling(self, dev)
        while pull.effect is not None:
            answers = [(pull.ask(), pull.must, pull.bound)]
            if self.rng.random() < 0.2:
                self.head.restart()  # whose first snapshot is a newer one
            answers.append((pull.ask(), pull.must, pull.bound))
            back, pull.must, pull.bound = self.rng.choice(answers)
            if not pull.give(back):
                break

    def overtaken(self, dev: Dev) -> None:
        """An answer arrives after a second pull, and perhaps a push, has gone through."""
        late = Pulling(self, dev)
        back = late.until_delta()
        if back is None:
            return
        tokens, must = self.held(dev).tokens, late.must
        self.writes(self.rng.randrange(3))
        if self.rng.random() < 0.5:
            self.push(dev)
        Pulling(self, dev).finish()
        now = self.held(dev).tokens
        moved = any(now[name] != tokens[name] for name in late.asked)
        late.before = self.held(dev)
        late.must = must
        if not late.give(back):
            assert not moved or late.kind == "stale", f"{self}: an overtaken answer ended as {late.kind}"
        else:
            late.finish()
            assert not moved or late.kind == "stale", f"{self}: an overtaken answer ended as {late.kind}"

    def replayed(self, dev: Dev) -> None:
        """The network gives an answer of an earlier state."""
        if not self.old[dev.identity]:
            return self.plain(dev)
        old = self.rng.choice(self.old[dev.identity])
        answer = decode_answer(old.body)
        assert isinstance(answer, m.Delta)
        if answer.files():
            return self.plain(dev)
        pull = Pulling(self, dev)
        pull.must, pull.bound, pull.body = old.must, old.bound, b""
        before = self.held(dev)
        pull.give(old.body)
        if pull.kind == "stale":
            after = self.held(dev)
            assert (before.rows, before.tokens) == (after.rows, after.tokens), f"{self}: it moved something"

    def edited(self, dev: Dev) -> None:
        """The selection is edited while the answer is on its way: the answer is not applied."""
        pull = Pulling(self, dev)
        back = pull.until_delta()
        if back is None:
            return
        before, must = self.held(dev), pull.must
        answer = decode_answer(back)
        if isinstance(answer, m.Delta) and answer.files() and self.rng.random() < 0.8:
            pull.give(back)  # its file is being fetched
            back = pull.ask()
        was = dev.selection().digest
        self.edit(dev)
        if dev.selection().digest == was:
            pull.must = must
            if pull.give(back):
                pull.finish()
            return
        pull.must = None
        if pull.give(back):
            pull.finish()
        after = self.held(dev)
        assert pull.kind in ("stale", "cancelled"), f"{self}: an answer to an edited selection ended as {pull.kind}"
        assert (before.rows, before.tokens) == (after.rows, after.tokens)

    def crashed(self, dev: Dev) -> None:
        """The device's process ends while it applies an answer: in the main file, or between groups."""
        pull = Pulling(self, dev)
        back = pull.until_delta()
        if back is None:
            return
        before = self.held(dev)
        with crashing(dev, self.rng):
            try:
                if pull.give(back):
                    pull.finish()
                return
            except CrashError:
                self.counts["crash"] += 1
        dev.reopen()
        after = self.held(dev)
        if after.tokens != before.tokens:
            self.counts["crash between groups"] += 1
        for name in before.tokens:
            if after.tokens[name] != before.tokens[name]:
                self.times[dev.identity][name] = pull.bound

    def settle(self, dev: Dev) -> None:
        """Once faults stop, a bounded number of rounds is enough, and one more moves nothing."""
        self.log.append("settle")
        for _ in range(16):
            self.clock.seconds += 0.25  # by then, snapshots hold what others have written and operators have said
            if dev.outbox():
                kind = dev.run(dev.exchanger.push()).kind
                self.counts[kind] += kind in ("fork", "revoked", "new_history")
            pull = Pulling(self, dev, load=True)
            kind = pull.finish()
            if kind == "same" and not dev.outbox() and not pull.result.more:
                break
            if kind == "expired":
                dev.select(dev.chosen, dev.zone)
            elif kind == "held_back":
                self.confirm(dev)
            elif kind == "revoked" or self.rng.random() < 0.06:
                revoked = int(kind != "revoked")
                self.head.sql("UPDATE ok_device SET revoked=? WHERE device=?", revoked, dev.store.meta("device"))
        else:
            raise AssertionError(f"{self}: does not settle: {kind}")
        assert self.held(dev).clean, f"{self}: an overlay stands after everything settled"
        assert Pulling(self, dev).finish() == "same"

    def confirm(self, dev: Dev) -> None:
        """The operator lets a large drop pass."""
        until = self.clock.now() + 600.0
        self.head.sql("UPDATE ok_device SET confirmed=? WHERE device=?", until, dev.store.meta("device"))

    def step(self) -> None:
        """Something happens."""
        r, dev = self.rng, self.rng.choice(self.devs)
        self.at += 1
        self.clock.seconds += 0.05
        happens: list[tuple[int, Callable[[], object]]] = [
            (10, lambda: self.writes(r.randrange(1, 5))),
            (14, lambda: self.pull(dev)),
            (5, lambda: self.edit(dev)),
            (3, lambda: self.preview(dev)),
            (2, self.claims),
            (3, self.tick),
            (5, lambda: self.sell(dev)),
            (4, lambda: self.push(dev)),
            (2, self.head.copy),
            (1, self.restore),
            (1, self.head.restart),
            (1, dev.reopen),
            (1, lambda: dev.reopen(self.schema)),
            (1, self.head.puller.forget),
            (1, lambda: self.confirm(dev)),
            (5, lambda: self.settle(dev)),
            (4, lambda: hush(self, dev)),
        ]
        n = r.choices(range(len(happens)), [weight for weight, _ in happens])[0]
        self.log.append(str(n))
        happens[n][1]()

    def run(self, steps: int) -> None:
        """Walks, and settles at the end."""
        for _ in range(steps):
            self.step()
        for dev in self.devs:
            self.settle(dev)
