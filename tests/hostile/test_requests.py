"""Requests that no honest device sends: each gets its documented answer, costs little, and tells nothing of anybody else."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from pyroaring import BitMap

from offlinekit.authority.pushing import MESSAGE_MAX
from offlinekit.compress import compress
from offlinekit.exceptions import ProtocolError, RecordNotFound
from offlinekit.protocol import messages as m
from offlinekit.protocol.codec import CONTENT_MAX, WIRE_MAX, decode_answer, decode_request, encode
from offlinekit.protocol.state import state_digest
from offlinekit.schema import NAME_MAX, projection_digest
from offlinekit.selection import Choice, Selection
from offlinekit.store.sqlite.replica_sync import views_held
from offlinekit.view import ORDINALS_MAX, pack_view, unpack_view, view_of
from tests.fuzz.world import ANA, BOB, Device, Head, Order

Make = Callable[[Any], Any]


def full_pull(device: Device, head: Head) -> m.Pull:
    """A pull with everything in it that an authority may ask for."""
    head.authority.puller.forget()
    with head.authority.transaction() as tx:
        tx.connection.execute("UPDATE customer SET name=name||'x' WHERE code='a3'")
    steps = device.exchanger.pull()
    effect: Any = next(steps)
    while True:
        request = decode_request(effect.body)
        assert isinstance(request, m.Pull)
        if request.views:
            steps.close()
            views = views_held(device.replica.store, [c.name for c in device.replica.schema])
            return msgspec.structs.replace(request, views=views)
        effect = steps.send(head.answer(effect))


def with_table(request: m.Pull, **changes: Any) -> m.Pull:
    """The request with another table, under the digest that fits it."""
    assert request.table is not None
    table = msgspec.structs.replace(request.table, **changes)
    return msgspec.structs.replace(request, table=table, state=state_digest(table, request.projection))


def told(head: Head, request: Any, who: Any = ANA) -> Any:
    """The answer to a request, or to bytes."""
    return decode_answer(head.authority.handle(request if isinstance(request, bytes) else encode(request), *who))


def raw(request: Any, /, **changes: Any) -> bytes:
    """A request with fields that no message class would let through."""
    return b"OK1\0" + msgspec.msgpack.encode(msgspec.to_builtins(request, builtin_types=(bytes,)) | changes)


def every_ordinal() -> bytes:
    """A bitmap of all 2^32 ordinals in less than a megabyte: 65,536 containers of one run each."""
    cookie = struct.pack("<I", 12347 | 65535 << 16) + b"\xff" * 8192
    heads = b"".join(struct.pack("<HH", n, 65535) for n in range(65536))
    first = len(cookie) + len(heads) + 4 * 65536
    offsets = b"".join(struct.pack("<I", first + 6 * n) for n in range(65536))
    return cookie + heads + offsets + struct.pack("<HHH", 1, 0, 65535) * 65536


INVALID: dict[str, Make] = {
    "no message": lambda r: b"<html>",
    "nothing": lambda r: b"",
    "over the limit": lambda r: b"OK1\0" + bytes(WIRE_MAX),
    "a bomb": lambda r: b"OK1\1" + compress(bytes(CONTENT_MAX + 1)),
    "no frame": lambda r: b"OK1\1" + bytes(100),
    "two frames": lambda r: b"OK1\1" + compress(encode(r)[4:]) * 2,
    "nested without end": lambda r: b"OK1\0" + b"\x81\xa1x" + b"\x91" * 100_000 + b"\0",
    "unknown kind": lambda r: raw(r, kind="obey"),
    "text for a number": lambda r: raw(r, schema="1"),
    "text for bytes": lambda r: raw(r, state="x" * 16),
    "a device id of other length": lambda r: raw(r, device=b"x" * 1000),
    "a program without end": lambda r: raw(r, report={"program": "x" * (NAME_MAX + 1)}),
    "a state of other length": lambda r: raw(r, state=b""),
    "too many awaited": lambda r: raw(r, awaited=[bytes(16)] * (m.AWAITED_MAX + 1)),
    "too many groups": lambda r: raw(r, table={"selection": bytes(16), "groups": [{"collections": []}] * (m.GROUPS_MAX + 1)}),
    "too many tokens": lambda r: raw(r, table={"selection": bytes(16), "groups": [
        {"collections": ["city"], "also": [b"t"] * (m.COLLECTIONS_MAX + 1)}]}),
    "another table than the state says": lambda r: msgspec.structs.replace(r, state=bytes(16)),
    "a collection twice": lambda r: with_table(r, groups=r.table.groups * 2),
    "an unknown collection": lambda r: with_table(r, groups=[m.GroupState(collections=["nobody"])]),
    "another selection than the table says": lambda r: msgspec.structs.replace(r, selection=Selection().encode()),
    "somebody else's selection": lambda r: selected(r, Selection("s", "bob", 0.0, None, "UTC", ())),
    "no bitmap": lambda r: msgspec.structs.replace(r, views=dict.fromkeys(r.views, b"garbage")),
    "a bitmap of everything": lambda r: msgspec.structs.replace(r, views=dict.fromkeys(r.views, every_ordinal())),
    "implicit picks of everything": lambda r: with_table(r, implicit={"order": every_ordinal()}),
    "implicit picks of a million and one": lambda r: with_table(r, implicit={"order": pack_view(view_of(range(1, 1_000_002)))}),
    "fields that are no projection's": lambda r: msgspec.structs.replace(r, projection=b"p" * 16, fields={b"p" * 16: {}}),
}  # fmt: skip


def selected(request: m.Pull, selection: Selection | bytes) -> m.Pull:
    """The request with another selection, under the digests that fit."""
    data = selection if isinstance(selection, bytes) else selection.encode()
    changed = with_table(request, selection=sha256(data).digest()[:16])
    return msgspec.structs.replace(changed, selection=data)


@pytest.mark.parametrize("what", INVALID)
def test_a_request_that_breaks_a_rule_is_invalid(head: Head, device: Device, what: str) -> None:
    answer = told(head, INVALID[what](full_pull(device, head)))
    assert isinstance(answer, m.Refused)
    assert (answer.code, answer.retry_after_s) == ("invalid", None), answer.message


def test_a_request_that_is_cut_anywhere_is_invalid(head: Head, device: Device) -> None:
    whole = b"OK1\0" + msgspec.msgpack.encode(full_pull(device, head))
    for cut in range(0, len(whole), 7):
        answer = told(head, whole[:cut])
        assert isinstance(answer, m.Refused)
        assert answer.code == "invalid", cut


def test_a_bitmap_of_every_ordinal_makes_no_array_of_them(head: Head, device: Device) -> None:
    request, everything = full_pull(device, head), every_ordinal()
    assert len(everything) < WIRE_MAX
    tracemalloc.start()
    try:
        told(head, msgspec.structs.replace(request, views=dict.fromkeys(request.views or {}, everything)))
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


SELECTIONS: dict[str, Any] = {
    "no selection": b"\x01",
    "text that is not UTF-8": b"\x96\xa1\xff\xa3ana\xcb\0\0\0\0\0\0\0\0\xc0\xa3UTC\x90",
    "nested without end": b"\x96\xa1s\xa3ana\xcb\0\0\0\0\0\0\0\0\xc0\xa3UTC\x91\x96\xa8customer\x90" + b"\x91" * 5000,
    "no time": ["s", "ana", float("nan"), None, "UTC", []],
    "no end": ["s", "ana", 0.0, float("nan"), "UTC", []],
    "a time outside the calendar": ["s", "ana", 1e18, None, "UTC", []],
    "a zone that is a path": ["s", "ana", 0.0, None, "../../../etc/passwd", []],
    "a zone without end": ["s", "ana", 0.0, None, "x" * 5000, []],
    "a quick filter twice": ["s", "ana", 0.0, None, "UTC", [["customer", [["mine", []], ["mine", []]], None, [], [], []]]],
    "a key that is none": ["s", "ana", 0.0, None, "UTC", [["customer", [], None, [[["a"]]], [], []]]],
    "a collection twice": ["s", "ana", 0.0, None, "UTC", [["customer", [], None, [], [], []]] * 2],
    "too many collections": ["s", "ana", 0.0, None, "UTC", [["customer", [], None, [], [], []]] * 257],
    "too many picks": ["s", "ana", 0.0, None, "UTC", [["customer", [], None, [[f"{n}"] for n in range(10_001)], [], []]]],
}  # fmt: skip
NOT_OFFERED: dict[str, Any] = {
    "an unknown quick filter": [["customer", [["all", []]], None, [], [], []]],
    "an unknown include": [["customer", [], None, [], [], ["everything"]]],
    "a field that is not offered": [["customer", [], ["=", "rep", "b"], [], [], []]],
    "a param twice": [["customer", [["in_city", [["city", "r"], ["city", 5]]]], None, [], [], []]],
    "a param of another type": [["customer", [["in_city", [["city", 5]]]], None, [], [], []]],
}


@pytest.mark.parametrize("what", [*SELECTIONS, *NOT_OFFERED])
def test_a_selection_that_nobody_may_choose_is_refused(head: Head, device: Device, what: str) -> None:
    plain = SELECTIONS.get(what) or ["s", "ana", 0.0, None, "UTC", NOT_OFFERED[what]]
    data = plain if isinstance(plain, bytes) else msgspec.msgpack.encode(plain)
    answer = told(head, selected(full_pull(device, head), data))
    assert isinstance(answer, m.Refused)
    assert answer.code == ("not_offered" if what in NOT_OFFERED else "invalid"), answer.message


# -- what is somebody else's


def rows(answer: Any) -> list[Any]:
    """The key of every record in a delta, by collection."""
    return sorted((c, row[1]) for g in answer.groups for c, p in g.collections.items() for row in p.put)


def bobs(head: Head) -> m.Pull:
    """A whole pull of bob's, answered, as if somebody had listened."""
    request = m.Pull(version=1, device=b"b" * 16, identity="bob", schema=1, projection=bytes(16), state=bytes(16))
    schema = head.authority.schema
    hash_ = projection_digest(schema.projection)
    selection = Selection("s", "bob", 0.0, None, "UTC", (Choice("customer", (("mine", ()),)),))
    table = m.Table(selection=selection.digest, groups=[m.GroupState(collections=["city", "customer", "line", "order"])])
    return msgspec.structs.replace(request, projection=hash_, fields={hash_: schema.projection}, table=table,
                                   state=state_digest(table, hash_), selection=selection.encode())  # fmt: skip


