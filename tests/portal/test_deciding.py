"""The head office decides about orders: it reckons itself, refuses with figures, and gives every number once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from attrs import define, evolve
from hypothesis import given
from hypothesis import strategies as st

from offlinekit import Authority, Reject
from offlinekit.authority.hooks import Transaction
from offlinekit.transport import Memory
from offlinekit_portal.company import ZONE
from offlinekit_portal.contract import Customer, Order, OrderItem, Price, Product
from offlinekit_portal.office import DATABASE, open_authority
from offlinekit_portal.refusals import CODES, facts_of, refuse
from offlinekit_portal.totals import line_total, most_discount, net_price
from tests.portal.trading import CLAIMS, Device, Line, customer, device_of, office_from, stock


@define
class Kit:
    """A head office, one device, and one of its customers, who is not blocked and has credit."""

    office: Authority
    device: Device
    customer: Customer

    @property
    def now(self) -> Customer:
        return customer(self.office, self.customer.code)

    def last_number(self) -> int:
        return numbers_of(self.office)[-1]


def numbers_of(office: Authority) -> list[int]:
    return sorted(order.number or 0 for order in office.select(Order).limit(10_000).all())


def theirs(tx: Transaction, kit: Kit) -> Customer:
    """The customer inside a transaction of the head office's own."""
    found = tx.get(Customer, kit.customer.code)
    assert found is not None
    return found


@pytest.fixture
def kit(small_office: Path, tmp_path: Path) -> Iterator[Kit]:
    with office_from(small_office, tmp_path) as office:
        with office.transaction() as tx:
            for one in tx.select(Customer).where(Customer.rep == "R01").all():
                tx.update(one, blocked=False, credit_left=Decimal(5000))
        with device_of("R01", office, tmp_path / "device.db") as device:
            yield Kit(office, device, device.customers()[0])


def test_an_order_is_reckoned_anew_and_booked(kit: Kit) -> None:
    first, second, third = kit.device.prices(kit.customer)
    first.quantity, second.discount = 7, Decimal("2.50")
    before, last = {line.product: stock(kit.office, line.product) for line in (first, second, third)}, kit.last_number()
    id_ = kit.device.order(kit.customer, [first, second, third], note="portaria 2")

    order = kit.device.replica.get(Order, id_)
    assert order is not None
    wanted = [first.price * 7, net_price(second.price, Decimal("2.50")), third.price]
    items = kit.device.replica.select(OrderItem).where(OrderItem.order == id_).order_by(OrderItem.line).all()
    assert [item.total for item in items] == wanted
    assert order.total == sum(wanted)
    assert order.number == last + 1
    assert kit.device.replica.rejections() == []
    assert (kit.now.credit_left, kit.now.last_order, kit.now.last_total) == (5000 - order.total, order.placed, order.total)
    after = {code: stock(kit.office, code) for code in before}
    assert after == {code: max(0, had - (7 if code == first.product else 1)) for code, had in before.items()}
    assert kit.office.get(Order, id_) == order


def test_the_credit_may_be_used_up_to_the_last_cent_and_not_further(kit: Kit) -> None:
    (line,) = kit.device.prices(kit.customer, 1)
    with kit.office.transaction() as tx:
        tx.update(theirs(tx, kit), credit_left=line.price * 3)
    kit.device.order(kit.customer, [evolve(line, quantity=3)])
    assert kit.device.replica.rejections() == []
    assert kit.now.credit_left == 0
    last = kit.last_number()

    id_ = kit.device.order(kit.customer, [line])
    rejection, facts = kit.device.refusal()
    assert (rejection.code, rejection.fields) == ("credit", ("total",))
    assert facts == {"total": f"{line.price:.2f}", "left": "0.00"}
    assert kit.office.get(Order, id_) is None
    assert kit.now.credit_left == 0
    assert kit.last_number() == last


