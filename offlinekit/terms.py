"""Membership of held records in the terms of a plan, as SQL over a replica's own tables: for `why` and for previews offline."""

from __future__ import annotations

from offlinekit.changes import Key
from offlinekit.expr import Compiler
from offlinekit.expr.sql import quote
from offlinekit.nodes import Filter
from offlinekit.schema import Schema
from offlinekit.selection import Source, Step

__all__ = ["in_term", "linked"]


def _keys(compiler: Compiler, schema: Schema, collection: str, alias: str, keys: tuple[Key, ...]) -> str:
    info = schema.info(collection)
    rows = compiler.rows(collection, info.key, keys)
    return f"(({','.join(f'{alias}.{quote(k)}' for k in info.key)}) IN ({rows}))"


def linked(step: Step, origin: str, alias: str, schema: Schema) -> str:
    """The condition that a step leads from the record under `origin` to the one under `alias`."""
    if step.forward:
        return f"{origin}.{quote(step.field)}={alias}.{quote(schema.info(step.collection).key[0])}"
    return f"{origin}.{quote(schema.info(step.origin.collection).key[0])}={alias}.{quote(step.field)}"


def in_term(term: Source | Step, alias: str, compiler: Compiler, schema: Schema) -> str:
    """The condition that the record under `alias` belongs to a term."""
    if isinstance(term, Source):
        own: str = compiler.condition(term.where, alias)
        if term.unpicks:
            own = f"({own} AND NOT {_keys(compiler, schema, term.collection, alias, term.unpicks)})"
        if term.picks:
            own = f"({own} OR {_keys(compiler, schema, term.collection, alias, term.picks)})"
        return own
    inner, origin = compiler.alias(), schema.info(term.origin.collection)
    link = linked(term, inner, alias, schema)
    passes: Filter = term.where
    condition = in_term(term.origin, inner, compiler, schema)
    exists = f"EXISTS(SELECT 1 FROM {quote(origin.name)} {inner} WHERE {link} AND {condition})"
    return f"({exists} AND {compiler.condition(passes, alias)})"