@pytest.mark.invariant("I10")
def test_a_request_in_another_name_is_refused(head: Head) -> None:
    answer = told(head, bobs(head), ANA)
    assert isinstance(answer, m.Refused)
    assert answer.code == "identity"


@pytest.mark.invariant("I10")
def test_a_token_of_somebody_else_opens_nothing(head: Head, device: Device) -> None:
    his = told(head, bobs(head), BOB)
    mine = full_pull(device, head)
    assert mine.table is not None
    groups = [msgspec.structs.replace(g, token=his.groups[0].token) if "city" in g.collections else g for g in mine.table.groups]
    answer = told(head, with_table(mine, groups=groups))
    assert isinstance(answer, m.Delta)
    assert rows(answer)
    assert [row for row in rows(answer) if row[0] == "customer" and not row[1].startswith("a")] == []
    assert [row for row in rows(answer) if row[0] == "order" and row[1] == "ob0"] == []


@pytest.mark.invariant("I10")
def test_a_view_that_was_made_up_is_answered_by_its_own_numbers_and_enters_no_cache(head: Head, device: Device) -> None:
    mine = full_pull(device, head)
    before = dict(head.authority.puller.views._items)
    forged = pack_view(view_of(range(1, 50)))
    answer = told(head, msgspec.structs.replace(mine, views=dict.fromkeys(mine.views or {}, forged)))
    assert isinstance(answer, m.Delta)
    (customers,) = (g.collections["customer"] for g in answer.groups if "customer" in g.collections)
    assert [row[1] for row in customers.put] == ["a3"], "more than what changed"
    assert unpack_view(customers.drop) == view_of(range(1, 50)) - view_of(range(1, 5)), "more than V \\ M"
    added = [v for key, v in head.authority.puller.views._items.items() if key not in before]
    assert all(len(view) < 10 for view in added), "the forged view is remembered"