def test_a_refused_order_takes_no_number_and_no_stock(kit: Kit) -> None:
    (line,) = kit.device.prices(kit.customer, 1)
    had, last = stock(kit.office, line.product), kit.last_number()
    kit.device.order(kit.customer, [evolve(line, quantity=99_999)])
    assert kit.device.refusal()[0].code == "credit"
    assert (stock(kit.office, line.product), kit.last_number()) == (had, last)
    id_ = kit.device.order(kit.customer, [line])
    order = kit.office.get(Order, id_)
    assert order is not None
    assert order.number == last + 1


def test_a_price_that_changed_is_refused_with_both_and_goes_through_when_corrected(kit: Kit) -> None:
    lines = kit.device.prices(kit.customer)
    with kit.office.transaction() as tx:
        for line in lines[1:]:
            old = tx.get(Price, (line.product, kit.customer.price_list))
            assert old is not None
            tx.update(old, price=old.price + Decimal("0.10"))
    kit.device.order(kit.customer, lines)
    rejection, facts = kit.device.refusal()
    second = lines[1]
    name = kit.device.replica.get(Product, second.product).name  # type: ignore[union-attr]
    assert (rejection.code, rejection.fields) == ("price", ("price",))
    assert facts == {"line": 2, "product": second.product, "name": name, "sent": f"{second.price:.2f}",
                     "now": f"{second.price + Decimal('0.10'):.2f}", "more": 1}  # fmt: skip
    assert facts_of(rejection.message)[0] == f"{name} costs {facts['now']} now, not {facts['sent']}"

    with rejection.edit() as tx2:
        for item in [r for r in rejection.records if isinstance(r, OrderItem)]:
            fresh = kit.device.replica.get(Price, (item.product, kit.customer.price_list))
            assert fresh is not None
            tx2.update(item, price=fresh.price)
    kit.device.sync()
    assert kit.device.replica.rejections() == []
    assert kit.now.credit_left < 5000


@pytest.mark.parametrize("change", [Decimal("0.01"), Decimal("-0.01")])
def test_a_price_of_the_devices_own_is_refused(kit: Kit, change: Decimal) -> None:
    (line,) = kit.device.prices(kit.customer, 1)
    kit.device.order(kit.customer, [evolve(line, price=line.price + change)])
    assert kit.device.refusal()[0].code == "price"


def test_a_discount_below_the_lowest_price_is_refused_with_the_most_that_is_allowed(kit: Kit) -> None:
    (line,) = kit.device.prices(kit.customer, 1)
    product = kit.office.get(Product, line.product)
    assert product is not None
    most = most_discount(line.price, product.lowest)
    kit.device.order(kit.customer, [evolve(line, discount=most + 1)])
    rejection, facts = kit.device.refusal()
    assert (rejection.code, rejection.fields) == ("discount", ("discount",))
    assert facts == {"line": 1, "product": product.code, "name": product.name, "sent": f"{most + 1:.2f}", "most": f"{most:.2f}",
                     "lowest": f"{product.lowest:.2f}", "more": 0}  # fmt: skip
    with rejection.edit() as tx:
        for record in rejection.records:
            if isinstance(record, OrderItem):
                tx.update(record, discount=Decimal(str(facts["most"])))
    kit.device.sync()
    assert kit.device.replica.rejections() == []


def test_a_blocked_customer_is_refused(kit: Kit) -> None:
    with kit.office.transaction() as tx:
        tx.update(theirs(tx, kit), blocked=True)
    kit.device.order(kit.customer, kit.device.prices(kit.customer))
    rejection, facts = kit.device.refusal()
    assert (rejection.code, rejection.fields, facts) == ("blocked", ("customer",), {"customer": kit.customer.code})


def test_another_price_list_than_the_customers_is_refused(kit: Kit) -> None:
    other = "T90" if kit.customer.price_list != "T90" else "T10"
    kit.device.order(kit.customer, kit.device.prices(kit.customer), price_list=other)
    rejection, facts = kit.device.refusal()
    assert (rejection.code, rejection.fields) == ("list", ("price_list",))
    assert facts == {"sent": other, "now": kit.customer.price_list}


