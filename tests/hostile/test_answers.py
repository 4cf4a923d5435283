"""Answers and files of a broken or hostile authority: an error of ours, nothing changed, and the replica goes on working."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from struct import pack
from typing import Any, cast

import apsw
import msgspec
import pytest

from offlinekit.compress import compress
from offlinekit.exceptions import InvalidValue, NotTheAuthority, OfflinekitError, ProtocolError, TooLarge, TransportError
from offlinekit.exchange import RETRY_AFTER_S_MAX, Fetch
from offlinekit.protocol import messages as m
from offlinekit.protocol.codec import CONTENT_MAX, encode
from offlinekit.query import Query
from offlinekit.store.pieces import END, RAW_MAX, Form, pack_piece
from offlinekit.store.sqlite.applying import view_held
from offlinekit.store.sqlite.bulk import piece_sql
from offlinekit.store.sqlite.generations import Build
from offlinekit.view import digest, view_of
from tests.fuzz.world import SCHEMA, Customer, Device, Head, Order

MAIN = tuple(sorted(c.name for c in SCHEMA.replicated if not c.own_file))
NEW = [77, "n", "new", None, "a", None]


def dump(device: Device) -> dict[str, Any]:
    """Everything that stands in the replica's files, but for when it was looked at."""
    db = device.replica.store.reader()
    found: dict[str, Any] = {}
    for name, place in [("main", "main"), ("part", '"ok_file_part"')]:
        tables = [
            r[0] for r in db.execute(f"SELECT name FROM {place}.sqlite_schema WHERE type='table' AND name NOT LIKE '%search%'")
        ]
        for table in tables:
            found[f"{name}.{table}"] = list(db.execute(f'SELECT * FROM {place}."{table}"'))
    found["files"] = sorted(n for n in os.listdir(device.folder) if not n.endswith(("-shm", "-wal")))
    return found


def part(device: Device, name: str, ordinals: list[int], **more: Any) -> m.Part:
    """A part that promises the view with these as well."""
    store = device.replica.store
    return m.Part(digest=digest(view_held(store, store.reader(), name) | view_of(ordinals)), **more)


def delta(device: Device, state: bytes, collections: dict[str, m.Part] | None = None, **more: Any) -> m.Delta:
    """An answer about the main group that changes the given parts."""
    parts = {c: part(device, c, []) for c in MAIN} | (collections or {})
    fields: dict[str, Any] = {
        "state": state,
        "groups": [m.Group(collections=parts, token=b"t", cursor=b"c")],
        "now": 1.8e9,
    } | more
    return m.Delta(**fields)


def give(device: Device, make: Callable[[Device, bytes], Any], file: bytes = b"") -> Any:
    """Answers a pull with what was made for its state; a file is given as it is asked for."""
    steps = device.exchanger.pull()
    request = device.ask(steps)
    assert isinstance(request, m.Pull)
    made = make(device, request.state)
    try:
        effect = steps.send(made if isinstance(made, bytes) else encode(made))
        while isinstance(effect, Fetch):
            effect = steps.send(file[effect.offset : effect.offset + (1 << 20)])
    except StopIteration as stop:
        return stop.value
    finally:
        steps.close()
    raise AssertionError(f"it asked for more: {effect}")


def raw(message: Any, /, **changes: Any) -> bytes:
    """A message with fields that no class would let through."""
    return b"OK1\0" + msgspec.msgpack.encode(msgspec.to_builtins(message, builtin_types=(bytes,)) | changes)


def manifest(file: bytes, **changes: Any) -> m.Manifest:
    fields: dict[str, Any] = {"name": "0" * 64, "size": len(file)}
    return m.Manifest(**(fields | changes))


def filed(name: str, content: bytes, records: int = 1, form: Form = Form.RECORDS) -> bytes:
    """A file with one piece."""
    return pack_piece(form, name, records, content) + END


def packed_as(name: str, raw_size: int, frame: bytes) -> bytes:
    """A file with a piece that says what it likes of its frame."""
    rest = pack(">BHIII", Form.RECORDS, len(name), 1, raw_size, len(frame)) + name.encode() + frame
    return sha256(rest).digest()[:16] + rest + END


