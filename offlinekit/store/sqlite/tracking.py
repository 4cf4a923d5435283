"""How an authority on SQLite sees every change of its tables: side tables kept by triggers in pure SQL.

Each collection has a side table (ordinal, key, version). It keeps the ordinals of vanished records, so it is a list of what
was touched; every touched ordinal is looked up again, so false entries are harmless and missing ones are not. Rules:

1. The version is the current epoch (`ok_now`), not a counter per row. Publishing a cursor closes the epoch.
2. AFTER INSERT gives a key its former ordinal, else the next one of a counter that is never reset.
3. Only a field that really differs touches, compared with COLLATE BINARY: nightly jobs rewrite everything.
4. INSERT OR REPLACE by a plain connection fires no delete trigger. So BEFORE triggers touch every other row that shares a
   unique key with the new one, the rowid included, with defaults in the place of nulls, made from the live unique indexes.
   The row with the new one's own key is left to the AFTER triggers, or a nightly upsert of the same values would touch it.
5. No statement in a trigger has an OR clause: the outer statement's would override it.
6. A key changed by plain SQL is a deletion and an insertion. A key that the table does not keep unique is refused.
7. Trigger texts are compared whenever the schema moved; a collection whose texts differ is not tracked and is refused.
8. A collection with fields that devices never hold has a second mark, `ok_changed`: a change of such fields alone moves the
   version, because scopes may look at them, and not this one, or a record sent again would tell that something hidden changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import apsw
from attrs import frozen

from offlinekit.exceptions import StoreError
from offlinekit.expr.sql import quote
from offlinekit.schema import CollectionInfo

__all__ = ["Tracking", "create_table_sql", "side_table"]

META = """
CREATE TABLE IF NOT EXISTS ok_meta(name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ok_now(id INTEGER PRIMARY KEY CHECK(id=1), epoch INTEGER NOT NULL) STRICT;
INSERT INTO ok_now SELECT 1, 1 WHERE NOT EXISTS(SELECT 1 FROM ok_now);
CREATE TABLE IF NOT EXISTS ok_mark(epoch INTEGER PRIMARY KEY, mark BLOB NOT NULL, at REAL NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS ok_receipt(id BLOB PRIMARY KEY, identity TEXT NOT NULL, outcome TEXT NOT NULL,
  position INTEGER NOT NULL, code TEXT NOT NULL, body BLOB, kept BLOB) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ok_receipt_whole ON ok_receipt(position) WHERE body IS NOT NULL;
CREATE INDEX IF NOT EXISTS ok_mark_at ON ok_mark(at);
CREATE TABLE IF NOT EXISTS ok_device(device BLOB PRIMARY KEY, identity TEXT NOT NULL, turn BLOB NOT NULL, previous BLOB NOT NULL,
  request BLOB NOT NULL, seen REAL NOT NULL, report BLOB, revoked INTEGER NOT NULL DEFAULT 0,
  confirmed REAL NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ok_failure(id BLOB PRIMARY KEY, count INTEGER NOT NULL, message TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ok_projection(hash BLOB PRIMARY KEY, fields BLOB NOT NULL) STRICT, WITHOUT ROWID;
"""

_EPOCH = "(SELECT epoch FROM ok_now)"
_CHANGED = "ok_changed"  # a name that no key field can have
_EXPRESSION = "a unique index on an expression cannot be copied into triggers, so REPLACE could go unseen; drop it"
_CONSTANTS = {"NULL", "TRUE", "FALSE", "CURRENT_TIME", "CURRENT_DATE", "CURRENT_TIMESTAMP"}


def side_table(collection: str) -> str:
    """The quoted name of a collection's side table."""
    return quote(f"ok_side_{collection}")


def create_table_sql(info: CollectionInfo) -> str:
    """The table of a collection that the application has not created itself."""
    columns = []
    for name, f in info.fields.items():
        columns.append(f"{quote(name)} {f.kind.sqlite}{'' if f.nullable else ' NOT NULL'}")
    key = ",".join(map(quote, info.key))
    return f"CREATE TABLE {quote(info.name)}({', '.join(columns)}, PRIMARY KEY({key})) STRICT"


@frozen
class _Column:
    name: str
    type: str
    notnull: bool
    default: str | None
    primary: bool

    @property
    def untyped(self) -> bool:
        """Whether it may hold 1 as well as 1.0, which are equal and yet not the same."""
        return self.type in ("", "ANY") or "BLOB" in self.type


class Tracking:
    """The side table and triggers of one collection in one database, as they must be given its live table."""

    def __init__(self, info: CollectionInfo, hidden: frozenset[str] | None = None) -> None:
        self.info = info
        self.hidden = frozenset(info.fields) - frozenset(info.replicated) if hidden is None else hidden
        self.marks = ("version", _CHANGED) if self.hidden else ("version",)
        self.side = side_table(info.name)
        self.table = quote(info.name)

    # -- the live table

    def columns(self, db: apsw.Connection) -> dict[str, _Column]:
        """The columns of the live table by lower-case name; empty when there is no such table."""
        rows = db.execute(f'SELECT name,type,"notnull",dflt_value,pk FROM pragma_table_xinfo({_text(self.info.name)})')
        return {str(n).lower(): _Column(str(n), str(t).upper(), bool(nn), _expression(d), bool(pk)) for n, t, nn, d, pk in rows}

    def missing(self, db: apsw.Connection) -> list[str]:
        """The declared fields that the live table lacks."""
        have = self.columns(db)
        return [n for n in self.info.fields if n.lower() not in have]

    def fit_sql(self, db: apsw.Connection, alias: str) -> str:
        """The condition that the declared schema can hold a record, without what the table itself guarantees."""
        have = self.columns(db)
        strict = self._table_flag(db, "strict")
        parts = []
        for name, f in self.info.fields.items():
            live = have[name.lower()]
            column = f"{alias}.{quote(name)}"
            typed = strict and live.type == f.kind.sqlite and f.kind.name in ("text", "integer", "real", "bytes", "decimal")
            if not typed:
                fits = f.kind.fit_sql(column)
                parts.append(f"({column} IS NULL OR {fits})" if f.nullable else f"({fits})")
            if not f.nullable and not live.notnull:
                parts.append(f"{column} IS NOT NULL")
        texts = ",".join(f"{alias}.{quote(n)}" for n, f in self.info.fields.items() if f.kind.name in ("text", "json"))
        if texts:  # no table, STRICT or not, keeps out text that is not UTF-8
            parts.append(f"ok_utf8(CAST(concat_ws(',',{texts}) AS BLOB))")
        return " AND ".join(parts)

    def _table_flag(self, db: apsw.Connection, flag: str) -> bool:
        sql = f"SELECT {flag} FROM pragma_table_list WHERE schema='main' AND lower(name)=lower(?)"
        return bool(db.execute(sql, (self.info.name,)).get)

    def _unique(self, db: apsw.Connection) -> list[list[tuple[str, str]]] | None:
        """The unique indexes as lists of (column, collation); None when one holds an expression."""
        found = []
        name = _text(self.info.name)
        for (index,) in list(db.execute(f'SELECT name FROM pragma_index_list({name}) WHERE "unique" ORDER BY name')):
            columns = list(db.execute(f"SELECT name,coll FROM pragma_index_xinfo({_text(index)}) WHERE key ORDER BY seqno"))
            if any(column is None for column, _ in columns):
                return None
            found.append([(str(column), str(collation)) for column, collation in columns])
        return found

    def collations(self, db: apsw.Connection) -> dict[tuple[str, str], str]:
        """The text fields whose index folds, by (collection, field); another program's own collations are unknown here."""
        found = {}
        for (index,) in list(db.execute(f"SELECT name FROM pragma_index_list({_text(self.info.name)})")):
            columns = db.execute(f"SELECT lower(name),upper(coll) FROM pragma_index_xinfo({_text(index)}) WHERE key")
            folding = {name: coll for name, coll in columns if coll in ("NOCASE", "RTRIM")}
            found.update({(self.info.name, n): folding[n.lower()] for n in self.info.fields if n.lower() in folding})
        return found

    def _key_is_unique(self, db: apsw.Connection, columns: dict[str, _Column]) -> bool:
        """Whether the table itself keeps two records from having one key."""
        key = {k.lower() for k in self.info.key}
        primary = [name for name, column in columns.items() if column.primary]
        if len(primary) == 1 and primary[0] in key and columns[primary[0]].type == "INTEGER":
            return True  # the rowid, which has no index
        listed = f"pragma_index_list({_text(self.info.name)})"
        for (index,) in list(db.execute(f'SELECT name FROM {listed} WHERE "unique" AND NOT partial')):
            names = db.execute(f"SELECT name FROM pragma_index_xinfo({_text(index)}) WHERE key")
            if {str(name).lower() for (name,) in names} <= key:
                return True
        return False

    def _rowid(self, db: apsw.Connection, columns: dict[str, _Column]) -> str | None:
        """The name under which a statement can set the rowid, if there is one."""
        names = [n for n in ("rowid", "_rowid_", "oid") if n not in columns]
        return None if self._table_flag(db, "wr") or not names else names[0]

    # -- texts

    def side_sql(self) -> list[str]:
        """The side table and its index on the version."""
        keys = ", ".join(f"{quote(k)} {self.info.fields[k].kind.sqlite} NOT NULL" for k in self.info.key)
        unique = ",".join(map(quote, self.info.key))
        return [
            f"CREATE TABLE IF NOT EXISTS {self.side}(ordinal INTEGER PRIMARY KEY AUTOINCREMENT, {keys},"
            f" version INTEGER NOT NULL, UNIQUE({unique}))",
            f"CREATE INDEX IF NOT EXISTS {quote(f'ok_touched_{self.info.name}')} ON {self.side}(version)",
        ]

    def changed_sql(self) -> str:
        """Reads the ordinals of records of which devices can see a change after an epoch."""
        # This mark never exceeds the version, whose index finds it.
        also = f" AND {_CHANGED}>?1" if self.hidden else ""
        return f"SELECT ordinal FROM {self.side} WHERE version>?1{also}"

    def _marked(self) -> str:
        return ",".join(f"{mark}={_EPOCH}" for mark in self.marks)

    def _same_key(self, row: str, alias: str = "") -> str:
        # By + the column loses its affinity, and that of the side applies, without which its index may be of no use.
        return " AND ".join(f"{alias}{quote(k)}=+{row}.{quote(k)} COLLATE BINARY" for k in self.info.key)

    def trigger_sql(self, db: apsw.Connection) -> dict[str, str] | None:
        """The triggers by name; None when a unique index cannot be copied into them."""
        unique = self._unique(db)
        if unique is None:
            return None
        info, side, table, columns = self.info, self.side, self.table, self.columns(db)

        def new(column: str) -> str:
            c = columns[column.lower()]
            return (
                f"coalesce(NEW.{quote(column)},({c.default}))" if c.notnull and c.default is not None else f"NEW.{quote(column)}"
            )

        # One statement an index: joined by OR, the planner scans the table for every record written.
        shared = [" AND ".join(f"{quote(c)}={new(c)} COLLATE {quote(coll)}" for c, coll in index) for index in unique]
        rowid = self._rowid(db, columns)
        if rowid:
            shared.append(f"{rowid}=NEW.{rowid}")
        keys = ",".join(map(quote, info.key))
        other = " OR ".join(f"{quote(k)} IS NOT OLD.{quote(k)} COLLATE BINARY" for k in info.key)
        another = " OR ".join(f"{quote(k)} IS NOT NEW.{quote(k)} COLLATE BINARY" for k in info.key)
        if rowid and len(info.key) == 1 and columns[info.key[0].lower()].type == "INTEGER":
            another += f" OR NEW.{quote(info.key[0])}=-1"  # what BEFORE triggers see of a key yet to be chosen

        def differs(names: Iterable[str]) -> str:
            return " OR ".join(
                f"{_unequal(n)} COLLATE BINARY"
                + (f" OR typeof(NEW.{quote(n)})<>typeof(OLD.{quote(n)})" if columns[n.lower()].untyped else "")
                for n in names
            )

        seen, unseen = [n for n in info.fields if n not in self.hidden], [n for n in info.fields if n in self.hidden]
        whole = " AND ".join(f"NEW.{quote(k)} IS NOT NULL" for k in info.key)
        touch_new = (
            f"UPDATE {side} SET {self._marked()} WHERE {self._same_key('NEW')};"
            f" INSERT INTO {side}({keys},{','.join(self.marks)})"
            f" SELECT {','.join(f'NEW.{quote(k)}' for k in info.key)},{','.join(_EPOCH for _ in self.marks)}"
            f" WHERE {whole} AND NOT EXISTS(SELECT 1 FROM {side} WHERE {self._same_key('NEW')});"
        )
        touch_old = f"UPDATE {side} SET {self._marked()} WHERE {self._same_key('OLD')};"
        pairs = ",".join(f"+{quote(k)}" for k in info.key)  # without the column's affinity, which may forbid the side's index

        def before(operation: str, also: str) -> str:
            found = [f"FROM {table} WHERE {same}{also}" for same in shared]
            when = " OR ".join(f"EXISTS(SELECT 1 {one})" for one in found)
            touches = " ".join(f"UPDATE {side} SET {self._marked()} WHERE ({keys}) IN (SELECT {pairs} {one});" for one in found)
            return f"BEFORE {operation} ON {table} WHEN {when} BEGIN {touches} END"

        bodies = {
            "inserting": before("INSERT", f" AND ({another})"),
            "insert": f"AFTER INSERT ON {table} BEGIN {touch_new} END",
            "updating": before("UPDATE", f" AND ({other})"),
            "update": f"AFTER UPDATE ON {table} WHEN {differs(seen)} BEGIN {touch_old} {touch_new} END",
            "delete": f"AFTER DELETE ON {table} BEGIN {touch_old} END",
        }
        if unseen:
            touch = f"UPDATE {side} SET version={_EPOCH} WHERE {self._same_key('NEW')};"
            bodies["hidden"] = f"AFTER UPDATE ON {table} WHEN {differs(unseen)} BEGIN {touch} END"
        return {self._trigger(what): f"CREATE TRIGGER {quote(self._trigger(what))} {body}" for what, body in bodies.items()}

    def _trigger(self, what: str) -> str:
        return f"ok_{what}_{self.info.name}"

    # -- installing and comparing

    def install(self, db: apsw.Connection) -> None:
        """Creates side table and triggers, and gives ordinals to the records that have none; in the caller's transaction."""
        triggers = None
        why = self._why_untrackable(db)
        if not why:
            triggers = self.trigger_sql(db)
        if triggers is None:
            raise StoreError(f"'{self.info.name}' cannot be tracked: {why or _EXPRESSION}")
        for statement in self.side_sql():
            db.execute(statement)
        if self.hidden:
            self._add_mark(db)
        db.execute(f"DROP TRIGGER IF EXISTS {quote(self._trigger('hidden'))}")
        for name, sql in triggers.items():
            db.execute(f"DROP TRIGGER IF EXISTS {quote(name)}")
            db.execute(sql)
        self.number(db)

    def _add_mark(self, db: apsw.Connection) -> None:
        """Gives the side table its second mark; nobody knows what changed before, so all of it counts as seen by devices."""
        columns = {name for (name,) in db.execute(f"SELECT name FROM pragma_table_info({_text(f'ok_side_{self.info.name}')})")}
        if _CHANGED not in columns:  # the default serves a collection that hides nothing any more: its triggers leave it out
            db.execute(f"ALTER TABLE {self.side} ADD COLUMN {_CHANGED} INTEGER NOT NULL DEFAULT 0")
        db.execute(f"UPDATE {self.side} SET {_CHANGED}=version")

    def number(self, db: apsw.Connection) -> int:
        """Gives ordinals to records that have none; returns how many."""
        keys, pairs = ",".join(map(quote, self.info.key)), ",".join(f"t.{quote(k)}" for k in self.info.key)
        whole = " AND ".join(f"t.{quote(k)} IS NOT NULL" for k in self.info.key)
        db.execute(
            f"INSERT OR IGNORE INTO {self.side}({keys},{','.join(self.marks)})"
            f" SELECT {pairs},{','.join(_EPOCH for _ in self.marks)} FROM {self.table} t"
            f" WHERE {whole} AND NOT EXISTS(SELECT 1 FROM {self.side} s WHERE {self._same_key('t', 's.')})"
        )
        return db.changes()

    def touch_all(self, db: apsw.Connection) -> int:
        """Touches every ordinal of the collection; returns how many."""
        db.execute(f"UPDATE {self.side} SET {self._marked()}")
        return db.changes()

    def _why_untrackable(self, db: apsw.Connection) -> str:
        columns = self.columns(db)
        if not columns:
            return "its table is gone; create it again"
        if missing := self.missing(db):
            return f"its table lacks {', '.join(missing)}"
        if not self._key_is_unique(db, columns):
            return f"its table lets two records have one key; create a unique index on ({', '.join(self.info.key)})"
        return ""

    def why_untracked(self, db: apsw.Connection, live: dict[str, str]) -> str:
        """Why changes of the collection may go unseen; empty when they cannot. `live` holds the triggers of the database."""
        if why := self._why_untrackable(db):
            return why
        wanted = self.trigger_sql(db)
        if wanted is None:
            return _EXPRESSION
        if any(live.get(name) != sql for name, sql in wanted.items()):
            return "its triggers are missing or do not fit its unique indexes"
        return ""

    def divides_otherwise(self, db: apsw.Connection, live: dict[str, str]) -> bool:
        """Whether the triggers see every change, but hide other fields: those that an earlier declaration called online_only.

        Then `install` is enough, and no record need be touched.
        """
        text = live.get(self._trigger("update"), "")
        hidden = frozenset(n for n in self.info.fields if _unequal(n) not in text)  # a guess: all texts are compared
        return hidden != self.hidden and not Tracking(self.info, hidden).why_untracked(db, live)


def _unequal(name: str) -> str:
    return f"NEW.{quote(name)} IS NOT OLD.{quote(name)}"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _expression(default: str | None) -> str | None:
    """A column's default as triggers can hold it: SQLite takes bare and double-quoted words of DEFAULT as text."""
    if default is None:
        return None
    if re.fullmatch(r"[^\W\d]\w*", default) and default.upper() not in _CONSTANTS:
        return _text(default)
    if re.fullmatch(r'"(?:[^"]|"")*"', default):
        return _text(default[1:-1].replace('""', '"'))
    return default
