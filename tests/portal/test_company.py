"""The made-up company is whole, the same on every run, plausible, and nobody's: its tax ids are wrong on purpose."""

from __future__ import annotations

import gc
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, TypeVar, cast

import pytest

from offlinekit import Collection
from offlinekit_portal.company import TIGHT, Company
from offlinekit_portal.contract import (
    Address,
    Contact,
    Customer,
    Order,
    OrderItem,
    PaymentTerm,
    Price,
    PriceList,
    Product,
    Prospect,
    Representative,
    schema,
)
from offlinekit_portal.goods import PRODUCTS_MAX
from offlinekit_portal.people import check_digits
from offlinekit_portal.places import REPS
from offlinekit_portal.totals import line_total

C = TypeVar("C", bound=Collection)
TODAY = date(2026, 11, 24)
SMALL = {"products": 630, "customers": 200, "prospects": 40}


def records(company: Company) -> dict[type[Collection], list[Any]]:
    found: dict[type[Collection], list[Any]] = {}
    for _, part in company.parts():
        for record in part:
            found.setdefault(type(record), []).append(record)
    return found


@pytest.fixture(scope="module")
def small() -> dict[type[Collection], list[Any]]:
    return records(Company(TODAY, **SMALL))


@pytest.fixture(scope="module")
def whole() -> Iterator[dict[type[Collection], list[Any]]]:
    gc.disable()  # as the head office does while it makes the company
    try:
        yield records(Company(TODAY))
    finally:
        gc.enable()


def of(found: dict[type[Collection], list[Any]], cls: type[C]) -> list[C]:
    return cast("list[C]", found[cls])


@pytest.mark.slow
def test_the_whole_company_is_as_large_as_promised(whole: dict[type[Collection], list[Any]]) -> None:
    counts = {cls: len(rows) for cls, rows in whole.items()}
    assert counts[Product] == 20_000
    assert counts[Price] == 100_000
    assert counts[Customer] == 2_000
    assert counts[Prospect] == 200
    assert counts[Representative] == 20
    assert counts[PriceList] == 5
    assert counts[PaymentTerm] >= 5
    assert counts[Order] > 10_000
    assert counts[OrderItem] > 4 * counts[Order]
    assert len({product.group for product in of(whole, Product)}) >= 20
    assert len({product.name for product in of(whole, Product)}) == 20_000


@pytest.mark.slow
def test_a_tenth_of_the_products_make_most_of_the_sales(whole: dict[type[Collection], list[Any]]) -> None:
    curve = {product.code: product.curve for product in of(whole, Product)}
    sold: Counter[str] = Counter()
    for item in of(whole, OrderItem):
        sold[curve[item.product]] += int(item.total * 100)
    whole_year = sum(sold.values())
    assert 0.79 < sold["A"] / whole_year < 0.81
    assert 0.94 < (sold["A"] + sold["B"]) / whole_year < 0.96
    kinds = Counter(curve.values())
    assert kinds["A"] < kinds["B"] < kinds["C"]
    assert 1_000 < kinds["A"] < 4_000


@pytest.mark.slow
def test_the_same_day_makes_the_same_company_and_another_day_moves_its_past(small: dict[type[Collection], list[Any]]) -> None:
    assert records(Company(TODAY, **SMALL)) == small
    later = records(Company(TODAY + timedelta(days=7), **SMALL))
    assert [c.tax_id for c in of(later, Customer)] == [c.tax_id for c in of(small, Customer)]
    assert max(o.placed for o in of(later, Order)) > max(o.placed for o in of(small, Order))


def test_every_reference_leads_to_a_record(small: dict[type[Collection], list[Any]]) -> None:
    keys = {schema.info(cls).name: {schema.info(cls).key_of(record) for record in rows} for cls, rows in small.items()}
    broken = [
        f"{schema.info(cls).name}.{name} {record._stored[name]!r}"
        for cls, rows in small.items()
        for name, reference in schema.info(cls).refs.items()
        for record in rows
        if (record._stored[name],) not in keys[reference.target]
    ]
    assert broken == []
    assert all(len(keys[schema.info(cls).name]) == len(rows) for cls, rows in small.items()), "a key occurs twice"


def test_tax_ids_have_the_form_of_real_ones_and_check_digits_of_none(small: dict[type[Collection], list[Any]]) -> None:
    assert check_digits("112223330001") == "81", "the rule itself, by the usual example"
    ids = [c.tax_id for c in of(small, Customer)] + [p.tax_id for p in of(small, Prospect)]
    for tax_id in ids:
        assert re.fullmatch(r"\d\d\.\d{3}\.\d{3}/\d{4}-\d\d", tax_id)
        digits = re.sub(r"\D", "", tax_id)
        right = check_digits(digits[:12])
        assert digits[12] != right[0], tax_id
        assert digits[13] != right[1], tax_id
    assert len(set(ids)) == len(ids)


def test_nobody_real_is_written_to(small: dict[type[Collection], list[Any]]) -> None:
    for cls in (Representative, Customer, Prospect, Contact):
        for record in small[cls]:
            assert re.fullmatch(r"[a-z0-9.]+@[a-z0-9-]+\.example", record.email), record