def test_a_token_with_a_changed_bit_is_none(head: Head, device: Device) -> None:
    mine = full_pull(device, head)
    assert mine.table is not None
    groups = []
    for g in mine.table.groups:
        groups.append(msgspec.structs.replace(g, token=g.token[:-1] + bytes([g.token[-1] ^ 1])))
    changed = with_table(mine, groups=groups)
    answer = told(head, msgspec.structs.replace(changed, views=None))
    assert isinstance(answer, m.NeedView)
    assert set(answer.contents) >= {"city", "customer", "order"}, "contents are taken for granted"


def test_a_file_of_somebody_else_does_not_exist(head: Head, device: Device) -> None:
    head.authority.puller.inline_rows = 0
    answer = told(head, full_pull(device, head))
    assert isinstance(answer, m.Delta)
    assert answer.file is not None
    assert head.authority.fetch(answer.file.name, 0, "ana")
    for name, offset, who in (
        (answer.file.name, 0, "bob"),
        (answer.file.name, -1, "ana"),
        ("../head.db", 0, "ana"),
        ("", 0, "ana"),
    ):
        with pytest.raises(RecordNotFound):
            head.authority.fetch(name, offset, who)


@pytest.mark.invariant("I10")
def test_marks_that_were_made_up_tell_nothing_of_others(head: Head, device: Device) -> None:
    """Whatever ranges a device claims to hold, it is told of records in its scope alone."""
    device.replica.want_verification()
    mine = full_pull(device, head)
    claimed = {c: m.Contents(ranges=dict.fromkeys((*range(40000), 2 ** 63), b"x"), records={0: dict.fromkeys(range(300), b"")})
               for c in mine.contents or {}}  # fmt: skip
    answer = told(head, msgspec.structs.replace(mine, contents=claimed))
    assert isinstance(answer, m.Delta)
    assert [key for c, key in rows(answer) if c == "customer"] == ["a0", "a1", "a2", "a3"]
    assert [key for c, key in rows(answer) if c == "order" and key.startswith("ob")] == []


