"""What every store of an authority must do, as a suite of tests to inherit from.

    class TestMine(StoreContract):
        def make_store(self, folder):
            return MyStore(database_for(folder))

The suite speaks to the port alone: `offlinekit.store.port` says what each test proves.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from attrs import evolve

from offlinekit.exceptions import ConstraintViolated
from offlinekit.nodes import Value, everything, nothing
from offlinekit.query import Query
from offlinekit.store.port import AuthorityStore, Device, Receipt, Unit
from offlinekit.testing._reading import Reading
from offlinekit.testing._shops import (
    ALL,
    PLACE,
    SHOP,
    SHOPS,
    Place,
    Raises,
    all_of,
    both_claim,
    contents,
    cursor,
    fail_inside,
    fill,
    flipped,
    holding,
    ordinals,
    place,
    placed,
    put,
    remove,
    rows,
    together,
)
from offlinekit.view import View

__all__ = ["StoreContract"]


class StoreContract(Reading):
    """Inherit and implement `make_store`; tests get pytest's `tmp_path`."""

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
                    assert ordinal in snapshot.changed("place", before)
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

    def test_what_devices_never_hold_is_touched_and_not_changed(self, tmp_path: Path) -> None:
        """A scope may look at it, but a record that is sent again would tell that something hidden changed."""
        writes: list[tuple[Callable[[Unit], None], bool]] = [
            (lambda unit: unit.update(SHOP, ("a",), {"credit": 1}), False),
            (lambda unit: unit.update(SHOP, ("a",), {"credit": None, "city": "Olinda"}), True),
            (lambda unit: unit.update(SHOP, ("a",), {"credit": 2, "city": "Olinda"}), False),
            (lambda unit: unit.delete(SHOP, ("a",)), True),
            (lambda unit: unit.insert(SHOP, SHOPS[0]), True),
        ]
        with self.open(tmp_path) as store:
            fill(store)
            start = cursor(store)
            for write, seen in writes:
                before = cursor(store)
                with store.unit() as unit:
                    write(unit)
                with store.snapshot() as snapshot:
                    ordinal = snapshot.ordinals("shop", [("a",)])
                    assert snapshot.touched("shop", before) == ordinal
                    assert snapshot.changed("shop", before) == (ordinal if seen else View())
                    assert snapshot.any_touched(["shop"], before)
                    assert snapshot.changed("shop", start) <= ordinal

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

    def test_old_receipts_become_compact_a_portion_at_a_time(self, tmp_path: Path) -> None:
        """The body goes and all else stays; younger ones stay whole, and so does what is rolled back."""
        old, young = ([Receipt(os.urandom(16), "rep", "rejected", 0, "why", b"body", b"kept") for _ in range(n)] for n in (5, 2))
        with self.open(tmp_path) as store:
            for receipts, at in ((old, 1000.0), (young, 2000.0)):
                with store.unit() as unit:
                    for n, receipt in enumerate(receipts):
                        receipts[n] = evolve(receipt, position=unit.position)
                        assert unit.begin_receipt(receipt.id, "rep") is None
                        unit.complete_receipt(receipts[n])
                    unit.publish(at)
            fail_inside(store, lambda unit: unit.compact_receipts(3000.0, 99))
            with store.unit() as unit:
                assert [unit.receipt(r.id) for r in (*old, *young)] == [*old, *young]
                assert unit.compact_receipts(1000.0, 99) == 0
                assert [unit.compact_receipts(1500.0, 3) for _ in range(3)] == [3, 2, 0]
        with self.open(tmp_path) as store, store.unit() as unit:
            assert [unit.begin_receipt(r.id, "rep") for r in old] == [evolve(r, body=b"") for r in old]
            assert [unit.receipt(r.id) for r in young] == young
            assert unit.compact_receipts(3000.0, 99) == 2

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
