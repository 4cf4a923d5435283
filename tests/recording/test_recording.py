"""Recordings hold no personal data when they are not to, end when they must, and disturb nobody."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from attrs import evolve

from offlinekit.exceptions import InvalidValue, LimitExceeded, ProtocolError, SchemaError, StateError
from offlinekit.recording import Mask
from offlinekit.recording.lines import Lines, plain, read_lines, unplain
from offlinekit.recording.masks import Masks
from offlinekit.schema import Collection, Field, Schema, field
from offlinekit.testing.pair import Pair, linked_pair
from offlinekit.testing.replay import replay
from tests.recording.world import IDENTITY, OFFER, REP, SCHEMA, SCOPES, Customer, Order, Product, Session, decide


@pytest.fixture
def pair() -> Iterator[Pair]:
    with linked_pair(SCHEMA, offer=OFFER, scopes=SCOPES, identity=IDENTITY, claims={"rep": REP}) as pair:
        pair.authority.intent("sell", writes={Order: ["insert", "update"], Customer: ["insert", "update"]})(decide)
        pair.authority.load([Customer(code="C1", name="Ana", rep=REP)])
        pair.replica.configure().quick("mine").quick("any").save()
        pair.sync()
        yield pair


def sell(pair: Pair, key: int, qty: int = 1, text: str = "") -> None:
    """An order is written, and not sent yet."""
    with pair.replica.transaction("sell") as tx:
        tx.insert(Order(id=key, customer="C1", qty=qty, text=text))


def texts(value: Any) -> Iterator[str]:
    """Every text in a value, and every packed one."""
    if isinstance(value, bytes):
        yield value.decode(errors="replace")
    elif isinstance(value, dict):
        for name, v in value.items():
            yield from (*texts(name), *texts(v))
    elif isinstance(value, list):
        for v in value:
            yield from texts(v)
    elif isinstance(value, str):
        yield value


# -- masks


@pytest.mark.parametrize("mask", ["text", [Customer.name, Customer.mail, Customer.notes, Customer.photo, Customer.rep, Order.text,
                                           Product.name]], ids=["text", "fields"])  # fmt: skip
def test_masked_recording_holds_no_original_value(tmp_path: Path, mask: Mask):
    for seed in range(3):
        (tmp_path / f"{seed}").mkdir()
        session = Session(tmp_path / f"{seed}", seed)
        session.run(80)
        path = tmp_path / f"{seed}.jsonl"
        with session.replica.record(path, mask=mask):
            session.run(150)
        session.close()
        originals = {f"nr{n:05}" for n in range(1, session.serial + 1)} | {REP, IDENTITY}
        found = "\n".join(t for _, event in read_lines(path) for t in texts(event))
        assert [o for o in originals if o in found] == []
        raw = path.read_bytes()
        assert [o for o in originals if o.encode() in raw or b64encode(o.encode())[:8] in raw] == []
        assert replay(path, SCHEMA).complete


def test_unmasked_recording_holds_values_and_no_identity(pair: Pair, tmp_path: Path):
    with pair.replica.record(tmp_path / "r.jsonl"):
        pair.replica.configure().quick("any").quick("mine").save()
        sell(pair, 1, text="as it was written")
        pair.sync()
    raw = (tmp_path / "r.jsonl").read_text()
    assert "as it was written" in raw
    assert IDENTITY not in raw


def form(c: str) -> tuple[object, ...]:
    """What a pseudonym keeps of a character."""
    kept = c if c.isascii() and not c.isalnum() else ""
    return len(c.encode()), c.isupper(), c.isascii() and c.isdigit(), kept


def test_pseudonym_has_the_form_of_the_value_and_is_always_the_same():
    masks, other = Masks(SCHEMA, "text"), Masks(SCHEMA, "text")
    for value in ("Ávila & Söhne, 12-34", "ŁÓDŹ łódź", "字号店 7", "😀x", "tab\tnew\nline"):
        made = masks.pseudonym(value)
        assert made == masks.pseudonym(value) != other.pseudonym(value)
        assert list(map(form, made)) == list(map(form, value))
    assert masks.value("order", "qty", 12) == 12
    assert masks.value("customer", "name", None) is None
    noted = masks.value("customer", "notes", '{"seen":["Ana"],"n":[1,null,true]}')
    assert re.fullmatch(r'\{"n":\[1,null,true\],"seen":\["[A-Z][a-z][a-z]"\]\}', str(noted))
    assert len(bytes(masks.value("customer", "photo", b"\0\1\2"))) == 3  # type: ignore[arg-type]


class Plan(Collection, writable=True):
    """Has a default, which is in the program and nobody's."""

    id: Field[int] = field(key=True)
    state: Field[str] = field(default="open")


