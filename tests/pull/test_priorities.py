"""A first load by priority, and a collection that a new schema adds: each group in one transaction, and one group in the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from offlinekit.exceptions import ProtocolError
from offlinekit.exchange import Send
from offlinekit.protocol import messages as m
from offlinekit.protocol.codec import decode_answer, encode
from offlinekit.protocol.state import state_digest
from offlinekit.sync import counts_of
from tests.pull.pair import ALL_MINE, Pair, sell, shown
from tests.pull.world import OLD, SCHEMA, Chosen, Dev, day_of, prioritised

FIRST = {"city": 0, "customer": 0, "leaflet": 1, "order": 1, "item": 2, "product": 2}
EVERYTHING: Chosen = {
    **ALL_MINE, "order": {"quick": {"recent": {}}}, "item": {"where": (">=", "qty", 0)}, "leaflet": {"quick": {"any": {}}},
    "product": {"quick": {"like": {"text": "cal"}}},
}  # fmt: skip


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """An authority with records in most collections."""
    made = Pair(tmp_path)
    for n in range(3):
        made.order(f"o{n}", "k0")
        made.head.sql("INSERT INTO item VALUES(?,1,NULL,5)", f"o{n}")
    made.products(2)
    yield made
    made.close()


def device(pair: Pair, priorities: dict[str, int] | None = None, schema: Any = SCHEMA) -> Dev:
    """Ana's device, which has chosen everything."""
    dev = pair.device("ana", prioritised(schema, FIRST if priorities is None else priorities))
    dev.select({name: choice for name, choice in EVERYTHING.items() if name in dev.schema.collections})
    return dev


def brought(dev: Dev) -> list[list[str]]:
    """The collections of each group of the last answer."""
    delta = dev.answers[-1]
    assert isinstance(delta, m.Delta)
    return [sorted(g.collections) for g in delta.groups]


def load(dev: Dev) -> None:
    """Pulls until there is no more."""
    for _ in range(8):
        if not dev.pull(load=True).more:
            return
    raise AssertionError("there is more and more")


def consistent(dev: Dev) -> bool:
    """What the status says."""
    return bool(counts_of(dev.store)["consistent"])


def selected(dev: Dev) -> Any:
    """The selection by which all collections stand."""
    return dev.store.meta("selected", dev.store.reader())


def test_groups_come_in_the_order_of_their_priorities_and_become_one(pair):
    dev, came = device(pair), []
    for _ in range(3):
        moved = dev.pull(load=True)
        assert (moved.kind, moved.more, consistent(dev), selected(dev)) == ("delta", True, False, None)
        came.append(brought(dev))
    assert came == [[["city", "customer"]], [["order"], ["leaflet"]], [["item"], ["product"]]]
    moved = dev.pull(load=True)
    assert (moved.kind, moved.more, consistent(dev)) == ("delta", False, True)
    assert selected(dev) == dev.selection().encode()
    assert brought(dev) == [["city", "customer", "item", "order"]]
    assert sum(moved.put.values()) == 0, "what was loaded is not sent again"
    assert dev.pull().kind == "same"
    assert [len(g.tokens) for g in dev.groups()] == [1, 1, 1]
    assert [len(shown(dev, c)) for c in ("customer", "order", "item", "product", "leaflet")] == [5, 3, 3, 2, 2]


def test_collections_of_one_priority_come_together_in_one_answer(pair):
    dev = device(pair, {})
    moved = dev.pull()
    assert (moved.more, consistent(dev)) == (False, True)
    assert brought(dev) == [["city", "customer", "item", "order"], ["product"], ["leaflet"]]


def test_a_load_that_is_cut_off_goes_on_with_the_next_group(pair):
    dev = device(pair)
    dev.pull(load=True)
    dev.reopen()
    assert shown(dev, "customer") == {"k0", "k2", "k4", "k6", "k8"}
    assert (shown(dev, "order"), consistent(dev)) == (set(), False)
    dev.pull(load=True)
    assert brought(dev) == [["order"], ["leaflet"]]
    steps = dev.exchanger.pull(load=True)
    effect = next(steps)
    assert isinstance(effect, Send)
    dev.serve(effect)  # whose answer is lost
    steps.close()
    dev.reopen()
    load(dev)
    assert consistent(dev)
    assert len(shown(dev, "item")) == 3


def test_what_is_held_is_kept_up_to_date_while_other_groups_wait(pair):
    dev = device(pair)
    dev.pull()
    pair.customer(20, "r0")
    moved = dev.pull()
    assert (moved.put["customer"], moved.more) == (1, True)
    assert brought(dev) == [["city", "customer"]]
    assert dev.pull().kind == "same"
    assert not consistent(dev), "what waits is not forgotten"


def test_a_collection_that_a_new_schema_adds_is_loaded_while_the_others_stand(pair):
    dev = device(pair, {}, OLD)
    dev.pull()
    assert consistent(dev)
    dev.reopen(SCHEMA)
    assert not consistent(dev)
    dev.select(EVERYTHING)
    held = shown(dev, "customer")
    first = dev.pull()
    assert (first.put.get("customer", 0), first.more) == (0, True)
    assert "item" not in first.put
    moved = dev.pull(load=True)
    assert (moved.put, brought(dev)) == ({"item": 3}, [["item"]])
    joined = dev.pull(load=True)
    assert (sum(joined.put.values()), joined.more, consistent(dev)) == (0, False, True)
    assert dev.pull().kind == "same"
    assert shown(dev, "customer") == held