# -- pushes


def pushed(device: Device) -> m.Push:
    request = device.ask(device.exchanger.push())
    assert isinstance(request, m.Push)
    return request


@pytest.mark.invariant("I3")
def test_a_push_that_is_replayed_takes_effect_once(head: Head, device: Device) -> None:
    body = encode(pushed(device))
    first, again = told(head, body), told(head, body)
    assert [r.outcome for r in first.results] == ["accepted"]
    assert (again.results, again.turn) == (first.results, first.turn)
    later = msgspec.structs.replace(decode_request(body), turn=first.turn, request=b"r" * 16, mutations=[])
    assert isinstance(told(head, later), m.Pushed)
    assert isinstance(told(head, body), m.Fork), "an older turn is a copy's"
    assert head.authority.select(Order).where(Order.id == "new").count() == 1


def test_somebody_elses_mutation_and_device_are_not_taken(head: Head, device: Device) -> None:
    mine = pushed(device)
    told(head, mine)
    his = msgspec.structs.replace(mine, identity="bob", turn=b"")
    assert isinstance(told(head, his, BOB), m.Fork)
    answer = told(head, msgspec.structs.replace(his, device=b"b" * 16), BOB)
    (result,) = answer.results
    assert (result.outcome, result.code, result.records) == ("rejected", "not_allowed", [])


PUSHES: dict[str, Callable[[m.Push], bytes]] = {
    "too many mutations": lambda r: raw(
        r, mutations=[{"id": n.to_bytes(16, "big"), "intent": "", "changes": []} for n in range(1001)]
    ),
    "a mutation twice": lambda r: raw(r, mutations=[msgspec.to_builtins(r.mutations[0], builtin_types=(bytes,))] * 2),
    "an id of other length": lambda r: raw(r, mutations=[{"id": b"x", "intent": "", "changes": []}]),
    "an intent without end": lambda r: raw(r, mutations=[{"id": bytes(16), "intent": "x" * (NAME_MAX + 1), "changes": []}]),
    "a request id of other length": lambda r: raw(r, request=b"x" * 17),
    "a turn of other length": lambda r: raw(r, turn=b"x" * 17),
}


