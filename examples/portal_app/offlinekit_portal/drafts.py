"""Orders being written: kept on this device at every change, and turned into an order to send in one transaction."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

from attrs import frozen

from offlinekit import AlreadySent, Collection, Replica, SelectionExpired, Transaction, desc
from offlinekit_portal.contract import Customer, Draft, DraftItem, Order, OrderItem, Price, Product, Setting
from offlinekit_portal.totals import line_total, net_price

COUNTER = "last local number"
QUANTITY_MAX = 99_999
LINES_MAX = 400
NOTE_MAX = 500
FOUND_MAX = 12
LATEST_MAX = 200
C = TypeVar("C", bound=Collection)


class Gone(Exception):
    """The draft is no more: it became an order, or was deleted."""


class Left(Exception):
    """The order that a draft was to replace has been sent meanwhile."""


class Wrong(Exception):
    """A draft cannot be saved: `fields` names what to correct and why, as codes."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__(", ".join(f"{name}: {code}" for name, code in fields.items()))
        self.fields = dict(fields)


@frozen
class Paid:
    """What a customer last paid for a product."""

    price: Decimal
    placed: date


@frozen
class Line:
    """A line of a draft as the page shows it; `today` is the price by the customer's list now, if there is one."""

    item: DraftItem
    product: Product | None
    today: Decimal | None
    paid: Paid | None

    @property
    def total(self) -> Decimal:
        """What it comes to."""
        return line_total(self.item.price, self.item.discount, self.item.quantity)

    @property
    def name(self) -> str:
        """The product's name, or its code while it cannot be read."""
        return self.product.name if self.product else self.item.product

    @property
    def repriced(self) -> bool:
        """Whether the list has another price by now."""
        return self.today is not None and self.today != self.item.price


@frozen
class Sums:
    """What a draft comes to."""

    lines: int
    units: int
    gross: Decimal
    total: Decimal

    @property
    def off(self) -> Decimal:
        """What the discounts take off."""
        return self.gross - self.total


@frozen
class Hit:
    """A product that the search found, with its price for the customer."""

    product: Product
    price: Decimal
    paid: Paid | None


def sums(items: Iterable[DraftItem]) -> Sums:
    """The sums over lines."""
    found = list(items)
    return Sums(len(found), sum(i.quantity for i in found), sum((i.price * i.quantity for i in found), Decimal(0)),
                sum((line_total(i.price, i.discount, i.quantity) for i in found), Decimal(0)))  # fmt: skip


def quantity_of(text: str) -> int | None:
    """A quantity as typed, or None: whole, at least one; thousands may be grouped."""
    plain = re.sub(r"[.\s](?=\d{3}(\D|$))", "", text)
    return int(plain) if re.fullmatch(r"[0-9]{1,6}", plain) and 1 <= int(plain) <= QUANTITY_MAX else None


def discount_of(text: str) -> Decimal | None:
    """A discount in percent as typed, or None: from nothing to all of it, with a comma or a point."""
    plain = text.strip().removesuffix("%").strip().replace(",", ".") or "0"
    return Decimal(plain) if re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,2})?", plain) and Decimal(plain) <= 100 else None


# -- reading


def readable(replica: Replica, cls: type[C], key: object) -> C | None:
    """A record, or None also while the selection has expired: a draft stays readable with codes for names."""
    with contextlib.suppress(SelectionExpired):
        return replica.get(cls, key)
    return None


def find(replica: Replica, draft: UUID) -> Draft:
    """A draft; raises Gone."""
    found = replica.get(Draft, draft)
    if found is None:
        raise Gone(draft)
    return found


def items_of(replica: Replica, draft: UUID) -> list[DraftItem]:
    """Its lines in order."""
    return list(replica.select(DraftItem).where(DraftItem.draft == draft).order_by(DraftItem.line).all())


