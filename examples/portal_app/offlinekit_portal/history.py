"""A year of past orders of a made-up company: who buys often, what sells best, and what follows from it."""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from itertools import accumulate
from uuid import UUID

from attrs import define, frozen

from offlinekit import Collection
from offlinekit_portal.contract import YEAR_DAYS, Order, OrderItem
from offlinekit_portal.goods import Good
from offlinekit_portal.places import PRICE_LISTS

__all__ = ["FIRST_NUMBER", "History", "Past"]

FIRST_NUMBER = 40_001
SUNDAY = 6
# Prices rose in the middle of the year: what older orders paid, in hundredths of today's list.
RISE_DAYS, OLDER_PRICE = 170, 96
DISCOUNTS, DISCOUNT_WEIGHTS = (0, 2, 3, 5, 8), (70, 8, 8, 9, 5)
LINES = (2, 9)
ASSORTMENT = (12, 40)
STEEPNESS, HEAD = 0.95, 12  # of how sales fall from the best seller on
CURVE_A, CURVE_B = 0.80, 0.95  # shares of what is sold


@frozen
class Past:
    """What of a customer decides its orders; `orders` a year and the worth of a line in reais are ranges."""

    code: str
    term: str
    price_list: str
    families: Sequence[str]
    orders: tuple[int, int]
    line: tuple[int, int]


@define
class _Line:
    product: Good
    quantity: int
    price: int
    discount: int
    total: int


@define
class _Sale:
    past: Past
    placed: date
    id: UUID
    lines: list[_Line]
    total: int
    number: int = 0


class History:
    """Draws the orders; amounts are in cents."""

    def __init__(self, goods: Sequence[Good], pasts: Iterable[Past], today: date, chance: random.Random) -> None:
        self._today, self._chance, self._goods = today, chance, goods
        self._factors = {code: factor for code, _, factor in PRICE_LISTS}
        ranks = list(range(len(goods)))
        chance.shuffle(ranks)
        self._shelves: dict[str, tuple[list[Good], list[float]]] = {}
        for family in {g.family: None for g in goods}:
            shelf = [(g, (rank + HEAD) ** -STEEPNESS) for g, rank in zip(goods, ranks, strict=True) if g.family == family]
            self._shelves[family] = [g for g, _ in shelf], list(accumulate(weight for _, weight in shelf))
        self._sales = [sale for past in pasts for sale in self._sales_of(past)]
        self._sales.sort(key=lambda sale: (sale.placed, sale.past.code, sale.id))
        self._by_customer: dict[str, list[_Sale]] = {}
        for number, sale in enumerate(self._sales, FIRST_NUMBER):
            sale.number = number
            self._by_customer.setdefault(sale.past.code, []).append(sale)

    def _sales_of(self, past: Past) -> list[_Sale]:
        chance = self._chance
        count = chance.randint(*past.orders)
        assortment = self._assortment(past) if count else []
        return [self._sell(past, assortment) for _ in range(count)]

    def _assortment(self, past: Past) -> list[Good]:
        """What a customer buys again and again: the best sellers of its families, mostly."""
        chance, found = self._chance, dict[str, Good]()
        shelves = [self._shelves[family] for family in past.families if family in self._shelves] or list(self._shelves.values())
        for _ in range(chance.randint(*ASSORTMENT)):
            goods, weights = chance.choice(shelves)
            good = goods[bisect(weights, chance.random() * weights[-1], hi=len(goods) - 1)]
            found[good.code] = good
        return list(found.values())

    def _sell(self, past: Past, assortment: Sequence[Good]) -> _Sale:
        chance = self._chance
        placed = self._today - timedelta(days=chance.randrange(1, YEAR_DAYS))
        if placed.weekday() == SUNDAY:
            placed -= timedelta(days=1)
        older = OLDER_PRICE if (self._today - placed).days > RISE_DAYS else 100
        lines = []
        for good in chance.sample(assortment, min(len(assortment), chance.randint(*LINES))):
            if good.launched > placed:
                continue
            price = good.price_by(self._factors[past.price_list]) * older // 100
            discount = chance.choices(DISCOUNTS, DISCOUNT_WEIGHTS)[0]
            quantity = max(1, min(500, chance.randrange(*past.line) * 100 // price))
            lines.append(_Line(good, quantity, price, discount, _net(price, discount) * quantity))
        if not lines:  # all that was drawn is newer than the order
            good = min(assortment, key=lambda g: g.launched)
            price = good.price_by(self._factors[past.price_list])
            lines.append(_Line(good, 1, price, 0, price))
        return _Sale(past, placed, UUID(int=chance.getrandbits(128), version=4), lines, sum(line.total for line in lines))

    # -- what follows from it

    def curves(self) -> dict[str, str]:
        """For each product A, B or C: the best sellers that make 80 % of what is sold, those up to 95 %, the rest."""
        sold = dict.fromkeys((g.code for g in self._goods), 0)
        for sale in self._sales:
            for line in sale.lines:
                sold[line.product.code] += line.total
        whole, so_far, curves = sum(sold.values()), 0, {}
        for code in sorted(sold, key=lambda code: (-sold[code], code)):
            share = so_far / whole if whole else 1.0
            curves[code] = "C" if not sold[code] or share >= CURVE_B else "A" if share < CURVE_A else "B"
            so_far += sold[code]
        return curves

    def last(self, customer: str) -> tuple[date, int] | None:
        """Day and amount of a customer's last order."""
        sales = self._by_customer.get(customer)
        return (sales[-1].placed, sales[-1].total) if sales else None

    def since(self, customer: str, day: date) -> int:
        """What a customer bought from a day on."""
        return sum(sale.total for sale in self._by_customer.get(customer, ()) if sale.placed >= day)

    # -- records

    def orders(self) -> list[Collection]:
        """The orders, oldest first."""
        return [
            Order(id=s.id, customer=s.past.code, price_list=s.past.price_list, term=s.past.term, placed=s.placed,
                  delivery=s.placed + timedelta(days=3 + s.number % 9), total=_money(s.total), number=s.number)
            for s in self._sales
        ]  # fmt: skip

    def items(self) -> list[Collection]:
        """The lines of the orders, in the order of these."""
        return [
            OrderItem(order=s.id, line=n, product=line.product.code, quantity=line.quantity, price=_money(line.price),
                      discount=Decimal(line.discount), total=_money(line.total))
            for s in self._sales for n, line in enumerate(s.lines, 1)
        ]  # fmt: skip


def _net(price: int, discount: int) -> int:
    """The price in cents after a discount in percent."""
    return int((Decimal(price) * (100 - discount) / 100).quantize(Decimal(1), ROUND_HALF_UP)) if discount else price


def _money(cents: int) -> Decimal:
    return Decimal(cents).scaleb(-2)
