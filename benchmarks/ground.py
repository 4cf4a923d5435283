"""What a run stands on: the data as files of either side, what is true of them, and changes as any other program makes them."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks import naive
from benchmarks.data import CUSTOMER, PRODUCT, customers_of
from benchmarks.processes import run

__all__ = ["Ground", "change", "pushed", "truth"]

OF_BRAND, TEXT = "b777", "parafuso 117"


class Ground:
    """The files of so many products, made once; processes work on copies."""

    def __init__(self, folder: Path, rows: int) -> None:
        self.rows, self.customers = rows, customers_of(rows)
        folder.mkdir(parents=True)
        self.hq, self.naive = folder / "hq.db", folder / "naive.db"
        run("serve", str(self.hq), f"--make={rows}")
        with closing(naive.connect(str(self.naive))) as db:
            db.execute("ATTACH ? AS hq", (str(self.hq),))
            for table, fields in (("product", PRODUCT), ("customer", CUSTOMER)):
                db.execute(f"INSERT INTO main.{table} SELECT {_names(fields)} FROM hq.{table}")
            db.commit()
        self.truth = truth(self.hq)

    def copy(self, folder: Path, side: str = "hq") -> Path:
        """A copy for one server, which has never answered anybody."""
        folder.mkdir(parents=True)
        return Path(shutil.copyfile(self.hq if side == "hq" else self.naive, folder / f"{side}.db"))


def truth(path: Path, groups: Iterable[str] | None = None) -> dict[str, Any]:
    """What a device that holds the products of these groups must find, told by SQL over the authority's file."""
    with closing(sqlite3.connect(path)) as db:
        where = "true" if groups is None else f'"group" IN ({",".join(repr(g) for g in groups)})'
        count, stock, price = db.execute(f"SELECT count(*), sum(stock), sum(price) FROM product WHERE {where}").fetchone()
        least = db.execute(f"SELECT min(code) FROM product WHERE {where}").fetchone()
        one = db.execute(f"SELECT {_names(PRODUCT)} FROM product WHERE code=?", least)
        begins = " AND ".join(f"' '||description LIKE '% {word}%'" for word in TEXT.split())
        return {
            "rows": count, "stock": stock, "price": price, "one": list(one.fetchone()),
            "customers": db.execute("SELECT count(*) FROM customer").fetchone()[0],
            "of_brand": OF_BRAND, "text": TEXT,
            "brand": _codes(db, f"{where} AND brand='{OF_BRAND}'"), "search": _codes(db, f"{where} AND {begins}"),
        }  # fmt: skip


def change(path: Path, turn: int) -> None:
    """Changes one product in a hundred, spread over all of them, as another program of the service does."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(
            "UPDATE product SET stock=stock+1, price=price+7, updated_at=? WHERE CAST(substr(code,2) AS INTEGER)%100=?",
            (f"2027-01-01 00:00:{turn:02}.000000", turn),
        )


def pushed(path: Path) -> tuple[int, int, int]:
    """Orders, lines, and the sum of their quantities, of an authority or a naive server: their keys are unique."""
    with closing(sqlite3.connect(path)) as db:
        orders = db.execute("SELECT count(*) FROM orders").fetchone()
        found: tuple[int, int, int] = (*orders, *db.execute("SELECT count(*), coalesce(sum(quantity),0) FROM line").fetchone())
        return found


def _names(fields: Iterable[str]) -> str:
    return ",".join(f'"{name}"' for name in fields)


def _codes(db: sqlite3.Connection, where: str) -> list[str]:
    return [code for (code,) in db.execute(f"SELECT code FROM product WHERE {where} ORDER BY 1")]
