"""The outbox in steps: no statement of a push, an answer or a correction reads all that ever waited, was sent or was created."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import apsw
import pytest

from offlinekit.exchange import Exchanger
from offlinekit.store.sqlite.replica_sync import new_history
from offlinekit.testing.pair import Pair
from tests.replica.test_rejections import insert, judge, update
from tests.replica.world import Order, opened

GROWING = re.compile(r"SCAN (\w+ )?(ok_(mutation|change|after|touch|created))\b")
JOURNAL = re.compile(r"ok_mutation_state \(state=\?\)")  # for accepted mutations: all of the sent journal
ONCE = (  # statements that are about everything, and run once for a pull, a new history or a look at the status
    "SELECT state,count(*) FROM ok_mutation",
    "SELECT DISTINCT collection FROM ok_created",
    "SELECT seq FROM ok_mutation WHERE state<>'pending'",
    "SELECT count(*) FROM ok_mutation",
)


@pytest.fixture
def pair() -> Iterator[Pair]:
    with opened(hook=judge) as pair:
        yield pair


def test_no_statement_reads_all_of_a_growing_table(pair: Pair) -> None:
    db, seen = pair.replica.store.db, dict[str, None]()

    def trace(_: Any, sql: str, __: Any) -> bool:
        seen[sql] = None
        return True

    db.exec_trace = trace
    insert(pair, "n", 5)
    update(pair, "n", note="changed")
    insert(pair, "x", 500)
    update(pair, "x", note="waits")
    insert(pair, "y", 500)
    pair.sync()
    first, second = pair.replica.rejections()
    with first.edit() as tx:
        tx.update(Order(id="x"), total=Decimal(5))
    second.discard()
    pair.drive(Exchanger(pair.replica.store).push())
    new_history(pair.replica.store)
    pair.sync()
    insert(pair, "z", 5).withdraw()
    db.exec_trace = None
    assert len(seen) > 50
    plans = {sql: _plan(db, sql) for sql in seen if sql.startswith(("SELECT", "UPDATE", "DELETE", "INSERT")) and "ok_" in sql}
    assert not {sql: plan for sql, plan in plans.items() if GROWING.search(plan) and not sql.startswith(ONCE)}
    assert not {sql: plan for sql, plan in plans.items() if "ettled" in sql and " id=?" not in sql and JOURNAL.search(plan)}


def _plan(db: apsw.Connection, sql: str) -> str:
    rows = db.execute(f"EXPLAIN QUERY PLAN {sql}", [None] * sql.count("?"))
    return "; ".join(str(row[3]) for row in rows)
