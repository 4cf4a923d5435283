"""What devices never hold: a change of it moves nothing but what enters or leaves a scope, and no byte of it travels."""

from __future__ import annotations

import pytest

from offlinekit.exceptions import ProtocolError
from offlinekit.schema import Field, Schema, field
from tests.pull.pair import ALL_MINE
from tests.pull.world import SCHEMA, Customer


class OpenCustomer(Customer, name="customer"):
    """As an earlier or a later version of the program declares it: everybody holds its memo."""

    memo: Field[str] = field(default="")


OTHERS = [info.cls for info in SCHEMA if info.name != "customer"]
OPEN, OPEN_AGAIN = (Schema(OpenCustomer, *OTHERS, intents=["sell"], version=version) for version in (1, 3))


@pytest.mark.invariant("I10")
def test_a_change_of_what_devices_never_hold_sends_no_record(pair):
    pair.ana.select(ALL_MINE)
    pair.sync(pair.ana)
    pair.head.sql("UPDATE customer SET memo='hush' WHERE code IN ('k0','k1')")
    preview = pair.ana.run(pair.ana.exchanger.preview(pair.ana.selection()))
    assert all(part.fetch == 0 for part in preview.parts.values())
    moved = pair.ana.pull()
    assert (moved.kind, moved.put["customer"], moved.drop["customer"]) == ("delta", 0, 0)
    assert pair.ana.pull().kind == "same"
    pair.head.sql("UPDATE customer SET memo='more', name='New' WHERE code='k0'")
    pair.head.sql("UPDATE customer SET memo='more' WHERE code='k2'")
    assert pair.ana.pull().put["customer"] == 1


def test_a_hidden_field_that_bounds_the_scope_moves_only_what_enters_or_leaves(pair):
    pair.ana.select(ALL_MINE)
    pair.sync(pair.ana)
    pair.head.sql("UPDATE customer SET blocked=1 WHERE code='k0'")
    moved = pair.ana.pull()
    assert (moved.put["customer"], moved.drop["customer"]) == (0, 1)
    pair.head.sql("UPDATE customer SET blocked=1-blocked WHERE code IN ('k0','k2')")
    pair.head.sql("UPDATE customer SET blocked=0")
    moved = pair.ana.pull()
    assert (moved.put["customer"], moved.drop["customer"]) == (1, 0)


def test_a_record_that_a_hidden_field_made_unfit_comes_back_when_it_is_mended(pair):
    pair.ana.select(ALL_MINE)
    pair.sync(pair.ana)
    pair.head.sql("UPDATE customer SET memo=CAST(x'ff' AS TEXT) WHERE code='k0'")
    assert pair.ana.pull().drop["customer"] == 1
    pair.head.sql("UPDATE customer SET memo='' WHERE code='k0'")
    assert pair.ana.pull().put["customer"] == 1
    pair.head.sql("UPDATE customer SET memo=CAST(x'ff' AS TEXT) WHERE code='k0'")
    pair.head.sql("UPDATE customer SET memo='again' WHERE code='k0'")
    assert pair.ana.pull().put["customer"] == 0


@pytest.mark.invariant("I10")
def test_a_field_that_was_hidden_later_is_sent_to_no_old_program(pair):
    """Its projection is known from before."""
    pair.head.schema = OPEN
    pair.head.restart()
    old = pair.device("ana", OPEN)
    old.select(ALL_MINE)
    pair.sync(old)
    pair.head.schema = SCHEMA
    pair.head.restart()
    pair.head.sql("UPDATE customer SET memo='HUSH'")
    with pytest.raises(ProtocolError, match="a replica of 'customer' cannot hold these fields"):
        old.pull()


def test_a_field_that_is_not_hidden_any_more_is_added_to_what_devices_hold(pair):
    pair.ana.select(ALL_MINE)
    pair.head.sql("UPDATE customer SET memo=code")
    pair.sync(pair.ana)
    pair.head.sql("UPDATE customer SET memo='late' WHERE code='k0'")
    pair.head.schema = OPEN_AGAIN
    pair.head.restart()
    pair.ana.reopen(OPEN_AGAIN)
    moved = pair.ana.pull()
    assert (moved.put["customer"], moved.drop["customer"]) == (1, 0), "the others get the field alone"
    memos = dict(pair.ana.store.reader().execute("SELECT code,memo FROM customer"))
    assert memos == {"k0": "late", "k2": "k2", "k4": "k4", "k6": "k6", "k8": "k8"}
    assert pair.ana.pull().kind == "same"


def test_a_field_that_is_not_hidden_any_more_reaches_whoever_held_it_before(pair):
    """While it was hidden the device was away, and its projection is today's."""
    pair.head.schema = OPEN
    pair.head.restart()
    old = pair.device("ana", OPEN)
    old.select(ALL_MINE)
    pair.sync(old)
    pair.head.schema = SCHEMA
    pair.head.restart()
    pair.head.sql("UPDATE customer SET memo='meanwhile' WHERE code='k0'")
    pair.head.schema = OPEN_AGAIN
    pair.head.restart()
    assert old.pull().put["customer"] == 1
    assert old.store.reader().execute("SELECT memo FROM customer WHERE code='k0'").get == "meanwhile"
