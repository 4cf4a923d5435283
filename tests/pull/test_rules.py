"""Single rules of pulling, one test each; what they have in common is proved by `test_oracle.py`."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from offlinekit.exchange import Send
from offlinekit.nodes import everything
from offlinekit.protocol import messages as m
from offlinekit.protocol.codec import decode_answer, decode_request, encode
from offlinekit.protocol.state import state_digest
from offlinekit.view import View, pack_view, unpack_view
from tests.pull.pair import ALL_MINE, sell, shown
from tests.pull.world import DAY, OLD, SCHEMA, Customer, Dev


def request_of(dev: Dev) -> m.Pull:
    """The first request of a pull, with everything in it that the authority may ask for."""
    steps = dev.exchanger.pull()
    effect = next(steps)
    found = None
    for _ in range(8):
        assert isinstance(effect, Send)
        found = decode_request(effect.body)
        answer = decode_answer(dev.head.handle(effect.body, dev.identity))
        if not isinstance(answer, m.NeedState | m.NeedSelection | m.NeedView | m.NeedSchema):
            break
        effect = steps.send(encode(answer))
    steps.close()
    assert isinstance(found, m.Pull)
    return found


def ask(dev: Dev, request: m.Pull) -> m.Answer:
    """The authority's answer."""
    return decode_answer(dev.head.handle(encode(request), dev.identity))


def with_table(request: m.Pull, table: m.Table, **also: Any) -> m.Pull:
    """The request for another state."""
    state = state_digest(table, request.projection)
    return msgspec.structs.replace(request, table=table, state=state, **also)


# -- what is asked (P2)


def test_only_what_is_unknown_is_asked_for(pair):
    pair.ana.select(ALL_MINE)
    assert pair.ana.pull().kind == "delta"
    assert pair.ana.kinds() == ["NeedSchema", "Delta"], "with empty tokens, table and selection are sent at once"
    assert pair.ana.pull().kind == "same"
    assert pair.ana.kinds() == ["Same"]
    pair.head.puller.forget()
    assert pair.ana.pull().kind == "same"
    assert pair.ana.kinds() == ["NeedState", "NeedSelection", "Same"]
    pair.head.puller.forget()
    pair.customer(20, "r0")
    assert pair.ana.pull().kind == "delta"
    assert pair.ana.kinds() == ["NeedState", "NeedSelection", "NeedView", "Delta"]
    pair.customer(22, "r0")
    assert pair.ana.pull().kind == "delta"
    assert pair.ana.kinds() == ["Delta"], "the state that an answer leads to is known"


def test_need_schema_is_answered_once_for_all_devices(pair):
    pair.sync(pair.ana)
    pair.bob.pull()
    assert "NeedSchema" not in pair.bob.kinds()


def test_a_process_that_knows_some_of_the_views_asks_for_the_others(pair):
    """Views were named to one process, and another answers the next round."""
    pair.products(3)
    pair.ana.select({**ALL_MINE, "product": {"quick": {"like": {"text": "cal"}}}})
    pair.sync(pair.ana)
    pair.head.sql("UPDATE product SET name='Sal'")
    pair.customer(20, "r0")
    table, request = _table_of(pair.ana), request_of(pair.ana)
    pair.head.puller.forget()
    some = {"customer": pack_view(View([1, 3, 5, 7, 9]))}
    request = with_table(request, table, views=some, selection=pair.ana.selection().encode())
    answer = ask(pair.ana, request)
    assert isinstance(answer, m.NeedView)
    assert "product" in answer.collections
    assert pair.ana.pull().drop["product"] == 3


def _table_of(dev: Dev) -> m.Table:
    """The table behind the device's state."""
    puller = dev.head.puller
    puller.forget()
    found = request_of(dev).table
    assert found is not None
    return found


# -- time (P5)


def test_time_bounds_do_not_go_back(pair):
    pair.order("o1", "k0", days=-3)
    pair.ana.select({"order": {"quick": {"recent": {}}}})
    pair.sync(pair.ana)
    assert shown(pair.ana, "order") == {"o1"}
    pair.clock.seconds += DAY
    assert pair.ana.pull().drop["order"] == 1
    pair.clock.seconds -= 0.9 * DAY  # yesterday again
    assert pair.ana.pull().kind == "same"
    assert shown(pair.ana, "order") == set()


def test_a_clock_once_at_2099_does_not_lock_the_selection(pair):
    pair.order("o1", "k0")
    pair.ana.select({"order": {"quick": {"recent": {}}}})
    pair.clock.ahead = 25_000 * DAY
    pair.sync(pair.ana)
    assert shown(pair.ana, "order") == set()
    pair.clock.ahead = 0.0
    pair.sync(pair.ana)
    assert shown(pair.ana, "order") == {"o1"}


