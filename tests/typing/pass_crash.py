"""Disks that fail, as tests of one's own program use them."""

from __future__ import annotations

import random
from pathlib import Path

from offlinekit.testing.crash import MODES, Disk, Mode, write_files


def cut(folder: Path, elsewhere: Path) -> int:
    disk = Disk(folder)
    with disk.recording(fails_to_sync=lambda path: path.endswith("-wal")) as same:
        same.note("saved")
    with disk.failing(lambda path: path == "notes.db", "io"):
        pass
    mode: Mode = "torn"
    files: dict[str, bytes] = disk.after(disk.operations, mode, random.Random(1))
    write_files(files, elsewhere)
    return len(MODES) + len(disk.told(0))