def test_codes_name_customer_and_store(small: dict[type[Collection], list[Any]]) -> None:
    customers = of(small, Customer)
    assert all(re.fullmatch(r"\d{6}-0[12]", c.code) for c in customers)
    seconds = [c for c in customers if c.code.endswith("-02")]
    firsts = {c.code: c for c in customers}
    assert seconds
    for store in seconds:
        first = firsts[store.code[:-1] + "1"]
        assert (store.name, store.rep, store.tax_id[:10]) == (first.name, first.rep, first.tax_id[:10])


def test_each_representative_has_customers_of_the_region_and_its_lists(small: dict[type[Collection], list[Any]]) -> None:
    each = Counter(c.rep for c in of(small, Customer))
    assert set(each.values()) == {SMALL["customers"] // len(REPS)}
    for rep in REPS:
        assert 1 <= len(rep.lists) <= 2
        for customer in of(small, Customer):
            if customer.rep == rep.code:
                assert customer.price_list in rep.lists
                assert (customer.city, customer.state) in {(town.name, town.state) for town in rep.towns}
    marina = of(small, Representative)[0]
    assert (marina.code, marina.name) == ("R01", "Marina Duarte")


def test_every_customer_has_a_billing_address_and_contacts(small: dict[type[Collection], list[Any]]) -> None:
    billed = {a.customer: a for a in of(small, Address) if a.kind == "billing"}
    contacts = Counter(c.customer for c in of(small, Contact))
    deliveries = [a for a in of(small, Address) if a.kind == "delivery"]
    for customer in of(small, Customer):
        assert re.fullmatch(r"\d{5}-\d{3}", billed[customer.code].postal_code)
        assert 1 <= contacts[customer.code] <= 3
    assert 0 < len(deliveries) < len(billed)
    assert len(billed) + len(deliveries) == len(of(small, Address))


def test_every_product_has_a_price_in_each_list_above_its_lowest(small: dict[type[Collection], list[Any]]) -> None:
    prices = {(p.product, p.price_list): p.price for p in of(small, Price)}
    lists = [p.code for p in of(small, PriceList)]
    assert len(prices) == SMALL["products"] * len(lists)
    for product in of(small, Product):
        each = [prices[product.code, code] for code in lists]
        assert len(set(each)) > 1 or each[0] < 1, product
        assert 0 < product.lowest < min(each), product
        assert product.launched < TODAY


def test_orders_add_up_and_lie_in_the_past_year(small: dict[type[Collection], list[Any]]) -> None:
    lines: dict[Any, list[OrderItem]] = {}
    for item in of(small, OrderItem):
        assert item.total == line_total(item.price, item.discount, item.quantity)
        lines.setdefault(item.order, []).append(item)
    orders = of(small, Order)
    launched = {p.code: p.launched for p in of(small, Product)}
    for order in orders:
        assert order.total == sum((i.total for i in lines[order.id]), Decimal(0))
        assert [i.line for i in lines[order.id]] == list(range(1, len(lines[order.id]) + 1))
        assert TODAY - timedelta(days=366) <= order.placed < TODAY
        assert order.placed.weekday() != 6
        if len(lines[order.id]) > 1:
            assert all(launched[i.product] <= order.placed for i in lines[order.id])
    numbers = [order.number for order in orders]
    assert numbers == list(range(numbers[0] or 0, (numbers[0] or 0) + len(numbers)))
    assert [o.placed for o in orders] == sorted(o.placed for o in orders)


def test_customers_know_their_last_order_and_have_plausible_credit(small: dict[type[Collection], list[Any]]) -> None:
    last = latest(of(small, Order))
    customers = of(small, Customer)
    for customer in customers:
        order = last.get(customer.code)
        assert customer.last_order == (order.placed if order else None)
        assert customer.last_total == (order.total if order else None)
        assert 0 <= customer.credit_left <= customer.credit_limit
        assert 0 <= customer.overdue <= customer.credit_limit
    silent = [c for c in customers if c.last_order is None or c.last_order < TODAY - timedelta(days=90)]
    assert 0 < len(silent) < len(customers)
    assert any(c.overdue for c in customers)
    assert any(c.blocked for c in customers)


@pytest.mark.slow
def test_some_customers_of_the_demo_have_little_credit_left(small: dict[type[Collection], list[Any]]) -> None:
    company = Company(TODAY)
    tight = company.tight()
    assert len(tight) == TIGHT
    theirs = {c.code: c for c in company.clients}
    assert all(theirs[code].rep is REPS[0] and not theirs[code].blocked for code in tight)
    assert [c.credit_left < 250 for c in of(small, Customer) if c.code in Company(TODAY, **SMALL).tight()] == [True] * 5


def latest(orders: Iterable[Order]) -> dict[str, Order]:
    """The last order of each customer; of one day, the one with the highest number."""
    return {order.customer: order for order in orders}


@pytest.mark.parametrize("size", [{"products": 0}, {"products": PRODUCTS_MAX + 1}, {"customers": 5}, {"prospects": -1}])
def test_a_company_that_cannot_be_is_refused(size: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"1 to {PRODUCTS_MAX}" if "products" in size else f"its {len(REPS)} representatives"):
        list(Company(TODAY, **size).parts())
