"""The part of the suite for stores that asks what they read: filters, scopes, steps, rows and queries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from attrs import evolve

from offlinekit.expr import evaluate
from offlinekit.nodes import Filter, Value, everything, nothing
from offlinekit.query import Query
from offlinekit.schema import info_of
from offlinekit.selection import Source, Step
from offlinekit.store.port import AuthorityStore
from offlinekit.testing._shops import (
    ALL,
    FILTERS,
    SCHEMA,
    SHOPS,
    Sale,
    Shop,
    contents,
    fill,
    in_order,
    records,
    related,
    rows,
)
from offlinekit.view import View

__all__ = ["Reading"]


class Reading:
    """Part of `StoreContract`."""

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

    def test_a_step_backward_from_a_vanished_record_reaches_what_refers_to_it(self, tmp_path: Path) -> None:
        """Whoever looks again at what a vanished record had a part in finds it so; forward nobody knows where it led."""
        with self.open(tmp_path) as store:
            fill(store)
            with store.snapshot() as snapshot:
                shop, sale = snapshot.ordinals("shop", [("a",)]), snapshot.ordinals("sale", [(1,)])
                referring = snapshot.ordinals("sale", [(1,), (2,)])
            with store.unit() as unit:
                unit.delete(SCHEMA.info("shop"), ("a",))
                unit.delete(SCHEMA.info("sale"), (1,))
            with store.snapshot() as snapshot:
                back = Step("sale", Source("shop", everything), "sale", "shop", False, everything)
                assert snapshot.step(back, shop, ALL) == referring - sale
                forth = Step("shop", Source("sale", everything), "sale", "shop", True, everything)
                assert snapshot.step(forth, sale, ALL) == View()

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