def test_a_term_and_a_product_that_are_not_there_are_refused(kit: Kit) -> None:
    kit.device.order(kit.customer, kit.device.prices(kit.customer), term="999")
    rejection, facts = kit.device.refusal()
    assert (rejection.code, facts) == ("term", {"sent": "999"})
    rejection.discard()
    kit.device.order(kit.customer, [*kit.device.prices(kit.customer, 1), Line("999999", Decimal(1))])
    rejection, facts = kit.device.refusal()
    assert (rejection.code, rejection.fields, facts) == ("unknown", ("product",), {"line": 2, "product": "999999"})


def test_a_product_without_a_price_in_the_list_is_refused(kit: Kit) -> None:
    (line,) = kit.device.prices(kit.customer, 1)
    with kit.office.transaction() as tx:
        price = tx.get(Price, (line.product, kit.customer.price_list))
        assert price is not None
        tx.delete(price)
    kit.device.order(kit.customer, [line])
    assert kit.device.refusal()[0].code == "unknown"


def test_somebody_elses_customer_and_one_that_is_not_there_are_refused_in_the_same_words(kit: Kit) -> None:
    with kit.office.transaction() as tx:
        other = tx.select(Customer).where(Customer.rep == "R02").first()
        assert other is not None
        tx.update(other, blocked=True, credit_left=Decimal(0))
    said = []
    for code in (other.code, "999999-01"):
        kit.device.order(kit.customer, kit.device.prices(kit.customer), customer=code, price_list="T20")
        rejection, _ = kit.device.refusal()
        said.append((rejection.code, rejection.message, rejection.fields))
        rejection.discard()
    assert said[0] == said[1]
    assert said[0][0] == "customer"


def test_an_order_without_lines_and_lines_without_their_order_are_refused(kit: Kit) -> None:
    kit.device.order(kit.customer, [])
    rejection, _ = kit.device.refusal()
    assert rejection.code == "empty"
    rejection.discard()
    id_ = kit.device.order(kit.customer, kit.device.prices(kit.customer, 1))
    total = kit.office.get(Order, id_)
    with kit.device.replica.transaction("place_order") as tx:  # goods smuggled into an order that was decided
        (line,) = kit.device.prices(kit.customer, 1)
        tx.insert(OrderItem(order=id_, line=2, product=line.product, quantity=9, price=line.price, total=Decimal(0)))
    kit.device.sync()
    assert kit.device.refusal()[0].code == "empty"
    assert kit.office.get(Order, id_) == total
    assert kit.office.select(OrderItem).where(OrderItem.order == id_).count() == 1


def test_a_devices_clock_that_is_ahead_dates_no_order_into_the_future(kit: Kit) -> None:
    today = datetime.now(ZoneInfo(ZONE)).date()
    id_ = kit.device.order(kit.customer, kit.device.prices(kit.customer), placed=today + timedelta(days=40))
    order = kit.office.get(Order, id_)
    assert order is not None
    assert today <= order.placed <= today + timedelta(days=1)  # midnight may pass meanwhile
    assert kit.now.last_order == order.placed


def test_an_older_order_that_comes_late_is_not_the_last(kit: Kit) -> None:
    with kit.office.transaction() as tx:
        tx.update(theirs(tx, kit), last_order=datetime.now(ZoneInfo(ZONE)).date(), last_total=Decimal("77.00"))
    kit.device.order(kit.customer, kit.device.prices(kit.customer), placed=datetime(2026, 1, 5).date())
    assert kit.now.last_total == Decimal("77.00")
    assert kit.now.credit_left < 5000, "it was booked"


def test_stock_never_falls_below_nothing_and_lines_of_one_product_count_together(kit: Kit) -> None:
    (line,) = kit.device.prices(kit.customer, 1)
    with kit.office.transaction() as tx:
        product = tx.get(Product, line.product)
        assert product is not None
        tx.update(product, stock=5)
    kit.device.order(kit.customer, [evolve(line, quantity=2), evolve(line, quantity=2)])
    assert stock(kit.office, line.product) == 1
    kit.device.order(kit.customer, [evolve(line, quantity=2)])
    assert stock(kit.office, line.product) == 0
    assert kit.device.replica.rejections() == []


