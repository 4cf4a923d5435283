"""The files of a replica: the main file, one file for each `own_file` collection, and files received from the authority.

A collection with a file of its own lives in `<main>.<collection>.<generation>`, with its own state row. A load builds the next
generation beside the current one; one row of the main file makes it current; the old one is deleted when nobody has it open
(where an open file cannot be deleted, at the next open). Connections attach the current generations, so unqualified table
names work in every SQL statement.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import apsw

from offlinekit.exceptions import ProtocolError, StoreCorrupt
from offlinekit.expr.sql import quote
from offlinekit.nodes import Value
from offlinekit.schema import CollectionInfo
from offlinekit.store.sqlite.connection import connect, mapped
from offlinekit.store.sqlite.replica_ddl import STATE, collection_sql, finish_sql, search_table
from offlinekit.view import View, digest, pack_view, signed, view_of

__all__ = [
    "attach",
    "build_generation",
    "bulk_rows",
    "create_generation",
    "file_of",
    "open_bulk",
    "sweep",
    "write_bulk",
]


def file_of(main: str, collection: str, generation: int) -> str:
    """The path of a generation of a collection's own file."""
    return f"{main}.{collection}.{generation}"


def attach(db: apsw.Connection, main: str, generations: Mapping[str, int], attached: dict[str, int]) -> None:
    """Brings the attached files of a connection to the current generations; outside any transaction.

    They are attached read-only: else a transaction of the main file would lock them too, and wait for what loads them.
    """
    for collection, generation in generations.items():
        if attached.get(collection) != generation:
            if collection in attached:
                db.execute(f"DETACH {quote('ok_file_' + collection)}")
                del attached[collection]
            db.execute(f"ATTACH ? AS {quote('ok_file_' + collection)}", (_readonly(file_of(main, collection, generation)),))
            attached[collection] = generation


def _readonly(path: str) -> str:
    return Path(os.path.abspath(path)).as_uri() + "?mode=ro"


def sweep(main: str, generations: Mapping[str, int]) -> None:
    """Deletes generations that are not current, and files left by a crash; what another process has open stays."""
    folder = os.path.dirname(os.path.abspath(main))
    keep = {os.path.basename(file_of(main, c, g)) for c, g in generations.items()}
    name = os.path.basename(main)
    for entry in os.listdir(folder):
        rest = entry.removeprefix(name + ".")
        collection, _, tail = rest.partition(".")
        if rest == entry or (collection != "ok_incoming" and collection not in generations):
            continue
        plain = entry.removesuffix("-wal").removesuffix("-shm").removesuffix("-journal")
        if plain not in keep and (collection == "ok_incoming" or tail[:1].isdigit()):
            with suppress(OSError):
                os.remove(os.path.join(folder, entry))


def create_generation(main: str, info: CollectionInfo, generation: int) -> None:
    """An empty file for a collection."""
    build_generation(main, info, generation, None, None, View(), [], b"", b"")


def build_generation(
    main: str, info: CollectionInfo, generation: int, old: str | None, bulk: str | None, keep: View,
    inline: Iterable[Sequence[Value]], token: bytes, cursor: bytes, skip: View | None = None,
) -> None:  # fmt: skip
    """Makes a generation durable beside the others: kept records of `old`, records of `bulk` less `skip`, inline records.

    No triggers, indexes or search index exist while rows arrive; they are made afterwards. The file is synced before it returns.
    """
    path = file_of(main, info.name, generation)
    for tail in ("", "-wal", "-shm", "-journal"):
        with suppress(FileNotFoundError):
            os.remove(path + tail)
    db = apsw.Connection(path)
    with mapped(path):
        try:
            db.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
            db.pragma("journal_mode", "off")
            db.pragma("synchronous", "off")
            db.pragma("cache_size", -32_000)  # sorting goes to temporary files: in memory it would grow with the records
            for name, source in (("ok_old", old), ("ok_bulk", bulk)):
                if source is not None:
                    db.execute(f"ATTACH ? AS {name}", (source,))
            db.execute("BEGIN")
            for statement in STATE.split(";"):
                db.execute(statement)
            for statement in collection_sql(info, indexes=False):
                db.execute(statement)
            _fill(db, info, old, bulk, keep, inline, skip or View())
            for statement in finish_sql(info):
                db.execute(statement)
            if info.search:
                search = search_table(info.name)
                db.execute(f"INSERT INTO main.{search}({search}) VALUES('rebuild')")
            view = view_of(row[0] for row in db.execute(f"SELECT _ordinal FROM main.{quote(info.name)}"))
            db.execute("INSERT INTO ok_state VALUES(?,?,?)", (info.name, pack_view(view), digest(view)))
            db.execute("UPDATE ok_group SET token=?, cursor=?", (token, cursor))
            db.execute("COMMIT")
            for name, source in (("ok_old", old), ("ok_bulk", bulk)):
                if source is not None:
                    db.execute(f"DETACH {name}")
            db.pragma("synchronous", "full")
            db.pragma("journal_mode", "wal")
        except apsw.ConstraintError as error:
            raise ProtocolError(f"a record of '{info.name}' does not fit the schema: {error}") from error
        finally:
            db.close()
    _sync(path)


