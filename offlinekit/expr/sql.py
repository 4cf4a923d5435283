"""Compiling a resolved filter to SQL; values are always bound, identifiers always quoted.

Text is compared with COLLATE BINARY whatever the column says. Folding calls `ok_contains`, `ok_starts_with` and
`ok_equals_folded`, which the store registers on its own connections. `guard` adds to every relation step what decides
whether the record at its end exists for whoever asks: its scope, and that the declared schema can hold it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence

from offlinekit.expr.fold import fold
from offlinekit.nodes import And, Compare, Const, Filter, IsIn, IsNull, Not, Or, Some, Text, Value, Within
from offlinekit.schema import Schema

__all__ = ["Collations", "Compiler", "equal", "quote"]

Collations = Mapping[tuple[str, str], str]  # by (collection, field): what the field's index folds by, NOCASE or RTRIM
Guard = Callable[["Compiler", str, str], str]


def quote(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def equal(column: str, other: str, *, text: bool, index: str | None = None) -> str:
    """Exact equality. An index of another collation finds the few that it takes for equal, so that no table is scanned."""
    exact = f"{column}={other}" + (" COLLATE BINARY" if text else "")
    return exact if index is None else f"{column}={other} COLLATE {index} AND {exact}"


class Compiler:
    """Compiles filters of one statement; `bindings` collects their values in order."""

    def __init__(self, schema: Schema, guard: Guard | None = None, collations: Collations | None = None) -> None:
        self.schema, self.guard, self.collations = schema, guard, collations or {}
        self.bindings: list[Value] = []
        self._aliases = 0

    def alias(self) -> str:
        """A table alias that this statement has not used."""
        self._aliases += 1
        return f"t{self._aliases}"

    def bind(self, value: Value) -> str:
        """A placeholder for the value."""
        self.bindings.append(value)
        return "?"

    def rows(self, collection: str, fields: Sequence[str], rows: Iterable[Sequence[Value]]) -> str:
        """A subselect of rows of values of these fields, which are not real: JSON may round a number in reading it.

        It is one binding however many they are; SQLite has 32,766 in a statement, and a claim may list more values.
        """
        info = self.schema.info(collection)
        columns = (f"unhex(value->>{n})" if info.field(f).kind.sqlite == "BLOB" else f"value->>{n}" for n, f in enumerate(fields))
        plain = [[v.hex() if isinstance(v, bytes) else v for v in row] for row in rows]
        return f"SELECT {','.join(columns)} FROM json_each({self.bind(json.dumps(plain))})"

    def condition(self, node: Filter, alias: str) -> str:
        """The filter as an SQL expression over the table named `alias`."""
        if isinstance(node, Const):
            return "1" if node.value else "0"
        if isinstance(node, And | Or):
            if not node.parts:
                return "1" if isinstance(node, And) else "0"
            word = " AND " if isinstance(node, And) else " OR "
            return "(" + word.join(self.condition(p, alias) for p in node.parts) + ")"
        if isinstance(node, Not):
            return f"(NOT {self.condition(node.part, alias)})"
        if isinstance(node, Within):
            target = self.schema.info(node.target)
            return self._exists(target.name, target.key[0], f"{alias}.{quote(node.field)}", node.part)
        if isinstance(node, Some):
            key = self.schema.info(node.collection).key[0]
            return self._exists(node.source, node.field, f"{alias}.{quote(key)}", node.part)
        return self._leaf(node, alias)

    def _exists(self, collection: str, field: str, outer: str, part: Filter) -> str:
        inner = self.alias()
        join = self.joined(collection, field, inner, outer)
        guard = f" AND {self.guard(self, collection, inner)}" if self.guard else ""
        return f"EXISTS(SELECT 1 FROM {quote(collection)} {inner} WHERE {join}{guard} AND {self.condition(part, inner)})"

    def joined(self, collection: str, field: str, alias: str, other: str) -> str:
        """The condition that a field of the table named `alias` is another column."""
        text = self.schema.info(collection).field(field).kind.sqlite == "TEXT"
        return equal(f"{alias}.{quote(field)}", other, text=text, index=self.collations.get((collection, field)))

    def column(self, collection: str, field: str, alias: str) -> str:
        """A column as filters compare it."""
        text = self.schema.info(collection).field(field).kind.sqlite == "TEXT"
        return f"{alias}.{quote(field)}" + (" COLLATE BINARY" if text else "")

    def _leaf(self, node: Filter, alias: str) -> str:
        if isinstance(node, IsNull):
            return f"({alias}.{quote(node.field)} IS NULL)"
        if isinstance(node, Compare) and isinstance(node.operand, str | int | float | bytes):
            return f"({self.column(node.collection, node.field, alias)} {node.op} {self.bind(node.operand)})"
        if isinstance(node, IsIn) and isinstance(node.operands, tuple):
            if self.schema.info(node.collection).field(node.field).kind.sqlite == "REAL":
                values = ",".join(self.bind(o) for o in node.operands)  # type: ignore[arg-type]
            else:
                values = self.rows(node.collection, [node.field], ([o] for o in node.operands))  # type: ignore[list-item]
            return f"({self.column(node.collection, node.field, alias)} IN ({values}))"
        if isinstance(node, Text) and isinstance(node.operand, str):
            return f"ok_{node.op}({alias}.{quote(node.field)},{self.bind(fold(node.operand))})"
        raise TypeError(f"{node!r:.80} is not resolved")
