"""Building the next generation of a collection's own file, beside the current one and in nobody's way.

No index, search index or trigger exists while records arrive; they are made afterwards, which is several times faster. Nothing
is synced before all is there: a build that dies leaves a file that no row of the main file names, and that the next to open the
replica discards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import apsw

from offlinekit.exceptions import ProtocolError, StoreError
from offlinekit.expr.sql import quote
from offlinekit.nodes import Value
from offlinekit.schema import CollectionInfo
from offlinekit.store.sqlite.connection import BUSY_MS, connect, mapped, mapped_files, write_transaction
from offlinekit.store.sqlite.replica_ddl import STATE, collection_sql, finish_sql, search_table
from offlinekit.store.sqlite.replica_files import file_of, readonly_uri, received, reserve
from offlinekit.view import View, digest, pack_view, signed, view_of

__all__ = ["Build"]

# Sorting for an index takes as much again, and temporary data stays in files: in memory it would grow with the records. All
# is written in order here, so that a larger cache makes nothing faster.
CACHE_KB = 8_000
RANGE = 65_536  # ordinals that are copied by one statement


class Build:
    """A generation in the making: `fill`, `seal`, and `close` once it is current or given up.

    Its file is locked from the beginning and open until `close`: that is what keeps others from discarding it. Make it under
    the write lock of the main file, so that nobody does so before it is locked.
    """

    def __init__(self, main: str, info: CollectionInfo, version: int, least: int) -> None:
        self.info, self.table = info, quote(info.name)
        with mapped_files(main):
            self.generation = reserve(main, info.name, least)
        self.path = file_of(main, info.name, self.generation)
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
                for statement in (*STATE.split(";"), f"PRAGMA main.user_version={version}", *collection_sql(info, indexes=False)):
                    self.db.execute(statement)
                self.db.execute("COMMIT")
            except BaseException:
                self.db.close()
                raise

    def fill(self, old: str, bulk: str, drop: View, inline: Iterable[Sequence[Value]],
             told: Callable[[int], object] = lambda written: None) -> int:  # fmt: skip
        """The records of the file `old`, replaced by those of the file `bulk` and then by `inline`, without those in `drop`.

        Returns how many `bulk` and `inline` brought; `told` hears so on the way.
        """
        table, columns = f"main.{self.table}", ",".join(map(quote, ("_ordinal", *self.info.replicated)))
        with mapped(self.path):
            self.db.execute("ATTACH ? AS ok_old", (readonly_uri(old),))
            self.db.execute("ATTACH ? AS ok_bulk", (readonly_uri(bulk) + "&immutable=1",))
            try:
                self.db.execute("BEGIN")
                if self._columns("ok_old") == self._columns("main"):
                    # Copied page by page in C, also what is replaced or dropped below; values go by position.
                    self.db.execute(f"INSERT INTO {table} SELECT * FROM ok_old.{self.table}")
                else:
                    self.db.execute(f"INSERT INTO {table}({columns}) SELECT {columns} FROM ok_old.{self.table}")
                before = self.db.total_changes()
                source = f"SELECT {columns} FROM ok_bulk.{self.table} WHERE _ordinal>=? AND _ordinal<?"
                with received():
                    for first in self._ranges():
                        self.db.execute(f"INSERT OR REPLACE INTO {table}({columns}) {source}", (first, first + RANGE))
                        told(self.db.total_changes() - before)
                marks = ",".join("?" * (len(self.info.replicated) + 1))
                self.db.executemany(f"INSERT OR REPLACE INTO {table}({columns}) VALUES({marks})", map(tuple, inline))
                put = self.db.total_changes() - before
                if drop:
                    ordinals = apsw.carray(signed(drop))
                    self.db.execute(f"DELETE FROM {table} WHERE _ordinal IN (SELECT value FROM carray(?))", (ordinals,))
                self.db.execute("COMMIT")
            except apsw.ConstraintError as error:
                raise ProtocolError(f"a record of '{self.info.name}' does not fit the schema: {error}") from error
            self.db.execute("DETACH ok_old")
            self.db.execute("DETACH ok_bulk")
        return put

    def _ranges(self) -> range:
        """Where the ranges of ordinals begin that the file `bulk` holds."""
        least, most = next(self.db.execute(f"SELECT min(_ordinal),max(_ordinal) FROM ok_bulk.{self.table}"))
        if least is None:
            return range(0)
        if not 0 < least <= most < 2**32:
            raise ProtocolError(f"a record of '{self.info.name}' has no ordinal")
        return range(least, most + 1, RANGE)

    def _columns(self, place: str) -> list[str]:
        return [str(row[0]) for row in self.db.execute("SELECT name FROM pragma_table_info(?,?)", (self.info.name, place))]

    def view(self) -> View:
        """The ordinals that it holds."""
        return view_of(row[0] for row in self.db.execute(f"SELECT _ordinal FROM main.{self.table}"))

    def seal(self, view: View, token: bytes, cursor: bytes) -> None:
        """Indexes and search are made, the file is made durable, then its view, token and cursor."""
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
            self.db.execute("PRAGMA main.synchronous=full")
            self.db.execute("PRAGMA main.locking_mode=normal")
            if self.db.execute("PRAGMA main.journal_mode=wal").get != "wal":  # writes the first page, and so syncs the whole file
                raise StoreError(f"{self.path}: the file system does not support SQLite's write-ahead log; use a local disk")
            with write_transaction(self.db, self.path):  # the first commit of a new log syncs the folder, too
                self.db.execute("INSERT INTO main.ok_state VALUES(?,?,?)", (self.info.name, pack_view(view), digest(view)))
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