def test_one_answer_joins_what_came_apart_and_loads_what_is_new(pair):
    """A group may name a collection that none of its tokens tells of; the others are not sent again."""
    dev = device(pair, {}, OLD)
    dev.pull()
    dev.reopen(SCHEMA)
    with dev.store.write():
        dev.store.db.execute("INSERT INTO ok_loaded VALUES('item', x'00', x'00')")  # as if a token of nobody's had brought it
    dev.select(EVERYTHING)
    moved = dev.pull()
    assert (moved.put["item"], moved.put["customer"], moved.put["order"]) == (3, 0, 0)


def test_an_overlay_stands_until_an_answer_tells_of_all_that_it_lies_over(pair):
    dev = device(pair)
    dev.pull()
    line = ("""INSERT INTO item("order",line,product,qty) VALUES('d1',1,NULL,5)""", ())
    order = """INSERT INTO "order"(id,customer,day,status,total) VALUES('d1','k0',?,'open',1)"""
    assert dev.write((order, (day_of(pair.head),)), line)
    assert dev.push().outcomes == {"accepted": 1}
    for _ in range(4):
        assert "d1" in shown(dev, "order")
        assert "d1" in shown(dev, "item")
        moved = dev.pull(load=True)
    assert not moved.more
    assert dev.store.reader().execute("SELECT count(*) FROM ok_touch").get == 0
    assert dev.store.reader().execute("""SELECT min(_ordinal)>0 FROM "order" """).get


def test_a_selection_that_is_edited_meanwhile_counts_for_all_in_the_end(pair):
    dev = device(pair)
    dev.pull(load=True)
    dev.select({**EVERYTHING, "customer": {"quick": {}, "picks": [("k2",)]}})
    dev.pull(load=True)
    assert (len(shown(dev, "customer")), selected(dev)) == (5, None), "loaded by the selection before"
    load(dev)
    assert shown(dev, "customer") == {"k2"}
    assert (consistent(dev), selected(dev)) == (True, dev.selection().encode())


def test_another_history_loads_by_priority_again(pair):
    pair.head.copy()
    dev = device(pair)
    load(dev)
    pair.head.sql("UPDATE customer SET name='x'")
    load(dev)
    pair.head.restore(0)
    assert dev.pull().kind == "new_history"
    assert not consistent(dev)
    assert dev.pull(load=True).put == {"city": 0, "customer": 5}
    load(dev)
    assert consistent(dev)


def test_a_preview_between_two_groups_counts_all_of_them(pair):
    dev = device(pair)
    dev.pull()
    parts = dev.run(dev.exchanger.preview(dev.selection())).parts
    assert (parts["customer"].fetch, parts["customer"].hold) == (0, 5)
    assert [parts[c].fetch for c in ("order", "item", "product", "leaflet")] == [3, 3, 2, 2]


def test_a_drop_of_most_records_is_held_back_when_groups_join_too(pair):
    dev = device(pair)
    pair.head.puller.guard_held = 4
    for _ in range(3):
        dev.pull(load=True)
    pair.head.sql("UPDATE customer SET rep='r1'")
    moved = dev.pull(load=True)
    assert (moved.kind, len(shown(dev, "customer"))) == ("held_back", 5)


def test_an_answer_that_leaves_out_what_was_never_loaded_is_an_error(pair):
    """Else a device would ask for it for ever."""
    dev = device(pair)
    for answer in (m.Same(now=0.0), m.Delta(state=b"", groups=[], now=0.0)):
        steps = dev.exchanger.pull()
        request = next(steps)
        assert isinstance(request, Send)
        if isinstance(answer, m.Delta):
            answer = msgspec.structs.replace(answer, state=state_of(request))
        with pytest.raises(ProtocolError, match="left out what it was asked for: city, customer"):
            steps.send(encode(answer))


def state_of(request: Send) -> bytes:
    """The state that a request names."""
    found: bytes = msgspec.msgpack.decode(request.body[4:])["state"]
    return found


def test_an_answer_to_one_group_is_applied_though_another_moved_meanwhile(pair):
    dev = device(pair)
    dev.pull()
    late = dev.exchanger.pull(load=True)
    back = dev.serve(next(late))
    while not isinstance(decode_answer(back), m.Delta):
        back = dev.serve(late.send(back))
    pair.customer(20, "r0")
    assert dev.pull().put["customer"] == 1
    with pytest.raises(StopIteration) as stop:
        late.send(back)
    assert stop.value.value.kind == "delta"
    assert len(shown(dev, "order")) == 3
    load(dev)
    assert consistent(dev)


def test_a_mutation_of_what_is_held_settles_while_other_groups_wait(pair):
    dev = device(pair, {"order": 0, "item": 1})
    dev.pull()
    sell(dev, "d1")
    assert dev.push().outcomes == {"accepted": 1}
    assert dev.pull().more
    assert dev.store.reader().execute("SELECT count(*) FROM ok_touch").get == 0
    assert "d1" in shown(dev, "order")


def test_an_answer_that_another_pull_of_the_group_has_overtaken_is_not_applied(pair):
    dev = device(pair, {**FIRST, "leaflet": 2})
    dev.pull()
    late = dev.exchanger.pull(load=True)
    back = dev.serve(next(late))
    assert isinstance(decode_answer(back), m.Delta)
    pair.order("o9", "k0")
    assert dev.pull(load=True).put["order"] == 4
    with pytest.raises(StopIteration) as stop:
        late.send(back)
    assert stop.value.value.kind == "stale"
    assert "o9" in shown(dev, "order")


def test_states_that_differ_in_one_of_several_tokens_are_told_apart() -> None:
    group = m.GroupState(collections=["a", "b"], token=b"1")
    groups = [group, *(msgspec.structs.replace(group, also=also) for also in ([b"2"], [b"3"], [b"2", b"3"]))]
    digests = {state_digest(m.Table(selection=b"", groups=[g]), b"") for g in groups}
    assert len(digests) == 4
