"""Why the head office refused an order, in the reader's words; the figures come with the refusal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import TypeAlias

from attrs import frozen

from offlinekit import Rejection
from offlinekit_portal.refusals import facts_of
from offlinekit_portal.web.i18n import decimal, money, ngettext
from offlinekit_portal.web.i18n import gettext as _

Facts: TypeAlias = Mapping[str, "str | int"]


@frozen
class Reason:
    """A refusal in words: what is wrong, what it is about, what to do; and the value sent beside the one that counts now."""

    title: str
    text: str
    hint: str
    about: str = ""
    sent: str = ""
    now: str = ""
    theirs: str = ""  # the head office's own words, in whatever language, where there are none of ours


def of(refusal: Rejection) -> Reason:
    """The reason of a refusal, in words of ours; where these lack figures, the head office's own words go along."""
    said, facts = facts_of(refusal.message)
    make = KNOWN.get(refusal.code)
    try:
        if make is not None:
            return make(facts)
    except (KeyError, ValueError, InvalidOperation):
        pass  # the figures are not those that this portal knows
    title, text, hint = _plain(refusal.code)
    return Reason(title, text, hint, theirs="" if text else said)


def _amount(facts: Facts, name: str) -> str:
    return money(Decimal(str(facts[name])))


def _percent(facts: Facts, name: str) -> str:
    return f"{decimal(Decimal(str(facts[name])))} %"


def _also(facts: Facts) -> str:
    count = int(facts.get("more", 0))
    return "" if not count else ngettext("The same goes for %(num)s more line.", "The same goes for %(num)s more lines.", count)


def _credit(facts: Facts) -> Reason:
    total, left = _amount(facts, "total"), _amount(facts, "left")
    return Reason(
        _("The order is over the customer's credit."),
        _("The order comes to %(total)s; the customer may still buy for %(left)s.", total=total, left=left),
        _("Take something out of the order until it fits, or agree on a payment first and send it again."),
        _("Order total"), total, left,
    )  # fmt: skip


def _price(facts: Facts) -> Reason:
    sent, now, name = _amount(facts, "sent"), _amount(facts, "now"), str(facts["name"])
    return Reason(
        _("A price has changed."),
        _("%(name)s was sent at %(sent)s; the price list says %(now)s now.", name=name, sent=sent, now=now),
        _("Correct the order and take today's prices. %(also)s", also=_also(facts)).strip(),
        _("Price of %(name)s", name=name), sent, now,
    )  # fmt: skip


def _discount(facts: Facts) -> Reason:
    sent, most, name = _percent(facts, "sent"), _percent(facts, "most"), str(facts["name"])
    return Reason(
        _("A discount is too high."),
        _("%(name)s was sent with %(sent)s off; at most %(most)s may be given.", name=name, sent=sent, most=most),
        _("Correct the discount and send the order again. %(also)s", also=_also(facts)).strip(),
        _("Discount on %(name)s", name=name), sent, most,
    )  # fmt: skip


def _list(facts: Facts) -> Reason:
    return Reason(
        _("The customer buys by another price list now."),
        _("The order was made by the list %(sent)s; the customer's list is %(now)s.", sent=facts["sent"], now=facts["now"]),
        _("Correct the order: its lines then take the prices of the new list."),
        _("Price list"), str(facts["sent"]), str(facts["now"]),
    )  # fmt: skip


def _unknown(facts: Facts) -> Reason:
    return Reason(
        _("A product is not sold any more."),
        _("Line %(line)s: there is no product %(product)s.", line=facts["line"], product=facts["product"]),
        _("Take the line out and send the order again."),
        _("Product"), str(facts["product"]), "–",
    )  # fmt: skip


def _blocked(facts: Facts) -> Reason:
    return Reason(
        _("The customer is blocked."),
        _("The head office takes no orders for this customer at the moment."),
        _("Speak to the head office; when the customer is released, send the order again."),
        _("Customer"), str(facts["customer"]), _("blocked"),
    )  # fmt: skip


KNOWN: dict[str, Callable[[Facts], Reason]] = {
    "credit": _credit, "price": _price, "discount": _discount, "list": _list, "unknown": _unknown, "blocked": _blocked,
}  # fmt: skip


def _plain(code: str) -> tuple[str, str, str]:
    """Title, text and hint for refusals without figures; an empty text says no more than the title."""
    resend = _("Look at the order and send it again, or discard it.")
    return {
        "credit": (_("The order is over the customer's credit."), "", resend),
        "price": (_("A price has changed."), "", _("Correct the order and take today's prices.")),
        "discount": (_("A discount is too high."), "", _("Correct the discount and send the order again.")),
        "blocked": (_("The customer is blocked."), "", _("Speak to the head office.")),
        "customer": (_("The customer is not yours."), _("The head office knows no such customer in your portfolio."),
                     _("Speak to the head office, or discard the order.")),
        "term": (_("The payment term is gone."), _("The head office does not offer the payment term of this order any more."),
                 _("Correct the order: it then takes the customer's payment term.")),
        "list": (_("The customer buys by another price list now."), "", _("Correct the order and take today's prices.")),
        "unknown": (_("A product is not sold any more."), "", _("Take the line out and send the order again.")),
        "empty": (_("The order has no lines."), _("The head office received an order without lines."), resend),
        "not_allowed": (_("This order may not be placed."),
                        _("The customer is not yours any more, or you may not place such an order."),
                        _("Speak to the head office, or discard the order.")),
        "invalid": (_("Something in the order does not fit."), "", _("Correct the order and send it again.")),
        "exists": (_("The head office has this order already."), _("An order with the same identity is there."),
                   _("Discard this copy.")),
        "stale": (_("The order was changed at the head office meanwhile."), "", resend),
        "constraint": (_("A rule of the head office refuses this order."), "", _("Correct the order and send it again.")),
        "internal": (_("The head office could not process the order."), _("It failed several times; the order is not lost."),
                     _("Send it again later.")),
        "dependency_discarded": (_("The order needed another one that was discarded."), "", resend),
        "dependency_withdrawn": (_("The order needed another one that was taken back."), "", resend),
    }.get(code, (_("The head office refused the order."), "", resend))  # fmt: skip
