"""Writes the first inputs of every target into the corpus: real messages, and what stands in documents.

python -m tests.fuzz.seeds
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from offlinekit.authority.answering import INLINE_ROWS
from offlinekit.compress import compress
from offlinekit.exchange import Fetch, Steps
from offlinekit.expr import encode_filter
from offlinekit.nodes import everything
from offlinekit.protocol import messages as m
from offlinekit.protocol.codec import decode_answer, decode_request
from offlinekit.query import Query
from offlinekit.store.pieces import END
from offlinekit.store.sqlite.replica_store import APPLYING
from offlinekit.view import pack_view, view_of
from tests.fuzz.world import Customer, Device, Head, Order, scratch

__all__ = ["CORPUS", "conversation", "seeds"]

CORPUS = Path(__file__).with_name("corpus")
_pack = msgspec.msgpack.encode


def _talk(head: Head, steps: Steps, said: list[Any]) -> None:
    """Drives an exchange, and keeps what both sides say."""
    try:
        effect = next(steps)
        while True:
            answer = head.answer(effect)
            if not isinstance(effect, Fetch):
                said += [decode_request(effect.body), decode_answer(answer)]
            effect = steps.send(answer)
    except StopIteration:
        return


def conversation() -> tuple[Head, Device, list[Any]]:
    """Every kind of exchange, with what both sides said; the tokens in it are always the same."""
    folder = scratch()
    head = Head(folder)
    device = Device(folder, head)
    said: list[Any] = []
    store = device.replica.store
    _talk(head, device.exchanger.pull(), said)
    _talk(head, device.exchanger.push(), said)
    _talk(head, device.exchanger.preview(device.replica.configure().quick("in_city", city="r").selection), said)
    _talk(head, device.exchanger.query(Query("customer", Customer.name.contains("a"), search="a", order=(("name", True),),
                                             total=True, after=("x", "a0"))), said)  # fmt: skip
    device.replica.want_verification()
    with store.write(APPLYING) as db:
        db.execute("UPDATE customer SET name='damaged' WHERE code='a0'")
    _talk(head, device.exchanger.pull(), said)
    head.authority.puller.inline_rows = 0
    head.authority.puller.forget()
    device.replica.want_verification()
    _talk(head, device.exchanger.pull(), said)
    head.authority.puller.inline_rows = INLINE_ROWS
    return head, device, said


def seeds() -> dict[str, list[bytes]]:
    """By target."""
    _, device, said = conversation()
    store = device.replica.store
    said += [m.NeedSchema(projections=[store.projection]), m.NeedSelection(), m.NewHistory(), m.Expired(until=1.0, now=2.0),
             m.HeldBack(collection="customer", held=5, drop=4), m.Fork(), m.Revoked(),
             m.Refused(code="busy", message="later", retry_after_s=1.0)]  # fmt: skip
    found: dict[str, list[bytes]] = {"requests": [], "answers": [], "contents": []}
    seen = set()
    which: dict[type[Any], int] = {m.Pushed: 0, m.Fork: 0, m.Previewed: 1, m.Records: 2}
    for message in said:
        asked = isinstance(message, m.Request)
        shape = (type(message), *(n for n in getattr(message, "__struct_fields__", ()) if getattr(message, n)))
        if shape not in seen:
            seen.add(shape)
            found["requests" if asked else "answers"].append(
                bytes([1 if asked else which.get(type(message), 3)]) + _pack(message)
            )
        if isinstance(message, m.Pull) and message.contents and not found["contents"]:
            found["contents"] = [_pack(c) for c in message.contents.values()]
    nodes = [everything, Customer.name.contains("a") & ~(Customer.city == "r"),
             Order.customer.within(Customer.code.is_in(["a", "b"])),
             Customer.since.is_null() | Order.customer.some(Order.total >= Decimal(5))]  # fmt: skip
    found["filters"] = [b"\0" + encode_filter(n) for n in nodes]
    found["selections"] = [device.replica.selection.encode()]
    found["tokens"] = [_pack((b"c", 1.0, b"s", b"p", {"customer": (b"h", b"d")}))]
    found["keys"] = [_pack(["a", 1, b"x"])]
    found["views"] = [pack_view(view_of(o)) for o in ([1], range(1, 5000), [1, 70_000, 2**32 - 1], [*range(1, 9000, 2)])]
    found["zstd"] = [b"\5" + compress(b"a" * 900), b"\1" + compress(b"offlinekit")]
    found["bulk"] = [
        b"\0\0",
        b"\1\0",
        b"\0\0\0\x10\0",
        b"\2\0SQLite format 3\0",
        b"\4\1ab",
        b"\x10\0",
        b"\x10\0\0\x10\0",
        b"\x0d\0" + END,
    ]
    found["files"] = [b"\0\0" + b"0" * 32, b"\xff\xff" + b"../" * 10]
    found["jwts"] = [b'{"alg":"HS256","kid":""}.{"sub":"ana","exp":9999999999}.x', b'{"alg":"none"}.{}.']
    found["http_server"] = [b"POST\n/exchange\n\nOK1\0\x80", b"GET\n/files/" + b"0" * 32 + b"\noffset=1\n", b"GET\n/\n\n"]
    head_ = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.offlinekit\r\nContent-Length: "
    found["http_client"] = [
        b"\0" + head_ + b"5\r\n\r\nOK1\0\x80", b"\x80" + head_ + b"9\r\n\r\nx", b"\0HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n",
        b"\0HTTP/1.1 503 x\r\nRetry-After: 1e99\r\nDate: Tue\r\nContent-Length: 0\r\n\r\n",
    ]  # fmt: skip
    return found


if __name__ == "__main__":
    for target, inputs in seeds().items():
        (CORPUS / target).mkdir(parents=True, exist_ok=True)
        for n, data in enumerate(inputs):
            (CORPUS / target / f"seed{n}").write_bytes(data)
