"""A file on its way in: collected part by part, each chunk checked, then unpacked."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from hashlib import sha256

import apsw

from offlinekit.compress import decompress_stream
from offlinekit.exceptions import ProtocolError
from offlinekit.store.sqlite.connection import mapped, mapped_files
from offlinekit.store.sqlite.replica_files import INCOMING, discard, file_of, reserve

__all__ = ["Incoming"]

FILE_MAX = 64 << 30
_PIECE = 1 << 18


class Incoming:
    """`take` parts from offset `received` on, `unpack` when all are there, `close` in any case.

    Its name is an empty database that is locked until `close`: that is what keeps others from sweeping it away. Make it under
    the write lock of the main file, so that nobody does so before it is locked.
    """

    def __init__(self, main: str, *, size: int, raw_size: int, chunk: int, digests: Sequence[bytes]) -> None:
        if not 0 < size <= FILE_MAX or raw_size > FILE_MAX or chunk < 1 or len(digests) != -(-size // chunk):
            raise ProtocolError("the manifest of a file makes no sense")
        self.size, self._raw_size, self._chunk, self._digests = size, raw_size, chunk, digests
        self.received = 0
        self._hash = sha256()
        # A number by chance is never used again, so that a late deletion meets no other file.
        with mapped_files(main):
            self.path = file_of(main, INCOMING, reserve(main, INCOMING, secrets.randbits(48)))
        self._packed, self.unpacked = self.path + ".zst", self.path + ".db"
        with mapped(self.path):
            self._lock = apsw.Connection(self.path, flags=apsw.SQLITE_OPEN_READWRITE)
            self._lock.execute("PRAGMA main.locking_mode=exclusive")
            self._lock.execute("BEGIN EXCLUSIVE")

    def take(self, part: bytes) -> None:
        """The next part, of any size; raises ProtocolError when a chunk is not what its digest says."""
        if not part or len(part) > self.size - self.received:
            raise ProtocolError("a file is shorter or longer than its manifest says")
        with mapped_files(self._packed), open(self._packed, "ab") as target:
            target.write(part)
        rest = memoryview(part)
        while rest:
            piece = rest[: self._chunk - self.received % self._chunk]
            rest = rest[len(piece) :]
            self._hash.update(piece)
            self.received += len(piece)
            if self.received % self._chunk == 0 or self.received == self.size:
                if self._hash.digest()[:16] != self._digests[(self.received - 1) // self._chunk]:
                    raise ProtocolError("a chunk of a file is not what its manifest says")
                self._hash = sha256()

    def unpack(self) -> str:
        """The path of the unpacked file."""
        with mapped_files(self.unpacked):
            with open(self._packed, "rb") as source, open(self.unpacked, "wb") as target:
                for piece in decompress_stream(iter(lambda: source.read(_PIECE), b""), self._raw_size):
                    target.write(piece)
            os.remove(self._packed)
        return self.unpacked

    def close(self) -> None:
        """Deletes it."""
        self._lock.close()
        discard(self.path)
