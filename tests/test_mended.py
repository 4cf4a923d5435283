"""What was wrong once: a plain test for each defect, named after what it should have been."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from offlinekit import Always, Changes, Collection, Context, Field, Filter, Offer, Quick, Schema, claim, everything, field
from offlinekit.exceptions import ProtocolError, StateError, StoreError, StoreFull
from offlinekit.exchange import Exchanger, Send
from offlinekit.protocol import messages as m
from offlinekit.protocol.codec import decode_answer, decode_request, encode
from offlinekit.protocol.state import state_digest
from offlinekit.schema import projection_digest
from offlinekit.selection import PICKS_MAX
from offlinekit.store.sqlite.groups import groups_of
from offlinekit.store.sqlite.inspecting import confirm_drop
from offlinekit.store.sqlite.replica_files import file_of
from offlinekit.sync import counts_of
from offlinekit.testing.pair import Pair, linked_pair
from offlinekit.transport import Memory


class Site(Collection):
    code: Field[str] = field(key=True)
    rep: Field[str]


class Visit(Collection, writable=True):
    id: Field[str] = field(key=True)
    rep: Field[str]
    note: Field[str] = field(default="")


class Part(Collection, own_file=True):
    sku: Field[str] = field(key=True)


SCHEMA = Schema(Site, Visit, Part, intents=["log"])
MINE: Filter = Site.rep == claim("rep")
OFFER = Offer(Quick("mine", Site, MINE), Quick("visits", Visit, everything), always=[Always(Part)])
SCOPES = {Site: MINE, Visit: Visit.rep == claim("rep"), Part: everything}


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with linked_pair(SCHEMA, scopes=SCOPES, offer=OFFER, claims={"rep": "a"}, folder=str(tmp_path)) as made:

        @made.authority.intent("log", writes={Visit: ["insert", "update"]})
        def log(changes: Changes, ctx: Context) -> None:
            """Accepts everything."""

        made.authority.load(Site(code=f"{n:04}", rep="a") for n in range(1200))
        made.authority.load(Part(sku=f"{n}") for n in range(3))
        made.replica.configure().quick("mine").quick("visits").until(None).save()
        made.sync()
        yield made


def ask(pair: Pair, change: Any) -> m.Answer:
    """The first request of a pull, changed, and what the authority answers."""
    steps = Exchanger(pair.replica.store).pull()
    effect = next(steps)
    assert isinstance(effect, Send)
    steps.close()
    return decode_answer(pair.authority.handle(encode(change(decode_request(effect.body))), pair.identity, {"rep": "a"}))


def log(pair: Pair, id_: str, rep: str = "a", note: str = "") -> Any:
    with pair.replica.transaction("log") as tx:
        tx.insert(Visit(id=id_, rep=rep, note=note))
    return tx.mutation


def test_a_refusal_whose_record_is_gone_is_kept_when_it_is_sent_again(pair: Pair) -> None:
    log(pair, "v1")
    pair.sync()
    with pair.authority.transaction() as head:
        visit = head.get(Visit, "v1")
        assert visit is not None
        head.update(visit, note="by the office")
    with pair.replica.transaction("log") as tx:
        tx.update(visit, note="by the device")
    pair.sync()
    with pair.authority.transaction() as head:
        head.delete(visit)
    pair.sync()
    (refused,) = pair.replica.rejections()
    with pytest.raises(StateError, match="changes nothing, so the refusal stays"):
        refused.resend()
    assert [r.id for r in pair.replica.rejections()] == [refused.id]


@pytest.mark.parametrize("name", ["../" * 20 + "x", "a" * 63, "A" * 64, "a" * 64 + "/", ""])
def test_a_name_that_the_authority_cannot_have_made_reaches_no_path(pair: Pair, name: str) -> None:
    steps = Exchanger(pair.replica.store).pull()
    effect = next(steps)
    assert isinstance(effect, Send)
    request = decode_request(effect.body)
    assert isinstance(request, m.Pull)
    manifest = m.Manifest(name=name, size=1)
    before = sorted(os.listdir(os.path.dirname(pair.replica.store.path)))
    with pytest.raises(ProtocolError, match="no name of a file"):
        steps.send(encode(m.Delta(state=request.state, groups=[], file=manifest, now=0.0)))
    assert sorted(os.listdir(os.path.dirname(pair.replica.store.path))) == before


def test_a_first_push_does_not_undo_an_operators_confirmation(pair: Pair) -> None:
    device = pair.replica.store.meta("device")
    pair.authority.store.note_device(device, pair.identity, pair.clock.now(), b"\x80")
    confirm_drop(str(pair.authority.store.path), device.hex(), pair.clock.now() + 3600)  # type: ignore[attr-defined]
    log(pair, "v1")
    pair.sync()
    with pair.authority.store.snapshot() as snapshot:
        known = snapshot.device(device)
    assert known is not None
    assert known.confirmed_until == pair.clock.now() + 3600


def test_a_key_taken_outside_the_scope_is_refused_in_the_words_of_a_record_outside_it(pair: Pair) -> None:
    pair.authority.load([Visit(id="theirs", rep="b")])
    log(pair, "theirs")
    log(pair, "free", rep="b")
    pair.sync()
    taken, free = pair.replica.rejections()
    assert (taken.code, taken.message) == (free.code, free.message)


def test_records_outside_the_scope_that_do_not_fit_are_not_counted_to_anybody(tmp_path: Path) -> None:
    head = apsw.Connection(str(tmp_path / "authority.db"))
    head.execute("CREATE TABLE site(code PRIMARY KEY, rep)")
    head.execute("INSERT INTO site VALUES('fits','a'),(x'00','b')")
    head.close()
    with linked_pair(Schema(Site), scopes={Site: MINE}, offer=Offer(Quick("mine", Site, MINE)), claims={"rep": "a"},
                     folder=str(tmp_path)) as pair:  # fmt: skip
        pair.replica.configure().quick("mine").save()
        moved = pair.drive(Exchanger(pair.replica.store).pull())
        assert (moved.put["site"], moved.unfit) == (1, 0)


def test_an_authority_restored_to_nothing_does_not_empty_its_devices(pair: Pair) -> None:
    with pair.authority.store.unit() as unit:
        unit.connection.execute("DELETE FROM site")
        unit.connection.execute("DELETE FROM ok_mark")  # no cursor of before is known any more
    report = pair.sync()
    assert report.answers == ["new_history", "held_back"]
    assert pair.replica.select(Site).count() == 1200
    known = pair.replica.store.meta("device")
    pair.authority.store.note_device(known, pair.identity, pair.clock.now(), b"\x80")
    confirm_drop(str(pair.authority.store.path), known.hex(), pair.clock.now() + 60)  # type: ignore[attr-defined]
    pair.sync()
    assert pair.replica.select(Site).count() == 0


def test_a_table_that_names_a_collection_without_fields_is_invalid(pair: Pair) -> None:
    fields = {"site": ["code", "rep"]}
    projection = projection_digest(fields)

    def change(request: Any) -> m.Pull:
        groups = [m.GroupState(collections=["site", "visit"])]
        table = m.Table(selection=pair.replica.selection.digest, groups=groups)
        return m.Pull(version=1, device=request.device, identity=request.identity, schema=1, projection=projection,
                      fields={projection: fields}, state=state_digest(table, projection), table=table)  # fmt: skip

    answer = ask(pair, change)
    assert isinstance(answer, m.Refused)
    assert (answer.code, answer.message) == ("invalid", "the projection has no fields of visit")


def test_a_preview_counts_what_is_held_already(pair: Pair) -> None:
    preview = pair.replica.configure().renew().until(None).preview()
    assert (preview.rows, preview.fetch, preview.drop) == (1203, 0, 0)


def test_a_replica_is_consistent_after_an_answer_that_left_a_file_of_its_own_alone(pair: Pair) -> None:
    assert counts_of(pair.replica.store)["consistent"]
    pair.authority.load([Site(code="new", rep="a")])
    pair.sync()
    assert len(groups_of(pair.replica.store, pair.replica.store.reader())) == 2
    assert counts_of(pair.replica.store)["consistent"]


def test_a_local_transaction_does_not_lock_the_files_that_are_loaded_beside_it(pair: Pair) -> None:
    store = pair.replica.store
    own = apsw.Connection(file_of(store.path, "part", store.generations["part"]))
    own.set_busy_timeout(0)
    with pair.replica.transaction("log") as tx:
        tx.insert(Visit(id="v", rep="a"))
        own.execute("BEGIN IMMEDIATE; ROLLBACK")
    own.execute("BEGIN IMMEDIATE")
    log(pair, "w")
    own.execute("ROLLBACK")
    own.close()


def test_a_missing_file_is_missed_and_not_made_empty(pair: Pair) -> None:
    store = pair.replica.store
    missing = store.generations["part"] + 1
    with store.write(0) as db:
        db.execute("UPDATE ok_file SET generation=? WHERE collection='part'", (missing,))
    with pytest.raises(StoreError, match="cannot be read or written"), store.write(0):
        pass
    assert not os.path.exists(file_of(store.path, "part", missing))


def test_what_waits_is_counted_while_there_is_no_path(pair: Pair) -> None:
    line = Memory(pair.authority, lambda: (pair.identity, {"rep": "a"}))
    line.plugged = False
    counted = threading.Event()
    link = pair.replica.start_sync(line, every=0.01)
    try:
        link.on_status(lambda status: counted.set() if (status.state, status.pending) == ("offline", 1) else None)
        log(pair, "v")
        assert counted.wait(20), link.status
    finally:
        link.stop()


class Shelf(Collection):
    """Has a key of several fields, one of them bytes."""

    site: Field[str] = field(key=True)
    row: Field[int] = field(key=True)
    tag: Field[bytes] = field(key=True)
    day: Field[str] = field(key=True)


def test_a_claim_may_list_more_values_than_a_statement_has_bindings(tmp_path: Path) -> None:
    listed = Shelf.row.is_in(claim("rows"))
    with linked_pair(Schema(Shelf), scopes={Shelf: listed}, offer=Offer(Quick("all", Shelf, listed)),
                     claims={"rows": list(range(40_000))}, folder=str(tmp_path)) as pair:  # fmt: skip
        pair.authority.load(Shelf(site="a", row=n, tag=b"", day="") for n in (0, 39_999, 40_000))
        pair.replica.configure().quick("all").save()
        pair.sync()
        assert [shelf.row for shelf in pair.replica.select(Shelf)] == [0, 39_999]
        (first, _) = pair.replica.select(Shelf)
        assert [r.kind for r in pair.replica.why(first)] == ["quick"]


def test_as_many_records_may_be_picked_by_long_keys_as_the_limit_says(tmp_path: Path) -> None:
    with linked_pair(Schema(Shelf), scopes={Shelf: everything}, folder=str(tmp_path)) as pair:
        pair.authority.load(Shelf(site="é", row=n, tag=bytes([n]), day="1") for n in range(3))
        keys = [("é", n, bytes([n % 256]), "1") for n in range(PICKS_MAX)]
        pair.replica.configure().pick(Shelf, *keys).save()
        pair.sync()
        pair.pull_the_plug()
        assert pair.replica.configure().renew().preview().rows == 3
        preview = pair.replica.configure().pick(Shelf, *keys[1:], ("e", 0, b"\0", "1")).preview()
        assert (preview.offline, preview.rows, preview.drop) == (True, 2, 1)


def test_a_same_that_answers_another_request_is_not_believed(pair: Pair) -> None:
    steps = Exchanger(pair.replica.store).pull()
    effect = next(steps)
    assert isinstance(effect, Send)
    stray = pair.authority.handle(effect.body, pair.identity, {"rep": "a"})
    assert isinstance(decode_answer(stray), m.Same)
    steps.close()
    edited = pair.replica.configure().unquick("mine").until(None).save()
    steps = Exchanger(pair.replica.store).pull()
    next(steps)
    with pytest.raises(StopIteration) as stop:
        steps.send(stray)
    assert stop.value.value.kind == "stale"
    assert pair.replica.held_selection != edited, "or its user is told that it was pulled"
    pair.sync()
    assert pair.replica.select(Site).count() == 0


def test_a_full_disk_is_told_in_our_words_whatever_is_written(pair: Pair) -> None:
    log(pair, "v1")
    db = pair.replica.store.db
    pages = db.execute("PRAGMA main.page_count").get
    db.execute(f"PRAGMA main.max_page_count={pages}")
    for long in ("x" * 100_000, "y" * 400_000):
        with pytest.raises(StoreFull, match="the disk is full"), pair.replica.transaction("log") as tx:
            tx.insert(Visit(id="v2", rep="a", note=long))
    with pytest.raises(StoreFull, match="the disk is full"), pair.replica.store.write() as writing:
        writing.execute("INSERT INTO ok_meta VALUES('large',zeroblob(400000))")
    db.execute("PRAGMA main.max_page_count=1000000")
    log(pair, "v3")
    pair.sync()
    assert sorted(v.id for v in pair.replica.select(Visit)) == ["v1", "v3"]


def test_a_transaction_that_fails_to_open_leaves_none_open(pair: Pair) -> None:
    db = pair.replica.store.db

    def full(cursor: Any, sql: str, bindings: Any) -> bool:
        if sql.startswith("UPDATE ok_gate"):
            raise apsw.FullError("database or disk is full")
        return True

    db.exec_trace = full
    with pytest.raises(StoreFull):
        next(Exchanger(pair.replica.store).pull())
    db.exec_trace = None
    log(pair, "v1")
    assert pair.sync().outcomes == {"accepted": 1}
