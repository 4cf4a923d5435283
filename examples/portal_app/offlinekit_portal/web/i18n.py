"""Languages: gettext catalogues compiled when they are read, and numbers, dates and money as the reader writes them."""

from __future__ import annotations

import io
from contextvars import ContextVar
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from importlib.resources import files

from attrs import frozen
from babel import negotiate_locale
from babel.dates import format_date, format_time
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal
from babel.support import Translations

LANGUAGES = {"pt_BR": "PT", "es": "ES", "en": "EN"}
NAMES = {"pt_BR": "Português", "es": "Español", "en": "English"}
DEFAULT = "pt_BR"
current: ContextVar[str] = ContextVar("language", default=DEFAULT)


@cache
def catalogue(language: str) -> Translations:
    """The texts of a language; the texts in the sources are the English ones."""
    source = files("offlinekit_portal") / "locale" / language / "LC_MESSAGES" / "portal.po"
    compiled = io.BytesIO()
    write_mo(compiled, read_po(io.BytesIO(source.read_bytes()), locale=language))
    compiled.seek(0)
    return Translations(compiled, domain="portal")


def gettext(text: str, **values: object) -> str:
    """A text in the reader's language."""
    said = catalogue(current.get()).gettext(text) if text else ""
    return said % values if values else said


def ngettext(one: str, many: str, number: int, **values: object) -> str:
    """A text that depends on a number, which it may name as %(num)s."""
    said = catalogue(current.get()).ngettext(one, many, number)
    return said % {"num": decimal(number), **values}


def choose(wanted: str | None, accepted: str) -> str:
    """The language: what the reader chose, else the first accepted by the browser that there is."""
    if wanted in LANGUAGES:
        return str(wanted)
    asked = [part.split(";")[0].strip().replace("-", "_") for part in accepted.split(",")[:10]]
    return negotiate_locale([a for a in asked if a], list(LANGUAGES)) or DEFAULT


def tag() -> str:
    """The language as HTML names it."""
    return current.get().replace("_", "-")


def decimal(value: float | Decimal, pattern: str | None = None) -> str:
    """A number."""
    return format_decimal(value, pattern, locale=current.get())


def money(value: Decimal | None) -> str:
    """An amount in reais: the currency is that of the data, only the digits follow the reader."""
    if value is None:
        return "–"
    sign = "-" if value < 0 else ""
    return f"{sign}R$\xa0{format_decimal(abs(value), '#,##0.00', locale=current.get())}"


def day(value: date | None) -> str:
    """A date, short."""
    pattern = "dd/MM/yyyy" if current.get() != "en" else "MMM d, y"
    return "–" if value is None else format_date(value, pattern, locale=current.get())


def clock(value: datetime | None) -> str:
    """A time of the day."""
    return "–" if value is None else format_time(value, "HH:mm", locale=current.get())


def size(count: float) -> str:
    """Bytes in the unit that a person would choose."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if count >= factor:
            return f"{decimal(count / factor, '#,##0.0' if count < 100 * factor else '#,##0')}\xa0{unit}"
    return f"{int(count)} B"


@frozen
class Words:
    """What templates call; each follows the language of the page under way."""

    money = staticmethod(money)
    day = staticmethod(day)
    clock = staticmethod(clock)
    number = staticmethod(decimal)
    size = staticmethod(size)
    tag = staticmethod(tag)
