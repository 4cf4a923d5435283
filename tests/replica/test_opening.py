"""Opening a replica's file: what is refused leaves it untouched, and an additive upgrade keeps what waits in it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import apsw
import pytest

from offlinekit.exceptions import IdentityMismatch, Reject, SchemaError, StoreCorrupt, StoreError, StoreTooNew
from offlinekit.nodes import everything
from offlinekit.offer import Offer, Quick
from offlinekit.replica import Replica
from offlinekit.schema import Collection, Field, Schema, field
from offlinekit.store.sqlite.replica_ddl import FORMAT
from tests.replica.world import SCHEMA, City, Draft, Order, opened


def make(folder: Path) -> Path:
    """A replica with records, a pending mutation and a refused one."""

    def judge(changes: Any, ctx: Any) -> None:
        raise Reject("never", "not today")

    with opened(folder=str(folder), hook=judge) as pair:
        for id_ in ("refused", "pending"):
            with pair.replica.transaction("sell") as tx:
                tx.insert(Order(id=id_, total=Decimal(5)))
            if id_ == "refused":
                pair.sync()
    return folder / "replica.db"


def digest(path: Path) -> bytes:
    """The file's bytes."""
    return hashlib.sha256(path.read_bytes()).digest()


def execute(path: Path, sql: str, *bindings: Any) -> None:
    """Another hand changes the file."""
    db = apsw.Connection(str(path))
    db.execute(sql, bindings)
    db.pragma("wal_checkpoint(truncate)")
    db.close()


def reopen(path: Path, schema: Schema = SCHEMA, identity: str = "rep") -> Replica:
    """Opens it again."""
    offer = Offer(*(Quick(f"{n}s", schema.info(n).cls, everything) for n in ("order", "line") if n in schema.collections))
    return Replica.open(path, schema, offer=offer, identity=identity)


def newer(path: Path) -> None:
    """A later program has used the file."""
    reopen(path, Schema(City, Order, SCHEMA.info("line").cls, Draft, intents=["sell", "other"], version=2)).close()


CASES: list[tuple[Callable[[Path], Any], str, type[Exception]]] = [
    (lambda path: None, "somebody else", IdentityMismatch),
    (newer, "rep", StoreTooNew),
    (lambda path: execute(path, "UPDATE ok_meta SET value=? WHERE name='format'", bytes([FORMAT + 1])), "rep", StoreTooNew),
    (lambda path: path.write_bytes(b"not a database at all" * 300), "rep", StoreCorrupt),
    (lambda path: path.write_bytes(path.read_bytes()[:100] + b"\xff" * 4000 + path.read_bytes()[4100:]), "rep", StoreCorrupt),
    (lambda path: execute(path, 'CREATE TRIGGER mine AFTER INSERT ON "order" BEGIN SELECT 1; END'), "rep", StoreError),
    (lambda path: execute(path, "CREATE TRIGGER mine AFTER INSERT ON ok_touch BEGIN SELECT 1; END"), "rep", StoreError),
]


@pytest.mark.parametrize(("change", "identity", "error"), CASES)
def test_a_file_that_is_refused_stays_as_it_is(tmp_path: Path, change: Any, identity: str, error: type[Exception]) -> None:
    path = make(tmp_path)
    change(path)
    before = digest(path)
    for _ in range(2):
        with pytest.raises(error):
            reopen(path, identity=identity)
    assert digest(path) == before


def test_another_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.db"
    execute(path, "CREATE TABLE mine(a)")
    before = digest(path)
    with pytest.raises(StoreCorrupt, match="is no replica"):
        reopen(path)
    assert digest(path) == before


def test_an_empty_file_becomes_a_replica(tmp_path: Path) -> None:
    path = tmp_path / "replica.db"
    path.touch()
    reopen(path).close()
    reopen(path).close()


def upgraded(**changes: Any) -> Schema:
    """The next version, with the order as given."""

    class Order(Collection, writable=changes.get("writable", True), indexes=changes.get("indexes", ())):
        id: Field[str] = field(key=True)
        rep: Field[str] = field(default="r", search=changes.get("search", False))
        city: Field[str | None] = field(ref="city", default=None)
        total: Field[Decimal] = field(scale=changes.get("scale", 2), default=Decimal(0), ge=0)
        note: Field[str | None] = field(default=None, search=True)
        number: Field[int | None] = field(default=None, online_only=changes.get("hides", False))
        cost: Field[int] = field(online_only=changes.get("hidden", True), default=0)
        if changes.get("new", True):
            color: Field[str] = field(default="Grün", search=True) if changes.get("default", True) else field()

    class Catalogue(Collection, own_file=True):
        sku: Field[str] = field(key=True)
        name: Field[str] = field(search=True)

    line = SCHEMA.info("line").cls
    others = [Draft, Catalogue] if changes.get("catalogue", True) else [Draft]
    collections = [City, Order, line, *others] if changes.get("line", True) else [City, Order, *others]
    return Schema(*collections, intents=["sell", "other"], version=changes.get("version", 2))


def test_an_additive_upgrade_keeps_outbox_and_refused(tmp_path: Path) -> None:
    path, schema = make(tmp_path), upgraded(indexes=[("total", "rep")], search=True, hidden=False)
    with reopen(path) as before:
        ids = [m.id for m in (*before.pending(), *before.rejections())]
    order = schema.info("order").cls
    for _ in range(2):
        with reopen(path, schema) as replica:
            assert [m.id for m in (*replica.pending(), *replica.rejections())] == ids
            assert {o.id: (o.color, o.cost, o.total) for o in replica.select(order)} == {
                "a": ("Grün", 0, 1), "b": ("Grün", 0, 0), "pending": ("Grün", 0, 5)}  # fmt: skip
            assert [o.id for o in replica.select(order).search("aguas")] == ["b"]
            assert replica.select(order).search("grun").count() == 3
            assert replica.select(order).search("r").count() == 3, "a field that is searched from now on is indexed"
            assert replica.select(schema.info("catalogue").cls).count() == 0
            assert replica.sql("SELECT 1 FROM sqlite_schema WHERE name='ok_index_order.total.rep'") == [(1,)]
    with reopen(path, schema) as replica:
        replica.pending()[0].withdraw()
        with replica.rejections()[0].edit() as tx:
            tx.update(order(id="refused"), color="Rot")
        assert replica.select(order).search("rot").count() == 1
        with replica.transaction("sell") as tx:
            tx.update(order(id="a"), color="Blau")
    with pytest.raises(StoreTooNew):
        reopen(path)


def test_what_waited_before_an_upgrade_is_sent_after_it(tmp_path: Path) -> None:
    with opened(folder=str(tmp_path)) as pair:
        with pair.replica.transaction("sell") as tx:
            tx.update(Order(id="a"), note="before")
        pair.replica.close()
        schema = upgraded(catalogue=False, new=False, search=True)
        pair.replica = Replica.open(tmp_path / "replica.db", schema, offer=None, identity="rep", clock=pair.clock)
        assert pair.sync().outcomes == {"accepted": 1}
        assert pair.authority.get(Order, "a").note == "before"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scale": 3}, "changed its type"),
        ({"hides": True}, "changed its type"),
        ({"writable": False}, "changed writable"),
        ({"line": False}, "is gone"),
        ({"default": False}, "needs a default"),
        ({"version": 1}, "raise Schema"),
    ],
)
def test_what_is_not_additive_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = make(tmp_path)
    with pytest.raises(SchemaError, match=said):
        reopen(path, upgraded(**changes))
    with reopen(path) as replica:
        assert len(replica.pending()) == len(replica.rejections()) == 1