def test_declared_default_is_not_masked():
    masks = Masks(Schema(Plan), "text")
    assert masks.value("plan", "state", "open") == "open"
    assert masks.value("plan", "state", "held") not in ("open", "held")


def test_masked_selections_stay_different(pair: Pair):
    masks, first = Masks(SCHEMA, "text"), pair.replica.selection.encode()
    pair.replica.save_selection(evolve(pair.replica.selection, choices=()))
    second = pair.replica.selection.encode()
    assert masks.selection(first) == masks.selection(first) != masks.selection(second)
    assert b"mine" not in masks.selection(first)


def test_short_values_stay_different():
    masks = Masks(SCHEMA, "text")
    values = [f"{a}{b}" for a in "abcdefghijklmnopqrstuvwxyz" for b in "0123456789"]
    assert len({masks.value("customer", "name", v) for v in values}) == len(values)
    assert len({masks.value("customer", "photo", bytes([n])) for n in range(256)}) == 256
    assert masks.value("customer", "name", "") == ""
    assert [masks.value("customer", "name", chr(0xE0 + n)) for n in range(40)]  # of more than there can be, some are the same


def test_masked_keys_stay_different_and_references_follow():
    masks = Masks(SCHEMA, [Customer.code])
    assert masks.fields == {("customer", "code"), ("order", "customer")}
    keys = [chr(97 + n) for n in range(26)]
    made = [masks.value("customer", "code", k) for k in keys]
    assert sorted(map(str, made)) == keys  # as dense as it can be: every letter is somebody's
    assert [masks.value("order", "customer", k) for k in keys] == made
    with pytest.raises(LimitExceeded, match="this short"):
        [masks.value("customer", "code", chr(0xE0 + n)) for n in range(40)]


class Day(Collection):
    """Has what cannot be masked."""

    id: Field[int] = field(key=True)
    order: Field[int] = field(ref=Order)
    total: Field[float]


def test_fields_that_cannot_be_masked_are_refused(pair: Pair, tmp_path: Path):
    schema = Schema(Customer, Order, Day)
    for wrong, said in ((Day.total, "only text, json, bytes"), (Day.order, "only text"), (Order.customer, "'customer'")):
        with pytest.raises(SchemaError, match=said):
            Masks(schema, [wrong])
    with pytest.raises(SchemaError, match="'t' is neither"):
        Masks(schema, "texts")  # type: ignore[arg-type]
    with pytest.raises(SchemaError, match="unknown collection 'day'"):
        pair.replica.record(tmp_path / "r.jsonl", mask=[Day.total])
    assert not (tmp_path / "r.jsonl").exists()
    pair.replica.record(tmp_path / "r.jsonl").stop()  # nothing is left running


def test_declared_checks_hold_again_after_a_replay_of_pseudonyms(pair: Pair, tmp_path: Path):
    with pair.replica.record(tmp_path / "r.jsonl", mask=[Customer.mail]):
        with pair.replica.transaction("sell") as tx:
            tx.insert(Customer(code="C9", name="Zé", rep=REP, mail="ze@example.org"))
        pair.sync()
    assert "example.org" not in (tmp_path / "r.jsonl").read_text()
    assert replay(tmp_path / "r.jsonl", SCHEMA).complete
    with pytest.raises(InvalidValue), pair.replica.transaction("sell") as tx:
        tx.insert(Customer(code="C10", name="Zé", rep=REP, mail="nobody"))