def _fill(db: apsw.Connection, info: CollectionInfo, old: str | None, bulk: str | None, keep: View,
          inline: Iterable[Sequence[Value]], skip: View) -> None:  # fmt: skip
    table, columns = quote(info.name), ",".join(map(quote, ("_ordinal", *info.replicated)))
    if old is not None and keep:
        db.execute(
            f"INSERT INTO main.{table}({columns}) SELECT {columns} FROM ok_old.{table}"
            " WHERE _ordinal IN (SELECT value FROM carray(?))",
            (apsw.carray(signed(keep)),),
        )
    if bulk is not None:
        without, bindings = (
            ("WHERE _ordinal NOT IN (SELECT value FROM carray(?))", (apsw.carray(signed(skip)),)) if skip else ("", ())
        )
        db.execute(f"INSERT INTO main.{table}({columns}) SELECT {columns} FROM ok_bulk.{table} {without}", bindings)
    marks = ",".join("?" * (len(info.replicated) + 1))
    db.executemany(f"INSERT OR REPLACE INTO main.{table}({columns}) VALUES({marks})", (tuple(r) for r in inline))


def _sync(path: str) -> None:
    for name, flags in ((path, os.O_RDWR), (os.path.dirname(os.path.abspath(path)), os.O_RDONLY)):
        try:
            handle = os.open(name, flags)
        except PermissionError:  # folders cannot be opened on Windows, where names are durable without it
            continue
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


# -- files on their way


def write_bulk(path: str, tables: Iterable[tuple[str, Sequence[str], Iterable[Sequence[Value]]]]) -> None:
    """Writes (collection, fields, rows of ordinal and fields) as an SQLite file to send; nothing else is in it."""
    db = apsw.Connection(path)
    with mapped(path):
        try:
            db.pragma("journal_mode", "off")
            db.pragma("synchronous", "off")
            db.execute("BEGIN")
            for collection, fields, rows in tables:
                db.execute(_bulk_table(collection, fields))
                marks = ",".join("?" * (len(fields) + 1))
                db.executemany(f"INSERT INTO {quote(collection)} VALUES({marks})", rows)
            db.execute("COMMIT")
        finally:
            db.close()


def _bulk_table(collection: str, fields: Sequence[str]) -> str:
    return f"CREATE TABLE {quote(collection)}(_ordinal INTEGER PRIMARY KEY,{','.join(map(quote, fields))})"


def open_bulk(path: str, tables: Mapping[str, Sequence[str]]) -> apsw.Connection:
    """Opens a received file read-only and distrusted, after comparing its schema with what was asked for, to the letter."""
    try:
        db = connect(path, immutable=True)
    except StoreCorrupt as error:
        raise ProtocolError(f"the received file is no database: {error}") from error
    try:
        found = dict(db.execute("SELECT name,sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'"))
        wanted = {c: _bulk_table(c, fields) for c, fields in tables.items()}
        if found != wanted:
            raise ProtocolError(f"the received file holds {sorted(found)} instead of {sorted(wanted)}, or other columns")
    except BaseException:
        db.close()
        raise
    return db


def bulk_rows(db: apsw.Connection, collection: str) -> Iterator[Sequence[Value]]:
    """(ordinal, field, …) of a received file."""
    return db.execute(f"SELECT * FROM {quote(collection)}")
