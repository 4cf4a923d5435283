"""A file on its way in: collected on disk part by part, cut into pieces, and resumed after a restart of the program."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator

import apsw
from attrs import frozen

from offlinekit.exceptions import ProtocolError, StoreFull, TransportError
from offlinekit.store.pieces import Form, Piece, Pieces
from offlinekit.store.sqlite.connection import mapped, mapped_files
from offlinekit.store.sqlite.replica_files import INCOMING, discard, file_of, reserve

__all__ = ["Incoming"]

FILE_MAX = 64 << 30
EMPTY_MAX = 6  # parts without a byte, each of which the authority takes a while to give: then its maker is in trouble
_PIECE = 1 << 18


@frozen
class _Place:
    offset: int
    size: int


class Incoming:
    """`take` parts from offset `received` on until it has `ended`, read the `pieces`, `close` in any case.

    Its name is an empty database that is locked until then: that is what keeps others from sweeping it away. Make it under
    the write lock of the main file, so that nobody does so before it is locked. After `release` it waits for another program
    to go on with it under its `number`.
    """

    def __init__(self, main: str, *, size: int = 0, number: int | None = None) -> None:
        """Of a file of `size` bytes, 0 when nobody knows yet; again with the number of one that was released or left by a crash.

        Raises StoreBusy when another program goes on with it, and another StoreError when it is gone.
        """
        if not 0 <= size <= FILE_MAX:
            raise ProtocolError("the manifest of a file makes no sense")
        self._main, self.size = main, size
        self._parser, self._places = Pieces(), dict[str, list[_Place]]()
        self._empty, self._unsure = 0, False
        # A number by chance is never used again, so that a late deletion meets no other file.
        with mapped_files(main):
            self.number = reserve(main, INCOMING, secrets.randbits(48)) if number is None else number
        self.path = file_of(main, INCOMING, self.number)
        self._packed, self.unpacked = self.path + ".zst", self.path + ".db"
        with mapped(self.path):
            self._lock = apsw.Connection(self.path, flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            with mapped(self.path):
                self._lock.execute("PRAGMA main.locking_mode=exclusive")
                self._lock.execute("BEGIN EXCLUSIVE")
            self.received = 0 if number is None else self._again()
        except BaseException:
            self._lock.close()
            raise

    @property
    def ended(self) -> bool:
        """Whether all of it is here."""
        return self._parser.ended

    def _again(self) -> int:
        """Looks through what is here; after a power cut it may be less than was received, or something else at its end."""
        self._unsure = True
        with mapped_files(self._packed):
            if os.path.exists(self.unpacked):
                os.remove(self.unpacked)  # whose end nobody knows; it is unpacked again
            if not os.path.exists(self._packed):
                return 0
            with open(self._packed, "rb") as source:
                try:
                    for part in iter(lambda: source.read(_PIECE), b""):
                        self._note(self._parser.feed(part))
                except ProtocolError:
                    self._rewind()
        return os.path.getsize(self._packed)

    def _rewind(self) -> None:
        """Back to the last whole piece."""
        at = self._parser.taken
        with mapped_files(self._packed):
            os.truncate(self._packed, at)
        self._parser, self._unsure, self.received = Pieces(), False, at
        self._parser.taken = at

    def _note(self, pieces: Iterable[Piece]) -> list[Piece]:
        """Writes down where each piece stands."""
        found = []
        for piece in pieces:
            if piece.form != Form.END:
                self._places.setdefault(piece.collection, []).append(_Place(self._parser.taken - piece.size, piece.size))
                found.append(piece)
        return found

    def take(self, part: bytes) -> list[Piece]:
        """The next part, of any size; the pieces that are whole now. Raises ProtocolError for what is none."""
        if self.size and (not part or len(part) > self.size - self.received):
            raise ProtocolError("a file is shorter or longer than its manifest says")
        if not part:
            self._empty += 1
            if self._empty >= EMPTY_MAX:
                raise TransportError("the authority has nothing more of a file that it began; trying again later")
            return []
        self._empty = 0
        with mapped_files(self._packed), open(self._packed, "ab") as target:
            target.write(part)
        self.received += len(part)
        try:
            pieces = self._note(self._parser.feed(part))
        except ProtocolError:
            if not self._unsure:
                raise
            self._rewind()  # what was left of a piece before the restart was not what had been received
            return []
        self._unsure = self._unsure and not pieces
        if self._parser.ended != (self.received == self.size) and self.size:
            raise ProtocolError("a file is shorter or longer than its manifest says")
        return pieces

    def partial(self) -> tuple[str, int, int]:
        """Of the piece that is on its way: collection, records, size."""
        return self._parser.partial()

    def pieces(self, collection: str) -> Iterator[Piece]:
        """The pieces of a collection that are here, read again."""
        for place in self._places.get(collection, ()):
            with mapped_files(self._packed), open(self._packed, "rb") as source:
                source.seek(place.offset)
                data = source.read(place.size)
            yield from Pieces().feed(data)

    def unpack(self, piece: Piece) -> None:
        """Appends the content of a piece of an image to the file `unpacked`."""
        content = piece.content()
        with mapped_files(self.unpacked), open(self.unpacked, "ab") as target:
            target.write(content)

    def need(self, size: int) -> None:
        """Raises StoreFull when the disk has no room for so many bytes more."""
        with mapped_files(self._main):
            free = shutil.disk_usage(os.path.dirname(self._main)).free
        if free < size:
            raise StoreFull(f"{self._main}: to load what was chosen about {size >> 20} MB are needed, and {free >> 20} are free;"
                            " make room, or choose less")  # fmt: skip

    def release(self) -> None:
        """Leaves it to be gone on with."""
        with mapped(self.path):
            self._lock.close()

    def close(self) -> None:
        """Deletes it."""
        self._lock.close()
        discard(self.path)
