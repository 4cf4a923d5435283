"""The head office's refusals, with their figures where a program finds them.

A refusal carries a code, the fields to look at, and a message in English. The figures follow the message as JSON, so that the
portal can say the same in the user's language: `facts_of(rejection.message)`.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import msgspec

from offlinekit import Reject

__all__ = ["CODES", "facts_of", "refuse"]

# Each code of this head office, and what its figures are called. Amounts are texts such as "12.90".
CODES: dict[str, tuple[str, ...]] = {
    "empty": (),
    "customer": (),
    "blocked": ("customer",),
    "term": ("sent",),
    "unknown": ("line", "product"),
    "list": ("sent", "now"),
    "price": ("line", "product", "name", "sent", "now", "more"),
    "discount": ("line", "product", "name", "sent", "most", "lowest", "more"),
    "credit": ("total", "left"),
}


def refuse(code: str, message: str, fields: Iterable[Any], **facts: str | int | Decimal) -> Reject:
    """A refusal to be raised; `facts` are those that CODES names for the code."""
    assert set(facts) == set(CODES[code]), f"a refusal '{code}' tells {', '.join(CODES[code])}"
    told = {name: f"{fact:.2f}" if isinstance(fact, Decimal) else fact for name, fact in facts.items()}
    return Reject(code, f"{message} {msgspec.json.encode(told).decode()}" if told else message, fields=fields)


def facts_of(message: str) -> tuple[str, dict[str, str | int]]:
    """The message for people and the figures in it; no figures when the message is somebody else's."""
    at = message.find(" {")
    while at >= 0:  # words may hold braces as well: the figures are what can be read as such, to the end
        try:
            return message[:at], msgspec.json.decode(message[at + 1 :], type=dict[str, str | int])
        except msgspec.MsgspecError:
            at = message.find(" {", at + 1)
    return message, {}
