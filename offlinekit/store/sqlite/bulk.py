"""The database inside a piece: one table with some records of one collection, as the replica's own table has them.

It is made in memory and travels as it is, so that a device copies its rows without looking at each of them in Python. What comes
from elsewhere is distrusted: its schema is compared to the letter and its values are checked before anything is copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

import apsw

from offlinekit.exceptions import ProtocolError
from offlinekit.expr.sql import quote
from offlinekit.nodes import Value
from offlinekit.schema import CollectionInfo
from offlinekit.store.pieces import Form, Piece, pack_piece
from offlinekit.store.sqlite.replica_ddl import column_sql
from offlinekit.view import View, signed

__all__ = [
    "PIECE_BYTES",
    "PIECE_ROWS",
    "attached",
    "check_rows",
    "made_pieces",
    "opened",
    "packed_rows",
    "piece_rows",
    "piece_sql",
    "received",
]

PIECE_ROWS = 20_000
PIECE_BYTES = 4 << 20
BATCH = 500  # records that are copied before anybody looks how large they are
_TYPES = {"INTEGER": ("integer",), "REAL": ("real", "integer"), "TEXT": ("text",), "BLOB": ("blob",)}


def piece_sql(info: CollectionInfo, fields: Sequence[str], place: str = "") -> str:
    """The table of a piece; the text of a replica's own, so that SQLite copies whole rows."""
    columns = ",".join(column_sql(info, name) for name in fields)
    return f"CREATE TABLE {place}{quote(info.name)}(_ordinal INTEGER PRIMARY KEY,{columns}) STRICT"


def packed_rows(info: CollectionInfo, fields: Sequence[str], rows: Iterable[Sequence[Value]]) -> Iterator[bytes]:
    """Pieces with these rows of (ordinal, field, …), as they travel; for stores that cannot make them in SQL."""
    db = apsw.Connection(":memory:")
    try:
        db.execute(piece_sql(info, fields))
        table, marks = quote(info.name), ",".join("?" * (len(fields) + 1))
        count = size = 0
        for row in rows:
            db.execute(f"INSERT INTO {table} VALUES({marks})", tuple(row))
            count += 1
            if count % 100 == 0:
                size = db.pragma("page_count") * db.pragma("page_size")
            if count == PIECE_ROWS or size >= PIECE_BYTES:
                yield pack_piece(Form.RECORDS, info.name, count, db.serialize("main"))
                db.execute(f"DELETE FROM {table}")
                count = size = 0
        if count:
            yield pack_piece(Form.RECORDS, info.name, count, db.serialize("main"))
    finally:
        db.close()


def made_pieces(db: apsw.Connection, info: CollectionInfo, fields: Sequence[str], records: str, view: View) -> Iterator[bytes]:
    """The same of what the statement `records` selects of an array of ordinals, copied in C, also within a read transaction."""
    table = f"ok_piece.{quote(info.name)}"
    if not any(row[1] == "ok_piece" for row in db.execute("PRAGMA database_list")):
        db.execute("ATTACH ':memory:' AS ok_piece")
        db.execute("PRAGMA ok_piece.secure_delete=on")  # else what others were sent before would travel in its free space
    for (left,) in list(db.execute("SELECT name FROM ok_piece.sqlite_schema")):
        db.execute(f"DROP TABLE ok_piece.{quote(left)}")
    db.execute(piece_sql(info, fields, "ok_piece."))
    count = size = at = 0
    batch = BATCH
    while at < len(view):
        ordinals = apsw.carray(signed(view[at : at + batch]))
        db.execute(f"INSERT INTO {table} {records}", (ordinals,))
        at, count = at + batch, count + db.changes()
        size = (db.pragma("page_count", schema="ok_piece") - db.pragma("freelist_count", schema="ok_piece")) * 4096
        if count and (count >= PIECE_ROWS or size >= PIECE_BYTES or at >= len(view)):
            yield pack_piece(Form.RECORDS, info.name, count, db.serialize("ok_piece"))
            db.execute(f"DELETE FROM {table}")
            count = 0
        batch = max(1, min(PIECE_ROWS - count, batch * 4, (PIECE_BYTES - size) * count // max(1, size)) if count else BATCH)


@contextmanager
def received() -> Iterator[None]:
    """Raises what reading a received database raises as a ProtocolError: it says nothing of the replica's own files."""
    try:
        yield
    except (apsw.CorruptError, apsw.NotADBError, apsw.SQLError, apsw.TooBigError, UnicodeDecodeError) as error:
        raise ProtocolError(f"the received file is damaged: {error}") from error


@contextmanager
def opened(info: CollectionInfo, piece: Piece) -> Iterator[tuple[apsw.Connection, bytes]]:
    """The database of a piece on a connection of its own, compared and checked, and its bytes."""
    content, db = piece.content(), apsw.Connection(":memory:")
    try:
        db.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        db.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
        with received():
            if not content:
                raise ProtocolError("a piece without a database")
            db.deserialize("main", content)
            if db.pragma("encoding") != "UTF-8":
                raise ProtocolError("a piece holds text in another encoding than UTF-8")
            found = list(db.execute("SELECT type,name,tbl_name,sql FROM sqlite_schema"))
            if found != [("table", info.name, info.name, piece_sql(info, info.replicated))]:
                raise ProtocolError(f"a piece of '{info.name}' holds other tables or columns than were asked for")
            check_rows(db, info, piece.records)
        yield db, content
    finally:
        db.close(True)


@contextmanager
def attached(db: apsw.Connection, info: CollectionInfo, piece: Piece) -> Iterator[str]:
    """The same as `ok_piece` of a connection, to copy its rows from; outside any transaction."""
    with opened(info, piece) as (_, content):
        db.execute("ATTACH ':memory:' AS ok_piece")
        try:
            db.deserialize("ok_piece", content)
            yield "ok_piece"
        except BaseException as error:
            with suppress(apsw.Error):  # what is damaged cannot be detached; the connection is given up
                db.execute("DETACH ok_piece")
            if isinstance(error, apsw.CorruptError):  # in what was not looked at, such as the rest of a long text
                raise ProtocolError(f"the received file is damaged: {error}") from error
            raise
        db.execute("DETACH ok_piece")


def check_rows(db: apsw.Connection, info: CollectionInfo, count: int) -> None:
    """Raises ProtocolError when a table from elsewhere holds other ordinals or values than its columns allow, or another count.

    SQLite trusts a table that calls itself STRICT, and copies its rows as they are.
    """
    table = quote(info.name)
    least, most = next(iter(db.execute(f"SELECT min(_ordinal),max(_ordinal) FROM {table}")))
    if least is not None and not 0 < least <= most < 2**32:
        raise ProtocolError(f"a record of '{info.name}' has no ordinal")
    conditions = []
    for name in info.replicated:
        f = info.fields[name]
        types = [*_TYPES[f.kind.sqlite], *(["null"] if f.nullable else [])]
        conditions.append(f"typeof({quote(name)}) NOT IN ({','.join(repr(t) for t in types)})")
    sql = f"SELECT count(*),coalesce(sum({' OR '.join(conditions)}),0) FROM {table}"
    found, wrong = next(iter(db.execute(sql)))
    if wrong or found != count:
        raise ProtocolError(f"a record of '{info.name}' does not fit the schema, or there are not {count} of them but {found}")


def piece_rows(info: CollectionInfo, piece: Piece) -> Iterator[Sequence[Value]]:
    """(ordinal, field, …) of a piece."""
    with opened(info, piece) as (db, _), received():
        yield from db.execute(f"SELECT * FROM {quote(info.name)}")
