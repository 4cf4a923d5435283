"""Programs change what devices never hold, and nothing else: no record that a device holds may travel because of it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tests.pull.pulling import Pulling
from tests.pull.world import Dev, Head

if TYPE_CHECKING:
    from tests.pull.walk import Walk


def hush_write(head: Head, r: random.Random) -> None:
    """A plain write of fields that do not replicate; scopes look at one of them."""
    code, sku = f"k{r.randrange(12)}", f"p{r.randrange(12)}"
    sql, values = r.choice([
        ("UPDATE customer SET memo=? WHERE code=?", (f"HUSH{r.random()}", code)),
        ("UPDATE customer SET memo=?, blocked=0 WHERE code>=?", (f"HUSH{r.random()}", code)),
        ("UPDATE customer SET blocked=1-blocked WHERE code=?", (code,)),
        ("INSERT INTO customer SELECT * FROM customer WHERE code=? ON CONFLICT DO UPDATE SET memo='HUSH'||random()", (code,)),
        ("UPDATE product SET cost=cost+1, name=name||'' WHERE sku<>?", (sku,)),
        ("UPDATE OR REPLACE product SET cost=random() WHERE sku=?", (sku,)),
    ])  # fmt: skip
    head.sql(sql, *values)


def hush(walk: Walk, dev: Dev) -> None:
    """Everything has settled, then only hidden fields change: what enters or leaves the scope moves, what stays is silent."""
    walk.settle(dev)
    r = walk.rng
    for _ in range(r.randrange(1, 6)):
        hush_write(walk.head, r)
    r.choice([walk.head.restart, walk.head.puller.forget, dev.reopen, lambda: None])()
    pull = Pulling(walk, dev, silent=True)
    kind = pull.finish()
    assert kind in ("same", "delta", "bulk", "held_back"), f"{walk}: after hidden changes a pull ended as {kind}"
    walk.counts["hushed"] += kind == "delta" and any(pull.before.views.values())
