"""Following a reference back costs in proportion to the records, also where no index holds the reference."""

from __future__ import annotations

from pathlib import Path

import pytest

from offlinekit import Collection, Field, Filter, Schema, SQLiteStore, everything, field
from offlinekit.selection import Source, Step


class Client(Collection):
    code: Field[str] = field(key=True)
    city: Field[str]


class Deal(Collection, indexes=[("day",)]):
    id: Field[int] = field(key=True)
    client: Field[str] = field(ref=Client)
    day: Field[int]


SCHEMA = Schema(Client, Deal)
PARTS: dict[str, Filter] = {
    "all": everything,
    "by an index": Deal.day >= 0,
    "by the key": Deal.id >= 0,
    "by several": (Deal.day >= 3) | (Deal.id < 2000),
}


def cost(folder: Path, clients: int, deals: int, part: Filter) -> tuple[int, int]:
    """The thousands of instructions that a step takes, and how many records it reaches."""
    store = SQLiteStore(folder / f"{clients}.db")
    store.bind(SCHEMA)
    with store.unit() as unit:
        db = unit.connection
        db.executemany("INSERT INTO client VALUES(?,'x')", ((f"{n:05}",) for n in range(clients)))
        db.executemany("INSERT INTO deal VALUES(?,?,?)", ((n, f"{n % clients:05}", n % 7) for n in range(deals)))
    scopes = {"client": everything, "deal": everything}
    with store.snapshot() as snapshot:
        count = 0

        def counted() -> bool:
            nonlocal count
            count += 1
            return False

        step = Step("deal", Source("client", everything), "deal", "client", False, part)
        everybody = snapshot.evaluate("client", everything, scopes)
        snapshot.db.set_progress_handler(counted, 1000)
        found = snapshot.step(step, everybody, scopes)
        snapshot.db.set_progress_handler(None)
    store.close()
    return count, len(found)


@pytest.mark.parametrize("part", PARTS)
def test_an_include_back_along_a_reference_without_an_index_is_linear(tmp_path: Path, part: str) -> None:
    small, _ = cost(tmp_path, 200, 600, PARTS[part])
    large, reached = cost(tmp_path, 2000, 6000, PARTS[part])
    assert reached > 4000
    assert large < 30 * small, "ten times the records take ten times the work, and not a hundred times"
