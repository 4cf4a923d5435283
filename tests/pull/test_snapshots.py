"""Pulls share a snapshot for a quarter of a second, and none of them is answered from one that its device has outrun."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from offlinekit.authority.cache import Cache
from offlinekit.protocol import messages as m
from tests.pull.pair import ALL_MINE, Pair, sell, shown
from tests.pull.world import day_of


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """Both sides, with a snapshot that is shared until the clock has moved by 0.25 s; Ana has pulled her customers."""
    made = Pair(tmp_path)
    made.head.snapshot_age_s = 0.25
    made.head.restart()
    made.ana.select(ALL_MINE)
    made.bob.select(ALL_MINE)
    made.sync(made.ana)
    yield made
    made.close()


def epochs(pair: Pair) -> int:
    """How many points of its history the authority has published."""
    return int(pair.head.db.execute("SELECT count(*) FROM ok_mark").get)


def test_pulls_within_the_window_share_an_epoch_and_what_was_evaluated(pair):
    ana = pair.device("ana")
    ana.select(ALL_MINE)
    before, counts = epochs(pair), pair.head.puller.counts
    evaluated, moved = counts["evaluated"], counts.get("moved on", 0)
    pair.customer(20, "r0")
    pair.sync(ana)
    assert shown(ana, "customer") == {"k0", "k2", "k4", "k6", "k8"}, "what the snapshot holds"
    assert (epochs(pair), counts["evaluated"], counts.get("moved on", 0)) == (before, evaluated, moved)
    pair.clock.seconds += 0.25
    for dev in (ana, pair.ana):
        assert dev.pull().put["customer"] == 1
    assert epochs(pair) == before + 1
    assert counts["evaluated"] == evaluated
    assert counts["moved on"] == moved + 1, "customers, once for both devices"


class _Key:
    """Tells when a second thread has looked for it."""

    def __init__(self) -> None:
        self.threads: set[int] = set()
        self.wanted = threading.Event()

    def __hash__(self) -> int:
        self.threads.add(threading.get_ident())
        if len(self.threads) == 2:
            self.wanted.set()
        return 1


@pytest.mark.parametrize("fails", [False, True])
def test_what_two_want_at_the_same_time_is_made_once(fails):
    cache, key, made = Cache[_Key, int](2), _Key(), list[int]()

    def make() -> int:
        made.append(len(made))
        assert key.wanted.wait(20)
        if fails:
            raise ValueError("for both")
        return made[-1]

    with ThreadPoolExecutor(2) as pool:
        for one in [pool.submit(cache.made, key, make) for _ in range(2)]:
            if fails:
                with pytest.raises(ValueError, match="for both"):
                    one.result(20)
            else:
                assert one.result(20) == 0
    assert made == [0]
    assert cache.made(key, lambda: 7) == (7 if fails else 0), "an error is not kept"


def test_picks_and_unpicks_of_one_device_are_nothing_to_another(pair):
    """What the two share is left as it is."""
    other = pair.device("ana")
    other.select({"customer": {"quick": {"mine": {}}, "unpicks": [("k0",)]}})
    pair.sync(other)
    assert shown(other, "customer") == {"k2", "k4", "k6", "k8"}
    other.select({"customer": {"quick": {"in_city": {"city": "nowhere"}}, "picks": [("k0",)]}})
    pair.sync(other)
    assert shown(other, "customer") == {"k0"}
    third = pair.device("ana")
    third.select(ALL_MINE)
    pair.sync(third)
    assert shown(third, "customer") == {"k0", "k2", "k4", "k6", "k8"}
    third.select({"customer": {"quick": {"in_city": {"city": "nowhere"}}}})
    pair.sync(third)
    assert shown(third, "customer") == set()


def test_a_device_is_never_answered_without_what_it_has_sent(pair):
    sell(pair.ana, "d1")
    assert pair.ana.push().outcomes == {"accepted": 1}
    assert pair.ana.pull().put["order"] == 1
    delta = pair.ana.answers[-1]
    assert isinstance(delta, m.Delta)
    assert len(delta.receipts) == 1
    assert pair.ana.pull().kind == "same"


def test_an_awaited_receipt_alone_takes_a_new_snapshot(pair):
    """Another process has answered the push, and the device does not name the push's cursor as its witness."""
    sell(pair.ana, "d1")
    assert pair.ana.push().outcomes == {"accepted": 1}
    with pair.ana.store.write():
        pair.ana.store.set_meta("witness", b"")
    assert pair.ana.pull().put["order"] == 1


def test_a_cursor_of_another_process_is_never_taken_for_another_history(pair):
    other = pair.head.twin()
    pair.customer(20, "r0")
    assert pair.ana.run(pair.ana.exchanger.pull()).kind == "same", "this process has not looked yet"
    pair.ana.head = other
    assert pair.ana.pull().put["customer"] == 1
    pair.ana.head = pair.head
    pair.customer(22, "r0")
    assert pair.ana.pull().put["customer"] == 1, "its snapshot is older than the device's cursor"
    other.stop()


def test_a_restored_authority_is_noticed_all_the_same(pair):
    pair.head.copy()
    pair.customer(20, "r0")
    pair.clock.seconds += 0.25
    pair.sync(pair.ana)
    pair.head.restore(0)
    assert pair.bob.pull().kind == "delta"
    assert pair.ana.pull().kind == "new_history"


def test_a_preview_and_the_pull_after_it_agree_within_the_window(pair):
    pair.customer(21, "r1")
    said = pair.bob.run(pair.bob.exchanger.preview(pair.bob.selection()))
    pair.customer(23, "r1")
    assert pair.bob.pull().put["customer"] == said.parts["customer"].fetch


def test_the_window_can_be_closed(pair):
    pair.head.snapshot_age_s = 0.0
    pair.head.restart()
    for n in (20, 22):
        pair.customer(n, "r0")
        assert pair.ana.pull().put["customer"] == 1


def test_a_view_that_one_device_has_sent_is_known_of_all_with_its_scopes_and_of_no_others(pair):
    pair.head.claims["cyd"] = dict(pair.head.claims["ana"])
    other = pair.device("cyd")
    for dev in (other, pair.bob):
        dev.select(ALL_MINE)
        pair.sync(dev)
    pair.head.puller.forget()
    pair.customer(20, "r0")
    pair.customer(21, "r1")
    pair.clock.seconds += 0.25
    kinds = []
    for dev in (pair.ana, other, pair.bob):
        dev.kinds()
        assert dev.pull().put["customer"] == 1
        kinds.append("NeedView" in dev.kinds())
    assert kinds == [True, False, True]


def test_what_a_selection_means_is_found_out_anew_when_its_day_ends(pair):
    """It is kept for an hour at most; where the user is, days do not begin with an hour of UTC."""
    pair.clock.seconds += 0.25
    pair.order("o1", "k0", 0)
    day = date.fromisoformat(day_of(pair.head))
    pair.ana.select({"order": {"quick": {"recent": {}}}}, "Asia/Kolkata")
    found = Counter[bool]()
    for _ in range(4 * 48):
        pair.ana.pull()
        today = datetime.fromtimestamp(pair.clock.now(), ZoneInfo("Asia/Kolkata")).date()
        recent = today - timedelta(3) <= day <= today
        assert shown(pair.ana, "order") == ({"o1"} if recent else set()), today
        found[recent] += 1
        pair.clock.seconds += 1800.0
    assert found[True]
    assert found[False]
