"""Random statements as other programs write them: every conflict clause, moved keys, rowids, savepoints."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen
from hypothesis import strategies as st

from tests.authority.shop import TABLES, Table


@frozen
class Batch:
    """Statements between two looks of the authority; `exact` if not even a harmless touch is allowed."""

    statements: Sequence[str]
    exact: bool


def _values(draw: st.DrawFn, table: Table, columns: Sequence[str]) -> str:
    pools = [table.pools.get(c, ("1", "2", "3", "4")) for c in columns]
    return f"({','.join(draw(st.sampled_from(list(p))) for p in pools)})"


def _sets(draw: st.DrawFn, table: Table, *, excluded: bool) -> str:
    names = [*table.pools, *(["rowid"] if table.rowid and not excluded else [])]
    sets = []
    for column in draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True)):
        pool = [*table.pools.get(column, ("1", "2", "3", "4")), *([f"excluded.{column}"] * 4 if excluded else [])]
        sets.append(f"{column}={draw(st.sampled_from(pool))}")
    return ",".join(sets)


def _where(draw: st.DrawFn, table: Table) -> str:
    column = draw(st.sampled_from([*table.key, *table.pools, ""]))
    return f" WHERE {column} IS {draw(st.sampled_from(list(table.pools[column])))}" if column else ""


@st.composite
def statement(draw: st.DrawFn, at: str) -> tuple[str, bool]:
    """A statement, and whether it may touch only what it changes."""
    table = TABLES[draw(st.sampled_from(list(TABLES)))]
    name, plain = at + table.name, table.plain
    kind = draw(st.sampled_from(["insert", "insert", "upsert", "update", "update", "delete"]))
    if kind == "delete":
        return f"DELETE FROM {name}{_where(draw, table)}", plain
    if kind == "update":
        verb = draw(st.sampled_from(["UPDATE", "UPDATE", "UPDATE OR REPLACE", "UPDATE OR IGNORE", "UPDATE OR FAIL"]))
        sql = f"{verb} {name} SET {_sets(draw, table, excluded=False)}{_where(draw, table)}"
        return sql, plain and verb == "UPDATE"
    some = draw(st.lists(st.sampled_from(list(table.pools)), max_size=2, unique=True))
    columns = [c for c in table.pools if c not in some or (c in table.key and draw(st.booleans()))]
    if table.rowid and draw(st.booleans()):
        columns.append("rowid")
    rows = [_values(draw, table, columns) for _ in range(draw(st.sampled_from([1, 1, 2])))]
    body = f"{name}({','.join(columns)}) VALUES {','.join(rows)}"
    if kind == "upsert":
        target = draw(st.sampled_from(["", *(f"({u})" for u in table.unique)]))
        action = draw(st.sampled_from(["UPDATE", "UPDATE", "NOTHING"]))
        action += f" SET {_sets(draw, table, excluded=True)}" if action == "UPDATE" else ""
        own = target == f"({', '.join(table.key)})"  # a conflict with another key may still lead to the update
        alone = len(table.unique) == 1  # what shares another unique key is touched: it might have been replaced
        return f"INSERT INTO {body} ON CONFLICT{target} DO {action}", plain and own and alone and len(rows) == 1
    verb = draw(st.sampled_from(["INSERT", "INSERT", "INSERT OR REPLACE", "REPLACE", "INSERT OR IGNORE", "INSERT OR FAIL"]))
    return f"{verb} INTO {body}", plain and verb == "INSERT" and len(rows) == 1


@st.composite
def batch(draw: st.DrawFn, at: str = "") -> Batch:
    """Up to five statements, alone or in a transaction, kept or rolled back."""
    drawn = draw(st.lists(statement(at), min_size=1, max_size=5))
    statements, exact = [sql for sql, _ in drawn], all(plain for _, plain in drawn)
    frame = draw(st.sampled_from(["", "", "BEGIN;COMMIT", "BEGIN;ROLLBACK", "SAVEPOINT a;ROLLBACK TO a;RELEASE a"]))
    if not frame:
        return Batch(statements, exact)
    first, *last = frame.split(";")
    return Batch([first, *statements, *last], exact)


def fill(at: str = "") -> list[str]:
    """A few records in every table."""
    return [
        f"INSERT INTO {at}customer(id,name,email) VALUES(1,'ann','a'),(2,'bob','b'),(3,'cy',NULL)",
        f"INSERT INTO {at}ord(id,customer,total,number) VALUES('o1',1,1.5,1),('o2',2,NULL,2)",
        f"INSERT INTO {at}item(ord,line,qty,tag) VALUES('o1',1,1,1),('o1',2,0,NULL),('o2',1,1,1)",
        f"INSERT INTO {at}product(sku,name,cat,ean,label,note) VALUES('p1','a','x','-','l',1),('p2','b','x','e1','m',2)",
    ]