def test_between_two_boundaries_a_pull_is_idle(pair):
    pair.order("o1", "k0")
    pair.ana.select({"order": {"quick": {"recent": {}}}})
    pair.sync(pair.ana)
    pair.clock.seconds += 3600.0
    assert pair.ana.pull().kind == "same"


# -- what binds an answer (P6, P8)


def test_a_changed_claim_is_noticed_though_nothing_was_written(pair):
    pair.ana.select(ALL_MINE)
    pair.sync(pair.ana)
    pair.head.claims["ana"]["rep"] = "r1"
    moved = pair.ana.pull()
    assert (moved.put["customer"], moved.drop["customer"]) == (5, 5)


def test_a_claim_that_nothing_names_makes_no_difference(pair):
    pair.sync(pair.ana)
    pair.head.claims["ana"]["exp"] = 17
    pair.ana.pull()
    assert pair.ana.kinds() == ["Same"]


def test_a_changed_scope_is_noticed_though_nothing_was_written(pair):
    pair.ana.select(ALL_MINE)
    pair.sync(pair.ana)
    pair.head.scopes[Customer] = Customer.rep == "r1"
    pair.head.restart()
    assert pair.ana.pull().drop["customer"] == 5


def test_a_token_of_somebody_else_opens_no_view_of_theirs(pair):
    """By the digest alone, the ordinals that Ana holds would come out as drops to Bob."""
    pair.ana.select(ALL_MINE)
    pair.sync(pair.ana)
    pair.sync(pair.bob)
    own, stolen = _table_of(pair.bob), _table_of(pair.ana)
    pair.customer(20, "r0")
    pair.ana.pull()  # her views, old and new, are in the cache
    request = with_table(request_of(pair.bob), msgspec.structs.replace(own, groups=stolen.groups))
    assert isinstance(ask(pair.bob, msgspec.structs.replace(request, views=None)), m.NeedView)


def test_a_forged_view_is_used_once_and_never_cached(pair):
    pair.ana.select(ALL_MINE)
    pair.sync(pair.ana)
    pair.customer(20, "r0")
    table, request = _table_of(pair.ana), request_of(pair.ana)
    pair.head.puller.forget()
    views = {c: pack_view(View([1, 2, 999])) for g in table.groups for c in g.collections}
    forged = with_table(request, table, views=views, selection=pair.ana.selection().encode())
    before = pair.head.puller.counts.get("unvouched", 0)
    answer = ask(pair.ana, forged)
    assert isinstance(answer, m.Delta)
    assert set(unpack_view(answer.groups[0].collections["customer"].drop)) <= {1, 2, 999}
    assert pair.head.puller.counts["unvouched"] > before
    moved = pair.ana.pull()
    assert (moved.put["customer"], moved.drop["customer"]) == (1, 0), "the forged view spoiled the true one"


def test_a_forged_token_gives_no_shortcut(pair):
    pair.ana.select(ALL_MINE)
    pair.sync(pair.ana)
    table = _table_of(pair.ana)
    groups = [msgspec.structs.replace(g, token=bytes([g.token[0]]) + b"x" + g.token[2:]) for g in table.groups]
    forged = with_table(
        request_of(pair.ana), msgspec.structs.replace(table, groups=groups), selection=pair.ana.selection().encode(),
        views={c: b"" for g in groups for c in g.collections},
    )  # fmt: skip
    answer = ask(pair.ana, forged)
    assert isinstance(answer, m.Delta)
    assert len(answer.groups[0].collections["customer"].put) == 5


def test_an_answer_about_a_file_of_its_own_is_ignored_when_the_selection_was_edited(pair):
    pair.products(3)
    pair.ana.select({"product": {"quick": {"like": {"text": "cal"}}}})
    pair.sync(pair.ana)
    pair.head.sql("UPDATE product SET name='Sal' WHERE sku='p1'")
    steps = pair.ana.exchanger.pull()
    back = pair.ana.serve(next(steps))
    answer = decode_answer(back)
    assert isinstance(answer, m.Delta)
    assert [list(g.collections) for g in answer.groups] == [["product"], ["leaflet"]]
    pair.ana.select({})
    with pytest.raises(StopIteration) as stop:
        steps.send(back)
    assert stop.value.value.kind == "stale"
    assert shown(pair.ana, "product") == {"p0", "p1", "p2"}


