"""Keys of several benchmark commands live in one file, each with where it comes from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.report import merge


def test_a_command_replaces_its_own_keys_and_leaves_those_of_others(tmp_path: Path) -> None:
    path = tmp_path / "build" / "bench.json"
    merge({"delta.ratio_naive": 3.0, "idle.bytes": 200}, command="bench", rows=1000, seed=1, path=path)
    merge({"peers.initial_ratio": 9.5}, command="peers", rows=50, seed=2, versions_more={"pouchdb": "9"}, path=path)
    merge({"delta.ratio_naive": 4.0}, command="bench", rows=2000, seed=1, details={"spread": [1, 2]}, path=path)
    found = json.loads(path.read_text("utf-8"))
    commands = found.pop("commands")
    assert found == {"delta.ratio_naive": 4.0, "peers.initial_ratio": 9.5}
    assert commands["bench"]["rows"] == 2000
    assert commands["bench"]["details"] == {"spread": [1, 2]}
    assert commands["peers"]["versions"]["pouchdb"] == "9"
    for by in commands.values():
        assert {"commit", "date", "seed", "machine", "keys"} <= set(by)
        assert {"python", "sqlite", "offlinekit", "aiohttp"} <= set(by["versions"])


def test_no_command_overwrites_a_key_of_another(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    merge({"peers.initial_ratio": 9.5}, command="peers", rows=50, seed=2, path=path)
    with pytest.raises(ValueError, match=r"peers\.initial_ratio"):
        merge({"peers.initial_ratio": 1.0}, command="bench", rows=50, seed=2, path=path)
    assert json.loads(path.read_text("utf-8"))["peers.initial_ratio"] == 9.5
