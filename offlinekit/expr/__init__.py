"""Filters: checked, resolved, evaluated in Python, compiled to SQL, and encoded canonically."""

from offlinekit.expr.check import Allowed, check
from offlinekit.expr.codec import decode_filter, encode_filter, filter_hash
from offlinekit.expr.evaluate import evaluate
from offlinekit.expr.resolve import Bounds, dependencies, names_used, resolve
from offlinekit.expr.sql import Compiler

__all__ = [
    "Allowed",
    "Bounds",
    "Compiler",
    "check",
    "decode_filter",
    "dependencies",
    "encode_filter",
    "evaluate",
    "filter_hash",
    "names_used",
    "resolve",
]