ANSWERS: dict[str, tuple[Callable[[Device, bytes], Any], type[OfflinekitError]]] = {
    "a page of a hotel": (lambda d, s: b"<html>sign in</html>", NotTheAuthority),
    "a bomb": (lambda d, s: b"OK1\1" + compress(bytes(CONTENT_MAX + 1)), TooLarge),
    "cut": (lambda d, s: encode(delta(d, s))[:-5], ProtocolError),
    "nested without end": (lambda d, s: b"OK1\0" + b"\x91" * 100_000, ProtocolError),
    "an unknown kind": (lambda d, s: raw(delta(d, s), kind="obey"), ProtocolError),
    "an answer to a push": (lambda d, s: m.Fork(), ProtocolError),
    "no time": (lambda d, s: raw(m.Same(now=1.0), now=float("nan")), ProtocolError),
    "a time outside the calendar": (lambda d, s: raw(m.Same(now=1.0), now=1e18), ProtocolError),
    "a position beyond 64 bits": (lambda d, s: raw(m.Same(now=1.0), durable_through=2**64 - 1), ProtocolError),
    "a group about nothing": (lambda d, s: delta(d, s, groups=[m.Group(collections={}, token=b"", cursor=b"")]), ProtocolError),
    "a group that was not asked for": (
        lambda d, s: delta(d, s, groups=[
            m.Group(collections={"part": m.Part(digest=b"")}, token=b"", cursor=b"")]), ProtocolError),
    "a collection that nobody knows": (
        lambda d, s: delta(d, s, {"nobody": m.Part(digest=b"", in_file=1)}), OfflinekitError),
    "another view than it promises": (lambda d, s: delta(d, s, {"customer": part(d, "customer", [], put=[NEW])}), ProtocolError),
    "a record without an ordinal": (lambda d, s: put(d, s, [0, *NEW[1:]]), ProtocolError),
    "a record that is too short": (lambda d, s: put(d, s, NEW[:-1]), ProtocolError),
    "a value that nothing can hold": (lambda d, s: put(d, s, [*NEW[:2], ["x"], *NEW[3:]]), ProtocolError),
    "a number beyond 64 bits": (lambda d, s: put(d, s, [*NEW[:2], 2**63, *NEW[3:]]), ProtocolError),
    "a truth value": (lambda d, s: put(d, s, [*NEW[:2], True, *NEW[3:]]), ProtocolError),
    "a number for text": (lambda d, s: put(d, s, [*NEW[:2], b"\0", *NEW[3:]]), ProtocolError),
    "nothing where something must be": (lambda d, s: put(d, s, [*NEW[:2], None, *NEW[3:]]), ProtocolError),
    "added fields of another number": (
        lambda d, s: delta(d, s, {"customer": part(d, "customer", [], added=m.Added(fields=["name"], rows=[[1]]))}),
        ProtocolError),
    "added fields that nobody knows": (
        lambda d, s: delta(d, s, {"customer": part(d, "customer", [], added=m.Added(fields=["x"], rows=[]))}), ProtocolError),
    "no bitmap": (lambda d, s: delta(d, s, {"customer": part(d, "customer", [], drop=b"garbage")}), ProtocolError),
    "a file that is not fetched": (lambda d, s: delta(d, s, {"customer": part(d, "customer", [77], in_file=1)}), ProtocolError),
    "a file of less than nothing": (lambda d, s: raw(delta(d, s, file=manifest(b"x")), file={
        "name": "0" * 64, "size": -1}), ProtocolError),
    "a file without end": (lambda d, s: delta(d, s, file=manifest(b"", size=2**62)), ProtocolError),
    "an image of what has no file of its own": (
        lambda d, s: delta(d, s, {"customer": part(d, "customer", [], image=manifest(b"x"))}), ProtocolError),
    "a file of a path": (lambda d, s: delta(d, s, file=manifest(b"x", name="../../x")), ProtocolError),
}  # fmt: skip


def put(device: Device, state: bytes, row: list[Any]) -> m.Delta:
    """An answer with one new customer."""
    return delta(device, state, {"customer": part(device, "customer", [77], put=[row])})


