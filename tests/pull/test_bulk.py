"""Answers that travel as files: several files at once, downloads given up, cancelled and overtaken by pushes."""

from __future__ import annotations

import os

import pytest

from offlinekit.exchange import Fetch
from tests.pull.pair import ALL_MINE, sell, shown
from tests.pull.world import OLD, SCHEMA


def test_two_collections_with_files_of_their_own_arrive_in_one_bulk_answer(pair):
    pair.products(9)
    pair.head.puller.inline_rows = 3
    pair.ana.select({"product": {"quick": {"like": {"text": "cal"}}}, "leaflet": {"quick": {"any": {}}}})
    assert pair.ana.pull().kind == "bulk"
    assert (len(shown(pair.ana, "product")), len(shown(pair.ana, "leaflet"))) == (9, 9)
    assert not [n for n in os.listdir(pair.ana.path.parent) if "incoming" in n]


def test_a_download_that_is_given_up_is_gone_on_with_by_the_next_pull(pair):
    pair.products(9)
    pair.head.puller.inline_rows = 3
    pair.ana.select({"product": {"quick": {"like": {"text": "cal"}}}})
    steps = pair.ana.exchanger.pull()
    effect = next(steps)
    while not isinstance(effect, Fetch):
        effect = steps.send(pair.ana.serve(effect))
    steps.close()
    assert next(pair.ana.exchanger.pull()) == effect
    assert pair.ana.pull().kind == "bulk"
    assert not [n for n in os.listdir(pair.ana.path.parent) if "incoming" in n]


def test_an_edit_cancels_a_download(pair):
    pair.products(9)
    pair.head.puller.inline_rows = 3
    pair.ana.select({"product": {"quick": {"like": {"text": "cal"}}}})
    steps = pair.ana.exchanger.pull()
    effect = next(steps)
    while not isinstance(effect, Fetch):
        effect = steps.send(pair.ana.serve(effect))
    pair.ana.select({})
    with pytest.raises(StopIteration) as stop:
        steps.send(pair.ana.serve(effect))
    assert stop.value.value.kind == "cancelled"
    assert shown(pair.ana, "product") == set()


def test_a_push_goes_through_while_a_file_is_fetched(pair):
    pair.products(9)
    pair.ana.select(ALL_MINE)
    pair.sync(pair.ana)
    pair.head.puller.inline_rows = 3
    pair.ana.select({**ALL_MINE, "product": {"quick": {"like": {"text": "cal"}}}})
    steps = pair.ana.exchanger.pull()
    effect = next(steps)
    while not isinstance(effect, Fetch):
        effect = steps.send(pair.ana.serve(effect))
    sell(pair.ana, "d1")
    assert pair.ana.push().outcomes == {"accepted": 1}
    with pytest.raises(StopIteration) as stop:
        steps.send(pair.ana.serve(effect))
    assert stop.value.value.kind == "bulk"
    assert shown(pair.ana, "order") == {"d1"}
    pair.sync(pair.ana)
    assert shown(pair.ana, "order") == {"d1"}


def test_a_preview_counts_the_records_that_travel_for_their_added_fields(pair):
    """In a message only the fields would travel; in a file it is the whole records."""
    for n in range(9):
        pair.order(f"o{n}", "k0")
    dev = pair.device("ana", OLD)
    dev.select({"order": {"where": (">=", "day", "2000-01-01")}})
    dev.pull()
    dev.reopen(SCHEMA)
    pair.head.puller.inline_rows = 3
    said = dev.run(dev.exchanger.preview(dev.selection())).parts["order"]
    pulled = dev.pull()
    assert (pulled.kind, pulled.put["order"], said.fetch, said.drop) == ("bulk", 9, 9, 0)
