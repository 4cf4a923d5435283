"""Building the next generation of a collection's own file, beside the current one and in nobody's way.

No index, search index or trigger exists while records arrive; they are made afterwards, which is several times faster. Or the
authority has sent an image with all of them inside, and the file is that. Nothing is synced before all is there: a build that
dies leaves a file that no row of the main file names, and that the next to open the replica discards.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import sha256

import apsw
import msgspec

from offlinekit.exceptions import ProtocolError, StoreCorrupt, StoreError
from offlinekit.expr.sql import quote
from offlinekit.nodes import Value
from offlinekit.schema import CollectionInfo, Schema
from offlinekit.store.pieces import Piece
from offlinekit.store.sqlite.bulk import attached, check_rows, received
from offlinekit.store.sqlite.connection import BUSY_MS, connect, mapped, mapped_files, write_transaction
from offlinekit.store.sqlite.replica_ddl import STATE, collection_sql, finish_sql, search_table
from offlinekit.store.sqlite.replica_files import file_of, readonly_uri, reserve
from offlinekit.view import View, chunks, digest, pack_view, signed, unpack_view, view_of

__all__ = ["Build", "check_image", "image_layout"]

# Sorting for an index takes as much again, and temporary data stays in files: in memory it would grow with the records. All
# is written in order here, so that a larger cache makes nothing faster.
CACHE_KB = 8_000
RANGE = 65_536  # ordinals that are read at once


class Build:
    """A generation in the making: `add` pieces, `finish`, `seal`, and `close` once it is current or given up.

    Its file is locked from the beginning and open until `close`: that is what keeps others from discarding it. Make it under
    the write lock of the main file, so that nobody does so before it is locked. With `image` it is that file, moved here.
    """

    def __init__(self, main: str, info: CollectionInfo, version: int, least: int, image: str | None = None) -> None:
        self.info, self.table, self.image = info, quote(info.name), image is not None
        with mapped_files(main):
            self.generation = reserve(main, info.name, least)
        self.path = file_of(main, info.name, self.generation)
        if image is not None:
            with mapped_files(self.path):
                os.replace(image, self.path)  # which nobody has open
        with mapped(self.path):
            self.db = apsw.Connection(self.path, flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_URI)
            try:
                self.db.set_busy_timeout(BUSY_MS)
                self.db.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
                # Without `main.`, files attached later would be locked as well.
                for setting in ("main.locking_mode=exclusive", "main.journal_mode=off", "main.synchronous=off", "fullfsync=on",
                                f"main.cache_size=-{CACHE_KB}"):  # fmt: skip
                    self.db.execute(f"PRAGMA {setting}")
                self.db.execute("BEGIN EXCLUSIVE")
                for statement in () if self.image else _bare(info, version):
                    self.db.execute(statement)
                self.db.execute("COMMIT")
            except BaseException:
                self.db.close()
                raise

    def add(self, piece: Piece) -> None:
        """Copies the records of a piece."""
        with mapped(self.path), attached(self.db, self.info, piece) as place:
            try:
                if self._columns(place) == self._columns("main"):
                    self.db.execute(f"INSERT INTO main.{self.table} SELECT * FROM {place}.{self.table}")  # whole rows, in C
                else:
                    columns = self._names()
                    self.db.execute(f"INSERT INTO main.{self.table}({columns}) SELECT {columns} FROM {place}.{self.table}")
            except apsw.ConstraintError as error:
                raise ProtocolError(f"a record of '{self.info.name}' came twice, or does not fit the schema: {error}") from error

    def _names(self) -> str:
        return ",".join(map(quote, ("_ordinal", *self.info.replicated)))

    def _columns(self, place: str) -> list[str]:
        return [str(row[0]) for row in self.db.execute("SELECT name FROM pragma_table_info(?,?)", (self.info.name, place))]

    def finish(self, old: str, held: View, drop: View, inline: Iterable[Sequence[Value]]) -> int:
        """Adds the records of an answer's message, and of `held` in the file `old` what is neither replaced nor dropped.

        Returns how many records the answer brought.
        """
        table, columns = f"main.{self.table}", self._names()
        with mapped(self.path):
            self.db.execute("ATTACH ? AS ok_old", (readonly_uri(old),))
            try:
                self.db.execute("BEGIN")
                marks = ",".join("?" * (len(self.info.replicated) + 1))
                self.db.executemany(f"INSERT OR REPLACE INTO {table}({columns}) VALUES({marks})", map(tuple, inline))
                came = self.view()
                same = self._columns("ok_old") == self._columns("main")
                into, names = (table, "o.*") if same else (f"{table}({columns})", columns)
                source = f"carray(?) c CROSS JOIN ok_old.{self.table} o ON o._ordinal=c.value"
                for part in chunks(held - came - drop):
                    self.db.execute(f"INSERT INTO {into} SELECT {names} FROM {source}", (apsw.carray(signed(part)),))
                self.db.execute("COMMIT")
            except apsw.ConstraintError as error:
                raise ProtocolError(f"a record of '{self.info.name}' does not fit the schema: {error}") from error
            self.db.execute("DETACH ok_old")
        return len(came)

    def view(self) -> View:
        """The ordinals that it holds."""
        return _ordinals(self.db, self.info)

    def index(self) -> None:
        """Makes indexes, search and triggers."""
        with mapped(self.path):
            try:
                self.db.execute("BEGIN")
                for statement in finish_sql(self.info):
                    self.db.execute(statement)
                if self.info.search:
                    search = search_table(self.info.name)
                    self.db.execute(f"INSERT INTO main.{search}({search}) VALUES('rebuild')")
                self.db.execute("COMMIT")
            except apsw.ConstraintError as error:
                raise ProtocolError(f"two records of '{self.info.name}' have the same key: {error}") from error

    def as_image(self, view: View) -> None:
        """Ends it as an image: what a device adopts, without a token."""
        self.index()
        with mapped(self.path):
            self._state(view)
            if (found := self.db.execute("PRAGMA main.quick_check").get) != "ok":
                raise StoreError(f"{self.path}: the image is damaged ({found:.100}); the disk may fail")

    def _state(self, view: View) -> None:
        self.db.execute("INSERT OR REPLACE INTO main.ok_state VALUES(?,?,?)", (self.info.name, pack_view(view), digest(view)))

    def seal(self, view: View, token: bytes, cursor: bytes) -> None:
        """Indexes and search are made, the file is made durable, then its view, token and cursor."""
        if not self.image:
            self.index()
        with mapped(self.path):
            self.db.execute("PRAGMA main.synchronous=full")
            self.db.execute("PRAGMA main.locking_mode=normal")
            if self.db.execute("PRAGMA main.journal_mode=wal").get != "wal":  # writes the first page, and so syncs the whole file
                raise StoreError(f"{self.path}: the file system does not support SQLite's write-ahead log; use a local disk")
            with write_transaction(self.db, self.path):  # the first commit of a new log syncs the folder, too
                self._state(view)
                self.db.execute("UPDATE main.ok_group SET token=?, cursor=?", (token, cursor))
            self.db.execute("PRAGMA main.wal_checkpoint(truncate)")

    def there(self, token: bytes) -> bool:
        """Whether the file under its name is this one, sealed; under the write lock of the main file.

        There is a moment in `seal` when nothing locks it, and somebody who opens the replica just then discards it.
        """
        try:
            db = connect(self.path, readonly=True)
        except StoreError:
            return False
        try:
            return bool(db.execute("SELECT token=? FROM ok_group", (token,)).get)
        except apsw.Error:
            return False
        finally:
            db.close()

    def close(self) -> None:
        """Lets go of it."""
        self.db.close()


def _ordinals(db: apsw.Connection, info: CollectionInfo) -> View:
    """Read by ranges as one value each, which is faster than row by row."""
    table, found = f"main.{quote(info.name)}", View()
    least, most = next(iter(db.execute(f"SELECT min(_ordinal),max(_ordinal) FROM {table}")))
    for first in range(least or 0, (most or -1) + 1, RANGE):
        sql = f"SELECT json_group_array(_ordinal) FROM {table} WHERE _ordinal>=? AND _ordinal<?"
        found |= view_of(msgspec.json.decode(db.execute(sql, (first, first + RANGE)).get, type=list[int]))
    return found


# -- images


def _bare(info: CollectionInfo, version: int) -> tuple[str, ...]:
    """The statements that make a generation without indexes."""
    return *STATE.split(";"), f"PRAGMA main.user_version={version}", *collection_sql(info, indexes=False)


@lru_cache(256)
def _schema_of(info: CollectionInfo, version: int) -> tuple[tuple[str, ...], ...]:
    """What stands in the schema of a complete generation."""
    db = apsw.Connection(":memory:")
    try:
        for statement in (*_bare(info, version), *finish_sql(info)):
            db.execute(statement)
        return _schema(db)
    finally:
        db.close()


def _schema(db: apsw.Connection) -> tuple[tuple[str, ...], ...]:
    rows = db.execute("SELECT type,name,tbl_name,coalesce(sql,'') FROM sqlite_schema")
    return tuple(sorted((str(a), str(b), str(c), str(d)) for a, b, c, d in rows))


def image_layout(schema: Schema) -> bytes:
    """What images must look like, as 8 bytes: a device adopts those of its own layout alone."""
    layouts = [(c.name, _schema_of(c, schema.version)) for c in schema.replicated if c.own_file]
    return sha256(msgspec.msgpack.encode([schema.version, layouts])).digest()[:8]


def check_image(path: str, info: CollectionInfo, version: int) -> View:
    """The ordinals of an image that was received, whose schema and values are what this program would have made.

    Raises ProtocolError. What stands in its indexes is not compared with its records: they are the authority's word as well.
    """
    try:
        db = connect(path, immutable=True)
    except StoreCorrupt as error:
        raise ProtocolError(f"the received image is no database: {error}") from error
    try:
        with mapped(path), received():
            marks = db.pragma("user_version"), db.pragma("encoding")
            if _schema(db) != _schema_of(info, version) or marks != (version, "UTF-8"):
                raise ProtocolError(f"the image of '{info.name}' holds other tables than asked for")
            states = list(db.execute("SELECT collection,view,digest,(SELECT mode FROM ok_gate) FROM ok_state"))
            if [s[0] for s in states] != [info.name] or states[0][3] != 0:
                raise ProtocolError(f"the image of '{info.name}' does not say what it holds")
            found = _ordinals(db, info)
            check_rows(db, info, len(found))
        if found != unpack_view(states[0][1]) or digest(found) != states[0][2]:
            raise ProtocolError(f"the image of '{info.name}' holds other records than it says")
        return found
    finally:
        db.close()