@pytest.mark.parametrize("what", ANSWERS)
def test_an_answer_that_cannot_be_is_an_error_and_changes_nothing(device: Device, what: str) -> None:
    make, error = ANSWERS[what]
    device.replica.store.tidy()
    before = dump(device)
    with pytest.raises(error):
        give(device, make)
    assert dump(device) == before


def test_the_same_answer_without_its_fault_is_applied(device: Device) -> None:
    assert give(device, lambda d, s: put(d, s, NEW)).put["customer"] == 1
    assert device.replica.get(Customer, "n") is not None


def test_an_authority_cannot_silence_a_device(device: Device) -> None:
    with pytest.raises(TransportError) as caught:
        give(device, lambda d, s: m.Refused(code="busy", message="later", retry_after_s=1e300))
    assert caught.value.retry_after_s == RETRY_AFTER_S_MAX
    with pytest.raises(ProtocolError):
        give(device, lambda d, s: raw(m.Refused(code="busy", message="later"), retry_after_s=float("nan")))


PUSHED: dict[str, Any] = {
    "an unknown outcome": {"outcome": "obeyed"},
    "an ordinal beyond all": {"outcome": "accepted", "records": [{"collection": "order", "key": ["new"], "ordinal": 2**32}]},
    "a position beyond 64 bits": {"outcome": "accepted", "position": 2**64 - 1},
    "a value that nothing can hold": {
        "outcome": "transformed", "records": [{"collection": "order", "key": ["new"], "values": {"total": [1]}}]},
    "a key that is none": {"outcome": "transformed", "records": [{"collection": "order", "key": [["new"]], "gone": True}]},
    "a collection that nobody knows": {
        "outcome": "transformed", "records": [{"collection": "nobody", "key": ["x"], "gone": True}]},
}  # fmt: skip


@pytest.mark.parametrize("what", PUSHED)
def test_a_receipt_that_cannot_be_leaves_the_mutation_pending(device: Device, what: str) -> None:
    steps = device.exchanger.push()
    request = device.ask(steps)
    assert isinstance(request, m.Push)
    made = m.Pushed(request=request.request, turn=b"t", cursor=b"c", now=1.8e9, results=[])
    with pytest.raises(OfflinekitError):
        steps.send(raw(made, results=[{"id": request.mutations[0].id, **PUSHED[what]}]))
    assert [mutation.state for mutation in device.replica.pending()] == ["pending"]
    assert device.replica.get(Order, "new") is not None


def test_a_query_s_answer_must_be_one(device: Device) -> None:
    page = device.replica.remote.page
    for fields, rows in ((["code"], [["a", "b"]]), (["name"], [["a"]]), (["code"], [[{"x": 1}]])):
        with pytest.raises(ProtocolError):
            page(Query("customer"), m.Records(fields=fields, rows=rows))


def test_a_value_that_the_program_cannot_read_is_told_with_its_field(device: Device) -> None:
    """Of the right storage type and not of the field: an enumeration's new member, for an older program."""
    give(device, lambda d, s: put(d, s, [*NEW[:5], "31/12/2026"]))
    record = device.replica.get(Customer, "n")
    assert record is not None
    with pytest.raises(InvalidValue, match="this program cannot read it") as caught:
        _ = record.since
    assert (caught.value.collection, caught.value.field) == ("customer", "since")


# -- bulk files


def file_with(tmp_path: Path, name: str, *statements: str) -> bytes:
    """The database that was meant, changed by SQL; its table calls itself STRICT only afterwards."""
    row = NEW if name == "customer" else [77, "n", "new", 1]
    info = SCHEMA.info(name)
    path = tmp_path / "bulk"
    path.unlink(missing_ok=True)
    db = apsw.Connection(str(path))
    db.execute(piece_sql(info, info.replicated).removesuffix(" STRICT").replace(" NOT NULL", ""))
    db.execute(f"INSERT INTO {name} VALUES({','.join('?' * len(row))})", row)
    for statement in statements:
        db.execute(statement)
    db.execute("PRAGMA writable_schema=on")
    columns = piece_sql(info, info.replicated)
    plain = columns.removesuffix(" STRICT").replace(" NOT NULL", "")
    db.execute("UPDATE sqlite_schema SET sql=replace(sql,?,?) WHERE type='table'", (plain, columns))
    db.close()
    return path.read_bytes()