def test_same_for_a_state_that_has_passed_is_ignored(pair):
    pair.sync(pair.ana)
    late = pair.ana.exchanger.pull()
    same = pair.ana.serve(next(late))
    pair.ana.select(ALL_MINE)
    pair.sync(pair.ana)
    with pytest.raises(StopIteration) as stop:
        late.send(same)
    assert stop.value.value.kind == "stale"


def test_an_answer_to_another_state_is_ignored(pair):
    pair.ana.select(ALL_MINE)
    pair.sync(pair.ana)
    pair.head.sql("UPDATE customer SET name='first' WHERE code='k0'")
    first = pair.ana.exchanger.pull()
    old = pair.ana.serve(next(first))
    first.close()
    pair.head.sql("UPDATE customer SET name='second' WHERE code='k0'")
    pair.sync(pair.ana)
    again = pair.ana.exchanger.pull()
    next(again)
    with pytest.raises(StopIteration) as stop:
        again.send(old)
    assert stop.value.value.kind == "stale"
    assert pair.ana.store.reader().execute("SELECT name FROM customer WHERE code='k0'").get == "second"


# -- projections (P10), deletions (P11), implicit picks (P4)


def test_only_the_added_field_travels(pair):
    for n in range(3):
        pair.order(f"o{n}", "k0", total=70 + n)
    dev = pair.device("ana", OLD)
    dev.select({"order": {"quick": {"big": {}}}})
    pair.sync(dev)
    dev.reopen(SCHEMA)
    moved = dev.pull()
    delta = next(a for a in dev.answers if isinstance(a, m.Delta))
    part = next(g.collections["order"] for g in delta.groups if "order" in g.collections)
    assert (moved.put["order"], part.put) == (0, [])
    assert part.added is not None
    assert part.added.fields == ["total"]
    assert dict(dev.store.reader().execute('SELECT id,total FROM "order"')) == {"o0": 70, "o1": 71, "o2": 72}
    assert dev.pull().kind == "same"


def test_a_deletion_alone_is_a_change(pair):
    pair.ana.select(ALL_MINE)
    pair.sync(pair.ana)
    pair.head.sql("DELETE FROM customer WHERE code='k0'")
    assert pair.ana.pull().drop["customer"] == 1


def test_a_deletion_in_a_collection_that_is_only_looked_into_is_a_change(pair):
    pair.order("o1", "k0")
    pair.ana.select({"customer": {"quick": {"has_open": {}}}})
    pair.sync(pair.ana)
    pair.head.sql("""DELETE FROM "order" """)
    assert pair.ana.pull().drop["customer"] == 1


def test_a_created_record_stays_for_thirty_days(pair):
    pair.ana.select(ALL_MINE)
    pair.sync(pair.ana)
    sell(pair.ana, "d1")
    assert pair.ana.push().outcomes == {"accepted": 1}
    pair.sync(pair.ana)
    assert shown(pair.ana, "order") == {"d1"}
    pair.clock.seconds += 29 * DAY
    pair.sync(pair.ana)
    assert shown(pair.ana, "order") == {"d1"}
    pair.clock.seconds += 2 * DAY
    pair.sync(pair.ana)
    assert shown(pair.ana, "order") == set()


def test_a_pull_is_never_answered_from_before_its_own_cursor(pair):
    """An older snapshot stands open meanwhile, as that of a slow answer does: it must not answer, nor judge the cursor."""
    pair.ana.select(ALL_MINE)
    pair.sync(pair.ana)
    with pair.head.store.snapshot() as old:
        pair.customer(20, "r0")
        assert pair.ana.pull().put["customer"] == 1
        (group,) = (g for a in pair.ana.answers if isinstance(a, m.Delta) for g in a.groups if "customer" in g.collections)
        assert not old.honoured(group.cursor), "an older snapshot knows nothing of it"
        pair.head.sql("DELETE FROM customer WHERE code='k0'")
        assert pair.ana.pull().drop["customer"] == 1
        assert pair.ana.pull().kind == "same"
        assert len(old.evaluate("customer", everything, dict.fromkeys(SCHEMA.collections, everything))) == 10
    assert pair.ana.pull().kind == "same"
    assert shown(pair.ana, "customer") == {"k2", "k4", "k6", "k8", "k20"}
    assert "NewHistory" not in pair.ana.kinds()


# -- another history (P18)


def test_another_history_sends_what_differs(pair):
    pair.ana.select(ALL_MINE)
    pair.head.copy()
    pair.sync(pair.ana)
    pair.head.sql("UPDATE customer SET name='forgotten' WHERE code='k2'")
    assert pair.ana.pull().put["customer"] == 1
    pair.head.restore(0)
    assert pair.ana.pull().kind == "new_history"
    assert pair.ana.pull().put["customer"] == 1
    assert pair.ana.pull().kind == "same"


