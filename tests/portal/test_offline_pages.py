"""The package's pages: choosing in four steps, saving with and without a connection, renewing, and what they refuse."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable

import pytest
from attrs import evolve

from offlinekit.selection import Choice
from offlinekit_portal.contract import Customer, Order, OrderItem, Price, Product, Prospect, Representative
from offlinekit_portal.web import desk, package
from tests.portal.selling import take_mine
from tests.portal.visiting import Act, Answer, Scene, keys, until

CUSTOMERS = 25


def test_a_new_device_is_guided_and_has_everything_after_one_click(at_the_portal: Callable[[Act], None]) -> None:
    async def act(scene: Scene) -> None:
        for path in ("/inicio", "/offline"):
            assert "Prepare this device for the road" in (await scene.get(path)).text
        await take_mine(scene)
        assert scene.desk.held() == {"customer": CUSTOMERS, "prospect": 2, "product": 420}
        shown = await scene.get("/offline")
        assert "Prepare this device" not in shown.text
        assert "Valid until 23:59 of today" in shown.text
        assert re.search(r"Customers Edit : Customers 25 records", shown.text)
        assert "with Contacts · Addresses · Orders of 12 months" in shown.text
        arrived = await scene.get("/offline/baixando")
        assert "The package is on this device" in arrived.text

    at_the_portal(act)


def test_the_steps_keep_what_was_chosen_over_pages_and_restarts(at_the_portal: Callable[[Act], None]) -> None:
    async def act(scene: Scene) -> None:
        await scene.change("clientes", "quick", ("quick", "my_customers"), ("quick", "active"), step="rapido")
        await scene.change("clientes", "include", ("include", "contacts"), step="rapido")
        added = await scene.change("clientes", "add", ("field", "state"), ("operator", "in"), ("value", "MG"), ("value", "SP"),
                                   step="avancado")  # fmt: skip
        assert "State is one of MG, SP" in added.text
        await scene.change("produtos", "quick", ("quick", "best_sellers"), step="rapido")
        await scene.restart()
        first = await scene.get("/offline/configurar/clientes/rapido")
        assert sorted(first.ticked("quick")) == ["active", "my_customers"]
        assert first.ticked("include") == ["contacts"]
        records = await scene.get("/offline/configurar/clientes/registros")
        assert all(chip in records.text for chip in ("My portfolio", "Not blocked", "State is one of MG, SP"))
        assert (await scene.get("/offline/configurar/produtos/rapido")).ticked("quick") == ["best_sellers"]
        assert scene.replica.selection.choices == ()
        assert "did not save it" in (await scene.get("/offline")).text
        await scene.post("/offline/descartar", htmx=False)
        assert (await scene.get("/offline/configurar/clientes/rapido")).ticked("quick") == []

    at_the_portal(act)


def test_a_filter_is_taken_away_by_its_chip_and_conditions_are_joined_anew(at_the_portal: Callable[[Act], None]) -> None:
    async def act(scene: Scene) -> None:
        await scene.change("clientes", "add", ("field", "city"), ("operator", "contains"), ("value", "ca"), step="avancado")
        both = await scene.change("clientes", "add", ("field", "last_order"), ("operator", "null"), step="avancado")
        assert "City contains ca" in both.text
        assert "Last order never" in both.text
        joined = await scene.change("clientes", "join", ("joined", "any"), step="avancado")
        assert joined.ticked("joined") == ["any"]
        ids = re.findall(r'value="remove"><input type="hidden" name="value" value="(\w+)"', joined.html)
        assert len(ids) == 2
        left = await scene.change("clientes", "remove", ("value", ids[0]), step="avancado")
        assert ("City contains ca" in left.text) != ("Last order never" in left.text)
        assert "No filter is applied" in (await scene.change("clientes", "unfilter", step="avancado")).text

    at_the_portal(act)


def test_all_but_eighteen(at_the_portal: Callable[[Act], None]) -> None:
    async def act(scene: Scene) -> None:
        await scene.change("clientes", "quick", ("quick", "my_customers"), step="rapido")
        listed = await scene.get("/offline/configurar/clientes/registros/lista", htmx=True)
        rows = listed.rows()
        assert len(rows) == CUSTOMERS
        assert all(rows.values())
        out = sorted(rows)[:18]
        answer = await scene.change("clientes", "page", *(("row", key) for key in out))
        assert f"{CUSTOMERS - 18} chosen of {CUSTOMERS}" in answer.text
        searched = await scene.get("/offline/configurar/clientes/registros/lista?busca=ferragens", htmx=True)
        assert f"{CUSTOMERS - 18} chosen of {CUSTOMERS}" in searched.text
        assert "all but 18" in (await scene.get("/offline/configurar/clientes/revisar")).text
        await scene.save()
        held = [customer.code for customer in scene.replica.select(Customer)]
        assert sorted(held) == sorted(set(rows) - set(out))
        assert "all but 18" in (await scene.get("/offline")).text
        assert f"{CUSTOMERS} chosen of {CUSTOMERS}" in (await scene.change("clientes", "all")).text
        assert f"0 chosen of {CUSTOMERS}" in (await scene.change("clientes", "none")).text
        one = await scene.change("clientes", "tick", ("key", out[0]), ("on", "1"))
        assert f"1 chosen of {CUSTOMERS}" in one.text

    at_the_portal(act)


def test_what_the_card_counts_is_what_then_arrives(at_the_portal: Callable[[Act], None]) -> None:
    async def act(scene: Scene) -> None:
        await scene.change("clientes", "quick", ("quick", "my_customers"), step="rapido")
        await scene.change("clientes", "include", ("include", "history"), ("include", "addresses"), step="rapido")
        await scene.change("prospects", "quick", ("quick", "my_prospects"), step="rapido")
        await scene.change("produtos", "add", ("field", "curve"), ("operator", "="), ("value", "A"), step="avancado")
        await scene.change("produtos", "include", ("include", "prices"), step="rapido")
        card = (await scene.get("/offline/configurar/produtos/revisar/pacote", htmx=True)).text
        labels = "Customers|Addresses|Orders of 12 months|Prospects|Products|Prices of my lists"
        lines = re.findall(rf"({labels}) ([\d,]+) record", card)
        told = {label: int(count.replace(",", "")) for label, count in lines}
        await scene.save()
        count = {cls: scene.replica.select(cls).count() for cls in (Customer, Prospect, Product, Price, Order, OrderItem)}
        assert told["Customers"] == count[Customer] == CUSTOMERS
        assert told["Prospects"] == count[Prospect]
        assert told["Products"] == count[Product] > 0
        assert told["Prices of my lists"] == count[Price]
        assert told["Orders of 12 months"] == count[Order] + count[OrderItem] > 0
        done = (await scene.get("/offline/baixando/estado", htmx=True)).text
        assert f"Products {count[Product]} on this device" in done

    at_the_portal(act)


def test_without_a_connection_choices_are_saved_for_the_next_one(at_the_portal: Callable[[Act], None]) -> None:
    async def act(scene: Scene) -> None:
        await take_mine(scene)
        await scene.cut()
        page = await scene.get("/offline/configurar/clientes/registros")
        assert "you choose among the records on this device" in page.text
        assert len(page.rows()) == CUSTOMERS
        left = sorted(page.rows())[0]
        await scene.change("clientes", "tick", ("key", left))
        counted = await scene.get("/offline/configurar/clientes/registros/pacote", htmx=True)
        assert "Counted among the records on this device" in counted.text
        saved = await scene.save()
        assert "It takes effect at the next connection" in saved.text
        assert scene.replica.get(Customer, left) is not None
        await scene.restart()
        assert "takes effect at the next connection" in (await scene.get("/offline")).text
        await scene.mend()
        await until(scene.desk.pulled)
        assert scene.replica.get(Customer, left) is None
        assert scene.replica.select(Customer).count() == CUSTOMERS - 1

    at_the_portal(act)


def test_an_expired_selection_is_said_everywhere_and_renewed_in_one_click(at_the_portal: Callable[[Act], None]) -> None:
    async def act(scene: Scene) -> None:
        await take_mine(scene)
        scene.clock.move(days=1)
        home, mine = await scene.get("/inicio"), await scene.get("/offline")
        assert "The selection for this device has expired" in home.text
        assert "has expired" in mine.text
        assert "locked" in mine.text
        assert "Repeat yesterday's selection" in mine.text
        customers = await scene.get("/clientes")
        assert customers.status == 409 or "expired" in customers.text
        renewed = await scene.post("/offline/renovar", htmx=False)
        assert renewed.url == "/offline/baixando"
        await until(lambda: scene.desk.pulled() and not scene.desk.live().expired)
        assert "Valid until 23:59 of today" in (await scene.get("/inicio")).text
        assert scene.desk.held()["customer"] == CUSTOMERS

    at_the_portal(act)


def test_a_longer_validity_is_kept_and_said(at_the_portal: Callable[[Act], None]) -> None:
    async def act(scene: Scene) -> None:
        await scene.change("clientes", "quick", ("quick", "my_customers"), step="rapido")
        await scene.change("clientes", "until", ("days", "2"), step="revisar")
        assert re.search(r'value="2" selected', (await scene.get("/offline/configurar/clientes/revisar")).html)
        await scene.save()
        assert "Valid until 23:59 of tomorrow" in (await scene.get("/offline")).text
        scene.clock.move(days=1)
        assert "Valid until 23:59 of today" in (await scene.get("/offline")).text

    at_the_portal(act)


def test_a_package_that_does_not_fit_is_not_saved(at_the_portal: Callable[[Act], None], monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(scene: Scene) -> None:
        monkeypatch.setattr(desk.Desk, "bytes_free", lambda self: package.ROOM)
        await scene.change("clientes", "quick", ("quick", "my_customers"), step="rapido")
        assert "does not fit" in (await scene.get("/offline/configurar/clientes/rapido/pacote", htmx=True)).text
        assert "does not fit on this device" in (await scene.save()).text
        assert scene.replica.selection.id == ""

    at_the_portal(act)


def test_nothing_chosen_is_not_saved(at_the_portal: Callable[[Act], None]) -> None:
    async def act(scene: Scene) -> None:
        assert "tick at least one filter or one record" in (await scene.save()).text
        assert "nothing to repeat" in (await scene.post("/offline/renovar", htmx=False)).text
        assert scene.replica.selection.id == ""

    at_the_portal(act)


def test_there_are_no_other_registers_and_steps(at_the_portal: Callable[[Act], None]) -> None:
    async def act(scene: Scene) -> None:
        for path in ("vendas/rapido", "clientes/tudo", "orders/registros", "clientes/tudo/pacote", "vendas/registros/lista"):
            assert (await scene.get(f"/offline/configurar/{path}")).status == 404, path
        assert (await scene.post("/offline/configurar/vendas/rapido", ("do", "quick"))).status == 404
        assert (await scene.get("/offline/configurar")).url == "/offline/configurar/clientes/rapido"

    at_the_portal(act)


HOSTILE = {
    "an unknown quick filter": ("rapido", "quick", [("quick", "everything_there_is")]),
    "a quick filter of another register": ("rapido", "unquick", [("value", "nobody")]),
    "an unknown include": ("rapido", "include", [("include", "secrets")]),
    "a field that is not offered": ("avancado", "add", [("field", "credit_limit"), ("operator", ">="), ("value", "1")]),
    "an unknown field": ("avancado", "add", [("field", "x'; --"), ("operator", "="), ("value", "1")]),
    "an operator that is not offered": ("avancado", "add", [("field", "name"), ("operator", "="), ("value", "a")]),
    "no value": ("avancado", "add", [("field", "name"), ("operator", "contains"), ("value", " ")]),
    "no date": ("avancado", "add", [("field", "last_order"), ("operator", ">="), ("value", "31/31/31")]),
    "an empty key": ("registros", "tick", [("key", ""), ("on", "1")]),
    "an action that is not there": ("registros", "drop", []),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_no_page_sends_is_refused_in_words(at_the_portal: Callable[[Act], None], what: str) -> None:
    async def act(scene: Scene) -> None:
        step, do, values = HOSTILE[what]
        before = scene.desk.setting("choosing")
        for htmx in (True, False):
            path = f"/offline/configurar/clientes/{step}"
            refused = await scene.post(path, ("do", do), *values, htmx=htmx)
            assert refused.status == 422, refused.text[:300]
            assert 'role="alert"' in refused.html
            assert "Traceback" not in refused.text
        assert scene.desk.setting("choosing") == before

    at_the_portal(act)


def test_more_ticks_than_there_may_be_are_refused(at_the_portal: Callable[[Act], None]) -> None:
    async def act(scene: Scene) -> None:
        with_many = scene.replica.configure().pick(Customer, *(key for _, key in keys(10_000)))
        scene.desk.remember("choosing", b64encode(with_many.selection.encode()).decode())
        refused = await scene.change("clientes", "tick", ("key", "99"), ("on", "1"))
        assert refused.status == 422
        assert "At most 10,000 single records can be ticked" in refused.text
        assert (await scene.change("clientes", "tick", *keys(1), ("on", "1"))).status == 200
        too_long = await scene.change("clientes", "tick", *keys(10_001), ("on", "1"))
        assert too_long.status == 413

    at_the_portal(act)


def test_the_list_is_searched_sorted_and_paged(at_the_portal: Callable[[Act], None]) -> None:
    async def act(scene: Scene) -> None:
        lista = "/offline/configurar/produtos/registros/lista"
        first = await scene.get(lista, htmx=True)
        assert "1–50 of 420" in first.text
        assert "0 chosen of 420" in first.text
        second = await scene.get(lista + "?pagina=2", htmx=True)
        assert "51–100 of 420" in second.text
        assert not first.rows().keys() & second.rows().keys()
        assert "1–50 of 420" in (await scene.get(lista + "?pagina=-3&ordem=nonsense", htmx=True)).text
        nothing = await scene.get(lista + "?busca=zzzzzz", htmx=True)
        assert "Nothing found" in nothing.text
        key = next(iter(second.rows()))
        assert list((await scene.get(f"{lista}?busca={key}", htmx=True)).rows()) == [key]
        taken = await scene.change("produtos", "page", *(("row", k) for k in second.rows()), ("on", "1"), ("pagina", "2"))
        assert "50 chosen of 420" in taken.text

    at_the_portal(act)


def test_a_choice_that_is_not_offered_any_more_is_named_and_chosen_anew(at_the_portal: Callable[[Act], None]) -> None:
    async def act(scene: Scene) -> None:
        mine = scene.replica.configure().quick("my_customers").selection
        gone = evolve(mine, choices=(Choice("customer", quick=(("golden", ()),)),))
        scene.desk.remember("choosing", b64encode(gone.encode()).decode())
        records = await scene.get("/offline/configurar/clientes/registros")
        assert records.url == "/offline/configurar/clientes/rapido"
        assert "no longer offers “golden” of Customers" in records.text
        counted = await scene.get("/offline/configurar/clientes/rapido/pacote", htmx=True)
        assert counted.status == 422
        assert "Choose anew" in (await scene.save()).text
        assert scene.replica.selection.id == ""
        anew = await scene.change("clientes", "anew", step="rapido")
        assert "no longer offers" not in anew.text

    at_the_portal(act)


def test_the_card_says_what_is_here_right_after_a_download(at_the_portal: Callable[[Act], None]) -> None:
    async def act(scene: Scene) -> None:
        card = "/offline/configurar/clientes/rapido/pacote"
        await scene.change("clientes", "quick", ("quick", "my_customers"), step="rapido")
        assert "Nothing of it is on this device yet" in (await scene.get(card, htmx=True)).text
        await scene.save()
        page = await scene.get("/offline/configurar/clientes/rapido")
        assert f'hx-get="{card}"' in page.html  # counted anew, although the choices are those of a moment ago
        assert "All of it is on this device already" in (await scene.get(card, htmx=True)).text
        assert f'hx-get="{card}"' not in (await scene.get("/offline/configurar/clientes/rapido")).html

    at_the_portal(act)


def test_the_review_shows_what_was_counted(at_the_portal: Callable[[Act], None]) -> None:
    async def act(scene: Scene) -> None:
        review = "/offline/configurar/produtos/revisar"
        await scene.get(review + "/pacote", htmx=True)  # of nothing
        await scene.change("produtos", "quick", ("quick", "catalogue"), step="rapido")
        counted = await scene.get(review + "/pacote", htmx=True)
        body = counted.html.partition('hx-target="#conf-body"')[2]
        assert "Products 420 records" in Answer(0, body, "").text

    at_the_portal(act)


def test_one_state_begins_with_the_representatives_own(at_the_portal: Callable[[Act], None]) -> None:
    async def act(scene: Scene) -> None:
        path = "/offline/configurar/clientes/rapido"
        if scene.replica.get(Representative, "R01") is None:  # nothing has come yet, and nobody guesses
            assert "choose…" in (await scene.get(path)).text
        await take_mine(scene)
        page = await scene.get(path)
        assert state_of(page) == "SP"
        assert "choose…" not in page.text
        untold = await scene.change("clientes", "quick", ("quick", "customers_of_state"), step="rapido")
        assert untold.status == 422
        assert "Choose what “Of one state” is about" in untold.text
        told = await scene.change("clientes", "quick", ("quick", "customers_of_state"), ("customers_of_state.state", "MG"),
                                  step="rapido")  # fmt: skip
        assert told.status == 200
        assert state_of(await scene.get(path)) == "MG"

    at_the_portal(act)


def state_of(page: Answer) -> str:
    """The state that the quick filter is about."""
    found = re.search(r'name="customers_of_state.state">.*?<option value="(\w*)" selected>', page.html, re.S)
    assert found is not None
    return found[1]
