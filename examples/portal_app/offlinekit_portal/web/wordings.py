"""What went wrong, in the reader's words: from the facts of an error, never from its English message, which is for the log."""

from __future__ import annotations

from collections.abc import Callable

from offlinekit import FilterError, InvalidValue, LimitExceeded, Status
from offlinekit import exceptions as e
from offlinekit.selection import PICKS_MAX, Selection
from offlinekit_portal.contract import offer, schema
from offlinekit_portal.plug import PlugUnreachable
from offlinekit_portal.web.i18n import decimal
from offlinekit_portal.web.i18n import gettext as _
from offlinekit_portal.web.registers import REGISTERS


class Said(FilterError):
    """A refusal of the portal's own: its text is in the reader's language already."""


def of(error: Exception) -> str:
    """What an error says to the reader."""
    if isinstance(error, Said):
        return str(error)
    for kind, words in WORDS.items():  # the nearest kind stands first
        if isinstance(error, kind):
            return words(error)
    return _("The portal's log has the reason. What you saved before is safe.")


def problem_of(selection: Selection) -> str:
    """What of a selection is not offered any more; empty when all of it is."""
    try:
        selection.check(schema, offer)
    except FilterError as error:
        return of(error)
    return ""


def trouble(status: Status | None) -> str:
    """Why the last try to sync did not go through, or what holds the next one up; empty when nothing does."""
    if status is None:
        return ""
    blocked = {
        "expired": _expired(),
        "held_back": _("The head office holds back an answer that would take unusually many records from this device."
                       " Speak to the head office."),
        "not_offered": _not_offered(e.NotOffered("")) + " " + _("Until you choose anew, nothing new is fetched."),
        "revoked": _("The head office has blocked this device. Speak to the head office; your orders stay here."),
    }  # fmt: skip
    if status.blocked:
        return blocked[status.blocked]
    if status.state == "error":
        return _("The last try did not succeed, for a reason that the portal's log has. It is tried again by itself.")
    if status.state == "offline":
        return _("The last try did not get through. It is tried again by itself.")
    return ""


def _expired() -> str:
    return _("The selection for this device has expired. Renew it, so that records are fetched again.")


def _register(collection: str) -> str:
    """What a collection is called; its name when it is none of the registers."""
    return next((_(r.label) for r in REGISTERS if r.name == collection), collection)


def _not_offered(error: e.NotOffered) -> str:
    name = error.choice
    if not name:
        return _("The head office no longer offers something that you chose.")
    known = (offer.quick.get(name), offer.includes.get(name), offer.advanced.get((error.collection, name)))
    choice = next((_(choice.label) for choice in known if choice is not None), name)
    return _(
        "The head office no longer offers “%(choice)s” of %(register)s.", choice=choice, register=_register(error.collection)
    )


def _filter(error: FilterError) -> str:
    advanced = offer.advanced.get((error.collection, error.field))
    if advanced is not None:
        return _("“%(field)s” cannot be compared like that.", field=_(advanced.label))
    return _("That filter cannot be applied. Load the page again and choose it anew.")


def _limit(error: LimitExceeded) -> str:
    if error.maximum == PICKS_MAX:
        return _("At most %(num)s single records can be ticked. Use a filter for more.", num=decimal(PICKS_MAX))
    return _("That is %(value)s, and at most %(most)s are possible.", value=decimal(error.value), most=decimal(error.maximum))


def _plug(error: PlugUnreachable) -> str:
    return _("The switch refused to change the line.") if error.status else _("The switch does not answer.")


WORDS: dict[type[Exception], Callable[..., str]] = {
    PlugUnreachable: _plug,
    e.NotOffered: _not_offered,
    FilterError: _filter,
    InvalidValue: lambda error: _("“%(value)s” does not fit this field.", value=str(error.value)[:40]),
    LimitExceeded: _limit,
    e.AlreadySent: lambda error: _("It was sent already and waits for the head office's answer."),
    e.SelectionExpired: lambda error: _expired(),
    e.NotAllowed: lambda error: _("The head office does not allow that."),
    e.RecordNotFound: lambda error: _("That record is not on this device any more."),
    e.StoreBusy: lambda error: _("Another program is using this device's records. Try again in a moment."),
    e.StoreFull: lambda error: _("The disk of this device is full. Free some space and try again; what you saved is safe."),
    e.StoreCorrupt: lambda error: _("The records on this device are damaged and were left untouched. Speak to your support."),
    e.StoreTooNew: lambda error: _("A newer portal wrote the records on this device. Update this one."),
    e.IdentityMismatch: lambda error: _("The records on this device belong to somebody else."),
    e.AuthenticationRequired: lambda error: _("Your sign-in has expired. Sign in again."),
    e.NotTheAuthority: lambda error: _("Something else answered in place of the head office, such as the sign-in page of a public"
                                       " network. Open that network's page first."),
    e.TooLarge: lambda error: _("That is too much at once. Choose less."),
    e.TransportError: lambda error: _("The head office did not answer. Try again when the connection is back."),
    e.VersionNotSupported: lambda error: _("Portal and head office are of different versions. Update the older one."),
    e.ProtocolError: lambda error: _("The head office gave an answer that this portal does not understand. Try again later."),
}  # fmt: skip
