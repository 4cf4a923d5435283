"""The fuzz targets: each takes bytes from anybody, and returns for whatever the documents say may happen.

`TARGETS` has them by name. A target is made once for a process (it may open files) and then called with bytes again and
again; what it raises is a bug. `packed` ones take one byte that says what is meant, and MessagePack.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from typing import Any

import msgspec
from attrs import frozen

from offlinekit.authority.token import open_token
from offlinekit.changes import decode_key, encode_key
from offlinekit.compress import compress, decompress
from offlinekit.contents import differing, record_marks
from offlinekit.exceptions import NotTheAuthority, OfflinekitError, ProtocolError, RefusalCode
from offlinekit.exchange import Fetch, Steps
from offlinekit.expr import Allowed, Bounds, Compiler, check, decode_filter, encode_filter, resolve
from offlinekit.expr.evaluate import evaluate
from offlinekit.expr.sql import quote
from offlinekit.protocol import messages as m
from offlinekit.protocol.codec import decode_answer, decode_request, encode
from offlinekit.query import Query
from offlinekit.selection import Selection, plan_of
from offlinekit.store.pieces import END, Form, Pieces, pack_piece
from offlinekit.store.sqlite.bulk import packed_rows
from offlinekit.store.sqlite.incoming import Incoming
from offlinekit.view import digest, pack_view, unpack_view, view_of
from offlinekit_adapters.asgi import Headers, Request, sync_app
from offlinekit_adapters.http import HTTP
from offlinekit_adapters.jwt import Key, Tokens
from tests.fuzz.seeds import conversation
from tests.fuzz.world import ANA, BOB, OFFER, SCHEMA, SCOPES, Device, Head, repaired, scratch

__all__ = ["TARGETS", "Target"]

Call = Callable[[bytes], None]


@frozen
class Target:
    """How a target is made; `packed`: mutate it by its structure, too."""

    make: Callable[[], Call]
    packed: bool = False


@contextmanager
def refused() -> Iterator[None]:
    """Only errors of ours may come."""
    with suppress(OfflinekitError):
        yield


# -- the authority


def requests() -> Call:
    """Requests of a device: every one is answered, none is an unexpected error, and nobody sees what is bob's."""
    head, _, _ = conversation()  # so that it knows the tokens in the corpus

    def call(data: bytes) -> None:
        try:
            request = decode_request(b"OK1\0" + data[1:])
        except OfflinekitError:
            return
        if not data or data[0] % 4:  # else as it is
            request = repaired(request)
        try:
            body = encode(request)
        except OfflinekitError:
            return
        for who in (ANA,) if request.identity == "ana" else (ANA, BOB):
            answer = decode_answer(head.authority.handle(body, *who))
            if isinstance(answer, m.Refused):
                assert answer.code != RefusalCode.INTERNAL, "an error that nobody expected"
                assert request.identity == who[0] or answer.code in ("identity", "version")
            if who is ANA:
                assert not [row for row in _customers(answer) if "a" not in row], "a record of somebody else's"

    return call


def _customers(answer: m.Answer) -> list[list[Any]]:
    """The whole records of customers in an answer: ana's have an `a` of their own."""
    if isinstance(answer, m.Records) and "rep" in answer.fields:
        return answer.rows
    groups = answer.groups if isinstance(answer, m.Delta) else []
    return [row for g in groups if "customer" in g.collections for row in g.collections["customer"].put if len(row) == 6]


def files() -> Call:
    """Names and offsets of files, as HTTP has let them through."""
    head = Head(scratch())

    def call(data: bytes) -> None:
        name, offset = data[2:].decode("latin-1"), int.from_bytes(data[:2], "big", signed=True)
        with refused():
            head.authority.fetch(name, offset, "ana")

    return call


def _equal(*values: Any) -> bool:
    return bool(values[0] == values[1])


