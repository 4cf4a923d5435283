"""Files that an authority makes for large answers: written in the snapshot, compressed, fetched in chunks, expiring.

A name is random and bound to the identity that it was made for, in the file's name on disk: it survives restarts, and another
process that shares the folder serves it too.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import BinaryIO

from offlinekit.compress import compress_stream
from offlinekit.exceptions import RecordNotFound
from offlinekit.ids import RandomBytes
from offlinekit.nodes import Value
from offlinekit.protocol.messages import Manifest
from offlinekit.store.sqlite.replica_files import write_bulk
from offlinekit.transport.port import PART_MAX

__all__ = ["CHUNK", "Files"]

CHUNK = PART_MAX
LIFE_S = 3600.0
_NAME = re.compile(r"[0-9a-f]{32}")


class Files:
    """A folder of files on their way to devices."""

    def __init__(self, folder: str | None, random: RandomBytes) -> None:
        self._folder, self._random = folder, random

    @property
    def folder(self) -> str:
        """The folder, made when first needed."""
        if self._folder is None:
            self._folder = os.path.join(tempfile.gettempdir(), f"offlinekit-files-{os.getuid() if hasattr(os, 'getuid') else 0}")
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        return self._folder

    def _path(self, name: str, identity: str) -> str:
        return os.path.join(self.folder, f"{name}.{sha256(identity.encode()).hexdigest()[:32]}.zst")

    def make(self, identity: str, now: float, tables: Iterable[tuple[str, Sequence[str], Iterable[Sequence[Value]]]]) -> Manifest:
        """Writes and compresses a file for an identity."""
        self.sweep(now)
        name = self._random(16).hex()
        raw, path = os.path.join(self.folder, f"{name}.tmp"), self._path(name, identity)
        digests: list[bytes] = []
        parts: list[tuple[str, int]] = []
        try:
            ends = write_bulk(raw, tables)
            raw_size = os.path.getsize(raw)
            with open(raw, "rb") as source, open(path + ".tmp", "wb") as target:
                for chunk in _rechunk(_packed(source, ends, parts), CHUNK):
                    digests.append(sha256(chunk).digest()[:16])
                    target.write(chunk)
            os.replace(path + ".tmp", path)
        finally:
            for leftover in (raw, path + ".tmp"):
                with suppress(FileNotFoundError):
                    os.remove(leftover)
        os.utime(path, (now, now))
        size = os.path.getsize(path)
        return Manifest(name=name, size=size, raw_size=raw_size, chunk=CHUNK, digests=digests, parts=parts)

    def weigh(self, tables: Iterable[tuple[str, Sequence[str], Iterable[Sequence[Value]]]]) -> int:
        """How large a file of these would be, compressed."""
        path = os.path.join(self.folder, f"{self._random(16).hex()}.tmp")
        try:
            write_bulk(path, tables)
            with open(path, "rb") as source:
                return sum(map(len, compress_stream(iter(lambda: source.read(CHUNK), b""))))
        finally:
            with suppress(FileNotFoundError):
                os.remove(path)

    def read(self, name: str, offset: int, identity: str) -> bytes:
        """Up to a chunk of bytes from an offset; raises RecordNotFound for names that expired or are somebody else's."""
        if not _NAME.fullmatch(name) or offset < 0:
            raise RecordNotFound("files", (name,))
        try:
            with open(self._path(name, identity), "rb") as source:
                source.seek(offset)
                return source.read(CHUNK)
        except FileNotFoundError:
            raise RecordNotFound("files", (name,)) from None

    def sweep(self, now: float) -> None:
        """Removes what has expired."""
        for entry in os.scandir(self.folder):
            with suppress(FileNotFoundError):
                if entry.stat().st_mtime < now - LIFE_S:
                    os.remove(entry.path)


def _packed(source: BinaryIO, ends: Mapping[str, int], parts: list[tuple[str, int]]) -> Iterator[bytes]:
    """The file compressed; to `parts` go the bytes that each collection takes of it."""
    size = before = 0

    def raw() -> Iterator[bytes]:
        nonlocal before
        for collection, end in ends.items():
            while left := end - source.tell():
                yield source.read(min(CHUNK, left))
            yield b""
            parts.append((collection, size - before))
            before = size

    for piece in compress_stream(raw()):
        size += len(piece)
        yield piece
    if parts:  # the end of the frame goes with the last
        collection, last = parts.pop()
        parts.append((collection, last + size - before))


def _rechunk(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    buffer = bytearray()
    for piece in pieces:
        buffer += piece
        while len(buffer) >= size:
            yield bytes(buffer[:size])
            del buffer[:size]
    if buffer:
        yield bytes(buffer)