def lines_of(replica: Replica, draft: Draft) -> list[Line]:
    """Its lines with what the device knows about the products."""
    items = items_of(replica, draft.id)
    customer = readable(replica, Customer, draft.customer)
    codes = [i.product for i in items]
    prices = prices_of(replica, customer.price_list, codes) if customer else {}
    paid = last_paid(replica, draft.customer, codes)
    return [Line(i, readable(replica, Product, i.product), prices.get(i.product), paid.get(i.product)) for i in items]


def prices_of(replica: Replica, price_list: str, codes: list[str]) -> dict[str, Decimal]:
    """The prices of products by a list."""
    with contextlib.suppress(SelectionExpired):
        found = replica.select(Price).where(Price.price_list == price_list, Price.product.is_in(codes)).all() if codes else []
        return {p.product: p.price for p in found}
    return {}


def last_paid(replica: Replica, customer: str, codes: list[str]) -> dict[str, Paid]:
    """What the customer last paid for each of the products, as far as the orders on this device tell."""
    with contextlib.suppress(SelectionExpired):
        if not codes:
            return {}
        orders = replica.select(Order).where(Order.customer == customer).order_by(desc(Order.placed)).limit(LATEST_MAX).all()
        placed = {o.id: o.placed for o in orders}
        items = replica.select(OrderItem).where(
            OrderItem.product.is_in(codes), OrderItem.order.within(Order.customer == customer)
        )
        latest: dict[str, Paid] = {}
        for item in items.all():
            day = placed.get(item.order)
            if day is not None and (item.product not in latest or latest[item.product].placed < day):
                latest[item.product] = Paid(net_price(item.price, item.discount), day)
        return latest
    return {}


def search(replica: Replica, customer: Customer, text: str) -> list[Hit]:
    """Products with a price for the customer: codes that begin with the digits first, then words, a limited number."""
    priced = Price.product.some(Price.price_list == customer.price_list)
    found: dict[str, Product] = {}
    if text.isdecimal():
        by_code = replica.select(Product).where(Product.code.starts_with(text), priced)
        found = {p.code: p for p in by_code.order_by(Product.code).limit(FOUND_MAX).all()}
    if len(found) < FOUND_MAX:
        by_words = replica.select(Product).where(priced).search(text).order_by(Product.name).limit(FOUND_MAX)
        found |= {p.code: p for p in by_words.all()}
    products = list(found.values())[:FOUND_MAX]
    codes = [p.code for p in products]
    prices, paid = prices_of(replica, customer.price_list, codes), last_paid(replica, customer.code, codes)
    return [Hit(p, prices[p.code], paid.get(p.code)) for p in products if p.code in prices]


# -- writing: each change is durable when the call returns


def begin(replica: Replica, customer: str) -> Draft:
    """A new draft with the device's next number, which is never given twice, not even after the draft is deleted.

    A draft for the customer that is still empty is taken up again, so that going back and forth uses up no numbers.
    """
    with replica.transaction() as tx:
        for open_ in tx.select(Draft).where(Draft.customer == customer, Draft.corrects.is_null()).all():
            if tx.select(DraftItem).where(DraftItem.draft == open_.id).count() == 0:
                return open_
        last = tx.get(Setting, COUNTER)
        number = int(last.value) + 1 if last else 1
        if last:
            tx.update(last, value=str(number))
        else:
            tx.insert(Setting(name=COUNTER, value=str(number)))
        return tx.insert(Draft(customer=customer, local_number=f"OFF-{number:04}", saved_at=replica.now()))


def _touch(replica: Replica, tx: Transaction, draft: UUID) -> Draft:
    found = tx.get(Draft, draft)
    if found is None:
        raise Gone(draft)
    return tx.update(found, saved_at=replica.now())


def add(replica: Replica, draft: UUID, product: str) -> tuple[DraftItem, bool]:
    """Adds a product at today's price; returns its line, and whether it is new: a product has one line."""
    with replica.transaction() as tx:
        found = _touch(replica, tx, draft)
        customer = tx.get(Customer, found.customer)
        price = tx.get(Price, (product, customer.price_list)) if customer else None
        if price is None:
            raise Wrong({"product": "unpriced"})
        items = tx.select(DraftItem).where(DraftItem.draft == draft).all()
        there = next((i for i in items if i.product == product), None)
        if there is not None:
            return there, False
        if len(items) >= LINES_MAX:
            raise Wrong({"product": "full"})
        line = max((i.line for i in items), default=0) + 1
        return tx.insert(DraftItem(draft=draft, line=line, product=product, quantity=1, price=price.price)), True


