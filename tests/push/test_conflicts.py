"""Every pair of changes to one record under every policy, against rules in plain Python; the guide on conflicts has the table."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from offlinekit import Field, MergeFields, Offer, Quick, Replica, Schema, SchemaError, everything, field, nothing
from offlinekit.conflict import Policy
from offlinekit.schema import Collection
from offlinekit.testing.pair import Pair, linked_pair

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "conflicts.md"
POLICIES: dict[str, Policy] = {
    '`"reject"`': "reject",
    '`"authority_wins"`': "authority_wins",
    "`MergeFields()`": MergeFields(),
    '`MergeFields(["phone"])`': MergeFields(["phone"]),
}
FIRST = ("insert", "update phone", "delete")
SECOND = ("insert", "update phone", "update note", "delete")

Row = dict[str, Any]


class Customer(Collection, writable=True):
    """What everybody changes."""

    id: Field[str] = field(key=True)
    phone: Field[str] = field(default="")
    note: Field[str] = field(default="")
    credit: Field[int] = field(default=0, online_only=True)


SCHEMA = Schema(Customer, intents=["edit"])
OFFER = Offer(Quick("all", Customer, everything), Quick("none", Customer, nothing))
START = {"phone": "start", "note": "start"}


@contextmanager
def devices(policy: Policy, folder: Path, selections: tuple[str, str]) -> Iterator[tuple[Pair, Pair]]:
    """Two devices of two people, in sync with an authority that knows one customer."""
    with linked_pair(SCHEMA, offer=OFFER, scopes={Customer: everything}, conflicts={Customer: policy}, folder=str(folder)) as one:
        one.authority.allow("edit", writes={Customer: ("insert", "update", "delete")})
        path = str(folder / "other.db")
        with Replica.open(path, SCHEMA, offer=OFFER, identity="other", clock=one.clock) as replica:
            two = Pair(one.authority, replica, one.clock, "other", {})
            for device, quick in zip((one, two), selections, strict=True):
                device.replica.configure().quick(quick).save()
            yield one, two


def act(pair: Pair, what: str, mark: str) -> Any:
    """One change on a device, not sent yet."""
    with pair.replica.transaction("edit") as tx:
        if what == "insert":
            tx.insert(Customer(id="c", phone=mark, note=mark))
        elif what == "delete":
            tx.delete(Customer(id="c"))
        else:
            tx.update(Customer(id="c"), **{what.split()[1]: mark})
    return tx.mutation


def by_authority(pair: Pair, what: str, mark: str) -> None:
    """The same change by another program on the authority's database; its insertion replaces."""
    statement = {
        "insert": f"INSERT OR REPLACE INTO customer(id, phone, note, credit) VALUES('c', '{mark}', '{mark}', 0)",
        "update phone": f"UPDATE customer SET phone='{mark}' WHERE id='c'",
        "delete": "DELETE FROM customer WHERE id='c'",
    }
    with pair.authority.transaction() as tx:
        tx.connection.execute(statement[what])


def held(pair: Pair) -> Row | None:
    """The customer as the authority has it."""
    found = pair.authority.get(Customer, "c")
    return None if found is None else {"phone": found.phone, "note": found.note}


def play(policy: Policy, by: str, first: str, second: str, folder: Path) -> tuple[str, Row | None]:
    """One change after another, neither having seen the other: the outcome of the second, and the record afterwards."""
    with devices(policy, folder, ("none" if first == "insert" else "all", "none" if second == "insert" else "all")) as (one, two):
        if (first, second) != ("insert", "insert"):
            one.authority.load([Customer(id="c", phone="start", note="start")])
        one.sync()
        two.sync()
        pending = act(two, second, "second")
        if by == "a device":
            act(one, first, "first")
            one.sync()
        else:
            by_authority(one, first, "first")
        two.sync()
        outcome = pending.state
        for refused in two.replica.rejections():
            outcome += f" ({refused.code})"
            refused.discard()
        now = held(one)
        for pair in (one, two, one):
            pair.sync()
            shown = pair.replica.get(Customer, "c")
            assert shown is None or {"phone": shown.phone, "note": shown.note} == now
        assert held(one) == now
        return outcome, now


