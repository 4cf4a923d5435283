"""What was written without a path is sent when there is one, whatever becomes of the pulls; and no push is sent to find it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from offlinekit.exceptions import Offline
from offlinekit.protocol import messages as m
from offlinekit.protocol.codec import decode_answer, decode_request, encode
from offlinekit.testing.pair import Pair
from offlinekit.transport import Arrived, Memory
from tests.replica.world import Order, opened

WAIT = 20.0
Script = Callable[[m.Pull], m.Answer]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with opened() as pair:
        pair.replica._link = None
        yield pair


class Line(Memory):
    """First without a path; then pulls are answered by the script, and files do not come if `files` says so."""

    def __init__(self, pair: Pair, script: Script | None = None, *, files: bool = True) -> None:
        super().__init__(pair.authority, lambda: (pair.identity, {"rep": "r"}))
        self.script, self.files, self.plugged = script, files, False
        self.tried: list[type[m.Request]] = []

    async def exchange(self, request: bytes, arrived: Arrived | None = None) -> bytes:
        """Answers."""
        asked = decode_request(request)
        self.tried.append(type(asked))
        if self.plugged and self.script is not None and isinstance(asked, m.Pull):
            return encode(self.script(asked))
        return await super().exchange(request, arrived)

    async def fetch(self, name: str, offset: int, arrived: Arrived | None = None) -> bytes:
        """A part of a file, or a broken line."""
        if not self.files:
            raise Offline("nothing of this size comes through")
        return await super().fetch(name, offset, arrived)


def sent(pair: Pair, line: Line) -> None:
    """A sync begins without a path, something is written, the path comes back, and the mutation must be answered."""
    link = pair.replica.start_sync(line, every=0.01)
    try:
        while link.status.state != "offline":
            pair.replica.wait_until(lambda: link.status.state == "offline", 0.05)
        with pair.replica.transaction("sell") as tx:
            tx.insert(Order(id="x"))
        line.plugged = True
        assert tx.mutation.settled(WAIT).state == "accepted", link.status
    finally:
        link.stop()


def refused(code: str, after: float | None = None) -> Script:
    """A refusal, also one that is to be tried again."""
    return lambda asked: m.Refused(code=code, message="for some reason", retry_after_s=after)


PULLS: dict[str, Script] = {
    "fails": refused("internal", 0.0),
    "not_tracked": refused("not_tracked", 0.0),
    "invalid": refused("invalid"),
    "not_allowed": refused("not_allowed"),
    "not_offered": refused("not_offered"),
    "need_schema": lambda asked: m.NeedSchema(projections=[asked.projection]),
    "need_view": lambda asked: m.NeedView(collections=["order"]),
    "expired": lambda asked: m.Expired(until=1.0, now=2.0),
    "held_back": lambda asked: m.HeldBack(collection="order", held=1000, drop=1000),
    "garbled": lambda asked: m.Delta(state=asked.state, groups=[], now=0.0, file=m.Manifest(
        name="a" * 64, size=1 << 60)),
}  # fmt: skip


@pytest.mark.parametrize("name", PULLS)
def test_what_waits_is_sent_although_no_pull_goes_through(pair: Pair, name: str) -> None:
    sent(pair, Line(pair, PULLS[name]))


def test_what_waits_is_sent_although_no_file_comes_through(pair: Pair) -> None:
    pair.authority.puller.inline_rows = 3
    pair.authority.load(Order(id=f"{n}", note="new") for n in range(100))
    sent(pair, Line(pair, files=False))
    assert pair.replica.get(Order, "1") is None


def test_what_waits_is_sent_although_there_is_no_room_for_what_is_new(pair: Pair) -> None:
    pair.authority.load(Order(id=f"{n}", note="new" * 500) for n in range(2000))
    db = pair.replica.store.db
    db.pragma("max_page_count", db.pragma("page_count") + 100)
    sent(pair, Line(pair))
    assert pair.replica.get(Order, "1") is None
    db.pragma("max_page_count", 1 << 30)
    pair.sync()
    assert pair.replica.get(Order, "1") is not None


def test_nothing_is_sent_to_find_out_whether_there_is_a_path(pair: Pair) -> None:
    line = Line(pair)
    link = pair.replica.start_sync(line, every=0.01)
    try:
        with pair.replica.transaction("sell") as tx:
            tx.insert(Order(id="x"))
        seen = len(line.tried)
        while len(line.tried) < seen + 3:
            pair.replica.wait_until(lambda: len(line.tried) >= seen + 3, 0.05)
    finally:
        link.stop()
    assert set(line.tried[2:]) == {m.Pull}, "a push that fails binds what it sent"


def test_what_waits_is_sent_although_a_download_that_goes_on_breaks_again_and_again(pair: Pair) -> None:
    pair.authority.puller.inline_rows = 3
    pair.authority.load(Order(id=f"{n}", note="new") for n in range(100))
    line = Line(pair, files=False)
    line.plugged = True
    link = pair.replica.start_sync(line, every=0.01)
    try:
        for n in range(3):
            seen = link.report
            while link.report is seen:
                pair.replica.wait_until(lambda: link.report is not seen, 0.05)  # noqa: B023
            with pair.replica.transaction("sell") as tx:
                tx.insert(Order(id=f"x{n}"))
            assert tx.mutation.settled(WAIT).state == "accepted", link.status
    finally:
        link.stop()


def test_what_the_authority_could_not_answer_is_sent_again_soon_and_not_at_the_next_round() -> None:
    tries = []

    def stumbles(changes: object, ctx: object) -> None:
        tries.append(changes)
        if len(tries) < 3:
            raise RuntimeError("a hiccup of the head office's program")

    with opened(hook=stumbles) as pair:
        pair.replica._link = None
        link = pair.replica.start_sync(Memory(pair.authority, lambda: (pair.identity, {"rep": "r"})), every=3600)
        try:
            with pair.replica.transaction("sell") as tx:
                tx.insert(Order(id="x"))
            assert tx.mutation.settled(WAIT).state == "accepted", link.status
        finally:
            link.stop()


@pytest.mark.parametrize("code", ["invalid", "not_allowed"])
def test_what_can_not_be_sent_does_not_keep_back_what_is_pulled(code: str) -> None:
    class Refusing(Memory):
        async def exchange(self, request: bytes, arrived: Arrived | None = None) -> bytes:
            if isinstance(decode_request(request), m.Push):
                return encode(m.Refused(code=code, message="for some reason"))
            return await super().exchange(request, arrived)

    with opened() as pair:
        pair.replica._link = None
        with pair.replica.transaction("sell") as tx:
            tx.insert(Order(id="x"))
        pair.authority.load([Order(id="new", rep="r")])
        link = pair.replica.start_sync(Refusing(pair.authority, lambda: (pair.identity, {"rep": "r"})), every=3600)
        try:
            assert pair.replica.wait_until(lambda: pair.replica.get(Order, "new") is not None, WAIT)
            while link.status.state != "error":
                pair.replica.wait_until(lambda: link.status.state == "error", 0.05)
            assert "for some reason" in link.status.detail
        finally:
            link.stop()
        assert len(pair.replica.pending()) == 1


def test_what_is_wrong_is_shown_while_it_is_tried_again(pair: Pair) -> None:
    line, seen = Line(pair), list[tuple[str, str]]()
    link = pair.replica.start_sync(line, every=0.01)
    try:
        link.on_status(lambda status: seen.append((status.state, status.detail)))
        while len(line.tried) < 3 or link.status.state != "offline":
            pair.replica.wait_until(lambda: len(line.tried) >= 3, 0.05)
        first = next(n for n, (state, _) in enumerate(seen) if state == "offline")
        assert {state for state, _ in seen[first:]} == {"offline"}
        assert all(detail for _, detail in seen[first:])
        line.plugged = True
        while link.status.state != "online":
            pair.replica.wait_until(lambda: link.status.state == "online", 0.05)
        assert link.status.detail == ""
    finally:
        link.stop()


def test_what_can_not_be_sent_does_not_break_off_a_download() -> None:
    class Refusing(Memory):
        asked = 0

        async def exchange(self, request: bytes, arrived: Arrived | None = None) -> bytes:
            message = decode_request(request)
            if isinstance(message, m.Push):
                return encode(m.Refused(code="invalid", message="for some reason"))
            answer = await super().exchange(request, arrived)
            if isinstance(decode_answer(answer), m.Delta):
                self.asked += 1
                with pair.replica.transaction("sell") as tx:  # wakes the sync before it fetches the file
                    tx.insert(Order(id=f"x{self.asked}"))
            return answer

    with opened() as pair:
        pair.replica._link = None
        pair.authority.puller.inline_rows = 0
        pair.authority.load([Order(id="new", rep="r")])
        line = Refusing(pair.authority, lambda: (pair.identity, {"rep": "r"}))
        link = pair.replica.start_sync(line, every=3600)
        try:
            assert pair.replica.wait_until(lambda: pair.replica.get(Order, "new") is not None, WAIT)
            assert line.asked == 1
        finally:
            link.stop()