def keep(replica: Replica, draft: UUID, lines: Mapping[int, Mapping[str, Any]], **values: object) -> None:
    """Keeps what was typed: quantities and discounts by line, the delivery date, the note."""
    with replica.transaction() as tx:
        tx.update(_touch(replica, tx, draft), **values)
        for line, typed in lines.items():
            item = tx.get(DraftItem, (draft, line))
            if item is not None:
                tx.update(item, **typed)


def remove(replica: Replica, draft: UUID, line: int) -> None:
    """Removes a line."""
    with replica.transaction() as tx:
        _touch(replica, tx, draft)
        item = tx.get(DraftItem, (draft, line))
        if item is not None:
            tx.delete(item)


def reprice(replica: Replica, draft: UUID) -> int:
    """Takes today's prices for all lines; returns how many changed."""
    lines = [line for line in lines_of(replica, find(replica, draft)) if line.repriced]
    with replica.transaction() as tx:
        _touch(replica, tx, draft)
        for line in lines:
            tx.update(line.item, price=line.today)
    return len(lines)


def last_order(replica: Replica, customer: str) -> Order | None:
    """The customer's latest order on this device."""
    with contextlib.suppress(SelectionExpired):
        return replica.select(Order).where(Order.customer == customer).order_by(desc(Order.placed), desc(Order.id)).first()
    return None


def repeat(replica: Replica, draft: UUID) -> tuple[int, int]:
    """Adds what the customer ordered last, at today's prices; returns how many lines were added and how many could not be."""
    found = find(replica, draft)
    customer, latest = replica.get(Customer, found.customer), last_order(replica, found.customer)
    if customer is None or latest is None:
        return 0, 0
    bought = replica.select(OrderItem).where(OrderItem.order == latest.id).order_by(OrderItem.line).all()
    prices = prices_of(replica, customer.price_list, [i.product for i in bought])
    with replica.transaction() as tx:
        _touch(replica, tx, draft)
        items = tx.select(DraftItem).where(DraftItem.draft == draft).all()
        there, line = {i.product for i in items}, max((i.line for i in items), default=0)
        wanted = [i for i in bought if i.product not in there]
        for item in wanted:
            if item.product in prices:
                line += 1
                tx.insert(DraftItem(draft=draft, line=line, product=item.product, quantity=item.quantity,
                                    price=prices[item.product], discount=item.discount))  # fmt: skip
    return sum(i.product in prices for i in wanted), sum(i.product not in prices for i in wanted)


def delete(replica: Replica, draft: UUID) -> None:
    """Deletes a draft; its number is not given again."""
    with replica.transaction() as tx:
        _drop(tx, draft)


def _drop(tx: Transaction, draft: UUID) -> None:
    for item in tx.select(DraftItem).where(DraftItem.draft == draft).all():
        tx.delete(item)
    found = tx.get(Draft, draft)
    if found is not None:
        tx.delete(found)


# -- from draft to order, and back


