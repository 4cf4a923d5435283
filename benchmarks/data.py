"""The data of all benchmarks, from one seed: record `n` is a function of `n`, so that every process can tell what is right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["BRANDS", "CUSTOMER", "GROUPS", "PRODUCT", "SEED", "WORDS", "customer", "customers_of", "product", "products"]

SEED = 20261124
GROUPS, BRANDS = 200, 1000
PRODUCT = (
    "code", "description", "group", "unit", "price", "stock", "barcode", "brand", "weight", "active", "updated_at", "notes",
)  # fmt: skip
CUSTOMER = ("code", "name", "city", "phone")
WORDS = (
    "parafuso", "porca", "arruela", "bucha", "chave", "alicate", "martelo", "trena", "tinta", "verniz", "rolo", "cabo",
    "disjuntor", "tomada", "lâmpada", "broca", "registro", "torneira", "joelho", "luva", "adaptador", "mangueira", "serra",
    "lixa", "cola", "fita", "corrente", "cadeado", "dobradiça", "trinco", "roldana", "prego",
)  # fmt: skip
_UNITS = ("un", "pc", "cx", "kg", "m")
_CITIES = ("Campinas", "Recife", "São Bento", "Joinville", "Belém")
_NOTES = ("", "", "", "", "", "", "", "fora de linha", "só sob encomenda", "frágil")
_MASK = (1 << 64) - 1


def _chance(n: int) -> int:
    """64 bits that look like chance (splitmix64): faster than a generator that is seeded for each record."""
    z = (n * 0x9E3779B97F4A7C15 + SEED) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def product(n: int) -> tuple[Any, ...]:
    """The n-th product, as it is stored: the price in cents, a boolean as 0 or 1, an instant as text in UTC."""
    a, b = _chance(2 * n), _chance(2 * n + 1)
    return (
        f"P{n:07}",
        f"{WORDS[a & 31]} {WORDS[a >> 5 & 31]} {WORDS[a >> 10 & 31]} {(a >> 15) % 200} mm",
        f"g{n % GROUPS:03}",
        _UNITS[(a >> 40) % 5],
        100 + (b & 0xFFFFF) % 99_900,
        (b >> 20) % 500,
        f"789{(b >> 30) % 10**10:010}",
        f"b{(a >> 44) % BRANDS:03}",
        ((a >> 24) & 0xFFFF) / 1000,
        int((b >> 29) % 10 > 0),
        f"2026-{1 + n % 9:02}-{1 + (b >> 50) % 28:02} {(b >> 55) % 24:02}:{n % 60:02}:00.000000",
        _NOTES[(b >> 60) % 10],
    )


def products(rows: int) -> Iterator[tuple[Any, ...]]:
    """The first so many."""
    return map(product, range(rows))


def customer(n: int) -> tuple[Any, ...]:
    """The n-th customer."""
    a = _chance(~n & _MASK)
    return (
        f"C{n:06}",
        f"{WORDS[a & 31].title()} & {WORDS[a >> 5 & 31].title()} Ltda",
        _CITIES[(a >> 10) % 5],
        f"19{(a >> 20) % 10**8:08}",
    )


def customers_of(rows: int) -> int:
    """How many customers go with so many products: 10,000 with a million."""
    return max(rows // 100, 10)
