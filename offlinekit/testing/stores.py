"""What every store of an authority must do, as a suite of tests to inherit from.

    class TestMine(StoreContract):
        def make_store(self, folder):
            return MyStore(database_for(folder))

The suite speaks to the port alone: `offlinekit.store.port` says what each test proves.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from attrs import evolve

from offlinekit.exceptions import ConstraintViolated
from offlinekit.expr import evaluate
from offlinekit.nodes import Filter, Value, everything, nothing
from offlinekit.query import Query
from offlinekit.schema import info_of
from offlinekit.selection import Source, Step
from offlinekit.store.port import AuthorityStore, Device, Receipt, Unit
from offlinekit.testing._shops import (
    ALL,
    FILTERS,
    PLACE,
    SCHEMA,
    SHOP,
    SHOPS,
    Place,
    Raises,
    Sale,
    Shop,
    all_of,
    both_claim,
    contents,
    cursor,
    fail_inside,
    fill,
    flipped,
    holding,
    in_order,
    ordinals,
    place,
    placed,
    put,
    records,
    related,
    remove,
    rows,
    together,
)
from offlinekit.view import View

__all__ = ["StoreContract"]


class StoreContract:
    """Inherit and implement `make_store`; tests get pytest's `tmp_path`."""

    def make_store(self, folder: Path) -> AuthorityStore:
        """A store over the database that belongs to this folder: a second one of the same folder opens the same database."""
        raise NotImplementedError

    @contextmanager
    def open(self, folder: Path) -> Iterator[AuthorityStore]:
        """The store, bound to the suite's schema."""
        store = self.make_store(folder)
        try:
            store.bind(SCHEMA)
            yield store
        finally:
            store.close()

    # -- ordinals

    def test_a_key_keeps_its_ordinal_for_ever(self, tmp_path: Path) -> None:
        """Through deletion, return and reopening; no ordinal is ever given twice."""
        with self.open(tmp_path) as store:
            put(store, *(place("a", n) for n in range(3)))
            first = ordinals(store, range(3))
            assert len(set(first)) == 3
            assert all(0 < o < 2**32 for o in first)
            remove(store, "a", 2)
            put(store, place("a", 3))
            remove(store, "a", 0)
        with self.open(tmp_path) as store:
            put(store, place("a", 0), place("a", 2), place("A", 0))
            assert ordinals(store, range(3)) == first, "a key that returns gets its former ordinal"
            with store.unit() as unit:
                found = {placed(unit, a, n)[0] for a, n in [("a", 0), ("a", 1), ("a", 2), ("a", 3), ("A", 0)]}
            assert len(found) == 5, "an ordinal was given twice"

    def test_ordinals_are_found_by_key(self, tmp_path: Path) -> None:
        """Unknown keys are left out."""
        with self.open(tmp_path) as store:
            put(store, place("a", 1), place("b", 1))
            with store.snapshot() as snapshot:
                keys: list[tuple[Value, ...]] = [("a", 1), ("b", 1), ("b", 2), ("B", 1)]
                assert snapshot.ordinals("place", keys) == snapshot.evaluate("place", everything, ALL)
                assert snapshot.ordinals("place", []) == View()

    # -- what was touched

    def test_every_write_touches_and_so_does_a_deletion(self, tmp_path: Path) -> None:
        """After the cursor, and in its own collection alone."""
        writes: list[Callable[[Unit], None]] = [
            lambda unit: unit.update(PLACE, ("a", 1), {"note": "new"}),
            lambda unit: unit.update(PLACE, ("a", 1), {"note": "NEW"}),
            lambda unit: unit.update(PLACE, ("a", 1), {"note": None}),
            lambda unit: unit.delete(PLACE, ("a", 1)),
            lambda unit: unit.insert(PLACE, place("a", 1)),
        ]
        with self.open(tmp_path) as store:
            put(store, place("a", 1), place("a", 2))
            ordinal = ordinals(store, [1])[0]
            for write in writes:
                before = cursor(store)
                with store.unit() as unit:
                    write(unit)
                with store.snapshot() as snapshot:
                    assert ordinal in snapshot.touched("place", before)
                    assert snapshot.any_touched(["shop", "place"], before)
                    assert not snapshot.any_touched(["shop", "sale"], before)
                    assert not snapshot.any_touched([], before)
                    assert not snapshot.any_touched(["place"], snapshot.cursor)

    def test_nothing_is_touched_by_what_changes_nothing(self, tmp_path: Path) -> None:
        """Nor by what was rolled back."""
        with self.open(tmp_path) as store:
            put(store, place("a", 1, "x"))
            before = cursor(store)
            with store.unit() as unit:
                unit.update(PLACE, ("a", 1), {"note": "x"})
                unit.update(PLACE, ("nowhere", 1), {"note": "y"})
            fail_inside(store, lambda unit: unit.update(PLACE, ("a", 1), {"note": "y"}))
            with store.snapshot() as snapshot:
                assert not snapshot.any_touched(["place"], before)
                assert snapshot.touched("place", before) == View()

    def test_following_what_was_touched_misses_nothing_while_others_write(self, tmp_path: Path) -> None:
        """Whoever looks again at what was touched holds, at each cursor, exactly what is there."""
        done = threading.Event()

        def write(store: AuthorityStore, aisle: str) -> None:
            for n in range(40):
                with store.unit() as unit:
                    unit.insert(PLACE, place(aisle, n))
                    if n % 3 == 2:
                        unit.delete(PLACE, (aisle, n - 1))
                        unit.update(PLACE, (aisle, n - 2), {"note": str(n)})

        def write_all(store: AuthorityStore, other: AuthorityStore) -> None:
            try:
                together(lambda: write(store, "a"), lambda: write(other, "b"))
            finally:
                done.set()

        def follow(store: AuthorityStore) -> None:
            last = False
            with store.snapshot() as snapshot:
                held, at = contents(snapshot, "place", snapshot.evaluate("place", everything, ALL)), snapshot.cursor
            while not last:
                last = done.is_set()
                with store.snapshot() as snapshot:
                    again = snapshot.touched("place", at)
                    for ordinal in again:
                        held.pop(ordinal, None)
                    held |= contents(snapshot, "place", again & snapshot.evaluate("place", everything, ALL))
                    assert held == contents(snapshot, "place", snapshot.evaluate("place", everything, ALL))
                    at = snapshot.cursor
            assert len(held) == 2 * (40 - 13)

        with self.open(tmp_path) as store, self.open(tmp_path) as other:
            together(lambda: write_all(store, other), lambda: follow(store))

    # -- snapshots and cursors

    def test_a_snapshot_stands_still_while_others_write(self, tmp_path: Path) -> None:
        """Whatever is asked of it, before and after."""
        receipt = Receipt(os.urandom(16), "rep", "accepted", 1)
        with self.open(tmp_path) as store, self.open(tmp_path) as other:
            put(store, place("a", 1), place("a", 2))
            start = cursor(store)
            with store.snapshot() as snapshot:
                before = all_of(snapshot, start, receipt.id)
                with other.unit() as unit:
                    for n in (3, 4):
                        unit.insert(PLACE, place("a", n))
                    unit.delete(PLACE, ("a", 1))
                    unit.update(PLACE, ("a", 2), {"note": "new"})
                    unit.begin_receipt(receipt.id, "rep")
                    unit.complete_receipt(receipt)
                    unit.save_device(b"d", Device("rep", b"1", b"", b""), other.now())
                    later = unit.publish(other.now())
                assert all_of(snapshot, start, receipt.id) == before
                assert not snapshot.honoured(later), "a point that lies after the snapshot"
            with store.snapshot() as snapshot:
                after = all_of(snapshot, start, receipt.id)
                assert all(one != two for one, two in zip(before, after, strict=True)), (before, after)
                assert snapshot.honoured(later)

    def test_a_snapshot_with_an_age_is_enough_and_one_without_holds_everything(self, tmp_path: Path) -> None:
        """However young the one before is."""
        with self.open(tmp_path) as store, self.open(tmp_path) as other:
            for n in range(6):
                put(other, place("a", n))
                with store.snapshot(age_s=60.0 * (n % 2), enough=holding("a", n)) as snapshot:
                    assert holding("a", n)(snapshot)

    def test_no_snapshot_shows_half_of_a_transaction(self, tmp_path: Path) -> None:
        """Two records that are always changed together are always seen together."""
        done = threading.Event()

        def write(store: AuthorityStore) -> None:
            try:
                for n in range(60):
                    with store.unit() as unit:
                        for shelf in (1, 2):
                            unit.update(PLACE, ("a", shelf), {"note": str(n)})
            finally:
                done.set()

        def read(store: AuthorityStore) -> None:
            while not done.is_set():
                with store.snapshot() as snapshot:
                    notes = {row[3] for row in contents(snapshot, "place", snapshot.evaluate("place", everything, ALL)).values()}
                    assert len(notes) == 1, notes

        with self.open(tmp_path) as store, self.open(tmp_path) as other:
            put(store, place("a", 1, "-"), place("a", 2, "-"))
            together(lambda: write(other), lambda: read(store), lambda: read(store))

    def test_cursors_of_this_history_are_honoured_and_no_others(self, tmp_path: Path) -> None:
        """Also by other stores over the same database, after reopening; never by another database."""
        with self.open(tmp_path) as store:
            cursors = [cursor(store)]
            for n in range(3):
                put(store, place("a", n))
                cursors.append(cursor(store))
            assert len(set(cursors)) == 4
        (tmp_path / "elsewhere").mkdir()
        with self.open(tmp_path / "elsewhere") as elsewhere:
            put(elsewhere, place("a", 0))
            foreign = cursor(elsewhere)
        forged = [b"", b"x", foreign, foreign + b"x", os.urandom(len(foreign)), bytes(len(foreign)), b"\xff" * len(foreign)]
        forged += [flipped(c, bit) for c in cursors for bit in range(8 * len(c))]
        with self.open(tmp_path) as store, store.snapshot() as snapshot:
            assert all(map(snapshot.honoured, [*cursors, snapshot.cursor]))
            assert [c.hex() for c in forged if snapshot.honoured(c)] == []
            with store.unit() as unit:
                assert all(map(unit.honoured, cursors))
                assert [c.hex() for c in forged if unit.honoured(c)] == []

    def test_a_published_cursor_holds_what_its_transaction_wrote(self, tmp_path: Path) -> None:
        """Once it has committed; rolled back, it is no point of this history. Positions tell before from after."""
        with self.open(tmp_path) as store:
            with store.unit() as unit:
                unit.insert(PLACE, place("a", 1))
                published, first = unit.publish(1000.0), unit.position
            with store.unit() as unit:
                second = unit.position
                assert first <= placed(unit, "a", 1)[1] < second, "written before: the version is below this position"
                unit.update(PLACE, ("a", 1), {"note": "x"})
                assert placed(unit, "a", 1)[1] >= second
                unit.insert(PLACE, place("a", 2))
            rolled_back = fail_inside(store, lambda unit: unit.publish(store.now()))
            with store.snapshot() as snapshot:
                assert snapshot.honoured(published)
                assert not snapshot.honoured(rolled_back)
                assert snapshot.touched("place", published) == View(ordinals(store, [1, 2]))
                assert snapshot.durable_position(1000.0) < first <= snapshot.durable_position(1000.5)

    # -- transactions

    def test_a_transaction_sees_its_own_writes_and_vanishes_whole(self, tmp_path: Path) -> None:
        """Records, receipts and devices alike."""
        with self.open(tmp_path) as store:

            def write(unit: Unit) -> None:
                unit.insert(PLACE, place("a", 1, "x"))
                assert unit.get(PLACE, ("a", 1)) == place("a", 1, "x")
                assert unit.get(PLACE, ("A", 1)) is None
                assert unit.in_scope(PLACE, ("a", 1), ALL)
                assert not unit.in_scope(PLACE, ("a", 1), {**ALL, "place": Place.note == "y"})
                assert not unit.in_scope(PLACE, ("a", 2), ALL)
                assert [list(r) for r in unit.query(Query("place"), ["note"], None)[0]] == [["x"]]
                assert unit.query(Query("place"), ["note"], {**ALL, "place": nothing})[0] == []
                assert unit.begin_receipt(b"m" * 16, "rep") is None
                unit.save_device(b"d", Device("rep", b"1", b"", b""), store.now())

            fail_inside(store, write)
            with store.unit() as unit:
                assert unit.get(PLACE, ("a", 1)) is None
                assert unit.receipt(b"m" * 16) is None
                assert unit.device(b"d") is None

    def test_a_savepoint_is_undone_alone(self, tmp_path: Path) -> None:
        """By any exception, nested too; what was done before and after stays."""
        with self.open(tmp_path) as store:
            with store.unit() as unit:
                unit.insert(PLACE, place("a", 1))
                with Raises(KeyError), unit.savepoint():
                    unit.insert(PLACE, place("a", 2))
                    unit.begin_receipt(b"m" * 16, "rep")
                    with unit.savepoint():
                        unit.delete(PLACE, ("a", 1))
                    raise KeyError
                with unit.savepoint():
                    unit.insert(PLACE, place("a", 3))
                    with Raises(KeyError), unit.savepoint():
                        unit.delete(PLACE, ("a", 3))
                        raise KeyError
                assert unit.receipt(b"m" * 16) is None
            with store.snapshot() as snapshot:
                assert [r[:2] for r in rows(snapshot, Query("place"), PLACE.fields)] == [["a", 1], ["a", 3]]

    def test_broken_rules_of_the_tables_are_told_and_survived(self, tmp_path: Path) -> None:
        """ConstraintViolated; inside a savepoint the transaction goes on, outside it is rolled back."""
        broken: list[Callable[[Unit], None]] = [
            lambda unit: unit.insert(PLACE, place("a", 1)),
            lambda unit: unit.insert(PLACE, {"aisle": "b", "shelf": None, "note": None}),
            lambda unit: unit.update(SHOP, ("a",), {"name": None}),
        ]
        with self.open(tmp_path) as store:
            put(store, place("a", 1))
            with store.unit() as unit:
                unit.insert(SHOP, SHOPS[0])
                for write in broken:
                    with Raises(ConstraintViolated) as told, unit.savepoint():
                        write(unit)
                    assert told.caught.detail
                unit.insert(PLACE, place("a", 2))
            for write in broken:
                with Raises(ConstraintViolated), store.unit() as unit:
                    unit.insert(PLACE, place("a", 3))
                    write(unit)
            with store.snapshot() as snapshot:
                assert [r[1] for r in rows(snapshot, Query("place"), PLACE.fields)] == [1, 2]

    # -- receipts, devices and the rest

    def test_a_receipt_is_given_once(self, tmp_path: Path) -> None:
        """Of two transactions at once, in two stores, one gets the mutation and the other its receipt."""
        with self.open(tmp_path) as store, self.open(tmp_path) as other:
            for second in (store, other) * 4:
                found = both_claim(store, second, os.urandom(16))
                assert found[0] is None, "the first to come has the mutation"
                assert found[1] is not None, "both had the mutation"
                with store.unit() as unit:
                    assert unit.receipt(found[1].id) == unit.begin_receipt(found[1].id, "somebody else") == found[1]
                with store.snapshot() as snapshot:
                    assert snapshot.receipts([found[1].id, os.urandom(16)]) == {found[1].id}
                assert (found[1].outcome, found[1].body) == ("rejected", b"\0body")

    def test_a_receipt_that_was_rolled_back_was_never_given(self, tmp_path: Path) -> None:
        """The mutation may come again."""
        with self.open(tmp_path) as store:
            fail_inside(store, lambda unit: unit.begin_receipt(b"m" * 16, "rep"))
            with store.unit() as unit:
                assert unit.begin_receipt(b"m" * 16, "rep") is None

    def test_what_is_known_of_a_device_is_kept(self, tmp_path: Path) -> None:
        """Every field; notes for the operator change none of it."""
        known = Device("rep", b"turn", b"previous", b"request", False, 1234.5)
        revoked = evolve(known, turn=b"next", previous=b"turn", revoked=True)
        with self.open(tmp_path) as store:
            for value in (known, revoked):
                with store.unit() as unit:
                    unit.save_device(b"d", value, store.now())
                    assert unit.device(b"d") == value
                store.note_device(b"d", "rep", store.now(), b"report")
                store.note_device(b"d", "somebody else", store.now(), b"report")
            store.note_device(b"only noted", "rep", store.now(), b"report")
        with self.open(tmp_path) as store:
            with store.snapshot() as snapshot:
                assert snapshot.device(b"d") == revoked
                assert snapshot.device(b"never") is None
            with store.unit() as unit:
                noted = unit.device(b"only noted")
                assert noted is None or (noted.turn, noted.request, noted.revoked) == (b"", b"", False)

    def test_failures_are_counted_by_mutation(self, tmp_path: Path) -> None:
        """Each in a transaction of its own, and for ever."""
        with self.open(tmp_path) as store:
            assert [store.count_failure(b"1" * 16, "why") for _ in range(3)] == [1, 2, 3]
            assert store.count_failure(b"2" * 16, "why") == 1
        with self.open(tmp_path) as store:
            assert store.count_failure(b"1" * 16, "why") == 4

    def test_projections_and_the_secret_are_kept(self, tmp_path: Path) -> None:
        """By hash; what is unknown is None. Every store over one database has the same secret."""
        fields = {"place": ["aisle", "shelf"], "shop": []}
        with self.open(tmp_path) as store:
            assert store.projection(b"h" * 16) is None
            for _ in range(2):
                store.save_projection(b"h" * 16, fields)
            secret = store.secret
            assert len(secret) >= 16
        with self.open(tmp_path) as store, self.open(tmp_path) as other:
            assert {n: list(f) for n, f in (other.projection(b"h" * 16) or {}).items()} == fields
            assert other.projection(b"i" * 16) is None
            assert store.secret == other.secret == secret

    # -- reading

    def test_filters_mean_the_same_as_in_python(self, tmp_path: Path) -> None:
        """Every filter, on every record, alone and within a view."""
        with self.open(tmp_path) as store:
            fill(store)
            with store.snapshot() as snapshot:
                for cls, where in FILTERS:
                    info = info_of(cls)
                    wanted = {r[info.key[0]] for r in records(info.name) if evaluate(where, r, SCHEMA, related) is True}
                    view = snapshot.evaluate(info.name, where, ALL)
                    assert {row[1] for row in contents(snapshot, info.name, view).values()} == wanted, where
                    some = View(list(snapshot.evaluate(info.name, everything, ALL))[::2])
                    assert snapshot.evaluate(info.name, where, ALL, some) == view & some, where
                    assert snapshot.evaluate(info.name, where, ALL, View()) == View()
                assert not snapshot.unfit("shop") | snapshot.unfit("sale")

    def test_scopes_bound_the_filter_and_every_step_of_it(self, tmp_path: Path) -> None:
        """A record outside the scope counts for nothing."""
        scopes = {**ALL, "shop": Shop.city == "Recife"}
        with self.open(tmp_path) as store:
            fill(store)
            with store.snapshot() as snapshot:

                def keys(collection: str, where: Filter) -> set[Value]:
                    found = contents(snapshot, collection, snapshot.evaluate(collection, where, scopes))
                    return {row[1] for row in found.values()}

                assert keys("shop", everything) == {"a"}
                assert keys("sale", Sale.shop.within(everything)) == {1, 2}
                assert keys("shop", Sale.shop.some(Sale.shop.within(Shop.code == "A"))) == set()
                assert [list(r) for r in snapshot.query(Query("shop", total=True), ["code"], scopes)[0]] == [["a"]]
                assert snapshot.query(Query("shop", total=True, limit=0), ["code"], scopes) == ([], 1)

    def test_steps_lead_along_references_both_ways(self, tmp_path: Path) -> None:
        """From a set of records to a set of records, within scope and filter."""
        with self.open(tmp_path) as store:
            fill(store)
            with store.snapshot() as snapshot:

                def reach(
                    to: str, origin: list[Value], where: Filter = everything, scopes: Mapping[str, Filter] = ALL
                ) -> set[Value]:
                    start = "sale" if to == "shop" else "shop"
                    step = Step(to, Source(start, everything), "sale", "shop", to == "shop", where)
                    view = snapshot.step(step, snapshot.ordinals(start, [(k,) for k in origin]), scopes)
                    return {row[1] for row in contents(snapshot, to, view).values()}

                assert reach("shop", [1, 2, 3, 4, 5]) == {"a", "A"}
                assert reach("shop", []) == set()
                assert reach("sale", ["a", "b", "ç"]) == {1, 2, 2**63 - 1}
                assert reach("sale", ["a", "A"], Sale.total > Decimal(5)) == {2}
                assert reach("shop", [1, 3], scopes={**ALL, "shop": Shop.city == "Recife"}) == {"a"}
                assert reach("shop", [1, 3], scopes={**ALL, "shop": nothing}) == set()

    def test_rows_come_in_the_order_of_ordinals_with_every_value_whole(self, tmp_path: Path) -> None:
        """Only the fields asked for, in their order; ordinals that are not there are left out."""
        with self.open(tmp_path) as store:
            fill(store)
            with store.snapshot() as snapshot:
                for name in ("shop", "sale"):
                    info, view = SCHEMA.info(name), snapshot.evaluate(name, everything, ALL)
                    got = [list(row) for row in snapshot.rows(name, list(info.fields), view | View([2**32 - 1]))]
                    assert [row[0] for row in got] == sorted(view)
                    assert sorted(row[1:] for row in got) == sorted(list(r.values()) for r in records(name))
                some = list(snapshot.rows("sale", ["total", "id"], snapshot.ordinals("sale", [(2,)])))
                assert [list(row[1:]) for row in some] == [[2000, 2]]
                assert list(snapshot.rows("sale", ["id"], View())) == []

    def test_queries_are_ordered_paged_and_counted(self, tmp_path: Path) -> None:
        """By fields, then key; nulls are the smallest; pages cover everything once."""
        with self.open(tmp_path) as store:
            fill(store)
            with store.snapshot() as snapshot:
                for order in [(), ("city",), ("credit", "city"), ("since",)]:
                    for down in (False, True):
                        by = tuple((name, down) for name in order)
                        whole = rows(snapshot, Query("shop", order=by), [*order, "code"])
                        assert [r[-1] for r in whole] == in_order(by), by
                        for size in (1, 2, 5):
                            pages, query = list[Any](), Query("shop", order=by, limit=size, total=True)
                            while page := rows(snapshot, query, [*order, "code"]):
                                assert len(page) <= size
                                assert snapshot.query(query, ["code"], ALL)[1] == len(SHOPS)
                                pages += page
                                query = evolve(query, after=tuple(page[-1]))
                            assert pages == whole
                assert [r[0] for r in rows(snapshot, Query("shop", search="sao ben"), ["code"])] == ["a", "b"]
                assert snapshot.query(Query("shop", Shop.city == "Campinas"), ["code"], ALL)[1] is None
