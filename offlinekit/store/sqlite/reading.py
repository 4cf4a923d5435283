"""Reading an authority's tables: filters, steps and queries as statements, shared by snapshots and write units."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import apsw
from attrs import frozen

from offlinekit.changes import Key
from offlinekit.expr import Compiler
from offlinekit.expr.fold import fold
from offlinekit.expr.sql import Collations, equal, quote
from offlinekit.nodes import Const, Filter, Value
from offlinekit.query import Query, query_sql
from offlinekit.schema import CollectionInfo, Schema
from offlinekit.selection import Step
from offlinekit.store.sqlite.bulk import made_pieces
from offlinekit.store.sqlite.tracking import side_table
from offlinekit.view import View, chunks, signed, view_of

__all__ = ["Fits", "Reader", "durable_position"]

SAMPLED_LEAST = 20_000  # records
SAMPLE, COMMON = 400, 10  # of the sample, one in so many


def durable_position(db: apsw.Connection, before: float) -> int:
    """The position that was published last before that time; a clock that was far behind once makes no later one durable."""
    sql = "SELECT epoch FROM ok_mark WHERE at<? ORDER BY at DESC, epoch DESC LIMIT 1"
    return int(db.execute(sql, (before,)).get or 0)


@frozen
class Fits(Mapping[str, str]):
    """The conditions of collections that have records which do not fit; each is looked through when it is first asked about."""

    unfit: Callable[[str], View]
    conditions: Mapping[str, str]

    def __getitem__(self, collection: str) -> str:
        if not self.unfit(collection):
            raise KeyError(collection)
        return self.conditions[collection]

    def __iter__(self) -> Iterator[str]:
        return (c for c in self.conditions if self.unfit(c))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Reader:
    """Statements over one connection. `fits` holds, for collections with records that do not fit, the condition that does."""

    def __init__(self, db: apsw.Connection, schema: Schema, fits: Mapping[str, str], collations: Collations) -> None:
        self.db, self.schema, self.fits, self.collations = db, schema, fits, collations

    def _compiler(self, scopes: Mapping[str, Filter] | None) -> Compiler:
        def guard(compiler: Compiler, collection: str, alias: str) -> str:
            parts = [self.fits[collection].replace("{alias}", alias)] if collection in self.fits else []
            if scopes is not None:
                parts.append(compiler.condition(scopes[collection], alias))
            return " AND ".join(parts) or "1"

        return Compiler(self.schema, guard, self.collations)

    def passing(self, collection: str, scopes: Mapping[str, Filter], alias: str) -> tuple[str, list[Value]]:
        """The condition that a record fits and lies in its scope, and the values that it binds."""
        compiler = self._compiler(scopes)
        assert compiler.guard is not None
        return compiler.guard(compiler, collection, alias), compiler.bindings

    def joined(self, info: CollectionInfo, side: str, table: str) -> str:
        """The condition that a row of the side table is of a record."""
        return " AND ".join(
            equal(f"{table}.{quote(k)}", f"{side}.{quote(k)}", text=True, index=self.collations.get((info.name, k)))
            for k in info.key
        )

    def _ordinals(self, sql: str, bindings: Sequence[Any]) -> View:
        return view_of(row[0] for row in self.db.execute(sql, tuple(bindings)))

    def evaluate(self, collection: str, where: Filter, scopes: Mapping[str, Filter], only: View | None) -> View:
        """The ordinals in scope that pass; `only` restricts the search."""
        if where == Const(False) or scopes[collection] == Const(False) or (only is not None and not only):
            return View()
        info, compiler = self.schema.info(collection), self._compiler(scopes)
        source, bindings = f"{side_table(collection)} s JOIN {quote(collection)} t", list[Any]()
        if only is not None:
            source = f"carray(?) c CROSS JOIN {side_table(collection)} s ON s.ordinal=c.value JOIN {quote(collection)} t"
            bindings.append(apsw.carray(signed(only)))
        elif self._is_common(collection, where, scopes):
            source = f"{quote(collection)} t NOT INDEXED CROSS JOIN {side_table(collection)} s"
        assert compiler.guard is not None
        condition = f"{compiler.guard(compiler, collection, 't')} AND {compiler.condition(where, 't')}"
        sql = f"SELECT s.ordinal FROM {source} ON {self.joined(info, 's', 't')} WHERE {condition}"
        return self._ordinals(sql, bindings + compiler.bindings)

    def _is_common(self, collection: str, where: Filter, scopes: Mapping[str, Filter]) -> bool:
        """Whether so much of a large collection passes that reading all of it is faster than looking it up in an index.

        SQLite knows no statistics of somebody else's tables, and takes any index for a good one; so a sample is looked at.
        """
        last = self.db.execute(f"SELECT max(ordinal) FROM {side_table(collection)}").get or 0
        if last < SAMPLED_LEAST or where == Const(True):
            return False
        sample = View(range(1, last + 1, last // SAMPLE))
        return COMMON * len(self.evaluate(collection, where, scopes, sample)) > len(sample)

    def step(self, step: Step, origin: View, scopes: Mapping[str, Filter]) -> View:
        """The ordinals in scope that a step reaches; backward from vanished records too, whose keys the side table has kept."""
        if not origin or scopes[step.collection] == Const(False):
            return View()
        here, there = self.schema.info(step.origin.collection), self.schema.info(step.collection)
        compiler = self._compiler(scopes)
        if step.forward:
            given = f"f.{quote(step.field)} FROM carray(?) c CROSS JOIN {side_table(here.name)} o ON o.ordinal=c.value"
            given += f" CROSS JOIN {quote(here.name)} f ON {self.joined(here, 'o', 'f')}"
        else:
            given = f"o.{quote(here.key[0])} FROM carray(?) c CROSS JOIN {side_table(here.name)} o ON o.ordinal=c.value"
        wanted = there.key[0] if step.forward else step.field
        assert compiler.guard is not None
        condition = f"{compiler.guard(compiler, there.name, 't')} AND {compiler.condition(step.where, 't')}"
        # A set and no join: without an index on the reference a join may look at every pair.
        sql = (
            f"WITH ok_given(value) AS MATERIALIZED (SELECT {given})"
            f" SELECT s.ordinal FROM {quote(there.name)} t JOIN {side_table(there.name)} s ON {self.joined(there, 's', 't')}"
            f" WHERE {self._is_given(there, wanted)} AND {condition}"
        )
        return self._ordinals(sql, [apsw.carray(signed(origin)), *compiler.bindings])

    def _is_given(self, info: CollectionInfo, field: str) -> str:
        """The condition that a field is among the given values, exactly; an index of another collation finds the few."""
        column, text = f"t.{quote(field)}", info.field(field).kind.sqlite == "TEXT"
        exact = f"{column}{' COLLATE BINARY' if text else ''} IN (SELECT value FROM ok_given)"
        index = self.collations.get((info.name, field))
        return exact if index is None else f"{column} COLLATE {index} IN (SELECT value FROM ok_given) AND {exact}"

    def ordinals(self, collection: str, keys: Iterable[Key]) -> View:
        """The ordinals of keys."""
        info = self.schema.info(collection)
        sql = f"SELECT ordinal FROM {side_table(collection)} WHERE {' AND '.join(f'{quote(k)}=?' for k in info.key)}"
        return view_of(row[0] for key in keys for row in self.db.execute(sql, key))

    def rows(self, collection: str, fields: Sequence[str], view: View) -> Iterator[Sequence[Value]]:
        """(ordinal, field, …) of the records of a view."""
        sql = self._records(collection, fields)
        return (row for part in chunks(view) for row in self.db.execute(sql, (apsw.carray(signed(part)),)))

    def _records(self, collection: str, fields: Sequence[str]) -> str:
        """The statement that reads the records of ordinals given as an array."""
        info = self.schema.info(collection)
        names = ",".join(f"t.{quote(f)}" for f in fields)
        sql = (
            f"SELECT s.ordinal,{names} FROM carray(?) c CROSS JOIN {side_table(collection)} s ON s.ordinal=c.value"
            f" JOIN {quote(collection)} t ON {self.joined(info, 's', 't')}"
        )
        if collection in self.fits:  # a record that does not fit may share its key's text with one that does
            sql += f" WHERE {self.fits[collection].replace('{alias}', 't')}"
        return sql

    def pieces(self, collection: str, fields: Sequence[str], view: View) -> Iterator[bytes]:
        """The records of a view as pieces that travel."""
        return made_pieces(self.db, self.schema.info(collection), fields, self._records(collection, fields), view)

    def query(
        self, query: Query, fields: Sequence[str], scopes: Mapping[str, Filter] | None
    ) -> tuple[list[Sequence[Value]], int | None]:
        """The rows of a checked query, and the total if it was asked for."""
        info, compiler = self.schema.info(query.collection), self._compiler(scopes)
        assert compiler.guard is not None
        guard = compiler.guard

        def search(alias: str, words: list[str]) -> str:
            texts = ",".join(f"{alias}.{quote(f)}" for f in info.search)
            return f"ok_words({compiler.bind(fold(' '.join(words)))},{texts})"

        select, count, counted = query_sql(
            query, info, compiler, fields, search=search, extra=lambda alias: guard(compiler, info.name, alias)
        )
        total = self.db.execute(count, compiler.bindings[:counted]).get if query.total else None
        return list(self.db.execute(select, compiler.bindings)), total