def filters() -> Call:
    """Encoded filters: what is let through has a canonical form, compiles, and means something for every record."""
    import apsw

    db = apsw.Connection(":memory:")
    for info in SCHEMA:
        db.execute(f'CREATE TABLE "{info.name}"({",".join(map(quote, info.fields))})')
    for name in ("contains", "starts_with", "equals_folded"):
        db.create_scalar_function(f"ok_{name}", _equal, 2)
    places = [Allowed("a query", online_only=True), Allowed("a scope", claims=True, online_only=True, folding=False)]

    def call(data: bytes) -> None:
        for info in SCHEMA:
            with refused():
                node = decode_filter(data[1:], SCHEMA, info.name)
                check(node, SCHEMA, info, places[data[0] % 2])
                assert encode_filter(decode_filter(encode_filter(node), SCHEMA, info.name)) == encode_filter(node)
                found = resolve(node, SCHEMA, claims={"rep": "a"}, params={}, bounds=Bounds(1.8e9))
                compiler = Compiler(SCHEMA)
                condition = compiler.condition(found, "t")
                list(db.execute(f'SELECT 1 FROM "{info.name}" t WHERE {condition}', compiler.bindings))
                evaluate(found, dict.fromkeys(info.fields), SCHEMA, lambda *_: [])

    return call


def selections() -> Call:
    """Encoded selections: what is let through has a canonical form, and a plan."""

    def call(data: bytes) -> None:
        with refused():
            selection = Selection.decode(data, SCHEMA, OFFER)
            assert Selection.decode(selection.encode(), SCHEMA, OFFER).digest == selection.digest
            scopes = {SCHEMA.info(c).name: f for c, f in SCOPES.items()}
            plan = plan_of(SCHEMA, OFFER, scopes, selection, {"rep": "a"}, 1.8e9)
            for info in SCHEMA:
                plan.hash(info.name, b"")
            _ = selection.began, selection.ends

    return call


def tokens() -> Call:
    """Tokens: whatever bytes they are, only a signed one has a content; and signed ones may be of an older program."""

    def call(data: bytes) -> None:
        assert open_token(data, b"secret") is None
        import hmac

        open_token(data + hmac.digest(b"secret", data, "sha256")[:16], b"secret")

    return call


def jwts() -> Call:
    """Bearer tokens: nobody's signature is anybody."""
    issuer = Tokens(Key(bytes(range(32))), issuer="https://hq.example")

    def call(data: bytes) -> None:
        text = data.decode("latin-1")
        assert issuer.read(text) is None
        assert issuer.authenticate(Request(Headers([(b"authorization", b"Bearer " + data)]), {})) is None
        assert issuer.authenticate(Request(Headers([(b"authorization", data)]), {})) is None
        head, _, rest = text.partition(".")
        body, _, signature = rest.partition(".")
        with suppress(ValueError):
            import base64

            made = [base64.urlsafe_b64encode(part.encode("latin-1")).rstrip(b"=").decode() for part in (head, body, signature)]
            assert issuer.read(".".join(made)) is None

    return call


def http_server() -> Call:
    """Requests to the ASGI application: each gets one status that the protocol names, none raises."""
    loop, head = asyncio.new_event_loop(), Head(scratch())
    app = sync_app(head.authority, authenticate=lambda request: ANA, threads=1)

    def call(data: bytes) -> None:
        method, path, query, *parts = (*data.split(b"\n", 3), b"", b"", b"")[:4]
        body = [parts[0][:9], parts[0][9:]] if parts else [b""]
        scope = {"type": "http", "method": method.decode("latin-1"), "path": path.decode("latin-1"), "query_string": query,
                 "headers": [(b"x", query)]}  # fmt: skip
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body.pop(0) if body else b"", "more_body": bool(body)}

        async def send(message: Any) -> None:
            sent.append(message)

        loop.run_until_complete(app(scope, receive, send))
        assert sent[0]["status"] in (200, 404, 413)

    return call


# -- the device