def in_utf16(tmp_path: Path, name: str) -> bytes:
    """The same, whose texts are encoded otherwise."""
    info, path = SCHEMA.info(name), tmp_path / "utf16"
    with closing(apsw.Connection(str(path))) as db:
        db.execute("PRAGMA encoding='UTF-16'")
        db.execute(piece_sql(info, info.replicated))
        row = NEW if name == "customer" else [77, "n", "new", 1]
        db.execute(f"INSERT INTO {name} VALUES({','.join('?' * len(row))})", row)
    return path.read_bytes()


def schema_row(values: str) -> tuple[str, ...]:
    """A row written into the table of tables."""
    return "PRAGMA writable_schema=on", f"INSERT INTO sqlite_schema VALUES({values})"


FILES: dict[str, Callable[[Path, str], bytes]] = {
    "no database": lambda p, n: b"x" * 5000,
    "nothing": lambda p, n: b"",
    "a format of the future": lambda p, n: file_with(p, n)[:18] + b"\x09\x09" + bytes(9000),
    "another encoding of text": in_utf16,
    "a head alone": lambda p, n: file_with(p, n)[:100],
    "cut": lambda p, n: file_with(p, n)[:-4096],
    "a broken page": lambda p, n: file_with(p, n)[:4096] + b"\xff" * 4096,
    "another table": lambda p, n: file_with(p, n, f"ALTER TABLE {n} RENAME TO other"),
    "another column": lambda p, n: file_with(p, n, f"ALTER TABLE {n} ADD COLUMN more"),
    "a table more": lambda p, n: file_with(p, n, "CREATE TABLE sqlitex(a)"),
    "a view": lambda p, n: file_with(p, n, f"CREATE VIEW sqlitex AS SELECT * FROM {n}"),
    "a view in place of the table": lambda p, n: file_with(
        p, n, f"ALTER TABLE {n} RENAME TO other", f"CREATE VIEW {n} AS SELECT * FROM other"),
    "a trigger": lambda p, n: file_with(p, n, f"CREATE TRIGGER sqlitex AFTER INSERT ON {n} BEGIN SELECT 1; END"),
    "an index": lambda p, n: file_with(p, n, f"CREATE INDEX sqlitex ON {n}(name)"),
    "a trigger under the table's name": lambda p, n: file_with(p, n, *schema_row(
        f"'trigger','{n}','{n}',0,(SELECT sql FROM sqlite_schema)")),
    "a generated column": lambda p, n: file_with(
        p, n, "PRAGMA writable_schema=on", "UPDATE sqlite_schema SET sql=replace(sql,'\"name\"','\"name\" AS (randomblob(9))')"),
    "text that is not UTF-8": lambda p, n: file_with(p, n, f"UPDATE {n} SET name=CAST(x'ff' AS TEXT)"),
    "a blob for text": lambda p, n: file_with(p, n, f"UPDATE {n} SET name=x'00'"),
    "nothing where something must be": lambda p, n: file_with(p, n, f"UPDATE {n} SET name=NULL"),
    "an ordinal beyond all": lambda p, n: file_with(p, n, f"UPDATE {n} SET _ordinal={2**40}"),
    "an ordinal below one": lambda p, n: file_with(p, n, f"UPDATE {n} SET _ordinal=-5"),
    "another record": lambda p, n: file_with(p, n, f"UPDATE {n} SET _ordinal=78"),
    "a root that is not there": lambda p, n: file_with(
        p, n, "PRAGMA writable_schema=on", "UPDATE sqlite_schema SET rootpage=9"),
    "a root that is the schema's": lambda p, n: file_with(
        p, n, "PRAGMA writable_schema=on", "UPDATE sqlite_schema SET rootpage=1"),
}  # fmt: skip
SURVIVES_A_BUILD = {"text that is not UTF-8"}  # copied by SQL, not read: it is told when it is read


def group_of(device: Device, state: bytes, name: str, file: m.Manifest) -> m.Delta:
    """An answer whose records of one collection stand in a file."""
    one = part(device, name, [77], in_file=1)
    if SCHEMA.info(name).own_file:
        return delta(device, state, groups=[m.Group(collections={name: one}, token=b"t", cursor=b"c")], file=file)
    return delta(device, state, {name: one}, file=file)