# -- the file


def test_values_come_back_from_a_line():
    value = {
        "a": [b"\0\xff", 1.5, 2, None, True, "x", float("inf"), -float("inf"), 2**62],
        "b": {"c": b""},
        "d": {b"x": {1: [b"y"]}},
    }
    assert unplain(msgspec.json.decode(msgspec.json.encode(plain(value)))) == value


def test_full_recording_ends_and_replays_as_far_as_it_goes(pair: Pair, tmp_path: Path):
    path = tmp_path / "r.jsonl"
    recording = pair.replica.record(path, limit=20_000)
    for n in range(100):
        sell(pair, n + 1)
        if n % 10 == 0:
            pair.sync()
    assert recording.over
    assert 15_000 < os.path.getsize(path) <= 20_000
    assert path.read_bytes().endswith(b'\n{"event":"full"}\n')
    recording.stop()  # changes nothing any more
    done = replay(path, SCHEMA)
    assert not done.complete
    assert done.events["commit"] > 10
    pair.sync()
    assert pair.authority.get(Order, 100) is not None
    pair.replica.record(tmp_path / "next.jsonl").stop()


def test_recording_that_is_full_at_once_disturbs_nobody(pair: Pair, tmp_path: Path):
    assert pair.replica.record(tmp_path / "r.jsonl", limit=100).over
    sell(pair, 1)
    assert pair.sync().outcomes == {"accepted": 1}
    assert (tmp_path / "r.jsonl").read_bytes() == b'{"event":"full"}\n'


def test_recording_that_was_cut_off_replays_up_to_its_last_whole_line(pair: Pair, tmp_path: Path):
    path = tmp_path / "r.jsonl"
    with pair.replica.record(path):
        sell(pair, 1)
        pair.sync()
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rindex(b'{"event":"end"') + 20])
    done = replay(path, SCHEMA)
    assert (done.complete, done.events["commit"]) == (False, 1)


def test_file_that_is_no_recording_is_refused(tmp_path: Path):
    (tmp_path / "r.jsonl").write_bytes(b"<html>\n")
    with pytest.raises(ProtocolError, match="line 1"):
        replay(tmp_path / "r.jsonl", SCHEMA)
    (tmp_path / "r.jsonl").write_bytes(b'{"event":"end"}\n')
    with pytest.raises(ProtocolError, match="has 'start' here"):
        replay(tmp_path / "r.jsonl", SCHEMA)


