"""The comparison with peers is fair and honest: who counts as one, what is pinned, and what is said of those who fail."""

from __future__ import annotations

import json
import sys

import pytest
from attrs import evolve

from benchmarks.peers.__main__ import ratios_of, rounds_of, summary
from benchmarks.peers.contestants import CONTESTANTS
from benchmarks.peers.install import HERE
from benchmarks.peers.running import Broken, Work, make_work, measure
from benchmarks.peers.table import lines

BY_KEY = {one.key: one for one in CONTESTANTS}


@pytest.fixture
def work(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Work:
    monkeypatch.setattr("benchmarks.peers.running.BUILD", tmp_path_factory.mktemp("peers"))
    return make_work(250, limit_s=60)


def test_ours_is_compared_with_the_best_durable_peer_over_http() -> None:
    rates = {"naive": 50, "offlinekit_cold": 100, "offlinekit": 300, "kinto": 20, "pouchdb": 5, "rxdb": 60, "rsync": 900}
    found = ratios_of(CONTESTANTS, {key: {"rows_s": rate} for key, rate in rates.items()})
    assert found == {
        "initial_cold_ratio": ("offlinekit, first request ÷ Kinto, initial", 5),
        "initial_ratio": ("offlinekit, prepared ÷ Kinto, initial", 15),
    }


def test_without_a_peer_there_is_no_ratio() -> None:
    assert ratios_of(CONTESTANTS, {one.key: {"rows_s": 1} if one.ours else {} for one in CONTESTANTS}) == {}


def test_versions_of_peers_are_exact_and_locked_without_a_host() -> None:
    wanted = json.loads((HERE / "package.json").read_text("utf-8"))["dependencies"]
    locked = json.loads((HERE / "package-lock.json").read_text("utf-8"))["packages"]
    assert {name: locked[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    assert not [name for name, package in locked.items() if "resolved" in package]
    pinned = [line for line in (HERE / "requirements.txt").read_text("utf-8").splitlines() if not line.startswith("#")]
    assert all(line.count("==") == 1 for line in pinned)


def test_a_run_ends_with_figures_when_the_data_are_right(work: Work) -> None:
    found = measure(BY_KEY["naive"], work)
    assert min(found[name] or 0 for name in ("initial_s", "delta_s", "push_s", "device_mb", "server_mb")) > 0


def test_wrong_data_have_no_figures(work: Work) -> None:
    with pytest.raises(Broken, match="wrong data"):
        measure(BY_KEY["naive"], evolve(work, stock=work.stock + 1))


def test_what_takes_too_long_is_broken_off(work: Work) -> None:
    stuck = evolve(BY_KEY["naive"], server=lambda: ([sys.executable, "-c", "input()"], {}))
    with pytest.raises(Broken, match="over 0 s"):
        measure(stuck, evolve(work, limit_s=0.2))


def test_who_fails_is_named_with_the_reason_and_asked_no_more(work: Work) -> None:
    gone = evolve(BY_KEY["kinto"], server=lambda: ([sys.executable, "-c", "pass"], {}))
    runs, failed = rounds_of([gone], work, rounds=2)
    assert runs == {"kinto": []}
    text = "\n".join(lines([summary(gone, runs["kinto"], failed["kinto"], work.rows)]))
    assert "Kinto" in text
    assert "not measured: to start: ended" in text
