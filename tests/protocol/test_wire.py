"""The wire: pinned by hash, evolvable as msgspec allows, bounded, and small where nothing changed."""

from __future__ import annotations

import ast
import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offlinekit import Collection, Field, Offer, Quick, Schema, everything, field
from offlinekit.compress import compress
from offlinekit.exceptions import (
    NotAllowed,
    NotOffered,
    NotTheAuthority,
    OfflinekitError,
    ProtocolError,
    RefusalCode,
    TooLarge,
    TransportError,
)
from offlinekit.exchange import Exchanger, Send
from offlinekit.protocol import messages as m
from offlinekit.protocol.codec import CONTENT_MAX, WIRE_MAX, decode_answer, decode_request, encode
from offlinekit.protocol.version import PROTOCOL_VERSION
from offlinekit.testing.pair import linked_pair
from tests.evidence import keep

ROOT = Path(__file__).parent.parent.parent
PINNED = {1: "39954e50e1841b1aff2716950a67eeb8"}
ROUND_TRIPS: list[Any] = [
    m.Same(now=1.5, receipts=[b"r" * 16]),
    m.NeedView(collections=["a"]),
    m.Refused(code="busy", message="later", retry_after_s=1.0),
    m.Delta(state=b"s", now=2.0, groups=[m.Group(collections={"a": m.Part(digest=b"d", put=[[1, "x", None]])}, token=b"t",
                                                  cursor=b"c")]),
    m.Pushed(request=b"q", turn=b"t", cursor=b"c", now=1.0, results=[m.WireReceipt(id=b"i", outcome="accepted")]),
]  # fmt: skip


def _without_docstrings(part: dict[str, Any]) -> dict[str, Any]:
    """Docstrings stand in the schema and are not the wire."""
    return {k: v for k, v in part.items() if not (k == "description" and isinstance(v, str))}


def test_messages_change_only_with_the_version() -> None:
    """A new optional field needs a new pin here and no new version; anything else needs both."""
    kinds = [m.Pull | m.Preview | m.Push | m.Query, m.Answer]
    described = msgspec.json.encode(msgspec.json.schema_components(kinds), order="sorted")
    plain = json.loads(described, object_hook=_without_docstrings)
    found = sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:32]
    assert PINNED[PROTOCOL_VERSION] == found


@pytest.mark.parametrize("message", ROUND_TRIPS, ids=lambda x: type(x).__name__)
def test_a_message_survives_the_wire(message: Any) -> None:
    assert decode_answer(encode(message)) == message


@pytest.mark.invariant("I12")
def test_unknown_fields_are_ignored_and_unknown_kinds_refused() -> None:
    known = b"OK1\0" + msgspec.msgpack.encode({"kind": "same", "now": 1.0, "added_in_2031": [1]})
    assert decode_answer(known) == m.Same(now=1.0)
    with pytest.raises(ProtocolError, match="not a message"):
        decode_answer(b"OK1\0" + msgspec.msgpack.encode({"kind": "added_in_2031"}))


GARBAGE = st.binary(max_size=200)


@given(GARBAGE | GARBAGE.map(b"OK1\0".__add__) | GARBAGE.map(b"OK1\1".__add__))
def test_bytes_from_anybody_raise_our_errors_alone(data: bytes) -> None:
    for decode in (decode_request, decode_answer):
        try:
            decode(data)
        except OfflinekitError:
            continue


def test_what_is_over_the_limits_is_refused_on_both_sides() -> None:
    with pytest.raises(TooLarge):
        decode_answer(b"OK1\0" + bytes(WIRE_MAX))
    with pytest.raises(TooLarge):
        decode_answer(b"OK1\1" + compress(bytes(CONTENT_MAX + 1)))
    with pytest.raises(NotTheAuthority):
        decode_answer(b"<html>sign in to the hotel's network</html>")
    with pytest.raises(TooLarge):
        encode(m.Refused(code="x", message="x" * (CONTENT_MAX + 1)))


def _collection(number: int) -> type[Collection]:
    class Numbered(Collection, name=f"numbered{number}"):
        code: Field[str] = field(key=True)

    return Numbered


def test_an_idle_pull_of_fifteen_collections_with_1284_picks_takes_at_most_400_bytes() -> None:
    kinds = [_collection(n) for n in range(15)]
    offer = Offer(*(Quick(f"all{n}", kind, everything) for n, kind in enumerate(kinds)))
    with linked_pair(Schema(*kinds), scopes=dict.fromkeys(kinds, everything), offer=offer) as pair:
        for kind in kinds:
            pair.authority.load(kind(code=f"{n:04}") for n in range(200))
        take, left = pair.replica.configure().until(None), 1284
        for kind in kinds:
            take.pick(kind, *(f"{n:04}" for n in range(min(86, left))))
            left -= min(86, left)
        take.save()
        pair.sync()
        steps = Exchanger(pair.replica.store).pull()
        effect = next(steps)
        assert isinstance(effect, Send)
        answer = pair.authority.handle(effect.body, pair.identity, {})
        assert isinstance(decode_answer(answer), m.Same)
        held = sum(pair.replica.select(kind).count() for kind in kinds)
    figures = {"collections": 15, "picks": held, "request": len(effect.body), "reply": len(answer)}
    keep("idle", figures)
    print(figures)
    assert held == 1284
    assert len(effect.body) + len(answer) <= 400


TOLD: dict[RefusalCode, tuple[type[OfflinekitError], float | None]] = {
    RefusalCode.INVALID: (ProtocolError, None),
    RefusalCode.NOT_OFFERED: (NotOffered, None),
    RefusalCode.NOT_ALLOWED: (NotAllowed, None),
    RefusalCode.IDENTITY: (NotAllowed, None),
    RefusalCode.VERSION: (ProtocolError, None),
    RefusalCode.NOT_TRACKED: (TransportError, 60.0),
    RefusalCode.BUSY: (TransportError, 1.0),
    RefusalCode.UNKNOWN_FILE: (ProtocolError, None),
    RefusalCode.INTERNAL: (TransportError, 5.0),
}


@pytest.mark.parametrize("code", [*RefusalCode, "added_in_2031"])
def test_every_refusal_is_told_as_an_error(code: str) -> None:
    error, after = TOLD[RefusalCode(code)] if code in set(RefusalCode) else (ProtocolError, None)
    kind = _collection(0)
    with linked_pair(Schema(kind), scopes={kind: everything}) as pair:
        steps = Exchanger(pair.replica.store).query(pair.replica.select(kind).query)
        next(steps)
        with pytest.raises(error, match="the reason") as caught:
            steps.send(encode(m.Refused(code=code, message="the reason", retry_after_s=after)))
    assert type(caught.value) is error


def test_refusals_are_one_closed_set() -> None:
    """Those that are sent are those that are declared, and those that the protocol describes."""
    given = set()
    for path in sorted((ROOT / "offlinekit").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "m.Refused":
                (code,) = (ast.unparse(word.value) for word in node.keywords if word.arg == "code")
                given.add(code)
    assert given == {f"RefusalCode.{code.name}" for code in RefusalCode}
    table = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8").partition("| refusal | meaning |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)`", table, re.M) == [code.value for code in RefusalCode]
