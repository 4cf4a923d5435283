"""The tables of a shop as an application declares them, each with something that has deceived change tracking before."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from offlinekit.schema import Collection, Field, Schema, field


class Customer(Collection):
    """INTEGER PRIMARY KEY in a STRICT table with a second unique key."""

    id: Field[int] = field(key=True)
    name: Field[str]
    email: Field[str | None]


class Ord(Collection):
    """A text key beside a rowid, which other programs may set; the table is not STRICT and lets the key be null."""

    id: Field[str] = field(key=True)
    customer: Field[int | None] = field(ref=Customer)
    total: Field[float | None]
    number: Field[int | None]


class Item(Collection):
    """A composite key without rowid, a column without a type, one that devices never hold."""

    ord: Field[str] = field(key=True)
    line: Field[int] = field(key=True)
    qty: Field[int]
    tag: Field[int | None]
    note: Field[str | None] = field(online_only=True)


class Product(Collection):
    """Collations, a default that stands in for null, constraints that replace by themselves, a computed unique column.

    The one that it is computed from never leaves the authority.
    """

    sku: Field[str] = field(key=True)
    name: Field[str | None]
    cat: Field[str | None]
    ean: Field[str]
    label: Field[str]
    note: Field[int | None] = field(online_only=True)


SCHEMA = Schema(Customer, Ord, Item, Product)
DDL = (
    "CREATE TABLE customer(id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT UNIQUE, note TEXT) STRICT",
    "CREATE TABLE ord(id TEXT PRIMARY KEY, customer INTEGER REFERENCES customer(id) ON DELETE SET NULL ON UPDATE CASCADE,"
    " total REAL, number INTEGER UNIQUE, note TEXT)",
    "CREATE TABLE item(ord TEXT REFERENCES ord(id) ON DELETE CASCADE, line INTEGER, qty INTEGER, tag, note TEXT,"
    " PRIMARY KEY(ord, line)) WITHOUT ROWID",
    "CREATE TABLE product(sku TEXT PRIMARY KEY COLLATE NOCASE, name TEXT COLLATE NOCASE, cat TEXT,"
    " ean TEXT NOT NULL DEFAULT '-' UNIQUE, label TEXT NOT NULL DEFAULT '', note INTEGER,"
    " twice INTEGER GENERATED ALWAYS AS (note * 2) VIRTUAL UNIQUE, UNIQUE(cat, name) ON CONFLICT REPLACE)",
    "CREATE UNIQUE INDEX product_label ON product(label COLLATE NOCASE) WHERE label <> ''",
)
TRIGGERS = (
    "CREATE TRIGGER app_paid AFTER UPDATE OF total ON ord BEGIN UPDATE customer SET note='paid' WHERE id=NEW.customer; END",
    "CREATE TRIGGER app_line AFTER INSERT ON item BEGIN UPDATE ord SET total=coalesce(total,0)+1 WHERE id=NEW.ord; END",
    "CREATE TRIGGER app_gone AFTER DELETE ON product BEGIN DELETE FROM item WHERE tag=OLD.note; END",
    "CREATE TRIGGER app_copy BEFORE INSERT ON customer WHEN NEW.name='bob' BEGIN"
    " INSERT INTO product(sku,ean) VALUES('c'||NEW.id,'c'||NEW.id); END",
    "CREATE TRIGGER app_name BEFORE UPDATE ON product WHEN NEW.name='b' BEGIN UPDATE ord SET number=9 WHERE id='o1'; END",
)


@frozen
class Table:
    """What random statements need: literals by column, unique keys, and whether a plain statement replaces nothing."""

    name: str
    key: tuple[str, ...]
    pools: dict[str, Sequence[str]]
    unique: Sequence[str]
    rowid: bool = False
    plain: bool = True


BAD = "CAST(x'ff' AS TEXT)"
TABLES = {
    t.name: t
    for t in (
        Table("customer", ("id",), {
            "id": ("1", "2", "3", "4"), "name": ("'ann'", "'ANN'", "'bob'", BAD), "email": ("NULL", "'a'", "'A'", "'b'"),
            "note": ("NULL", "'n'"),
        }, ("id", "email")),
        Table("ord", ("id",), {
            "id": ("'o1'", "'o2'", "'O1'", "7", "NULL", BAD), "customer": ("NULL", "1", "2", "3", "'x'"),
            "total": ("NULL", "1", "1.5", "9e999", "'x'"), "number": ("NULL", "1", "2", "3", "1.5"), "note": ("NULL", "'n'"),
        }, ("id", "number"), rowid=True),
        Table("item", ("ord", "line"), {
            "ord": ("'o1'", "'o2'", "'O1'"), "line": ("1", "2", "1.5"), "qty": ("0", "1", "NULL", "x'00'"),
            "tag": ("NULL", "1", "1.0", "'1'"), "note": ("NULL", "'n'"),
        }, ("ord, line",)),
        Table("product", ("sku",), {
            "sku": ("'p1'", "'P1'", "'p2'", "'p3'"), "name": ("NULL", "'a'", "'A'", "'b'"), "cat": ("NULL", "'x'", "'y'", BAD),
            "ean": ("NULL", "'-'", "'e1'", "'e2'"), "label": ("''", "'l'", "'L'", "'m'"), "note": ("NULL", "1", "2"),
        }, ("sku", "ean", "cat, name", "twice"), rowid=True, plain=False),
    )
}  # fmt: skip
