"""What the file system and SQLite allow on this machine: the same records brought into place without a network or a protocol.

    python -m benchmarks.limits hq.db FOLDER          prints the seconds of each as JSON

`rows`: one INSERT … SELECT between two files of one layout, then the index of the key. `built`: then two indexes and the
full-text index. `copy`: the finished file copied. `change`: 1 % of the records updated in one transaction. Each is on the disk
at its end.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path

import apsw

from benchmarks.data import PRODUCT

LAYOUT = f"(_ordinal INTEGER PRIMARY KEY,{','.join(f'{chr(34)}{name}{chr(34)}' for name in PRODUCT)})"
FINISH = (
    'CREATE INDEX i1 ON product("group")',
    "CREATE INDEX i2 ON product(brand)",
    "CREATE VIRTUAL TABLE search USING fts5(description, content='product', content_rowid='_ordinal', prefix='2 3',"
    " tokenize='unicode61 remove_diacritics 2')",
    "INSERT INTO search(search) VALUES('rebuild')",
)
CHANGE = "UPDATE product SET stock=stock+1, price=price+7, updated_at='2027-01-01' WHERE _ordinal%100=50"


def synced(path: Path) -> None:
    """Brings a file to the disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def measure(hq: str, folder: Path) -> dict[str, float]:
    """Seconds of each."""
    source, target, copy = folder / "source.db", folder / "target.db", folder / "copy.db"
    with apsw.Connection(str(source)) as db:
        db.execute(f"CREATE TABLE product{LAYOUT}")
    columns = ",".join(f'"{name}"' for name in PRODUCT)
    db = apsw.Connection(str(source))
    db.execute("ATTACH ? AS hq", (hq,))
    db.execute(f"INSERT INTO main.product SELECT row_number() OVER (ORDER BY code),{columns} FROM hq.product")
    db.close()
    db = apsw.Connection(str(target))
    db.execute("PRAGMA journal_mode=off; PRAGMA synchronous=off")
    db.execute(f"ATTACH ? AS source; CREATE TABLE main.product{LAYOUT}", (str(source),))
    started = time.perf_counter()
    db.execute("INSERT INTO main.product SELECT * FROM source.product")
    db.execute("CREATE UNIQUE INDEX ikey ON product(code)")
    synced(target)
    rows = time.perf_counter()
    for statement in FINISH:
        db.execute(statement)
    synced(target)
    built = time.perf_counter()
    db.close()
    shutil.copyfile(target, copy)
    synced(copy)
    copied = time.perf_counter()
    db = apsw.Connection(str(target))
    db.execute("PRAGMA journal_mode=wal; PRAGMA synchronous=full")
    began = time.perf_counter()
    db.execute(CHANGE)
    changed = time.perf_counter()
    db.close()
    return {"rows": rows - started, "built": built - started, "copy": copied - built, "change": changed - began}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]))))