def answers() -> Call:
    """Answers of an authority, or of who pretends to be one: an error of ours, or a replica that can be read and used."""
    folder = scratch()
    head = Head(folder)
    device = Device(folder, head)

    def steps_of(which: int) -> Steps:
        exchanger = device.exchanger
        if which == 0:
            return exchanger.push()
        if which == 1:
            return exchanger.preview(device.replica.selection)
        if which == 2:
            return exchanger.query(Query("customer"))
        return exchanger.pull()

    def call(data: bytes) -> None:
        if not data:
            return
        steps = steps_of(data[0] % 8)
        try:
            request = device.ask(steps)
            answer = decode_answer(b"OK1\0" + data[1:])
            if isinstance(answer, m.Delta) and isinstance(request, m.Pull):
                answer = msgspec.structs.replace(answer, state=request.state)
            if isinstance(answer, m.Pushed) and isinstance(request, m.Push):
                answer = msgspec.structs.replace(answer, request=request.request)
            effect = steps.send(encode(answer))
            for _ in range(9):
                effect = steps.send(data if isinstance(effect, Fetch) else encode(answer))
        except StopIteration as stop:
            if data[0] % 8 == 2:
                with refused():
                    device.replica.remote.page(Query("customer"), stop.value)
        except OfflinekitError:
            steps.close()
            return
        used(device)

    return call


def used(device: Device) -> None:
    """Everything that a program may do with the replica goes on working; then it is reset."""
    replica = device.replica
    for info in SCHEMA:
        with refused():
            for record in replica.select(info.cls).all():
                record.as_dict()
    _ = replica.pending(), replica.rejections(), replica.selection.ends
    with refused():
        head_steps = device.exchanger.pull()
        next(head_steps)
        head_steps.close()
    device.reset()


def bulk() -> Call:
    """Bulk files of a hostile or broken authority: SQLite bytes under a manifest that fits them, or does not."""
    folder = scratch()
    head = Head(folder)
    device = Device(folder, head)
    rows: dict[str, Any] = {
        "customer": [(1, "a0", "x", None, "a", None), (77, "n", "new", "r", "a", "2026-01-01")],
        "part": [(1, "0", "bolt", 5)],
    }

    def seed(name: str) -> bytes:
        packed = next(iter(packed_rows(SCHEMA.info(name), SCHEMA.info(name).replicated, rows[name])))
        return next(Pieces().feed(packed)).content()

    seeds = {name: seed(name) for name in rows}

    def call(data: bytes) -> None:
        if len(data) < 2:
            return
        name = "part" if data[0] & 1 else "customer"
        raw = seeds[name]
        if data[0] & 2:
            raw = data[2:]
        else:  # patches of the file that was meant: a place of two bytes, and a byte
            patched = bytearray(raw)
            for at in range(2, len(data) - 2, 3):
                patched[int.from_bytes(data[at : at + 2], "big") % len(raw)] = data[at + 2]
            raw = bytes(patched)
        form = Form.IMAGE if data[0] & 16 else Form.RECORDS
        deliver(device, name, pack_piece(form, name, 0 if data[0] & 16 else len(rows[name]), raw) + END, image=bool(data[0] & 16))
        if data[0] & 4:  # the bytes of a file as they are, with and without a manifest that knows their number
            with refused():
                store = device.replica.store
                with store.locked():
                    incoming = Incoming(store.path, size=len(data) - 2 if data[0] & 8 else 0)
                try:
                    for piece in incoming.take(data[2:]):
                        piece.content()
                    incoming.partial()
                finally:
                    incoming.close()

    def guarded(data: bytes) -> None:
        try:
            call(data)
        except msgspec.MsgspecError:
            return

    return guarded


