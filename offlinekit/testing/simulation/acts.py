"""What users write in one transaction: dense in conflicts, references, and keys that others use too."""

from __future__ import annotations

import random
from collections.abc import Mapping

from offlinekit.testing.simulation.head import Head
from offlinekit.testing.simulation.oracle import Place, Row

__all__ = ["Act", "acts_of"]

Act = tuple[str, Place, Row]
NOTES = ["open", "open", "done", None, None, "number", "number", "refuse"]
FAILING = ["fail", "hiccup", "hiccup"]


def acts_of(r: random.Random, head: Head, new: str, shown: Mapping[Place, Row], *, hook_fails: bool) -> list[Act]:
    """The writes of one transaction; keys that begin with `new` are nobody else's."""
    places = sorted(shown, key=repr)
    customers, orders, lines = ([p for p in places if p[0] == c] for c in ("customer", "order", "line"))
    notes = FAILING if hook_fails else NOTES
    found: list[Act] = []
    for n in range(r.choice([1, 1, 1, 2, 3])):
        dice, tag = r.random(), head.tag()
        if dice < 0.35 or not (customers or orders):
            id_ = r.choice([f"o{r.randrange(14)}", f"{new}-{n}", f"{new}-{n}"])
            owner = r.choice(customers)[1][0] if customers and r.random() < 0.9 else f"k{r.randrange(8)}"
            row: Row = {"id": id_, "customer": owner, "day": head.day(r.randrange(-5, 2)), "note": r.choice(notes),
                        "qty": r.randrange(1, 70), "number": None, "tag": tag, "extra": "mine"}  # fmt: skip
            found.append((r.choice(["insert", "insert", "replace"]), ("order", (id_,)), row))
            if r.random() < 0.5:
                found.append(("insert", ("line", (id_, 1)), _line(r, id_, 1, head.tag())))
        elif dice < 0.6 and orders:
            values: Row = r.choice([{"qty": r.randrange(1, 70)}, {"note": r.choice(notes)}, {"note": None, "qty": 3}])
            if r.random() < 0.1 and customers:
                values = {"customer": r.choice(customers)[1][0]}
            found.append(("update", r.choice(orders), {**values, "tag": tag}))
        elif dice < 0.68 and orders:
            found.append(("delete", r.choice(orders), {}))
        elif dice < 0.8 and orders:
            order, number = r.choice(orders)[1][0], r.randrange(3)
            found.append((r.choice(["insert", "replace"]), ("line", (order, number)), _line(r, order, number, tag)))
        elif dice < 0.9 and lines:
            update: Act = ("update", r.choice(lines), {"qty": r.randrange(5), "tag": tag})
            found.append(r.choice([update, ("delete", r.choice(lines), {})]))
        elif customers:
            name, city, rep = r.choice(["Zé", "Ana"]), r.choice(["c1", None]), f"r{r.randrange(2)}"
            values = r.choice([{"name": name}, {"city": city}, {"rep": rep}])
            found.append(("update", r.choice(customers), {**values, "tag": tag}))
    return found


def _line(r: random.Random, order: str, number: int, tag: str) -> Row:
    return {"order": order, "line": number, "product": r.choice([None, "p1", "p2"]), "qty": r.randrange(5), "tag": tag}
