"""The tables of a replica: the application's collections as ordinary tables, and the library's own (`ok_…`).

Each replicated collection is a table (`_ordinal`, fields…): positive ordinals are the authority's, negative ones belong to
records created here and not pulled yet. What a table shows is base ⊕ overlay; `ok_base_…` keeps the authority's version of
records with pending changes. Triggers look at `ok_gate.mode`, which is 0 outside transactions, so that other programs can
read and not write:

    0 closed   1 a transaction with an intent (captures)   2 applying an answer   3 device-only collections alone

There are no foreign keys, no UNIQUE beside ordinal and key and no CHECK: otherwise an answer could fail to apply for ever.
"""

from __future__ import annotations

from collections.abc import Iterator

import apsw
import msgspec

from offlinekit.exceptions import SchemaError
from offlinekit.expr.sql import quote
from offlinekit.schema import CollectionInfo, Schema

__all__ = [
    "FORMAT",
    "META",
    "STATE",
    "base_table",
    "before_table",
    "check_additive",
    "collection_sql",
    "column_sql",
    "finish_sql",
    "reshape",
    "search_table",
]

FORMAT = 1  # the layout of the library's own tables

HASH_BYTES = 8 << 20

STATE = """
CREATE TABLE IF NOT EXISTS ok_gate(id INTEGER PRIMARY KEY CHECK(id=1), mode INTEGER NOT NULL) STRICT;
INSERT INTO ok_gate SELECT 1, 0 WHERE NOT EXISTS(SELECT 1 FROM ok_gate);
CREATE TABLE IF NOT EXISTS ok_state(collection TEXT PRIMARY KEY, view BLOB NOT NULL, digest BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ok_group(id INTEGER PRIMARY KEY CHECK(id=1), token BLOB NOT NULL, cursor BLOB NOT NULL) STRICT;
INSERT INTO ok_group SELECT 1, x'', x'' WHERE NOT EXISTS(SELECT 1 FROM ok_group);
"""

META = """
CREATE TABLE IF NOT EXISTS ok_meta(name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ok_mutation(seq INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, intent TEXT NOT NULL,
  state TEXT NOT NULL, sent INTEGER NOT NULL DEFAULT 0, settled INTEGER NOT NULL DEFAULT 0, projection BLOB NOT NULL,
  created REAL NOT NULL, size INTEGER NOT NULL, position INTEGER NOT NULL DEFAULT 0, code TEXT NOT NULL DEFAULT '',
  message TEXT NOT NULL DEFAULT '', fields BLOB NOT NULL DEFAULT x'90') STRICT;
CREATE INDEX IF NOT EXISTS ok_mutation_state ON ok_mutation(state, settled, seq);
CREATE INDEX IF NOT EXISTS ok_mutation_settled ON ok_mutation(position) WHERE settled;
CREATE TABLE IF NOT EXISTS ok_change(mutation INTEGER NOT NULL, collection TEXT NOT NULL, key BLOB NOT NULL, op TEXT NOT NULL,
  before BLOB NOT NULL, after BLOB NOT NULL, digest BLOB NOT NULL, PRIMARY KEY(mutation, collection, key)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ok_touch(collection TEXT NOT NULL, key BLOB NOT NULL, mutation INTEGER NOT NULL, op TEXT NOT NULL,
  after BLOB NOT NULL, PRIMARY KEY(collection, key, mutation)) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ok_touch_mutation ON ok_touch(mutation);
CREATE TABLE IF NOT EXISTS ok_after(mutation INTEGER NOT NULL, needs BLOB NOT NULL,
  PRIMARY KEY(mutation, needs)) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ok_after_needs ON ok_after(needs);
CREATE TABLE IF NOT EXISTS ok_created(collection TEXT NOT NULL, ordinal INTEGER NOT NULL, at REAL NOT NULL,
  mutation INTEGER NOT NULL,  PRIMARY KEY(collection, ordinal)) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ok_created_mutation ON ok_created(mutation);
CREATE TABLE IF NOT EXISTS ok_file(collection TEXT PRIMARY KEY, generation INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ok_loaded(collection TEXT PRIMARY KEY, token BLOB NOT NULL,
  cursor BLOB NOT NULL) STRICT, WITHOUT ROWID;
"""

_CLOSED = "offlinekit: other programs may read this table and not write it; use replica.transaction()"
_INTENT = "offlinekit: a replicated collection is written in replica.transaction(''intent'')"
_READONLY = "offlinekit: devices do not write this collection (declare it writable=True)"
_KEY = "offlinekit: a key never changes; delete the record and insert another"


def base_table(collection: str) -> str:
    """The quoted name of the table of the authority's versions."""
    return quote(f"ok_base_{collection}")


def before_table(collection: str) -> str:
    """The quoted name of the table where triggers note records as they were when a transaction first touched them."""
    return quote(f"ok_before_{collection}")


def search_table(collection: str) -> str:
    """The quoted name of the full-text index."""
    return quote(f"ok_search_{collection}")


