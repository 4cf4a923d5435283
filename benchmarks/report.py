"""What benchmarks found: flat keys in `build/bench.json`, and for each command where its keys come from."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import apsw

from tests.evidence import ROOT, stamp

__all__ = ["BENCH", "COMMANDS", "machine", "merge", "versions"]

BENCH = ROOT / "build" / "bench.json"
COMMANDS = "commands"
PACKAGES = ("offlinekit", "apsw", "msgspec", "pyroaring", "aiohttp")


def machine() -> str:
    """What this runs on, in a few words."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next(
            (line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")), cpu
        )
    memory = f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB" if hasattr(os, "sysconf") else ""
    return f"{os.cpu_count()} cores of {cpu}{memory}, {platform.system()}"


def versions() -> dict[str, str]:
    """What the figures depend on."""
    return {"python": platform.python_version(), "sqlite": apsw.sqlite_lib_version()} | {name: version(name) for name in PACKAGES}


def merge(
    keys: Mapping[str, Any],
    *,
    command: str,
    rows: int,
    seed: int,
    versions_more: Mapping[str, str] | None = None,
    details: Any = None,
    path: Path = BENCH,
) -> dict[str, Any]:
    """Puts the keys ("scenario.figure": value) of one run into the file, in place of all that `command` put there before.

    What other commands put there stays. Under "commands" stands where each one's keys come from: commit, date, seed, rows,
    machine, versions (and `versions_more`, of peers), and `details`, whatever the run wants to keep beside its keys.
    Returns the whole file.
    """
    assert COMMANDS not in keys
    whole: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    commands: dict[str, Any] = whole.pop(COMMANDS, {})
    gone = set(commands.pop(command, {}).get("keys", []))
    taken = {name for by in commands.values() for name in by["keys"]} & set(keys)
    if taken:
        raise ValueError(f"{command} would overwrite keys of another command: {sorted(taken)}")
    commands[command] = {
        **stamp(seed),
        "rows": rows,
        "machine": machine(),
        "versions": versions() | dict(versions_more or {}),
        "keys": sorted(keys),
    } | ({} if details is None else {"details": details})
    kept = {name: value for name, value in whole.items() if name not in gone}
    found = {**dict(sorted({**kept, **keys}.items())), COMMANDS: commands}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return found
