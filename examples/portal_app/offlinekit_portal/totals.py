"""What an order comes to; the device and the head office reckon alike."""

from __future__ import annotations

from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal

__all__ = ["line_total", "most_discount", "net_price"]

CENT = Decimal("0.01")
HUNDRED = Decimal(100)


def net_price(price: Decimal, discount: Decimal) -> Decimal:
    """A price after a discount in percent, to the cent."""
    return (price * (HUNDRED - discount) / HUNDRED).quantize(CENT, ROUND_HALF_UP)


def line_total(price: Decimal, discount: Decimal, quantity: int) -> Decimal:
    """What a line comes to: the net price, as it is printed, times the quantity."""
    return net_price(price, discount) * quantity


def most_discount(price: Decimal, lowest: Decimal) -> Decimal:
    """The largest discount in percent, to two digits, that keeps the net price at `lowest` or above."""
    if price <= lowest or price == 0:
        return Decimal(0)
    return ((price - lowest) * HUNDRED / price).quantize(CENT, ROUND_DOWN)
