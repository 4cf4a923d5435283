"""Programs of different ages meet: later fields are ignored at every place, other versions refused, older schemas served."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from offlinekit import Authority, Collection, Field, Offer, Quick, Replica, Schema, SQLiteStore, everything, field
from offlinekit.exceptions import RefusalCode
from offlinekit.exchange import Effect, Exchanger, Fetch, Send
from offlinekit.protocol import messages as m
from offlinekit.protocol.codec import decode_answer, decode_request, encode
from offlinekit.protocol.version import FLOOR_VERSION, PROTOCOL_VERSION
from offlinekit.testing.pair import MovableClock, Pair

LATER = "added_in_2031"


class Shop(Collection, writable=True):
    code: Field[str] = field(key=True)
    name: Field[str] = field(default="", search=True)
    open: Field[bool] = field(default=True)
    floor: Field[int | None] = field(default=None)


class Visit(Collection, writable=True):
    id: Field[str] = field(key=True)
    shop: Field[str] = field(ref=Shop)


class OldShop(Collection, name="shop", writable=True):
    """As an earlier program declares it."""

    code: Field[str] = field(key=True)
    name: Field[str] = field(default="", search=True)


SCHEMA, OLD = Schema(Shop, Visit, intents=["note"], version=2), Schema(OldShop, intents=["note"], version=1)
OFFER = Offer(Quick("shops", Shop, everything), Quick("visits", Visit, everything))
OLD_OFFER = Offer(Quick("shops", OldShop, everything))


def later(part: Any) -> Any:
    """A message, or a part of one, as a later version may write it: every record of the protocol has a field more."""
    if isinstance(part, msgspec.Struct):
        config = part.__struct_config__
        plain = {f: later(getattr(part, f)) for f in part.__struct_fields__}
        return {LATER: {"of": [1]}} | plain | ({} if config.tag is None else {str(config.tag_field): config.tag})
    if isinstance(part, dict):
        return {key: later(value) for key, value in part.items()}
    return [later(p) for p in part] if isinstance(part, list | tuple) else part


class LaterLine(Pair):
    """A line between two programs that are both later than the other believes."""

    kinds: set[str]

    def drive(self, steps: Generator[Effect, bytes, Any]) -> Any:
        """Carries an exchange there and back."""
        try:
            effect = next(steps)
            while True:
                if isinstance(effect, Fetch):
                    answer = self.authority.fetch(effect.name, effect.offset, self.identity)
                else:
                    sent = decode_request(effect.body)
                    body = self.authority.handle(b"OK1\0" + msgspec.msgpack.encode(later(sent)), self.identity, {})
                    back = decode_answer(body)
                    self.kinds |= {type(sent).__name__, type(back).__name__}
                    answer = b"OK1\0" + msgspec.msgpack.encode(later(back))
                effect = steps.send(answer)
        except StopIteration as stop:
            return stop.value


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def authority(tmp_path: Path, clock: MovableClock) -> Iterator[Authority]:
    made = Authority(SQLiteStore(tmp_path / "hq.db", clock=clock), SCHEMA, offer=OFFER,
                     scopes={Shop: everything, Visit: everything}, files=str(tmp_path / "files"))  # fmt: skip
    made.allow("note", writes={Shop: ["insert", "update"], Visit: ["insert"]})
    made.load(Shop(code=f"{n:03}", name="Padaria") for n in range(30))
    yield made
    made.close()


@pytest.mark.invariant("I12")
def test_fields_of_later_versions_are_ignored_wherever_they_stand(authority: Authority, tmp_path: Path) -> None:
    replica = Replica.open(tmp_path / "device.db", SCHEMA, offer=OFFER, identity="ana", zone="UTC")
    pair = LaterLine(authority, replica, MovableClock(), "ana", {})
    pair.kinds = set()
    authority.puller.inline_rows = 20  # so that the first answer comes with a file
    take = replica.configure().quick("shops").quick("visits").until(None)
    assert take.preview().rows == 30
    take.save()
    pair.sync()
    assert replica.select(Shop).count() == 30
    with replica.transaction("note") as tx:
        tx.update(Shop(code="000"), name="Quitanda")
        tx.insert(Visit(id="v", shop="000"))
    authority.puller.forget()
    assert pair.sync().outcomes == {"accepted": 1}
    assert authority.get(Visit, "v") is not None
    assert pair.sync().answers[-1] == "same"
    assert replica.remote.select(Shop).where(Shop.name == "Quitanda").all()[0].code == "000"
    assert pair.kinds >= {"Pull", "Push", "Query", "Preview", "Previewed", "NeedSchema", "NeedState", "Delta", "Pushed", "Same",
                          "Records"}  # fmt: skip
    replica.close()


def first_request(replica: Replica) -> m.Pull:
    steps = Exchanger(replica.store).pull()
    effect = next(steps)
    steps.close()
    assert isinstance(effect, Send)
    request = decode_request(effect.body)
    assert isinstance(request, m.Pull)
    return request


@pytest.mark.invariant("I12")
def test_versions_from_the_floor_on_are_served_and_others_refused(authority: Authority, tmp_path: Path) -> None:
    with Replica.open(tmp_path / "device.db", SCHEMA, offer=OFFER, identity="ana", zone="UTC") as replica:
        request = first_request(replica)
    for version in range(FLOOR_VERSION - 1, PROTOCOL_VERSION + 2):
        body = encode(msgspec.structs.replace(request, version=version))
        answer = decode_answer(authority.handle(body, "ana", {}))
        if FLOOR_VERSION <= version <= PROTOCOL_VERSION:
            assert isinstance(answer, m.NeedSchema)
        else:
            assert isinstance(answer, m.Refused)
            assert answer.code == RefusalCode.VERSION
            assert f"version {version} is not served" in answer.message


@pytest.mark.invariant("I12")
@pytest.mark.parametrize("change", [{"kind": "push_more"}, {"kind": None}, {"kind": 1}, {"version": "1"}, {"device": "text"}])
def test_what_is_no_request_of_ours_is_refused_and_nothing_more(authority: Authority, tmp_path: Path, change: Any) -> None:
    with Replica.open(tmp_path / "device.db", SCHEMA, offer=OFFER, identity="ana", zone="UTC") as replica:
        plain = msgspec.msgpack.decode(msgspec.msgpack.encode(first_request(replica)))
    answer = decode_answer(authority.handle(b"OK1\0" + msgspec.msgpack.encode(plain | change), "ana", {}))
    assert isinstance(answer, m.Refused)
    assert answer.code == RefusalCode.INVALID


@pytest.mark.invariant("I12")
def test_a_device_with_an_older_schema_is_served_and_writes(authority: Authority, tmp_path: Path) -> None:
    replica = Replica.open(tmp_path / "device.db", OLD, offer=OLD_OFFER, identity="ana", zone="UTC")
    pair = Pair(authority, replica, MovableClock(), "ana", {})
    with authority.transaction() as head:
        head.update(Shop(code="000"), floor=3)
    replica.configure().quick("shops").until(None).save()
    pair.sync()
    with replica.transaction("note") as tx:
        tx.insert(OldShop(code="new", name="Nova"))
        tx.update(OldShop(code="000"), name="Antiga")
    assert pair.sync().outcomes == {"accepted": 1}
    new, old = authority.get(Shop, "new"), authority.get(Shop, "000")
    assert new is not None
    assert old is not None
    assert (new.name, new.open, new.floor) == ("Nova", True, None), "what it does not know gets its default"
    assert (old.name, old.floor) == ("Antiga", 3), "what it does not know stays"
    with authority.transaction() as head:
        head.update(new, floor=7)
    assert pair.sync().answers[-1] in ("same", "delta")
    assert {s.code: s.name for s in replica.select(OldShop).search("antiga")} == {"000": "Antiga"}
    replica.close()


@pytest.mark.invariant("I9")
def test_a_change_after_an_upgrade_is_not_stale_by_ones_own_of_a_week_before(
    authority: Authority, tmp_path: Path, clock: MovableClock
) -> None:
    """The newer program shows a default where the authority's record has a value; its digest was never the device's."""
    path = tmp_path / "device.db"
    with authority.transaction() as tx:
        tx.connection.execute("UPDATE shop SET floor=3 WHERE code='000'")
    with Replica.open(path, OLD, offer=OLD_OFFER, identity="ana", zone="UTC", clock=clock) as old:
        old.configure().quick("shops").until(None).save()
        pair = Pair(authority, old, clock, "ana", {})
        pair.sync()
        with old.transaction("note") as change:
            change.update(OldShop(code="000"), name="Quitanda")
        steps = Exchanger(old.store).push()
        effect = next(steps)
        assert isinstance(effect, Send)
        authority.handle(effect.body, "ana", {})  # and the answer is lost
        steps.close()
    with Replica.open(path, SCHEMA, offer=OFFER, identity="ana", zone="UTC", clock=clock) as new:
        with new.transaction("note") as change:
            change.update(Shop(code="000"), name="Padaria")
        clock.move(days=8)
        with Replica.open(tmp_path / "other.db", SCHEMA, identity="ana", zone="UTC", clock=clock) as other:
            with other.transaction("note") as change:
                change.insert(Visit(id="v", shop="001"))
            pair = Pair(authority, other, clock, "ana", {})
            assert pair.drive(Exchanger(other.store).push()).outcomes == {"accepted": 1}
        pair = Pair(authority, new, clock, "ana", {})
        outcomes = [pair.drive(Exchanger(new.store).push()).outcomes for _ in range(2)]
        assert outcomes == [{"accepted": 1}, {"accepted": 1}]