def save(replica: Replica, draft_id: UUID, today: date) -> Order:
    """Turns a draft into an order to send: order, lines and the end of the draft in one transaction.

    The order has the draft's id, so that saving twice cannot make two. Raises Wrong, Gone, Left or SelectionExpired.
    """
    draft, items = find(replica, draft_id), items_of(replica, draft_id)
    wrong = {} if items else {"product": "empty"}
    if draft.delivery is not None and draft.delivery < today:
        wrong["delivery"] = "past"
    if wrong:
        raise Wrong(wrong)
    replaced = None if draft.corrects is None else replica.mutation(draft.corrects)
    state = None if replaced is None else replaced.state
    if state in ("accepted", "transformed") or (state is None and readable(replica, Order, draft_id) is not None):
        raise Left(draft_id)
    customer = readable(replica, Customer, draft.customer)
    try:
        if replaced is None or state is None:  # known no more: withdrawn, and what it was to send exists in this draft alone
            with replica.transaction("place_order") as tx:
                order = _place(tx, draft, items, customer, today)
                _drop(tx, draft_id)
        else:
            before = _replaced(replica, replaced.id, draft_id)
            if not before:
                raise Left(draft_id)
            with replaced.edit() as tx:
                order = _correct(tx, draft, items, customer, today, before)
                _drop(tx, draft_id)
    except AlreadySent as error:
        raise Left(draft_id) from error
    return order


def _replaced(replica: Replica, mutation: UUID, order: UUID) -> list[Order | OrderItem]:
    """The records of the order that a draft replaces, read before the transaction: out of view, or not sent yet."""
    refusal = next((r for r in replica.rejections() if r.id == mutation), None)
    if refusal is not None:
        return [r for r in refusal.records if isinstance(r, Order | OrderItem)]
    found = replica.get(Order, order)
    items = replica.select(OrderItem).where(OrderItem.order == order).all()
    return [found, *items] if found is not None else []


def _place(tx: Transaction, draft: Draft, items: list[DraftItem], customer: Customer | None, today: date) -> Order:
    if customer is None:
        raise Wrong({"product": "customer"})
    order = tx.insert(Order(id=draft.id, customer=draft.customer, price_list=customer.price_list, term=customer.term,
                            placed=today, delivery=draft.delivery, note=draft.note, local_number=draft.local_number,
                            total=sums(items).total))  # fmt: skip
    _insert_lines(tx, draft, items)
    return order


def _correct(tx: Transaction, draft: Draft, items: list[DraftItem], customer: Customer | None, today: date,
             before: list[Order | OrderItem]) -> Order:  # fmt: skip
    """Writes the draft over the order that it replaces, by what the customer buys by now if that can be read."""
    order = next(r for r in before if isinstance(r, Order))
    terms = {"price_list": customer.price_list, "term": customer.term} if customer else {}
    order = tx.update(order, placed=today, delivery=draft.delivery, note=draft.note, total=sums(items).total, **terms)
    for old in before:
        if isinstance(old, OrderItem):
            tx.delete(old)
    _insert_lines(tx, draft, items)
    return order


def _insert_lines(tx: Transaction, draft: Draft, items: list[DraftItem]) -> None:
    for line, i in enumerate(items, 1):
        tx.insert(OrderItem(order=draft.id, line=line, product=i.product, quantity=i.quantity, price=i.price,
                            discount=i.discount, total=line_total(i.price, i.discount, i.quantity)))  # fmt: skip


def reopen(replica: Replica, mutation: UUID, order: Order, items: Iterable[OrderItem]) -> Draft:
    """A draft that starts from an order which was refused or is not sent yet, and will replace it; the same one when asked again.

    An order that is not sent yet is taken back, so that it does not leave while it is being changed. The draft is written
    first: whatever ends the program in between, the order exists once. Raises Left.
    """
    there = replica.get(Draft, order.id)
    if there is None:
        with replica.transaction() as tx:
            there = tx.insert(Draft(id=order.id, customer=order.customer, local_number=order.local_number,
                                    delivery=order.delivery, note=order.note, saved_at=replica.now(),
                                    corrects=mutation))  # fmt: skip
            for i in items:
                tx.insert(DraftItem(draft=order.id, line=i.line, product=i.product, quantity=i.quantity, price=i.price,
                                    discount=i.discount))  # fmt: skip
    handle = replica.mutation(mutation)
    if handle.state == "pending":
        try:
            handle.withdraw()
        except AlreadySent as error:
            delete(replica, order.id)
            raise Left(order.id) from error
        with replica.transaction() as tx:
            there = tx.update(there, corrects=None)  # nothing is left that it would replace
    return there
