"""Membership of held records in the terms of a plan, as SQL over a replica's own tables: for `why` and for previews offline."""

from __future__ import annotations

from offlinekit.changes import Key
from offlinekit.expr import Compiler
from offlinekit.expr.sql import quote
from offlinekit.nodes import Filter
from offlinekit.schema import Schema
from offlinekit.selection import Source, Step

__all__ = ["in_term"]


def _keys(compiler: Compiler, schema: Schema, collection: str, alias: str, keys: tuple[Key, ...]) -> str:
    info = schema.info(collection)
    rows = compiler.rows(collection, info.key, keys)
    return f"(({','.join(f'{alias}.{quote(k)}' for k in info.key)}) IN ({rows}))"


def in_term(term: Source | Step, alias: str, compiler: Compiler, schema: Schema) -> str:
    """The condition that the record under `alias` belongs to a term."""
    if isinstance(term, Source):
        own: str = compiler.condition(term.where, alias)
        if term.unpicks:
            own = f"({own} AND NOT {_keys(compiler, schema, term.collection, alias, term.unpicks)})"
        if term.picks:
            own = f"({own} OR {_keys(compiler, schema, term.collection, alias, term.picks)})"
        return own
    inner, here = compiler.alias(), schema.info(term.collection)
    origin = schema.info(term.origin.collection)
    if term.forward:
        link = f"{inner}.{quote(term.field)}={alias}.{quote(here.key[0])}"
    else:
        link = f"{inner}.{quote(origin.key[0])}={alias}.{quote(term.field)}"
    passes: Filter = term.where
    condition = in_term(term.origin, inner, compiler, schema)
    exists = f"EXISTS(SELECT 1 FROM {quote(origin.name)} {inner} WHERE {link} AND {condition})"
    return f"({exists} AND {compiler.condition(passes, alias)})"
