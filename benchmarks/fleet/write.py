"""A program that knows nothing of offlinekit and changes records: `python -m benchmarks.fleet.write hq.db CHANGES_A_SECOND`.

By turns a product's stock, or that it is active, and a customer's phone, or whose it is. It stops when its input ends, and
prints how many it changed.
"""

from __future__ import annotations

import random
import select
import sqlite3
import sys
import time

from benchmarks.data import SEED


def main() -> None:
    """Changes at the rate until it is told to stop."""
    db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
    db.execute("PRAGMA temp_store=MEMORY")
    rate, chance = float(sys.argv[2]), random.Random(SEED)
    products = [code for (code,) in db.execute("SELECT code FROM product")]
    customers = [code for (code,) in db.execute("SELECT code FROM customer")]
    (reps,) = db.execute("SELECT max(rep)+1 FROM customer").fetchone()
    count, started = 0, time.perf_counter()
    while not select.select([sys.stdin], [], [], max(0.0, started + count / rate - time.perf_counter()))[0]:
        if count % 2:
            moved = chance.random() < 0.05
            what, value = ("rep", chance.randrange(reps)) if moved else ("phone", f"19{chance.randrange(10**8):08}")
            db.execute(f"UPDATE customer SET {what}=? WHERE code=?", (value, chance.choice(customers)))
        else:
            what = "active=1-active" if chance.random() < 0.05 else "stock=stock+1"
            db.execute(f"UPDATE product SET {what} WHERE code=?", (chance.choice(products),))
        count += 1
    print(count)


if __name__ == "__main__":
    main()
