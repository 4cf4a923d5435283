"""What people choose: claims and selections, dense in includes, picks, nulls and negations."""

from __future__ import annotations

import random
from typing import Any

from offlinekit.testing.simulation.contract import Chosen

__all__ = ["CONDITIONS", "choose", "claims_of", "edited"]


CONDITIONS: dict[str, list[tuple[Any, ...]]] = {  # for remote reads, which may look at fields that do not replicate
    "customer": [("=", "blocked", 0), ("not", ("=", "city", "c1")), ("null", "since")],
    "order": [(">=", "qty", 10), ("not", ("=", "note", "open")), ("not", ("null", "note"))],
    "line": [("<", "qty", 3), ("not", ("null", "product"))],
    "product": [("not", ("=", "grp", "g1")), ("<", "cost", 5), ("null", "grp")],
}


def claims_of(rng: random.Random, rep: str) -> dict[str, Any]:
    """Claims as an identity provider might give them, with one that nothing names."""
    return {
        "rep": rep, "hide": rng.choice([[], ["g0"], ["g1"], ["g0", "g2"]]), "region": rng.choice(["north", "south"]),
        "big": rng.choice([20, 40]), "exp": rng.randrange(10**6),
    }  # fmt: skip


def key(rng: random.Random, name: str) -> tuple[Any, ...]:
    """A key, perhaps of nothing."""
    n = rng.randrange(14)
    return (f"o{n}", n % 3) if name == "line" else ({"customer": "k", "order": "o", "product": "p"}[name] + str(n),)


def choose(rng: random.Random, day: str) -> Chosen:
    """A random selection."""
    quick: dict[str, list[tuple[str, dict[str, Any]]]] = {
        "customer": [("mine", {}), ("mine", {}), ("in_city", {"city": f"c{rng.randrange(4)}"}),
                     ("in_region", {"region": "south"}), ("has_open", {})],
        "order": [("any", {}), ("recent", {}), ("recent", {}), ("big", {}), ("regional", {"region": "north"}), ("without", {})],
        "product": [("group", {"groups": rng.sample(["g0", "g1", "g2"], rng.randrange(4))}),
                    ("like", {"text": rng.choice("aáS")})],
        "line": [("lines", {})],
    }  # fmt: skip
    where: dict[str, list[Any]] = {
        "customer": [("=", "city", "c1"), ("null", "city"), ("starts", "name", "z"), ("in", "name", ["Ana", "Bo"])],
        "order": [("=", "note", "open"), ("null", "note"), (">=", "qty", 30), ("<", "day", day)],
        "line": [(">=", "qty", 2), ("<", "qty", 3)],
        "product": [("<", "price", 4), ("null", "grp"), ("=", "grp", "g1")],
    }
    includes = {"customer": ["orders"], "order": ["owner", "goods", "siblings"]}
    chosen: Chosen = {}
    if rng.random() < 0.4:  # what several people share
        chosen = {n: {"quick": {q: {}}, "picks": [], "unpicks": []} for n, q in
                  (("customer", "mine"), ("order", rng.choice(["any", "recent"])), ("line", "lines"))}  # fmt: skip
        return {
            **chosen,
            "product": {"quick": {"group": {"groups": ["g0", "g1"]}}, "picks": [], "unpicks": [key(rng, "product")]},
        }
    for name in rng.sample(sorted(quick), rng.choice([2, 3, 3, 4])):
        c: dict[str, Any] = {"quick": dict(rng.sample(quick[name], min(len(quick[name]), rng.choice([0, 1, 1, 1, 1, 2]))))}
        if rng.random() < (0.35 if c["quick"] else 0.7):
            one, two = rng.choice(where[name]), rng.choice(where[name])
            c["where"] = rng.choice([one, ("not", one), ("and", one, ("not", two)), ("or", one, two), ("not", two)])
        if name in includes and rng.random() < 0.6:
            c["includes"] = rng.sample(includes[name], rng.randrange(1, len(includes[name]) + 1))
        for what in ("picks", "unpicks"):
            c[what] = sorted({key(rng, name) for _ in range(rng.choice([0, 0, 1, 3]))})
        chosen[name] = c
    return chosen


def edited(rng: random.Random, former: Chosen, day: str) -> Chosen:
    """A selection is edited: afresh, or by picks and unpicks."""
    if not former or rng.random() < 0.5:
        return choose(rng, day)
    chosen = {n: {**c} for n, c in former.items()}
    name, what = rng.choice(sorted(chosen)), rng.choice(["picks", "unpicks"])
    chosen[name][what] = sorted({*chosen[name].get(what, ()), key(rng, name)})[-rng.randrange(1, 6) :]
    return chosen
