"""Typed queries: a value that says which records, and a builder that runs it somewhere (a replica, the authority, remotely)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, Self, TypeVar, cast

from attrs import evolve, frozen

from offlinekit.exceptions import FilterError, LimitExceeded, shown
from offlinekit.expr import Allowed, Compiler, check
from offlinekit.expr.sql import quote
from offlinekit.nodes import And, Filter, Value, everything
from offlinekit.schema import Collection, CollectionInfo, Field, Schema, info_of

__all__ = ["LIMIT_MAX", "ORDER_MAX", "Page", "Query", "Select", "check_query", "desc", "query_sql", "search_tokens"]

C = TypeVar("C", bound=Collection)
LIMIT_MAX = 10_000
ORDER_MAX = 8
SEARCH_MAX = 200


@frozen
class Query:
    """Which records of a collection, in which order; `after` is the (order fields, key) of the last record of a page."""

    collection: str
    where: Filter = everything
    search: str = ""
    order: tuple[tuple[str, bool], ...] = ()
    limit: int | None = None
    after: tuple[Value, ...] | None = None
    total: bool = False


@frozen
class _Descending:
    name: str


def desc(field: Field[Any]) -> _Descending:
    """For `order_by`: from the largest down."""
    return _Descending(field.name)


class Page(list[C], Generic[C]):
    """The records of one page; `total` of all pages if it was asked for, `next` where the next page starts, if there is one."""

    total: int | None = None
    next: tuple[Value, ...] | None = None


class Select(Generic[C]):
    """A query under construction: every method returns a new one, `all`, `first` and `count` run it."""

    def __init__(self, cls: type[C], run: Callable[[Query], Page[C]], query: Query | None = None) -> None:
        self._cls, self._run = cls, run
        self.query = query or Query(info_of(cls).name)

    def _with(self, **changes: Any) -> Self:
        return type(self)(self._cls, self._run, evolve(self.query, **changes))

    def where(self, *filters: Filter) -> Self:
        """Only records that pass all the filters, besides those given before."""
        before = () if self.query.where is everything else (self.query.where,)
        parts = (*before, *filters)
        return self._with(where=parts[0] if len(parts) == 1 else And(parts))

    def search(self, text: str) -> Self:
        """Only records in which every word of the text begins a word, accents and case aside."""
        return self._with(search=text)

    def order_by(self, *fields: Field[Any] | _Descending) -> Self:
        """In the order of the fields, then of the key."""
        order = tuple((f.name, True) if isinstance(f, _Descending) else (f.name, False) for f in fields)
        return self._with(order=order)

    def limit(self, count: int) -> Self:
        """At most so many records."""
        return self._with(limit=count)

    def after(self, place: tuple[Value, ...] | None) -> Self:
        """Only what follows a page, by its `next`."""
        return self._with(after=place)

    def with_total(self) -> Self:
        """Counts the records of all pages too."""
        return self._with(total=True)

    def all(self) -> Page[C]:
        """Runs the query: a list of records with `total` and `next`."""
        return self._run(self.query)

    def first(self) -> C | None:
        """The first record, if there is one."""
        page = self.limit(1).all()
        return page[0] if page else None

    def count(self) -> int:
        """How many records there are."""
        return cast(int, self.limit(0).with_total().all().total)

    def __iter__(self) -> Iterator[C]:
        return iter(self.all())


def check_query(query: Query, schema: Schema, allowed: Allowed) -> CollectionInfo:
    """Raises for unknown fields, wrong types and exceeded limits; returns the collection."""
    info = schema.info(query.collection)
    check(query.where, schema, info, allowed)
    if len(query.order) > ORDER_MAX:
        raise LimitExceeded("fields to order by", ORDER_MAX, len(query.order))
    for name, _ in query.order:
        info.field(name)
    if query.limit is not None and not 0 <= query.limit <= LIMIT_MAX:
        raise LimitExceeded("records of one page", LIMIT_MAX, query.limit, "page with .after(page.next)")
    if len(query.search) > SEARCH_MAX:
        raise LimitExceeded("characters to search for", SEARCH_MAX, len(query.search))
    if any("\ud800" <= c <= "\udfff" for c in query.search):
        raise FilterError("text to search for may not contain lone surrogates", collection=info.name)
    if query.search and not info.search:
        raise FilterError(f"'{info.name}' declares no field with search=True", collection=info.name)
    if query.after is not None and len(query.after) != len(query.order) + len(info.key):
        raise FilterError("after() takes the `next` of a page of the same query", collection=info.name)
    return info


def search_tokens(text: str) -> list[str]:
    """The words to search for."""
    return [t for t in "".join(c if c.isalnum() or c in "-_.'" else " " for c in text).split() if any(map(str.isalnum, t))]


def query_sql(
    query: Query, info: CollectionInfo, compiler: Compiler, columns: Sequence[str], *,
    search: Callable[[str, list[str]], str], extra: Callable[[str], str] | None = None, alias: str = "r",
) -> tuple[str, str, int]:  # fmt: skip
    """The statements that select the records and count them, and how many of the compiler's bindings the count takes.

    `search` turns words into a condition; `extra` adds one more (a scope) and comes first: what does not pass it is not
    looked at any further.
    """
    conditions = [extra(alias)] if extra else []
    conditions.append(compiler.condition(query.where, alias))
    if query.search:
        conditions.append(search(alias, search_tokens(query.search)))
    source = f"FROM {quote(info.name)} {alias} WHERE {' AND '.join(conditions)}"
    count, counted = f"SELECT count(*) {source}", len(compiler.bindings)
    order = [*query.order, *((k, False) for k in info.key)]
    if query.after is not None:
        source += f" AND {_after(query.after, order, info, compiler, alias)}"
    by = ",".join(
        f"{compiler.column(info.name, name, alias)}{' DESC NULLS LAST' if down else ' NULLS FIRST'}" for name, down in order
    )
    names = ",".join(f"{alias}.{quote(c)}" for c in columns)
    limit = f" LIMIT {int(query.limit)}" if query.limit is not None else ""
    return f"SELECT {names} {source} ORDER BY {by}{limit}", count, counted


def _after(place: tuple[Value, ...], order: list[tuple[str, bool]], info: CollectionInfo, compiler: Compiler, alias: str) -> str:
    """The condition that a record comes after `place`: lexicographic, nulls smallest."""
    cases: list[str] = []
    equal: list[tuple[str, Value]] = []
    for (name, down), value in zip(order, place, strict=True):
        column = compiler.column(info.name, name, alias)
        if value is not None and not info.fields[name].kind.fits(value):
            raise FilterError(f"after() holds {shown(value, 40)}, which is no {name}", collection=info.name, field=name)
        here = [f"{c} IS {compiler.bind(v)}" for c, v in equal]
        if value is None:
            here.append("0" if down else f"{column} IS NOT NULL")
        elif down:
            here.append(f"({column} < {compiler.bind(value)} OR {column} IS NULL)")
        else:
            here.append(f"{column} > {compiler.bind(value)}")
        cases.append("(" + " AND ".join(here) + ")")
        equal.append((column, value))
    return "(" + " OR ".join(cases) + ")"
