"""The original of a copy by sqlite3_rsync, in a process that talks: a database of the baseline with everything in it."""

from __future__ import annotations

import sys
from typing import Any

from benchmarks import naive
from benchmarks.peers.talk import records, talk


def main(folder: str, data: str) -> None:
    """Changes the original when told to."""
    path = f"{folder}/original.db"
    db = naive.connect(path)
    with db:
        db.executemany(naive.INSERT["product"], records(f"{data}/products.jsonl"))
    db.executescript(naive.CLIENT_INDEXES)
    db.execute("PRAGMA wal_checkpoint(truncate)").fetchall()

    def change() -> dict[str, Any]:
        with db:
            db.execute("UPDATE product SET stock=stock+1 WHERE CAST(substr(code, 2) AS INT)%100=0")
        return {}

    talk({"at": path}, {"change": change})


if __name__ == "__main__":
    main(*sys.argv[1:])