@pytest.mark.parametrize("name", ["customer", "part"])
@pytest.mark.parametrize("what", FILES)
def test_a_file_that_is_not_what_was_asked_for_changes_nothing(device: Device, tmp_path: Path, what: str, name: str) -> None:
    if name == "part" and what in SURVIVES_A_BUILD:
        return
    packed = filed(name, FILES[what](tmp_path, name))
    device.replica.store.tidy()
    before = dump(device)
    with pytest.raises(ProtocolError):
        give(device, lambda d, s: group_of(d, s, name, manifest(packed)), packed)
    assert dump(device) == before


@pytest.mark.parametrize("name", ["customer", "part"])
def test_the_same_file_without_its_fault_is_applied(device: Device, tmp_path: Path, name: str) -> None:
    packed = filed(name, file_with(tmp_path, name))
    assert give(device, lambda d, s: group_of(d, s, name, manifest(packed)), packed).put == {
        c: 1 if c == name else 0 for c in (MAIN if name == "customer" else ["part"])
    }


PACKED: dict[str, tuple[Callable[[bytes], bytes], type[OfflinekitError]]] = {
    "a bomb": (lambda raw: packed_as("customer", 4096, compress(bytes(1 << 20))), TooLarge),
    "a bomb that says so": (lambda raw: packed_as("customer", RAW_MAX + 1, compress(raw)), ProtocolError),
    "no frame": (lambda raw: packed_as("customer", len(raw), raw), ProtocolError),
    "cut": (lambda raw: packed_as("customer", len(raw), compress(raw)[:-5]), ProtocolError),
    "two frames": (lambda raw: packed_as("customer", len(raw), compress(raw) * 2), ProtocolError),
    "a tail": (lambda raw: packed_as("customer", len(raw), compress(raw) + b"x"), ProtocolError),
    "less than it says": (lambda raw: packed_as("customer", len(raw) + 1, compress(raw)), ProtocolError),
    "something behind its end": (lambda raw: filed("customer", raw) + b"x", ProtocolError),
    "no end": (lambda raw: filed("customer", raw)[: -len(END)], ProtocolError),
    "an end in between": (lambda raw: END + filed("customer", raw), ProtocolError),
    "nothing but an end": (lambda raw: END, ProtocolError),
    "a collection that was not spoken of": (lambda raw: filed("city", raw), ProtocolError),
    "a name that is no text": (lambda raw: filed("customer", raw).replace(b"customer", b"cust\xffmer"), ProtocolError),
    "a form of the future": (lambda raw: filed("customer", raw, form=cast(Form, 9)), ProtocolError),
    "bytes of an image": (lambda raw: filed("customer", raw, form=Form.IMAGE), ProtocolError),
    "more records than it says": (lambda raw: filed("customer", raw, records=0), ProtocolError),
    "the same piece twice": (lambda raw: filed("customer", raw)[: -len(END)] * 2 + END, ProtocolError),
}  # fmt: skip


@pytest.mark.parametrize("what", PACKED)
def test_a_file_that_does_not_unpack_to_what_it_says_changes_nothing(device: Device, tmp_path: Path, what: str) -> None:
    make, error = PACKED[what]
    packed = make(file_with(tmp_path, "customer"))
    before = dump(device)
    with pytest.raises(error):
        give(device, lambda d, s: group_of(d, s, "customer", manifest(packed)), packed)
    assert dump(device) == before


def test_a_piece_that_was_changed_is_refused(device: Device, tmp_path: Path) -> None:
    packed = filed("customer", file_with(tmp_path, "customer"))
    changed = packed[:60] + bytes([packed[60] ^ 1]) + packed[61:]
    with pytest.raises(ProtocolError, match="not what its digest says"):
        give(device, lambda d, s: group_of(d, s, "customer", manifest(packed)), changed)
    with pytest.raises(ProtocolError, match="shorter or longer"):
        give(device, lambda d, s: group_of(d, s, "customer", manifest(packed)), packed + b"x")


# -- images


