"""The copy by sqlite3_rsync, in a process that talks; both ends are processes of that program, joined by a pipe."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import Any

from apsw import sqlite_extra

from benchmarks.peers.talk import talk, timed


def main(at: str, folder: str, _data: str) -> None:
    """Copies whenever it is told to."""
    program, copy = str(sqlite_extra.path("sqlite3_rsync")), f"{folder}/copy.db"

    def pull() -> dict[str, Any]:
        return timed(lambda: subprocess.run([program, at, copy, "--exe", program], check=True, stdout=subprocess.DEVNULL))

    def check() -> dict[str, Any]:
        with closing(sqlite3.connect(copy)) as db:
            rows, stock = db.execute("SELECT count(*), sum(stock) FROM product").fetchone()
        return {"rows": rows, "stock": stock}

    talk({}, {"initial": pull, "delta": pull, "check": check})


if __name__ == "__main__":
    main(*sys.argv[1:])
