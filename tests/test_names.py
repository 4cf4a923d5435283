"""Names that could meet the library's own: either they work on both sides, or the declaration says what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from offlinekit import Collection, Field, Offer, Quick, Schema, everything, field
from offlinekit.exceptions import SchemaError
from offlinekit.testing.pair import linked_pair

ALL = ("insert", "update", "delete")


def named(*names: str, fields: Iterable[str] = ("note", "b_c", "c"), key: str = "id", **how: Any) -> list[type[Collection]]:
    """Collections of these names, which devices write; every field is indexed and searched."""
    made = []
    for name in names:
        annotations: dict[str, Any] = {key: Field[str], **dict.fromkeys(fields, Field[str])}
        body = {key: field(key=True), **{f: field(default="", search=True, index=True) for f in fields}}
        made.append(type(name, (Collection,), {"__annotations__": annotations, "__module__": __name__, **body}, name=name,
                         writable=True, **how))  # fmt: skip
    return made


def travel(kinds: list[type[Collection]], folder: Path, key: str = "id", change: str = "note") -> None:
    """A record of each kind is loaded, found by search, changed and made on the device, then changed and deleted at home."""
    schema = Schema(*kinds, intents=["do"])
    offer = Offer(*(Quick(f"all{n}", kind, everything) for n, kind in enumerate(kinds)))
    with linked_pair(schema, scopes=dict.fromkeys(kinds, everything), offer=offer, folder=str(folder)) as pair:
        pair.authority.allow("do", writes=dict.fromkeys(kinds, ALL))
        pair.authority.load(kind(**{key: "1", change: "first"}) for kind in kinds)
        take = pair.replica.configure().until(None)
        for n in range(len(kinds)):
            take.quick(f"all{n}")
        take.save()
        pair.sync()
        with pair.replica.transaction("do") as tx:
            for kind in kinds:
                (found,) = pair.replica.select(kind).search("first")
                tx.update(found, **{change: "second"})
                tx.insert(kind(**{key: "2", change: "new"}))
        report = pair.sync()
        assert report.outcomes == {"accepted": 1}
        with pair.authority.transaction() as head:
            for kind in kinds:
                head.update(kind(**{key: "2", change: "new"}), **{change: "third"})
                head.delete(kind(**{key: "1"}))
        report = pair.sync()
        assert report.received == dict.fromkeys(schema.collections, 1)
        assert report.dropped == dict.fromkeys(schema.collections, 1)
        for kind in kinds:
            (left,) = pair.replica.select(kind).search("third")
            assert left.as_dict()[key] == "2"
        for side in (pair.replica.store.db, pair.authority.store._writer):  # type: ignore[attr-defined]
            for kind in kinds:
                sql = "SELECT count(*) FROM pragma_index_list(?) WHERE name LIKE 'ok_index%'"
                assert side.execute(sql, (schema.info(kind).name,)).get == len(schema.info(kind).indexes), kind


@pytest.mark.parametrize("names", [
    ("x", "shared_x", "insert_x", "update_x", "delete_x", "hidden_x", "inserting_x"),
    ("x", "search_x", "base_x", "before_x", "side_x", "key_x", "touched_x", "file_x"),
    ("x", "ordinal_x", "base_ordinal_x", "capture_x", "gate_x", "index_x"),
    ("a", "a_b", "a_b_c"), ("order", "select", "table", "group"), ("main", "temp"), ("x", "incoming", "X1"),
])  # fmt: skip
def test_collections_may_be_named_as_parts_of_the_library_s_own_names(names: tuple[str, ...], tmp_path: Path) -> None:
    travel(named(*names), tmp_path)


@pytest.mark.parametrize("name", ["ordinal", "version", "present", "moved", "existed", "view", "token", "rank", "rowid", "oid",
                                  "_rowid_"[1:], "value", "s", "t", "mode", "note", "order", "new", "old", "epoch"])  # fmt: skip
def test_fields_may_be_named_as_columns_of_the_library_s_own_tables(name: str, tmp_path: Path) -> None:
    kinds = named("thing", fields=["note"])
    annotations: dict[str, Any] = {"id": Field[str], "text": Field[str], name: Field[str]}
    body = {"id": field(key=True), "text": field(default="", search=True), name: field(default="", index=True)}
    kinds = [type("thing", (Collection,), {"__annotations__": annotations, "__module__": __name__, **body}, writable=True)]
    travel(kinds, tmp_path, change="text")


@pytest.mark.parametrize("name", ["present", "moved", "existed", "rank", "rowid", "value", "s", "t", "order", "new", "epoch"])
def test_keys_may_be_named_as_columns_of_the_library_s_own_tables(name: str, tmp_path: Path) -> None:
    travel(named("thing", key=name), tmp_path, key=name)


@pytest.mark.parametrize("name", ["ordinal", "version", "Version"])
def test_a_key_that_an_authority_cannot_note_is_refused_by_its_declaration(name: str) -> None:
    with pytest.raises(SchemaError, match=f"thing.{name} cannot be part of the key.*rename it"):
        named("thing", key=name)


@pytest.mark.parametrize("name", ["rank", "rowid"])
def test_a_field_that_a_full_text_index_cannot_hold_is_refused_by_its_declaration(name: str) -> None:
    with pytest.raises(SchemaError, match=f"thing.{name} cannot be searched.*rename it"):
        named("thing", fields=[name])


@pytest.mark.parametrize("tail", ["data", "idx", "content", "docsize", "config"])
def test_collections_whose_full_text_indexes_would_meet_are_refused_by_the_schema(tail: str) -> None:
    with pytest.raises(SchemaError, match=f"'x' and 'x_{tail}' cannot both be searched.*rename one"):
        Schema(*named("X", f"x_{tail}"))


@pytest.mark.parametrize("name", ["ok_x", "sqlite_x", "_x", "x-y", "9x", ""])
def test_what_is_no_name_is_refused_by_its_declaration(name: str) -> None:
    with pytest.raises(SchemaError, match="cannot be a name"):
        named("thing", fields=[name])
