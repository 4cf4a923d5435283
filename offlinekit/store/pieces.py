"""The files of large answers: pieces one after the other, each complete in itself, so that a file can be sent while it is made.

A piece is a head, a collection's name and a zstd frame. Its content is a small SQLite database with some of the records of that
collection, or the next bytes of an image: a database file with indexes and search inside, which a device adopts as it is. The
last piece of a file is empty. Each has a digest over all of it, so that a broken download is resumed behind its last whole piece.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum
from hashlib import sha256
from struct import Struct

from attrs import frozen

from offlinekit.compress import compress, decompress
from offlinekit.exceptions import ProtocolError
from offlinekit.schema import NAME_MAX

__all__ = ["END", "PACKED_MAX", "RAW_MAX", "Form", "Piece", "Pieces", "image_pieces", "pack_piece"]

PACKED_MAX = 1 << 26
RAW_MAX = 1 << 28
IMAGE_STEP = 4 << 20
_DIGEST = 16
_HEAD = Struct(">BHIII")  # form, bytes of the name, records, bytes before and after compression


class Form(IntEnum):
    """What is in a piece."""

    END = 0
    RECORDS = 1
    IMAGE = 2


@frozen
class Piece:
    """A piece as it came: `size` bytes of the file; `packed` is the zstd frame."""

    form: Form
    collection: str
    records: int
    raw_size: int
    size: int
    packed: bytes

    def content(self) -> bytes:
        """Unpacks it; raises ProtocolError, or TooLarge for more than it says."""
        content = decompress(self.packed, self.raw_size)
        if len(content) != self.raw_size:
            raise ProtocolError("a piece of a file is not as large as it says")
        return content


def pack_piece(form: Form, collection: str, records: int, content: bytes) -> bytes:
    """A piece as it travels."""
    name, packed = collection.encode(), compress(content) if content else b""
    rest = _HEAD.pack(form, len(name), records, len(content), len(packed)) + name + packed
    return sha256(rest).digest()[:_DIGEST] + rest


END = pack_piece(Form.END, "", 0, b"")


def image_pieces(collection: str, steps: Iterable[bytes]) -> Iterator[bytes]:
    """An image as it travels, from the bytes of its file."""
    return (pack_piece(Form.IMAGE, collection, 0, step) for step in steps)


class Pieces:
    """Cuts the bytes of a file into pieces as they come. `taken` bytes are of whole pieces; `ended` when there are no more."""

    def __init__(self) -> None:
        self.taken = 0
        self.ended = False
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Piece]:
        """The pieces that are whole now; raises ProtocolError for what is none, or follows the end."""
        self._buffer += data
        while (piece := self._next()) is not None:
            yield piece
        if self.ended and self._buffer:
            raise ProtocolError("a file is longer than its last piece")

    def _head(self) -> tuple[int, int, int, int, int] | None:
        if len(self._buffer) < _DIGEST + _HEAD.size:
            return None
        form, name, records, raw, packed = _HEAD.unpack_from(self._buffer, _DIGEST)
        if (
            form > Form.IMAGE
            or name > 4 * NAME_MAX
            or packed > PACKED_MAX
            or raw > RAW_MAX
            or (form == Form.END) != (packed == 0)
        ):
            raise ProtocolError("what came is no piece of a file, or larger than any may be")
        return form, name, records, raw, packed

    def _next(self) -> Piece | None:
        if self.ended or (head := self._head()) is None:
            return None
        form, name, records, raw, packed = head
        size = _DIGEST + _HEAD.size + name + packed
        if len(self._buffer) < size:
            return None
        with memoryview(self._buffer) as view:
            if sha256(view[_DIGEST:size]).digest()[:_DIGEST] != view[:_DIGEST]:
                raise ProtocolError("a piece of a file is not what its digest says")
            start = _DIGEST + _HEAD.size
            try:
                collection = str(view[start : start + name], "utf-8")
            except UnicodeDecodeError as error:
                raise ProtocolError("a piece of a file names no collection") from error
            piece = Piece(Form(form), collection, records, raw, size, bytes(view[start + name : size]))
        del self._buffer[:size]
        self.taken += size
        self.ended = piece.form == Form.END
        return piece

    def partial(self) -> tuple[str, int, int]:
        """Of the piece that is on its way: collection, records and size; nothing of it may be true."""
        head = self._head()
        start = _DIGEST + _HEAD.size
        if head is None or len(self._buffer) < start + head[1]:
            return "", 0, 0
        _, name, records, _, packed = head
        collection = bytes(self._buffer[start : start + name]).decode(errors="replace")
        return collection, records, start + name + packed