def image_with(tmp_path: Path, *statements: str) -> bytes:
    """An image of one part, changed by SQL."""
    info = SCHEMA.info("part")
    build = Build(str(tmp_path / "image"), info, SCHEMA.version, int.from_bytes(os.urandom(5), "big"))
    build.db.execute("INSERT INTO part VALUES(77,'n','new',1)")
    build.as_image(view_of([77]))
    build.db.execute("UPDATE ok_gate SET mode=2")
    for statement in statements:
        build.db.execute(statement)
    if not any("mode" in statement for statement in statements):
        build.db.execute("UPDATE ok_gate SET mode=0")
    build.close()
    return Path(build.path).read_bytes()


IMAGES: dict[str, Callable[[Path], bytes]] = {
    "no database": lambda p: b"x" * 5000,
    "cut": lambda p: image_with(p)[:-4096],
    "another version": lambda p: image_with(p, "PRAGMA user_version=99"),
    "an open gate": lambda p: image_with(p, "UPDATE ok_gate SET mode=1"),
    "a trigger": lambda p: image_with(p, "CREATE TRIGGER x AFTER INSERT ON part BEGIN SELECT 1; END"),
    "no trigger": lambda p: image_with(p, "DROP TRIGGER ok_gate_insert_part"),
    "a table more": lambda p: image_with(p, "CREATE TABLE more(a)"),
    "a view": lambda p: image_with(p, "CREATE VIEW more AS SELECT * FROM part"),
    "another record": lambda p: image_with(p, "UPDATE part SET _ordinal=78"),
    "no record": lambda p: image_with(p, "DELETE FROM part"),
    "another digest": lambda p: image_with(p, "UPDATE ok_state SET digest=x'00'"),
    "no bitmap": lambda p: image_with(p, "UPDATE ok_state SET view=x'00'"),
    "another collection": lambda p: image_with(p, "UPDATE ok_state SET collection='customer'"),
}


@pytest.mark.parametrize("what", IMAGES)
def test_an_image_that_is_not_what_was_asked_for_changes_nothing(device: Device, tmp_path: Path, what: str) -> None:
    content = IMAGES[what](tmp_path)
    before = dump(device)
    with pytest.raises(ProtocolError):
        give(device, *image_answer(device, content))
    assert dump(device) == before


def image_answer(device: Device, content: bytes, **changes: Any) -> tuple[Callable[[Device, bytes], m.Delta], bytes]:
    """An answer whose part is an image, and the file."""
    file = filed("part", content, 0, Form.IMAGE)
    named = manifest(file, raw_size=len(content), **({"records": 1} | changes))
    one = m.Part(digest=digest(view_of([77])), image=named, moved=1)
    return lambda d, s: delta(d, s, groups=[m.Group(collections={"part": one}, token=b"t", cursor=b"c")]), file


def test_the_same_image_without_its_fault_is_adopted(device: Device, tmp_path: Path) -> None:
    assert give(device, *image_answer(device, image_with(tmp_path))).put == {"part": 1}
    assert device.replica.store.reader().execute("SELECT count(*) FROM ok_file_part.part").get == 1


def test_an_image_of_another_size_than_promised_changes_nothing(device: Device, tmp_path: Path) -> None:
    with pytest.raises(ProtocolError, match="as many records as promised"):
        give(device, *image_answer(device, image_with(tmp_path), records=2))


def listened(head: Head, device: Device) -> tuple[str, bytes]:
    """A pull that goes through: its kind, and the last answer that came."""
    steps, last = device.exchanger.pull(), b""
    effect: Any = next(steps)
    try:
        while True:
            last = head.answer(effect)
            effect = steps.send(last)
    except StopIteration as stop:
        return stop.value.kind, last


def test_an_answer_of_before_is_stale(head: Head, device: Device) -> None:
    """Replayed, delivered late, or of another state: it is not applied."""
    with head.authority.transaction() as tx:
        tx.connection.execute("UPDATE customer SET name='first' WHERE code='a0'")
    kind, last = listened(head, device)
    assert kind == "delta"
    assert give(device, lambda d, s: last).kind == "stale"
    record = device.replica.get(Customer, "a0")
    assert record is not None
    assert record.name == "first"
