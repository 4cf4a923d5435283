"""Devices of the simulation record themselves, amid all its faults, and every recording replays to the same."""

from __future__ import annotations

import itertools
import logging
import os
import random
import sys
from collections import Counter
from pathlib import Path

import pytest

from offlinekit.recording.lines import read_lines
from offlinekit.schema import Schema
from offlinekit.testing.replay import replay
from offlinekit.testing.simulation import Settings, World
from offlinekit.testing.simulation.breaking import CrashError
from offlinekit.testing.simulation.contract import OLD, SCHEMA
from offlinekit.testing.simulation.device import Device

SEEDS = (0, 1, 15, 17, 20, 27)  # the last four found what a recording had left out


def test_simulated_devices_record_what_replays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made: list[tuple[Path, Schema]] = []
    numbers, opened, killed = itertools.count(), Device.open, Device.kill

    def open_(self: Device) -> None:
        opened(self)
        n = next(numbers)
        made.append((tmp_path / f"{n}.jsonl", OLD if self.model.old else SCHEMA))
        self.replica.record(made[-1][0], mask="text" if n % 2 else None)

    def kill(self: Device) -> None:
        recorder = self.replica.store.recorder
        if recorder is not None and isinstance(sys.exc_info()[1], CrashError):
            recorder.lines.close()  # type: ignore[attr-defined]  # a process that crashes writes no last line
            self.replica.store.recorder = None
        killed(self)

    keys = random.Random(int(os.environ.get("MASK_SEED", "16")))  # the same pseudonyms each time; these once made two texts one
    monkeypatch.setattr("offlinekit.recording.masks.secrets.token_bytes", keys.randbytes)
    monkeypatch.setattr(Device, "open", open_)
    monkeypatch.setattr(Device, "kill", kill)
    logging.disable(logging.CRITICAL)  # hooks fail and disks are full on purpose
    try:
        for seed in SEEDS:
            (tmp_path / f"world{seed}").mkdir()
            world = World(seed, tmp_path / f"world{seed}", Settings(steps=150))
            try:
                world.run()
            finally:
                world.close()
    finally:
        logging.disable(logging.NOTSET)
    events, ends = Counter[str](), Counter[str]()
    for path, schema in made:
        done = replay(path, schema)
        events.update(done.events)
        ends["complete" if done.complete else [e["event"] for _, e in read_lines(path)][-1]] += 1
    assert events["commit"] > 100, events
    assert events["answer"] > 300, events
    assert ends["complete"] > 30, ends
