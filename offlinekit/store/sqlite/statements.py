"""Statements about single records, named by their keys: the texts are kept, for making one takes longer than running it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from offlinekit.expr.sql import equal, quote

__all__ = ["Statements"]

KEPT = 1000  # statements of each sort, for a peer decides which fields it changes


class Statements:
    """Over one table. The key is bound first, the values after it; an insertion binds its values alone."""

    def __init__(self, table: str, names: Sequence[str], key: Sequence[str], indexes: Sequence[str | None] = ()) -> None:
        self._table, self._key = quote(table), len(key)
        self.where = " AND ".join(
            equal(quote(k), f"?{n}", text=True, index=index)
            for n, (k, index) in enumerate(zip(key, indexes or [None] * len(key), strict=True), 1)
        )
        self.select = f"SELECT {','.join(map(quote, names))} FROM {self._table} WHERE {self.where}"
        self.delete = f"DELETE FROM {self._table} WHERE {self.where}"

    def insert(self, *names: str) -> str:
        """The statement that inserts these columns."""
        return _insert(f"INSERT INTO {self._table}", names)

    def replace(self, *names: str) -> str:
        """The same, in the place of a record with that key or row."""
        return _insert(f"INSERT OR REPLACE INTO {self._table}", names)

    def update(self, *names: str) -> str:
        """The statement that changes these columns."""
        return _update(self._table, self.where, self._key, names)


@lru_cache(KEPT)
def _insert(into: str, names: tuple[str, ...]) -> str:
    return f"{into}({','.join(map(quote, names))}) VALUES({','.join('?' * len(names))})"


@lru_cache(KEPT)
def _update(table: str, where: str, bound: int, names: tuple[str, ...]) -> str:
    sets = ",".join(f"{quote(name)}=?{n}" for n, name in enumerate(names, bound + 1))
    return f"UPDATE {table} SET {sets} WHERE {where}"
