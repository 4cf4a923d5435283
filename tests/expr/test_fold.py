"""The folding table: one letter becomes at most one, twice is once, and SQL's plain means do the same."""

from __future__ import annotations

import unicodedata
from hashlib import sha256

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offlinekit.expr.fold import DELETED, FOLD_FROM, FOLD_TO, contains, equals_folded, fold, starts_with

LETTERS = st.text(st.sampled_from(FOLD_FROM + FOLD_TO + DELETED) | st.characters())


def test_table_is_pinned_because_indexes_and_devices_hold_text_folded_by_it():
    data = "\n".join((FOLD_FROM, FOLD_TO, DELETED)).encode()
    assert sha256(data).hexdigest() == "021933f78637bdec43470fa9950e5369d1c93e0096713acfbe3a4fbd8c307961"


def test_table_is_well_formed():
    assert len(FOLD_FROM) == len(FOLD_TO)
    assert list(FOLD_FROM) == sorted(set(FOLD_FROM))
    assert list(DELETED) == sorted(set(DELETED))
    assert not set(FOLD_FROM) & set(DELETED)
    assert not set(FOLD_TO) & set(FOLD_FROM), "a letter would be folded twice by engines that replace one after the other"
    assert not set(FOLD_TO) & set(DELETED)


@pytest.mark.slow
def test_every_code_point_becomes_at_most_one_and_none_of_it_is_upper_case():
    for point in range(0x110000):
        folded = fold(chr(point))
        assert len(folded) <= 1
        assert fold(folded) == folded
    assert all(to == to.lower() and not unicodedata.combining(to) for to in FOLD_TO)


def test_accents_vanish_whether_composed_or_not():
    for letter in FOLD_FROM:
        decomposed = unicodedata.normalize("NFD", letter)
        if all(mark in DELETED for mark in decomposed[1:]):
            assert fold(decomposed) == fold(letter), letter


@given(LETTERS)
def test_folding_twice_is_folding_once(text: str):
    assert fold(fold(text)) == fold(text)
    assert len(fold(text)) <= len(text)


@given(LETTERS, LETTERS)
def test_folding_of_a_whole_is_that_of_its_parts(first: str, second: str):
    assert fold(first + second) == fold(first) + fold(second)


@given(LETTERS)
def test_translate_of_postgresql_does_the_same(text: str):
    source, target = FOLD_FROM + DELETED, FOLD_TO  # what has no counterpart in the shorter one is taken away
    translated = ""
    for letter in text:
        at = source.find(letter)
        translated += letter if at < 0 else target[at : at + 1]
    assert translated == fold(text)


@pytest.mark.slow
def test_chain_of_replacements_in_sqlite_does_the_same():
    texts = [
        FOLD_FROM + FOLD_TO + DELETED,
        DELETED + "".join(reversed(FOLD_FROM)),
        "São Bento, İstanbul, ΟΔΟΣ, Ёлка, Straße, e\u0301, ＡＢＣ, 字😀, %_'\"",
        *(chr(point) for point in range(1, 0x3000)),
    ]
    db = apsw.Connection(":memory:")
    db.execute("CREATE TABLE t (x TEXT) STRICT")
    db.executemany("INSERT INTO t VALUES (?)", [(text,) for text in texts])
    pairs = [(c, to) for c, to in zip(FOLD_FROM + DELETED, FOLD_TO + " " * len(DELETED), strict=True)]
    for source, target in pairs:
        db.execute("UPDATE t SET x=replace(x,?,?) WHERE instr(x,?)", (source, target.strip(), source))
    assert [x for (x,) in db.execute("SELECT x FROM t ORDER BY rowid")] == [fold(text) for text in texts]
    db.close()


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("São Bento", "sao bento"),
        ("CRÈME BRÛLÉE", "creme brulee"),
        ("e\u0301\u0327", "e"),
        ("İIıi", "iiii"),
        ("Straße ẞ", "strase s"),
        ("ΟΔΟΣ οδός", "οδοσ οδοσ"),
        ("Ёлка Й", "елка и"),
        ("ＡＢＣｘ", "abcx"),
        ("Łódź ø Å", "lodz o a"),
        ("ﬁ 字 😀 ١ नि", "ﬁ 字 😀 ١ नि"),
        ("", ""),
    ],
)
def test_text_folds_to(text: str, folded: str):
    assert fold(text) == folded


def test_comparisons_with_null_are_unknown():
    assert contains(None, "") is starts_with(None, "") is equals_folded(None, "") is None


@given(LETTERS, LETTERS)
def test_comparisons_fold_the_text_and_take_the_other_as_folded(text: str, other: str):
    needle = fold(other)
    assert contains(text, needle) is (needle in fold(text))
    assert starts_with(text, needle) is (fold(text)[: len(needle)] == needle)
    assert equals_folded(text, needle) is (fold(text) == needle)
    assert contains(text + other, needle)
    assert starts_with(other + text, needle)
    assert equals_folded(other.upper(), fold(other.upper()))
