"""Views: sets of ordinals as Roaring bitmaps. The only module that knows pyroaring.

An ordinal is a positive integer below 2^32. A view's digest is taken over its sorted 32-bit ordinals and not over the
serialised bitmap, because bitmaps of equal sets may be serialised differently.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import sha256
from itertools import islice

from pyroaring import BitMap

from offlinekit.exceptions import ProtocolError

__all__ = ["EMPTY_DIGEST", "ORDINALS_MAX", "View", "chunks", "digest", "pack_view", "signed", "unpack_view", "view_of", "weight"]

View = BitMap
ORDINALS_MAX = 1 << 26  # in one bitmap from elsewhere: a kilobyte can stand for 2^32 of them
_CHUNK = 65_536
_LARGE = 4096


def view_of(ordinals: Iterable[int]) -> View:
    """The view of ordinals in any order, built in chunks so that memory stays flat."""
    view, iterator = BitMap(), iter(ordinals)
    while chunk := array("I", islice(iterator, _CHUNK)):
        view.update(chunk)
    return view


def chunks(view: View) -> Iterator[View]:
    """The view in parts by rising ordinals, so that no array of all of them is ever made."""
    at = view.min() if view else None
    while at is not None:
        end = (at // _CHUNK + 1) * _CHUNK
        yield view & BitMap(range(at, end))
        at = view.next_set_bit(end) if view.max() >= end else None


def digest(view: View) -> bytes:
    """16 bytes of SHA-256 over the sorted ordinals, four big-endian bytes each."""
    return _digest(view) if len(view) < _LARGE else _digest_of(view.serialize())


@lru_cache(maxsize=16)
def _digest_of(packed: bytes) -> bytes:
    """That of a large view: many devices hold the same, and its bitmap takes a thirtieth of its ordinals' bytes."""
    return _digest(BitMap.deserialize(packed))


def _digest(view: View) -> bytes:
    found = sha256()
    for part in chunks(view):
        numbers = part.to_array()
        if sys.byteorder == "little":
            numbers.byteswap()
        found.update(numbers)
    return found.digest()[:16]


EMPTY_DIGEST = digest(BitMap())


def pack_view(view: View) -> bytes:
    """The portable Roaring format; nothing for an empty view."""
    return view.serialize() if view else b""


def unpack_view(data: bytes) -> View:
    """The view of bytes from `pack_view`; raises ProtocolError for anything else, and for more than ORDINALS_MAX of them."""
    if not data:
        return BitMap()
    try:
        view = BitMap.deserialize(data)
    except (ValueError, IndexError, RuntimeError) as error:
        raise ProtocolError(f"not a bitmap: {error}") from error
    if len(view) > ORDINALS_MAX:
        raise ProtocolError(f"a bitmap of {len(view)} ordinals is over the limit of {ORDINALS_MAX}")
    return view


def weight(view: View) -> int:
    """About the bytes that it takes in memory."""
    found = view.get_statistics()
    return 200 + found["n_bytes_array_containers"] + found["n_bytes_run_containers"] + found["n_bytes_bitset_containers"]


def signed(view: View) -> array[int]:
    """The ordinals as 64-bit integers, for binding to a statement as one array."""
    return array("q", view.to_array())