def deliver(device: Device, name: str, file: bytes, *, image: bool) -> None:
    """A delta with this file for one collection, which promises what two of its records would lead to."""
    steps = device.exchanger.pull()
    request = device.ask(steps)
    assert isinstance(request, m.Pull)
    own = SCHEMA.info(name).own_file
    collections = [name] if own else [c.name for c in SCHEMA.replicated if not c.own_file]
    store = device.replica.store
    from offlinekit.store.sqlite.applying import view_held

    manifest = m.Manifest(name="0" * 64, size=len(file), records=1 if image else 0)
    parts = {}
    for c in collections:
        held = view_held(store, store.reader(), c)
        after = held | view_of([1] if own else [1, 77]) if c == name else held
        named = manifest if image and c == name else None
        parts[c] = m.Part(digest=digest(after), in_file=len(after) - len(held) if c == name and not image else 0, image=named)
    group = m.Group(collections=parts, token=b"t", cursor=b"c")
    delta = m.Delta(state=request.state, groups=[group], file=None if image else manifest, now=1.8e9)
    try:
        effect = steps.send(encode(delta))
        assert isinstance(effect, Fetch)
        steps.send(file)
    except StopIteration:
        used(device)
    except (ProtocolError, NotTheAuthority):
        return
    except OfflinekitError as error:  # a broken file is the authority's fault, and says nothing of ours
        if "disk" not in str(error) and "too large" not in str(error) and "more than" not in str(error):
            raise


# -- both


def views() -> Call:
    """Bitmaps: bounded, sound, and with one digest for one set."""

    def call(data: bytes) -> None:
        with refused():
            view = unpack_view(data)
            again = unpack_view(pack_view(view))
            assert again == view
            assert digest(again) == digest(view)
            assert all(a < b for a, b in pairwise(view.to_array()[:1000]))
            _ = len(view - again), len(view | view_of([1])), view_of([1]) & view

    return call


def keys() -> Call:
    """Keys as bytes, which programs may carry in addresses."""

    def call(data: bytes) -> None:
        with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            key = decode_key(data)
            assert len(decode_key(encode_key(key))) == len(key)

    return call


def zstd() -> Call:
    """Compressed bytes: they are what was compressed, or refused, and never make more than they may."""
    limit = 1 << 16

    def call(data: bytes) -> None:
        with refused():
            assert len(decompress(data, limit)) <= limit
        assert decompress(compress(data), len(data)) == data

    return call


def contents() -> Call:
    """Marks of contents that a device made up: what differs is among the rows, and nothing else is told."""
    rows = [(n, f"{n}", None) for n in (1, 2, 255, 256, 700, 2**32 - 1)]
    all_ = view_of(row[0] for row in rows)

    def call(data: bytes) -> None:
        try:
            said = msgspec.msgpack.decode(data, type=m.Contents)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return
        found, unknown = differing(rows, said.ranges, said.records)
        assert found <= all_
        assert set(unknown) <= {number for number, _ in record_marks(rows)}

    return call


def http_client() -> Call:
    """What may come over HTTP: bytes of at most the limit, or an error of ours."""
    loop, said = asyncio.new_event_loop(), bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(bytes(said))
            await writer.drain()
        writer.close()

    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
    transport = HTTP(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/sync", answer=5, read=5)

    def call(data: bytes) -> None:
        said[:] = data[1:]
        with refused():
            if data[:1] < b"\x80":
                decode_answer(loop.run_until_complete(transport.exchange(b"OK1\0x")))
            else:
                loop.run_until_complete(transport.fetch("0" * 32, 0))

    return call


TARGETS = {
    "requests": Target(requests, packed=True),
    "answers": Target(answers, packed=True),
    "filters": Target(filters, packed=True),
    "selections": Target(selections, packed=True),
    "contents": Target(contents, packed=True),
    "tokens": Target(tokens, packed=True),
    "keys": Target(keys, packed=True),
    "views": Target(views),
    "zstd": Target(zstd),
    "bulk": Target(bulk),
    "files": Target(files),
    "jwts": Target(jwts),
    "http_server": Target(http_server),
    "http_client": Target(http_client),
}

if __name__ == "__main__":  # one input of one target: python -m tests.fuzz.targets NAME FILE
    with open(sys.argv[2], "rb") as given:
        TARGETS[sys.argv[1]].make()(given.read())