def column_sql(info: CollectionInfo, name: str) -> str:
    """The definition of a replicated or device-only field as a column."""
    f = info.fields[name]
    return f"{quote(name)} {f.kind.sqlite}{'' if f.nullable else ' NOT NULL'}"


def collection_sql(info: CollectionInfo, schema_name: str = "main", *, indexes: bool = True) -> Iterator[str]:
    """The statements that create a collection's table in the named database; without `indexes`: only the bare table."""
    prefix = f"{quote(schema_name)}."
    if info.device_only:
        columns = ", ".join(column_sql(info, n) for n in info.fields)
        key = ",".join(map(quote, info.key))
        yield f"CREATE TABLE IF NOT EXISTS {prefix}{quote(info.name)}({columns}, PRIMARY KEY({key})) STRICT"
    else:
        columns = ", ".join(column_sql(info, n) for n in info.replicated)
        yield f"CREATE TABLE IF NOT EXISTS {prefix}{quote(info.name)}(_ordinal INTEGER PRIMARY KEY, {columns}) STRICT"
    if info.writable:
        key = ",".join(map(quote, info.key))
        yield (
            f"CREATE TABLE IF NOT EXISTS {base_table(info.name)}(_ordinal INTEGER NOT NULL, _present INTEGER NOT NULL,"
            f" _moved INTEGER NOT NULL DEFAULT 0, {columns}, PRIMARY KEY({key})) STRICT"
        )
        yield f"CREATE INDEX IF NOT EXISTS {quote('ok_ordinal_' + info.name)} ON {base_table(info.name)}(_ordinal)"
        kinds = [f"{quote(n)} {info.fields[n].kind.sqlite}" for n in info.replicated]
        yield (
            f"CREATE TABLE IF NOT EXISTS {before_table(info.name)}(_existed INTEGER NOT NULL, _ordinal INTEGER,"
            f" {', '.join(kinds)}, PRIMARY KEY({key})) STRICT"
        )
    if indexes:
        yield from finish_sql(info, schema_name)


def finish_sql(info: CollectionInfo, schema_name: str = "main") -> Iterator[str]:
    """Indexes, full-text index and triggers: what is cheaper to make after a load."""
    prefix = f"{quote(schema_name)}."
    table = quote(info.name)
    if not info.device_only:
        key = ",".join(map(quote, info.key))
        yield f"CREATE UNIQUE INDEX IF NOT EXISTS {prefix}{quote('ok_key_' + info.name)} ON {table}({key})"
    for index in dict.fromkeys(info.indexes):
        columns = ",".join(map(quote, index))
        name = quote("ok_index_" + ".".join((info.name, *index)))
        yield f"CREATE INDEX IF NOT EXISTS {prefix}{name} ON {table}({columns})"
    if info.search:
        yield from _search_sql(info, prefix)
    if not info.device_only:
        yield from _gate_sql(info, prefix)


def _search_sql(info: CollectionInfo, prefix: str) -> Iterator[str]:
    columns, search, table = ",".join(map(quote, info.search)), search_table(info.name), quote(info.name)
    rowid = "rowid" if info.device_only else "_ordinal"
    hashed = f"{prefix}{quote(f'ok_search_{info.name}_config')} WHERE k='hashsize'"
    yield (
        f"CREATE VIRTUAL TABLE IF NOT EXISTS {prefix}{search} USING fts5({columns}, content='{info.name}',"
        f" content_rowid='{rowid}', prefix='2 3', tokenize='unicode61 remove_diacritics 2')"
    )
    # Eight times the memory of before, in transactions that change much: a third less time for a load, fewer merges.
    yield f"INSERT INTO {prefix}{search}({search},rank) SELECT 'hashsize',{HASH_BYTES} WHERE NOT EXISTS(SELECT 1 FROM {hashed})"
    old = ",".join(f"OLD.{quote(n)}" for n in info.search)
    new = ",".join(f"NEW.{quote(n)}" for n in info.search)
    gone = f"INSERT INTO {search}({search},rowid,{columns}) VALUES('delete',OLD.{rowid},{old});"
    come = f"INSERT INTO {search}(rowid,{columns}) VALUES(NEW.{rowid},{new});"
    differs = " OR ".join(f"OLD.{quote(n)} IS NOT NEW.{quote(n)}" for n in info.search)
    for what, head, body in (
        ("insert", "INSERT", come),
        ("delete", "DELETE", gone),
        ("update", "UPDATE", gone + " " + come),
    ):
        when = f" WHEN OLD.{rowid}<>NEW.{rowid} OR {differs}" if what == "update" else ""
        name = quote(f"ok_search_{what}_{info.name}")
        yield f"CREATE TRIGGER IF NOT EXISTS {prefix}{name} AFTER {head} ON {table}{when} BEGIN {body} END"