@pytest.mark.parametrize("what", PUSHES)
def test_a_push_that_breaks_a_rule_is_invalid(head: Head, device: Device, what: str) -> None:
    answer = told(head, PUSHES[what](pushed(device)))
    assert isinstance(answer, m.Refused)
    assert answer.code == "invalid"


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "an intent that is not declared": ({}, "not_allowed"),
    "a collection that devices do not write": ({"collection": "customer", "key": ["a0"], "op": "delete"}, "not_allowed"),
    "an unknown collection": ({"collection": "ok_meta", "key": ["x"], "op": "delete"}, "invalid"),
    "an unknown operation": ({"collection": "order", "key": ["o"], "op": "drop table"}, "not_allowed"),
    "a key of other length": ({"collection": "order", "key": ["a", "b"], "op": "insert", "after": {}}, "invalid"),
    "a key that is none": ({"collection": "order", "key": [["a"]], "op": "insert", "after": {"id": ["a"]}}, "invalid"),
    "an unknown field": ({"collection": "order", "key": ["a"], "op": "insert", "after": {"id": "a", '"; DROP': 1}}, "invalid"),
    "a value of another type": (
        {"collection": "order", "key": ["a"], "op": "insert", "after": {"id": "a", "customer": "a0", "total": [1]}}, "invalid"),
    "a number beyond 64 bits": (
        {"collection": "order", "key": ["a"], "op": "insert", "after": {"id": "a", "customer": "a0", "total": 2**63}}, "invalid"),
    "a record out of scope": (
        {"collection": "order", "key": ["a"], "op": "insert", "after": {"id": "a", "customer": "b0"}}, "not_allowed"),
    "somebody else's record": ({"collection": "order", "key": ["ob0"], "op": "delete"}, "not_allowed"),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_that_may_not_be_made_is_rejected_and_the_next_goes_on(head: Head, device: Device, what: str) -> None:
    change, code = CHANGES[what]
    mine = pushed(device)
    wrong = {"id": b"w" * 16, "intent": "sell" if change else "obey", "changes": [change] if change else []}
    answer = told(head, raw(mine, mutations=[wrong, msgspec.to_builtins(mine.mutations[0], builtin_types=(bytes,))]))
    assert [(r.outcome, r.code) for r in answer.results] == [("rejected", code), ("accepted", "")]


def test_a_refusal_keeps_no_more_of_what_was_sent_than_its_limit(head: Head, device: Device) -> None:
    change = {"collection": "order", "key": ["a"], "op": "insert", "after": {"x" * 100_000: 1}}
    answer = told(head, raw(pushed(device), mutations=[{"id": b"w" * 16, "intent": "sell", "changes": [change]}]))
    assert [(r.code, len(r.message)) for r in answer.results] == [("invalid", MESSAGE_MAX)]


# -- remote reads


QUERIES: dict[str, dict[str, Any]] = {
    "an unknown collection": {"collection": "ok_receipt"},
    "no filter": {"where": b"\xc1"},
    "a filter nested without end": {"where": b"\x92\xa3not" * 1000},
    "a filter over its limit": {"where": msgspec.msgpack.encode(["and", *[["=", "code", f"{n}"] for n in range(300)]])},
    "a list over its limit": {"where": msgspec.msgpack.encode(["in", "code", [f"{n}" for n in range(10_001)]])},
    "an unknown field": {"where": msgspec.msgpack.encode(["=", "1=1 OR code", "a"])},
    "a claim": {"where": msgspec.msgpack.encode(["=", "rep", {"claim": "rep"}])},
    "a page over its limit": {"limit": 10_001},
    "a page below nothing": {"limit": -1},
    "an order by an unknown field": {"order": [["code; DROP TABLE customer", False]]},
    "an order over its limit": {"order": [["code", False]] * 9},
    "a place that is none": {"after": [["a"]]},
    "a place of another order": {"after": ["a", "b", "c"]},
    "a search over its limit": {"search": "x" * 201},
}  # fmt: skip


@pytest.mark.parametrize("what", QUERIES)
def test_a_query_that_breaks_a_rule_is_invalid(head: Head, device: Device, what: str) -> None:
    every = msgspec.msgpack.encode(["const", True])
    mine = m.Query(collection="customer", where=every, version=1, device=bytes(16), identity="ana",
                   schema=1, projection=device.replica.store.projection)  # fmt: skip
    answer = told(head, raw(mine, **QUERIES[what]))
    assert isinstance(answer, m.Refused)
    assert answer.code == "invalid", answer.message


def test_a_version_that_nobody_serves_is_refused(head: Head, device: Device) -> None:
    answer = told(head, raw(full_pull(device, head), version=99))
    assert isinstance(answer, m.Refused)
    assert answer.code == "version"


def test_limits_of_bitmaps_are_exact() -> None:
    assert len(unpack_view(pack_view(view_of([1]) | view_of([2**32 - 1])))) == 2
    assert len(unpack_view(BitMap(range(ORDINALS_MAX)).serialize())) == ORDINALS_MAX
    with pytest.raises(ProtocolError, match="over the limit"):
        unpack_view(BitMap(range(ORDINALS_MAX + 1)).serialize())
