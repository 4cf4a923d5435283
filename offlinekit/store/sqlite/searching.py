"""The full-text index of a collection's own file while much of it changes in place: by one statement instead of by triggers.

FTS5 writes what it has gathered at each savepoint, and SQLite opens one for each row that a trigger handles. So its triggers step
aside within the transaction, and the words of all records that go and come are taken out and put in together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import apsw

from offlinekit.expr.sql import quote
from offlinekit.nodes import Value
from offlinekit.schema import CollectionInfo
from offlinekit.store.sqlite.replica_ddl import search_table
from offlinekit.view import View, chunks, signed

__all__ = ["LEAST", "together"]

DELETE = "'delete',"
LEAST = 50  # changes from which on it is worth it


@contextmanager
def together(
    db: apsw.Connection, info: CollectionInfo, held: View, drop: View, rows: Iterable[Sequence[Value]]
) -> Iterator[None]:
    """Within a transaction: the records `rows` are put and those in `drop` deleted in the block, in the open database."""
    moved = _moved(db, info, held, drop, rows) if info.search else None
    if moved is None:
        yield
        return
    gone, come = moved
    triggers = [(str(n), str(sql)) for n, sql in db.execute(
        "SELECT name,sql FROM sqlite_schema WHERE type='trigger' AND tbl_name=? AND name LIKE 'ok~_search~_%' ESCAPE '~'",
        (info.name,),
    )]  # fmt: skip
    for name, _ in triggers:
        db.execute(f"DROP TRIGGER {quote(name)}")
    search, columns, table = search_table(info.name), ",".join(map(quote, info.search)), quote(info.name)
    source = f"SELECT {{}}_ordinal,{columns} FROM carray(?) c CROSS JOIN {table} ON _ordinal=c.value"
    for part in chunks(gone):
        sql = f"INSERT INTO {search}({search},rowid,{columns}) {source.format(DELETE)}"
        db.execute(sql, (apsw.carray(signed(part)),))
    yield
    for part in chunks(come):
        db.execute(f"INSERT INTO {search}(rowid,{columns}) {source.format('')}", (apsw.carray(signed(part)),))
    for _, sql in triggers:
        db.execute(sql)


def _moved(
    db: apsw.Connection, info: CollectionInfo, held: View, drop: View, rows: Iterable[Sequence[Value]]
) -> tuple[View, View] | None:
    """Whose words go and whose come; None where it is not worth it, or where a record takes the key of another one."""
    table = quote(info.name)
    key = [info.replicated.index(k) + 1 for k in info.key]
    texts = [info.replicated.index(n) + 1 for n in info.search]
    columns = ",".join(map(quote, (*info.key, *info.search)))
    by_ordinal = f"SELECT {columns} FROM {table} WHERE _ordinal=?"
    by_key = f"SELECT 1 FROM {table} WHERE {' AND '.join(f'{quote(k)}=?' for k in info.key)}"
    gone, come = drop & held, View()
    for row in rows:
        if len(row) != len(info.replicated) + 1 or type(row[0]) is not int or not 0 < row[0] < 2**32:
            return None  # which is refused where it would be written
        keys, words = [row[n] for n in key], [row[n] for n in texts]
        try:
            old = next(iter(db.execute(by_ordinal, (row[0],))), None)
        except UnicodeDecodeError:
            return None
        if old is None:
            if db.execute(by_key, keys).get is not None:
                return None
            come.add(row[0])
        elif list(old[: len(keys)]) != keys:
            return None
        elif list(old[len(keys) :]) != words:
            gone.add(row[0])
            come.add(row[0])
    return (gone, come) if len(gone) + len(come) >= LEAST else None