def _gate_sql(info: CollectionInfo, prefix: str) -> Iterator[str]:
    table, mode = quote(info.name), "(SELECT mode FROM ok_gate)"
    refuse = (
        f"SELECT CASE {mode} WHEN 0 THEN RAISE(ABORT,'{_CLOSED}') WHEN 3 THEN RAISE(ABORT,'{_INTENT}') END;"
        if info.writable
        else f"SELECT CASE {mode} WHEN 0 THEN RAISE(ABORT,'{_CLOSED}') ELSE RAISE(ABORT,'{_READONLY}') END;"
    )
    for what in ("INSERT", "UPDATE", "DELETE"):
        name = quote(f"ok_gate_{what.lower()}_{info.name}")
        when = f"{mode}<>2" if not info.writable else f"{mode} IN (0,3)"
        yield f"CREATE TRIGGER IF NOT EXISTS {prefix}{name} BEFORE {what} ON {table} WHEN {when} BEGIN {refuse} END"
    if not info.writable:
        return
    before = before_table(info.name)
    columns = ",".join(map(quote, ("_ordinal", *info.replicated)))
    keys = ",".join(map(quote, info.key))

    def unseen(row: str) -> str:
        same = " AND ".join(f"{quote(k)}={row}.{quote(k)}" for k in info.key)
        return f"NOT EXISTS(SELECT 1 FROM {before} WHERE {same})"

    old = ",".join(f"OLD.{quote(n)}" for n in ("_ordinal", *info.replicated))
    note_old = f"INSERT INTO {before}(_existed,{columns}) SELECT 1,{old} WHERE {unseen('OLD')};"
    new = ",".join(f"NEW.{quote(k)}" for k in info.key)
    note_new = f"INSERT INTO {before}(_existed,{keys}) SELECT 0,{new} WHERE {unseen('NEW')};"
    moved = " OR ".join(f"OLD.{quote(k)} IS NOT NEW.{quote(k)}" for k in info.key)
    key = f"SELECT RAISE(ABORT,'{_KEY}') WHERE {moved};"
    for what, head, body in (
        ("insert", "AFTER INSERT", note_new),
        ("update", "BEFORE UPDATE", f"{key} {note_old}"),
        ("delete", "BEFORE DELETE", note_old),
    ):
        name = quote(f"ok_capture_{what}_{info.name}")
        yield f"CREATE TRIGGER IF NOT EXISTS {prefix}{name} {head} ON {table} WHEN {mode}=1 BEGIN {body} END"


def check_additive(old: dict[str, dict[str, object]], schema: Schema) -> None:
    """Raises SchemaError when `schema` is not only more than what a file holds: that would need the outbox rewritten."""
    new = schema.describe()
    for name, was in old.items():
        if name not in new:
            raise SchemaError(f"collection '{name}' is gone from the schema; keep it declared while replicas hold it")
        now, info = new[name], schema.info(name)
        for flag in ("device_only", "writable", "own_file"):
            if was[flag] != now[flag]:
                raise SchemaError(f"'{name}' changed {flag}; declare a new collection instead")
        fields: dict[str, list[object]] = msgspec.convert(was["fields"], dict[str, list[object]])
        for field, declared in fields.items():
            if field not in now["fields"]:
                raise SchemaError(f"{name}.{field} is gone from the schema; keep it declared while replicas hold it")
            kind, nullable, key, online, *_ = declared
            *same, hidden = now["fields"][field][:4]
            if [kind, nullable, key] != same or (hidden and not online):
                raise SchemaError(f"{name}.{field} changed its type; add a new field instead")
        for field in _held(info):
            f = info.fields[field]
            held = field in fields and (info.device_only or not fields[field][3])  # what stops being online_only is new here
            if not held and f.required and not f.nullable:
                raise SchemaError(f"{name}.{field} is new and needs a default, for the records that devices hold already")


def _held(info: CollectionInfo) -> list[str]:
    """The fields that a replica's table has."""
    return list(info.fields) if info.device_only else list(info.replicated)


def reshape(db: apsw.Connection, info: CollectionInfo) -> None:
    """Brings the tables of a collection to what is declared: new fields, new indexes, a search index over other fields."""

    def columns(table: str) -> list[str]:
        return [str(row[0]) for row in db.execute("SELECT name FROM pragma_table_info(?)", (table,))]

    have, searched = columns(info.name), columns(f"ok_search_{info.name}")
    for (trigger,) in list(db.execute("SELECT name FROM sqlite_schema WHERE type='trigger' AND tbl_name=?", (info.name,))):
        db.execute(f"DROP TRIGGER {quote(trigger)}")  # made anew below, with all fields in them
    for name in _held(info):
        if name not in have:
            f = info.fields[name]
            initial = None if f.required else f.initial()
            column = f"{column_sql(info, name)} DEFAULT {apsw.format_sql_value(initial)}"
            db.execute(f"ALTER TABLE {quote(info.name)} ADD COLUMN {column}")
            if info.writable:
                db.execute(f"ALTER TABLE {base_table(info.name)} ADD COLUMN {column}")
                db.execute(f"ALTER TABLE {before_table(info.name)} ADD COLUMN {quote(name)} {f.kind.sqlite}")
    if searched != [*info.search]:
        db.execute(f"DROP TABLE IF EXISTS {search_table(info.name)}")
    for statement in collection_sql(info):
        db.execute(statement)
    if info.search and searched != [*info.search]:
        db.execute(f"INSERT INTO {search_table(info.name)}({search_table(info.name)}) VALUES('rebuild')")