def ruled(policy: Policy, by: str, first: str, second: str) -> tuple[str, Row | None]:
    """What should come of it, in plain words: the oracle."""
    start = None if (first, second) == ("insert", "insert") else START
    now: Row | None = dict(start or {})
    if first == "insert":
        if start is None or by == "the authority":
            now = {"phone": "first", "note": "first"}
    elif first == "delete":
        now = None
    else:
        now = {**START, "phone": "first"}
    mine = {} if second == "delete" else {n: "second" for n in START if second in ("insert", f"update {n}")}
    if second == "insert" and now is None:
        return "accepted", mine
    if second != "insert" and now == start:
        return "accepted", {**START, **mine} if mine else None
    if policy == "reject":
        code = "exists" if second == "insert" else "not_allowed" if now is None else "stale"
        return f"rejected ({code})", now
    if isinstance(policy, MergeFields) and now is not None and second.startswith("update"):
        (name,) = mine
        if now[name] == START[name] or name in policy.device_wins:
            return "accepted", {**now, **mine}
    return "transformed", now


def told(result: tuple[str, Row | None]) -> str:
    """A cell of the table: the outcome, and whose values stand."""
    outcome, row = result
    if row is None:
        return f"{outcome}: gone"
    phone, note = (f"{row[n]}’s" for n in ("phone", "note"))
    return f"{outcome}: " + (phone if phone == note else f"phone {phone}, note {note}")


def test_every_pair_ends_as_the_rules_say_and_as_the_guide_shows(tmp_path: Path) -> None:
    lines = ["| first | by | second | " + " | ".join(POLICIES) + " |", "| --- " * (3 + len(POLICIES)) + "|"]
    for first, by, second in itertools.product(FIRST, ("a device", "the authority"), SECOND):
        cells: list[str] = []
        for name, policy in POLICIES.items():
            folder = tmp_path / f"{len(lines)}-{len(cells)}"
            folder.mkdir()
            result = play(policy, by, first, second, folder)
            assert result == ruled(policy, by, first, second), f"{first} by {by}, then {second}, under {name}"
            cells.append(told(result).replace("start’s", "as it was"))
        lines.append(f"| {first} | {by} | {second} | " + " | ".join(cells) + " |")
    table = "\n".join(lines) + "\n"
    built = Path("build")
    built.mkdir(exist_ok=True)
    (built / "conflicts.md").write_text(table, "utf-8")
    assert table in GUIDE.read_text("utf-8"), (
        "the table in docs/guides/conflicts.md is not what was found; see build/conflicts.md"
    )


def test_what_both_sides_changed_alike_is_no_conflict(tmp_path: Path) -> None:
    with devices(MergeFields(), tmp_path, ("all", "all")) as (one, _):
        one.authority.load([Customer(id="c", phone="start", note="start")])
        one.sync()
        pending = act(one, "update phone", "alike")
        by_authority(one, "update phone", "alike")
        one.sync()
        assert pending.state == "accepted"


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (MergeFields(["fone"]), "unknown field .fone. in collection .customer.; did you mean 'phone'"),
        (MergeFields(["id"]), "a device never changes 'id'"),
        (MergeFields(["credit"]), "a device never changes 'credit'"),
        ("autority_wins", "unknown conflict policy 'autority_wins'; did you mean 'authority_wins'"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(policy: Any, message: str, tmp_path: Path) -> None:
    conflicts: Mapping[type[Collection], Policy] = {Customer: policy}
    with (
        pytest.raises(SchemaError, match=message),
        linked_pair(SCHEMA, scopes={Customer: everything}, conflicts=conflicts, folder=str(tmp_path)),
    ):
        pass
