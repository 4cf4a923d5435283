"""Operators of SQL and of full-text search are text like any other, in every input that takes text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from offlinekit import Collection, Field, Offer, Quick, Schema, everything, field, param
from offlinekit.exceptions import FilterError, InvalidValue, LimitExceeded, OfflinekitError
from offlinekit.expr.fold import fold
from offlinekit.query import SEARCH_MAX, search_tokens
from offlinekit.testing.pair import Pair, linked_pair


class Note(Collection, writable=True):
    """Text as key, in a field and in the search index."""

    id: Field[str] = field(key=True)
    text: Field[str] = field(search=True)


SCHEMA = Schema(Note, intents=["write"])
OFFER = Offer(
    Quick("all", Note, everything), Quick("like", Note, Note.text.contains(param("text"))), advanced=[Note.text, Note.id]
)  # fmt: skip
HOSTILE = [
    "'", "''", '"', '""', "`", "[x]", ";", "--", "/*", "*/", "\\", "%", "_", "%_%", "?", "?1", ":a", "@a", "$a", "{alias}", "{0}",
    "'; DROP TABLE note; --", '" OR 1=1 --', "x' UNION SELECT sql FROM sqlite_schema --", "NULL", "0", "1e9", "*", "a*", '"a*"',
    "a AND b", "a OR b", "a NOT b", "NOT", "AND", "OR", "NEAR(a b, 2)", "NEAR", "^a", "a + b", "text : a",
    "{text} : a", "-text : a",
    "text:*",
    "(", ")", "((a)", "a.b", "a-b", "a'b", 'a"b', "\t", "\n", "\r\n", " ", "", "\x01", "\x7f", "\u202e", "\ufeff",
    "é", "e\u0301", "ß", "İ", "ǅ", "\U0001f600", "a" * SEARCH_MAX, "(" * SEARCH_MAX, '"' * SEARCH_MAX, "a " * (SEARCH_MAX // 2),
]  # fmt: skip
INDEXED_OTHERWISE = {"ß"}  # a letter that SQLite's index does not fold as filters do


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder: Path = tmp_path_factory.mktemp("text")
    with linked_pair(SCHEMA, scopes={Note: everything}, offer=OFFER, folder=str(folder)) as made:
        made.authority.allow("write", writes={Note: ["insert", "update", "delete"]})
        made.authority.load(Note(id=f"k{text}", text=f"x{text}y a b") for text in HOSTILE)
        made.authority.load([Note(id="plain", text="nothing of note")])
        made.replica.configure().quick("all").until(None).save()
        made.sync()
        yield made
        assert made.authority.select(Note).count() >= len(HOSTILE) + 1, "a table was harmed"


def words(text: str) -> str:
    return "".join(c if c.isalnum() else " " for c in fold(text))


def found_by(pair: Pair, text: str) -> set[str]:
    """The ids that a search is to find: each word begins a word."""
    wanted = [words(fold(token)).split() for token in search_tokens(text)]
    notes = pair.authority.select(Note).all()
    return {n.id for n in notes if all(f" {' '.join(w)}" in f" {' '.join(words(n.text).split())}" for w in wanted)}


@pytest.mark.parametrize("text", HOSTILE)
def test_a_search_finds_words_and_knows_no_operators(pair: Pair, text: str) -> None:
    here = {n.id for n in pair.replica.select(Note).search(text)}
    there = {n.id for n in pair.replica.remote.select(Note).search(text).limit(1000).all()}
    assert there == found_by(pair, text)
    assert here == there or text in INDEXED_OTHERWISE


@pytest.mark.parametrize("text", HOSTILE)
def test_comparisons_of_text_know_no_operators(pair: Pair, text: str) -> None:
    notes = pair.authority.select(Note).all()
    for node, passes in (
        (Note.text.contains(text), lambda n: fold(text) in fold(n.text)),
        (Note.text.starts_with("x" + text), lambda n: fold(n.text).startswith(fold("x" + text))),
        (Note.text.equals_folded(f"X{text}Y A B"), lambda n: fold(n.text) == fold(f"x{text}y a b")),
        (Note.text == f"x{text}y a b", lambda n: n.text == f"x{text}y a b"),
        (Note.text >= text, lambda n: n.text.encode() >= text.encode()),
        (Note.id.is_in([text, f"k{text}"]), lambda n: n.id in (text, f"k{text}")),
    ):
        wanted = {n.id for n in notes if passes(n)}
        assert {n.id for n in pair.replica.select(Note).where(node)} == wanted
        assert {n.id for n in pair.replica.remote.select(Note).where(node).limit(1000).all()} == wanted
        assert {n.id for n in pair.authority.select(Note).where(node)} == wanted


@pytest.mark.parametrize("text", HOSTILE)
def test_keys_params_and_conditions_are_values(pair: Pair, text: str) -> None:
    take = pair.replica.configure().quick("like", text=text).all_of(Note.id >= text).pick(Note, text, f"k{text}")
    preview = take.preview()
    notes = pair.authority.select(Note).all()
    own = {n.id for n in notes if fold(text) in fold(n.text) and n.id.encode() >= text.encode()}
    assert preview.rows == len(own | {n.id for n in notes if n.id in (text, f"k{text}")})


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_written_with_such_a_key_arrives_as_it_was(pair: Pair, text: str) -> None:
    with pair.replica.transaction("write") as tx:
        tx.insert(Note(id=f"new {text}", text=text))
    pair.sync()
    record = pair.authority.get(Note, f"new {text}")
    assert record is not None
    assert record.text == text
    assert pair.replica.get(Note, f"new {text}") == record
    with pair.replica.transaction("write") as tx:
        tx.delete(record)
    pair.sync()
    assert pair.authority.get(Note, f"new {text}") is None


def test_text_that_no_database_holds_is_refused_where_it_is_given(pair: Pair) -> None:
    for text in ("a\0b", "\ud800"):
        with pytest.raises(InvalidValue):
            Note(id=text, text="")
        with pytest.raises((InvalidValue, FilterError)):
            pair.replica.select(Note).where(Note.id == text)
        with pytest.raises(OfflinekitError):
            pair.replica.get(Note, text)
    for select in (pair.replica.select(Note), pair.replica.remote.select(Note)):
        with pytest.raises(FilterError, match="lone surrogates"):
            select.search("\ud800").all()
        assert {n.id for n in select.search("a\0b").limit(1000)} == found_by(pair, "a b")
        with pytest.raises(LimitExceeded):
            select.search("a" * (SEARCH_MAX + 1)).all()
