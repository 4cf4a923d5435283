"""An offer tells a front end all that it has to show, and refuses declarations that do not fit."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from offlinekit import Advanced, FilterError, InvalidValue, Offer, Quick, QuickParam, SchemaError, param
from tests.configurator.world import OFFER, SCHEMA, Customer, Draft, Order, Product, Rank, Region

OFFER.check(SCHEMA)


def test_an_offer_lists_what_may_be_configured() -> None:
    assert OFFER.configurable == (Customer, Order, Product)
    assert OFFER.of(Draft).quick == OFFER.of(Region).quick == ()
    assert [a.label for a in OFFER.of(Region).always] == ["All regions"]
    offered = OFFER.of(Customer)
    assert (offered.collection, offered.cls) == ("customer", Customer)
    assert [q.name for q in offered.quick] == ["mine", "in_city", "any_city", "limit", "seen", "ranked", "buying"]
    assert (offered.quick[0].label, offered.quick[0].explanation) == ("My customers", "everybody in my portfolio")
    assert [(i.name, i.label, i.explanation) for i in offered.includes] == [
        ("orders", "Their open orders", ""), ("bought", "bought", "what they bought"),
    ]  # fmt: skip


def test_a_param_says_what_to_ask_for() -> None:
    city = OFFER.quick["in_city"].params["city"]
    assert (city.label, city.kind, city.many, city.field) == ("City", "text", False, Customer.city)
    assert [(o.value, o.label) for o in city.choices][-2:] == [("Natal", "Natal"), ("São Bento", "S. Bento")]
    assert OFFER.quick["any_city"].params["cities"].many
    assert OFFER.quick["limit"].params["least"].parse("12.5") == Decimal("12.5")
    assert OFFER.quick["ranked"].params["rank"].parse("large") is Rank.LARGE
    with pytest.raises(InvalidValue, match="no decimal"):
        OFFER.quick["limit"].params["least"].parse("a lot")
    with pytest.raises(SchemaError, match="no param 'town'"):
        Quick("x", Customer, Customer.city == param("city"), params=[QuickParam("town")])


def test_an_advanced_field_says_how_it_may_be_compared() -> None:
    fields = {a.field.name: a for a in OFFER.of(Customer).advanced}
    assert fields["city"].label == "City"
    assert [o.value for o in fields["city"].choices][:2] == ["Campinas", "Recife"]
    assert "null" in fields["city"].operators
    assert "null" not in fields["name"].operators, "a name is never null"
    assert fields["visits"].operators == ("=", "<", "<=", ">", ">=", "in")
    assert fields["rank"].operators == ("=", "in")
    assert fields["limit"].operators == ("<", ">=")
    assert {a.field.name: a.kind for a in OFFER.of(Customer).advanced}["since"] == "date"


def test_a_condition_is_made_of_what_a_form_sends() -> None:
    since, city, limit = (OFFER.advanced["customer", n] for n in ("since", "city", "limit"))
    assert since.filter(">=", since.parse("2030-02-01")) == (Customer.since >= date(2030, 2, 1))
    assert city.filter("in", ["Natal"]) == Customer.city.is_in(["Natal"])
    assert city.filter("null") == Customer.city.is_null()
    assert city.filter("contains", "bento") == Customer.city.contains("bento")
    with pytest.raises(FilterError, match="cannot be compared by '='"):
        limit.filter("=", Decimal(1))
    with pytest.raises(SchemaError, match="unknown operator 'like'"):
        Advanced(Customer.city, operators=["like"])


def test_an_include_says_where_it_leads() -> None:
    bought = OFFER.includes["bought"]
    assert bought.reaches == ("order", "item", "product")
    assert [(s.field, s.forward, s.collection) for s in bought.steps] == [
        (Order.customer, False, "order"), (SCHEMA.info("item").fields["order"], False, "item"),
        (SCHEMA.info("item").fields["product"], True, "product"),
    ]  # fmt: skip


def test_an_empty_offer_offers_nothing() -> None:
    assert Offer().configurable == ()
