"""Mistakes with disks that fail; each line with `# error` must be reported."""

from __future__ import annotations

from offlinekit.testing.crash import Disk


def cut(disk: Disk) -> None:
    disk.after(3, "burnt")  # error
    disk.failing("notes.db")  # error
    disk.failing(lambda path: True, "wet")  # error
