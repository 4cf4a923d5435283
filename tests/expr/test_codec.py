"""The canonical form of filters: one, whatever the order and repetition of parts, and nothing else is taken."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offlinekit.exceptions import FilterError, LimitExceeded
from offlinekit.expr.check import Allowed, check
from offlinekit.expr.codec import decode_filter, encode_filter, filter_hash, from_plain, to_plain
from offlinekit.expr.evaluate import evaluate
from offlinekit.nodes import (
    And,
    Compare,
    Const,
    Filter,
    IsIn,
    Moment,
    Not,
    Or,
    Some,
    Within,
    claim,
    everything,
    hour,
    param,
    today,
)
from tests.expr.world import ROWS, SCHEMA, Customer, Line, Order, Rows, filters, leaves, needles, related_in

COLLECTIONS = st.sampled_from(["customer", "order", "line"])
NAMES = st.text(max_size=3)
MOMENTS = st.builds(Moment, st.sampled_from(["day", "hour"]), st.integers(-1_000_000, 1_000_000))
UNRESOLVED: st.SearchStrategy[Any] = NAMES.map(claim) | NAMES.map(param) | MOMENTS


@st.composite
def unresolved(draw: st.DrawFn, collection: str) -> Filter:
    """A filter on one field, with claims, params and moments."""
    node = draw(leaves(collection, lambda f: needles(f) | UNRESOLVED, st.text(max_size=2) | NAMES.map(claim)))
    if isinstance(node, IsIn) and draw(st.booleans()):
        return IsIn(node.collection, node.field, draw(NAMES.map(claim) | NAMES.map(param)))
    return node


def shuffled(draw: st.DrawFn, node: Filter) -> Filter:
    """The filter with parts in another order, some twice, and grouped otherwise."""
    match node:
        case And(parts) | Or(parts):
            kind = type(node)
            parts = tuple(draw(st.permutations([shuffled(draw, p) for p in parts])))
            parts += parts[: draw(st.integers(0, len(parts)))]
            at = draw(st.integers(0, len(parts)))
            return kind((*parts[:at], kind(parts[at:]))) if draw(st.booleans()) else kind(parts)
        case Not(part):
            return Not(shuffled(draw, part))
        case Within(collection, name, target, part):
            return Within(collection, name, target, shuffled(draw, part))
        case Some(collection, source, name, part):
            return Some(collection, source, name, shuffled(draw, part))
        case IsIn(collection, name, tuple(operands)):
            return IsIn(collection, name, (*draw(st.permutations(operands)), *operands[:1]))
    return node


@pytest.mark.slow
@given(st.data(), COLLECTIONS)
def test_order_repetition_and_grouping_do_not_matter(data: st.DataObject, collection: str):
    node = data.draw(filters(collection, leaf=unresolved))
    other = shuffled(data.draw, node)  # type: ignore[arg-type]
    assert encode_filter(other) == encode_filter(node)
    assert filter_hash(other) == filter_hash(node)


@pytest.mark.slow
@given(st.data(), COLLECTIONS)
def test_decoded_filter_has_the_same_form(data: st.DataObject, collection: str):
    encoded = encode_filter(data.draw(filters(collection, leaf=unresolved)))
    decoded = decode_filter(encoded, SCHEMA, collection)
    assert encode_filter(decoded) == encoded
    assert decode_filter(encode_filter(decoded), SCHEMA, collection) == decoded


@pytest.mark.slow
@given(st.data(), ROWS, COLLECTIONS)
def test_decoded_filter_means_the_same(data: st.DataObject, rows: Rows, collection: str):
    node = data.draw(filters(collection))
    decoded = decode_filter(encode_filter(node), SCHEMA, collection)
    check(decoded, SCHEMA, SCHEMA.info(collection), Allowed("a test"))
    for record in rows[collection]:
        expected = evaluate(node, record, SCHEMA, related_in(rows))
        assert evaluate(decoded, record, SCHEMA, related_in(rows)) is expected


@pytest.mark.slow
@given(st.data(), COLLECTIONS)
def test_filters_with_one_form_are_equal_after_decoding_and_others_are_not(data: st.DataObject, collection: str):
    first, second = (data.draw(filters(collection, depth=1, leaf=unresolved)) for _ in range(2))
    decoded = [decode_filter(encode_filter(node), SCHEMA, collection) for node in (first, second)]
    assert (encode_filter(first) == encode_filter(second)) == (repr(decoded[0]) == repr(decoded[1]))


WORDS = [
    "const",
    "and",
    "or",
    "not",
    "within",
    "some",
    "null",
    "in",
    "=",
    "<=",
    "contains",
    "claim",
    "param",
    "day",
    "hour",
]
WORDS += [*SCHEMA.collections, *SCHEMA.info("customer").fields, *SCHEMA.info("order").fields]
ATOMS: st.SearchStrategy[Any] = st.sampled_from(WORDS) | st.none() | st.booleans() | st.floats() | st.text()
ATOMS |= (
    st.integers(-(2**63), 2**64 - 1)
    | st.binary(max_size=3)
    | st.builds(msgspec.msgpack.Ext, st.integers(-128, 127), st.binary(max_size=3))
)
KEYS: st.SearchStrategy[Any] = st.sampled_from(WORDS) | st.booleans() | st.integers(-9, 9) | st.binary(max_size=2)
PLAIN = st.recursive(
    ATOMS | st.datetimes(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=2),
    max_leaves=12,
)


def decode_or_refuse(data: bytes, collection: str) -> None:
    """Bytes are decoded, checked and encoded again, or refused by an error of ours."""
    try:
        node = decode_filter(data, SCHEMA, collection)
        check(node, SCHEMA, SCHEMA.info(collection), Allowed("a test", claims=True, params=frozenset({""})))
    except (FilterError, LimitExceeded):
        return
    again = encode_filter(node)
    assert encode_filter(decode_filter(again, SCHEMA, collection)) == again


@given(st.binary(), COLLECTIONS)
def test_random_bytes_are_refused_by_an_error_of_ours(data: bytes, collection: str):
    decode_or_refuse(data, collection)


@given(PLAIN, COLLECTIONS)
def test_random_structures_are_refused_by_an_error_of_ours(plain: Any, collection: str):
    try:
        data = msgspec.msgpack.encode(plain)
    except (ValueError, OverflowError, TypeError):  # text with lone surrogates, keys that cannot be sorted
        return
    decode_or_refuse(data, collection)


@pytest.mark.slow
@given(st.data(), COLLECTIONS)
def test_filter_with_a_changed_byte_is_refused_by_an_error_of_ours(data: st.DataObject, collection: str):
    encoded = bytearray(encode_filter(data.draw(filters(collection, leaf=unresolved))))
    for _ in range(data.draw(st.integers(1, 3))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(encoded)))
    decode_or_refuse(bytes(encoded), collection)
    decode_or_refuse(bytes(encoded[:cut]), collection)


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        (["nope", "name", 1], "unknown kind of filter 'nope'"),
        (["=", "nmae", "x"], "unknown field 'nmae' in collection 'customer'; did you mean 'name'?"),
        (["some", "ordr", "customer", ["const", True]], "unknown collection 'ordr'; did you mean 'order'?"),
        (
            ["some", "order", "custmer", ["const", True]],
            "unknown field 'custmer' in collection 'order'; did you mean 'customer'?",
        ),
        (["within", "name", ["const", True]], "customer.name is no reference; declare it with field(ref=...)"),
        (["=", "name", {"secret": "x"}], "unknown operand 'secret'"),
        (["=", "name", {"claim": 5}], "unknown operand 'claim'"),
        (["=", "since", {"day": "1"}], "unknown operand 'day'"),
        (["=", "since", {"day": 1.5}], "unknown operand 'day'"),
        (["=", "since", {"day": True}], "unknown operand 'day'"),
        (["=", "since", {"day": float("inf")}], "unknown operand 'day'"),
        (["=", "since", {"day": 1_000_001}], "unknown operand 'day'"),
        (["=", "name", ["x"]], "a value may not be a list"),
        (["in", "name", {"day": 1}], "is_in needs a list, a claim or a param"),
        (["in", "name", "abc"], "not an encoded filter: ['in', 'name', 'abc']"),
        (["const", 1], "not an encoded filter: ['const', 1]"),
        (["const"], "not an encoded filter: ['const']"),
        ([], "not an encoded filter: []"),
        ({"const": True, True: 1}, "not an encoded filter: {'const': True, True: 1}"),
        ("=ab", "not an encoded filter: '=ab'"),
        (None, "not an encoded filter: None"),
    ],
)
def test_structure_that_is_no_filter_is_refused_with_the_reason(plain: Any, message: str):
    with pytest.raises(FilterError) as caught:
        from_plain(plain, SCHEMA, "customer")
    assert str(caught.value) == message


def test_bytes_nested_without_end_are_refused():
    for data in (b"\x91" * 100_000, b"\x92\xa3not" * 200, b"\x92\xa3not" * 33 + b"\x92\xa5const\xc3"):
        with pytest.raises((FilterError, LimitExceeded)):
            decode_filter(data, SCHEMA, "customer")
    with pytest.raises(LimitExceeded) as caught:
        decode_filter(b"\x92\xa3not" * 32 + b"\x92\xa5const\xc3", SCHEMA, "customer")
    assert str(caught.value) == "depth of a filter: 33 is more than the limit of 32"
    decode_filter(b"\x92\xa3not" * 31 + b"\x92\xa5const\xc3", SCHEMA, "customer")


def test_what_is_no_filter_is_not_encoded():
    with pytest.raises(FilterError) as caught:
        to_plain(And((everything, "x")))  # type: ignore[arg-type]
    assert str(caught.value) == "'x' is no filter"


@pytest.mark.parametrize(
    ("node", "plain"),
    [
        (everything, ["const", True]),
        (And(()), ["and"]),
        (And((Const(False),)), ["const", False]),
        (Or((And((everything,)), Or((Const(False), everything)))), ["or", ["const", False], ["const", True]]),
        (~(Customer.city == "x"), ["not", ["=", "city", "x"]]),
        (Customer.name.is_in(["b", "a", "b"]), ["in", "name", ["a", "b"]]),
        (Customer.name.is_in(claim("c")), ["in", "name", {"claim": "c"}]),
        (Customer.since >= today(-7), [">=", "since", {"day": -7}]),
        (Order.placed < hour(), ["<", "placed", {"hour": 0}]),
        (Customer.name.contains(param("q")), ["contains", "name", {"param": "q"}]),
        (Line.image == b"\0", ["=", "image", b"\0"]),
        (Order.customer.within(Customer.city.is_null()), ["within", "customer", ["null", "city"]]),
        (Order.customer.some(Compare("order", "id", "=", 1)), ["some", "order", "customer", ["=", "id", 1]]),
    ],
)
def test_form_is(node: Filter, plain: Any):
    assert to_plain(node) == plain


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (everything, "edb859bedc779b7e177a09d5c5bae070"),
        (
            (Customer.city == "São Paulo") & Customer.since.between(today(-30), today()),
            "ce29084e9946e982b9c88cebbfcd0506",
        ),
        (
            Order.customer.within(Customer.code == claim("rep")) | Order.number.is_in([3, 1, 2]),
            "9cf5b130c6c7b393fd92da31d27d9ccc",
        ),
    ],
)
def test_hash_is_pinned_because_stored_selections_hold_it(node: Filter, expected: str):
    assert filter_hash(node).hex() == expected


@pytest.mark.parametrize("shape", [b"\x91", b"\x91\x81\xa1x", b"\x81\xa1x"], ids=["lists", "both", "maps"])
def test_what_is_nested_is_told_of_in_few_words(shape: bytes) -> None:
    """Found by fuzzing: what cannot be decoded was shown as deep as it is nested, which went deeper than Python goes."""
    for times in range(10, 1100, 7):
        with pytest.raises((FilterError, LimitExceeded)):
            decode_filter(b"\x92\xa1=" + shape * times + b"\xc0", SCHEMA, "customer")