def test_ordinals_that_were_given_again_are_noticed(pair):
    pair.ana.select(ALL_MINE)
    pair.head.copy()
    pair.customer(20, "r0")
    pair.sync(pair.ana)
    pair.head.restore(0)
    pair.customer(30, "r0")  # takes the ordinal of the lost one
    pair.sync(pair.ana)
    assert shown(pair.ana, "customer") == {"k0", "k2", "k4", "k6", "k8", "k30"}


def test_a_restore_between_a_pull_and_a_later_push_loses_no_accepted_mutation(pair):
    pair.ana.select(ALL_MINE)
    pair.sync(pair.ana)
    pair.head.copy()
    sell(pair.ana, "d1")
    pair.ana.push()
    pair.head.restore(0)
    for _ in range(4):
        pair.ana.push()
        pair.ana.pull()
    assert pair.head.db.execute("""SELECT id FROM "order" """).fetchall() == [("d1",)]
    assert shown(pair.ana, "order") == {"d1"}


def test_an_answer_that_was_made_before_a_push_does_not_take_its_witness_away(pair):
    """A pull is under way, a push is answered, then the pull is applied; the authority is restored to between the two."""
    pair.ana.select(ALL_MINE)
    pair.sync(pair.ana)
    pair.customer(20, "r0")
    late = pair.ana.exchanger.pull()
    back = pair.ana.serve(next(late))
    assert isinstance(decode_answer(back), m.Delta)
    pair.head.copy()
    sell(pair.ana, "d1")
    assert pair.ana.push().outcomes == {"accepted": 1}
    with pytest.raises(StopIteration) as stop:
        late.send(back)
    assert stop.value.value.kind == "delta"
    pair.head.restore(0)
    for _ in range(4):
        pair.ana.push()
        pair.ana.pull()
    assert pair.head.db.execute("""SELECT id FROM "order" """).fetchall() == [("d1",)], "an accepted mutation is lost"


def test_a_restore_that_only_a_file_of_its_own_has_passed_is_noticed(pair):
    """The witness goes with the main group; the token of the other group tells."""
    pair.products(2)
    pair.ana.select({"product": {"quick": {"like": {"text": "cal"}}}})
    pair.sync(pair.ana)
    pair.head.copy()
    pair.head.sql("UPDATE product SET name='Sal' WHERE sku='p0'")
    assert pair.ana.pull().drop["product"] == 1
    pair.head.restore(0)
    assert pair.ana.pull().kind == "new_history"
    pair.sync(pair.ana)
    assert shown(pair.ana, "product") == {"p0", "p1"}


# -- refusals to move


def test_a_drop_of_most_records_is_held_back_until_it_is_confirmed(pair):
    for n in range(100, 2400):
        pair.customer(n, f"r{n % 2}")
    pair.ana.select(ALL_MINE)
    pair.ana.pull(report=True)
    pair.head.sql("UPDATE customer SET rep='r1' WHERE code>='k2'")
    moved = pair.ana.pull()
    assert (moved.kind, moved.put) == ("held_back", {})
    assert len(shown(pair.ana, "customer")) == 1155
    pair.head.sql("UPDATE ok_device SET confirmed=? WHERE device=?", pair.clock.now() + 60.0, pair.ana.store.meta("device"))
    moved = pair.ana.pull()
    assert moved.drop["customer"] > 578


def test_an_edited_selection_is_not_held_back(pair):
    for n in range(100, 2400):
        pair.customer(n, f"r{n % 2}")
    pair.ana.select(ALL_MINE)
    pair.sync(pair.ana)
    pair.ana.select({})
    assert pair.ana.pull().drop["customer"] == 1155


def test_an_expired_selection_is_not_pulled_and_a_renewed_one_moves_the_difference(pair):
    pair.ana.select(ALL_MINE, until=pair.clock.now() + DAY)
    pair.sync(pair.ana)
    pair.customer(20, "r0")
    pair.clock.seconds += DAY
    assert pair.ana.pull().kind == "expired"
    assert len(shown(pair.ana, "customer")) == 5
    pair.ana.select(ALL_MINE, until=pair.clock.now() + DAY)
    assert pair.ana.pull().put["customer"] == 1


def test_a_revoked_device_is_told(pair):
    pair.ana.pull(report=True)
    pair.head.sql("UPDATE ok_device SET revoked=1 WHERE device=?", pair.ana.store.meta("device"))
    assert pair.ana.pull().kind == "revoked"