def test_the_number_of_an_order_that_was_deleted_is_not_given_again(kit: Kit) -> None:
    lines = kit.device.prices(kit.customer, 1)
    order = kit.office.get(Order, kit.device.order(kit.customer, lines))
    assert order is not None
    assert order.number is not None
    with kit.office.transaction() as tx:
        tx.delete(order)
    after = kit.office.get(Order, kit.device.order(kit.customer, lines))
    assert after is not None
    assert after.number == order.number + 1


@pytest.mark.slow
def test_numbers_are_given_once_to_devices_that_send_at_once_to_two_processes(small_office: Path, tmp_path: Path) -> None:
    each = 8
    with ExitStack() as stack:
        office = stack.enter_context(office_from(small_office, tmp_path))
        second = open_authority(tmp_path / DATABASE, tmp_path / "files")
        stack.callback(second.close)
        with office.transaction() as tx:
            for one in tx.select(Customer).limit(1000).all():
                tx.update(one, blocked=False, credit_left=Decimal(100_000))
        last = numbers_of(office)[-1]
        devices = []
        for n, rep in enumerate(["R01", "R02", "R03", "R01"]):
            transport = Memory((office, second)[n % 2], lambda rep=rep: (rep, CLAIMS[rep]))  # type: ignore[misc]
            devices.append(stack.enter_context(device_of(rep, office, tmp_path / f"device{n}.db", transport)))

        def sell(device: Device) -> None:
            for one in (device.customers() * each)[:each]:
                device.order(one, device.prices(one, 2))

        threads = [threading.Thread(target=sell, args=(device,)) for device in devices]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [device.replica.rejections() for device in devices] == [[]] * 4
        numbers = numbers_of(office)
    assert numbers[-4 * each :] == list(range(last + 1, last + 1 + 4 * each))
    assert len(set(numbers)) == len(numbers)


# -- what it is made of


def test_figures_are_found_again_behind_any_words() -> None:
    reject = refuse("credit", "a message with { and } in it", ["total"], total=Decimal("12"), left=Decimal("3.5"))
    assert isinstance(reject, Reject)
    assert facts_of(reject.message)[1] == {"total": "12.00", "left": "3.50"}
    assert facts_of("somebody else's message") == ("somebody else's message", {})
    assert facts_of("with {braces}") == ("with {braces}", {})


def test_every_refusal_tells_the_figures_that_are_promised() -> None:
    with pytest.raises(AssertionError, match="tells total, left"):
        refuse("credit", "", [], total=Decimal(1))
    assert set(CODES) >= {"price", "blocked", "discount", "credit"}


@given(st.integers(1, 10**7), st.integers(1, 10**7))
def test_the_most_discount_keeps_the_net_price_at_the_lowest_and_is_the_most(price_cents: int, lowest_cents: int) -> None:
    price, lowest = Decimal(price_cents).scaleb(-2), Decimal(lowest_cents).scaleb(-2)
    most = most_discount(price, lowest)
    assert 0 <= most < 100
    if lowest <= price:
        assert net_price(price, most) >= lowest
        # A cent of rounding apart, a hundredth of a percent more is too much.
        assert price * (100 - most - Decimal("0.01")) / 100 < lowest + Decimal("0.01")


@given(st.integers(0, 10**7), st.integers(0, 10_000), st.integers(1, 99_999))
def test_a_line_comes_to_whole_cents(price_cents: int, hundredths: int, quantity: int) -> None:
    price, discount = Decimal(price_cents).scaleb(-2), Decimal(hundredths).scaleb(-2)
    total = line_total(price, discount, quantity)
    assert total == total.quantize(Decimal("0.01"))
    assert abs(total - price * quantity * (100 - discount) / 100) <= quantity * Decimal("0.005")