def test_failing_disk_ends_the_recording_and_never_the_sync(pair: Pair, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    recording = pair.replica.record(tmp_path / "r.jsonl")
    os.close(recording.lines._file.fileno())
    sell(pair, 1)
    assert recording.over
    assert "the recording ends: OSError" in caplog.text
    assert pair.sync().outcomes == {"accepted": 1}
    pair.replica.record(tmp_path / "next.jsonl").stop()


def test_error_in_the_recorder_ends_the_recording_and_nothing_else(pair: Pair, tmp_path: Path):
    pair.replica.configure().quick("mine").quick("any").save()
    recording = pair.replica.record(tmp_path / "r.jsonl", mask=[Customer.code])
    with pair.replica.transaction("sell") as tx:  # more keys of one letter than there are letters of its kind
        for n in range(40):
            tx.insert(Customer(code=chr(0xE0 + n), name="x", rep=REP))
    assert recording.over
    assert pair.sync().outcomes == {"accepted": 1}


def test_nothing_is_written_over(pair: Pair, tmp_path: Path):
    (tmp_path / "r.jsonl").write_text("mine")
    with pytest.raises(FileExistsError):
        pair.replica.record(tmp_path / "r.jsonl")
    pair.replica.record(tmp_path / "s.jsonl").stop()
    assert (tmp_path / "r.jsonl").read_text() == "mine"
    if os.name == "posix":
        assert os.stat(tmp_path / "s.jsonl").st_mode & 0o077 == 0


def test_one_recording_at_a_time_and_none_inside_a_transaction(pair: Pair, tmp_path: Path):
    with pair.replica.record(tmp_path / "r.jsonl"), pytest.raises(StateError, match="already"):
        pair.replica.record(tmp_path / "s.jsonl")
    with pytest.raises(StateError, match="a transaction is open"), pair.replica.transaction("sell"):
        pair.replica.record(tmp_path / "t.jsonl")
    pair.replica.record(tmp_path / "u.jsonl")
    pair.replica.close()
    assert [event["event"] for _, event in read_lines(tmp_path / "u.jsonl")][-1] == "end"
    with pytest.raises(StateError, match="closed"):
        pair.replica.record(tmp_path / "v.jsonl")


def test_recording_that_is_stopped_inside_a_transaction_leaves_it_alone(pair: Pair, tmp_path: Path):
    recording = pair.replica.record(tmp_path / "r.jsonl")
    with pair.replica.transaction("sell") as tx:
        tx.insert(Order(id=1, customer="C1"))
        recording.stop()
    assert (recording.over, pair.replica.store.recorder) == (True, None)
    assert tx.mutation.state == "pending"
    assert pair.sync().outcomes == {"accepted": 1}
    assert not replay(tmp_path / "r.jsonl", SCHEMA).complete


def test_lines_after_the_end_are_dropped(tmp_path: Path):
    lines = Lines(tmp_path / "r.jsonl")
    lines.write({"event": "start"})
    lines.close()
    lines.write({"event": "late"})
    assert list(read_lines(tmp_path / "r.jsonl")) == [(1, {"event": "start"})]


# -- the authority


def test_authority_records_requests_outcomes_and_errors(pair: Pair, tmp_path: Path):
    path = tmp_path / "r.jsonl"
    with pair.authority.record(path):
        for key, qty in ((1, 1), (2, 13), (3, 11), (4, 7)):
            sell(pair, key, qty, text=f"text {key}")
        pair.sync()
        pair.authority.handle(b"rubbish", IDENTITY, {})
    events = [event for _, event in read_lines(path)]
    push = next(e for e in events if e.get("kind") == "push")
    assert [(w["intent"], w["outcome"]) for w in push["mutations"]] == [
        ("sell", "accepted"), ("sell", "rejected"), ("sell", None), ("sell", "transformed")
    ]  # fmt: skip
    assert push["mutations"][1]["code"] == "unlucky"
    assert push["mutations"][0]["changes"][0][:3] == ["order", "insert", [1]]
    assert push["seconds"] >= 0
    failure = next(e for e in events if e["event"] == "failure")
    assert failure["error"]["kind"] == "ZeroDivisionError"
    assert failure["error"]["trace"][-1].endswith(" decide")
    assert failure["mutation"] == push["mutations"][2]["id"]
    assert [(e["kind"], e["answer"]) for e in events if e["event"] == "request"][-2:] == [("pull", "delta"), (None, "refused")]
    assert events[-2]["error"]["kind"] == "ProtocolError"
    assert events[-1]["event"] == "end"
    assert IDENTITY not in path.read_text()
    with pair.authority.record(tmp_path / "s.jsonl"), pytest.raises(StateError, match="already"):
        pair.authority.record(tmp_path / "t.jsonl")


def test_masked_recording_of_an_authority_holds_no_original_value(pair: Pair, tmp_path: Path):
    path = tmp_path / "r.jsonl"
    with pair.authority.record(path, mask="text"):
        for key, qty in ((1, 1), (2, 13), (3, 11), (4, 7)):
            sell(pair, key, qty, text=f"text of {key}")
        pair.sync()
    raw = path.read_text()
    assert "text of" not in raw
    assert "nobody orders" not in raw
    assert "a bug in a hook" not in raw
    assert REP not in raw
    assert '"outcome":"rejected"' in raw


def test_full_recording_of_an_authority_disturbs_nobody(pair: Pair, tmp_path: Path):
    recording = pair.authority.record(tmp_path / "r.jsonl", limit=500)
    for key in range(1, 5):
        sell(pair, key)
        assert pair.sync().outcomes == {"accepted": 1}
    assert recording.over
    pair.authority.record(tmp_path / "s.jsonl").stop()
