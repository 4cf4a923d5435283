"""Files that an authority makes for large answers: written in the snapshot at disk speed, fetched in parts, expiring.

A file is named while it is made, and whoever fetches it waits for what is not there yet. Its name has two halves: a random one,
under which it stands in the folder, and a proof that this authority gave it to this identity. So files survive restarts, another
process that shares folder and store serves them too, and one file can be named to several askers.
"""

from __future__ import annotations

import hmac
import logging
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from hashlib import sha256
from typing import TypeAlias

from offlinekit.exceptions import RecordNotFound
from offlinekit.ids import RandomBytes
from offlinekit.protocol.messages import Manifest
from offlinekit.store.pieces import END
from offlinekit.transport.port import PART_MAX

__all__ = ["Background", "Files", "at_once", "in_background"]

Background: TypeAlias = Callable[[Callable[[], None]], object]
LIFE_S = 86_400.0
LIMIT = 8 << 30
WAIT_S = 10.0  # how long a part is waited for that was not made yet
LOOK_S = 0.005
DEAD_S = 10.0  # a file that has not grown for so long has lost its maker
_NAME = re.compile(r"[0-9a-f]{64}")
_MADE, _PART = ".bulk", ".part"
_log = logging.getLogger("offlinekit.authority")


def in_background(work: Callable[[], None]) -> None:
    """Runs work in a thread of its own; who waits for what it was to make is told that it is gone, and asks anew."""

    def run() -> None:
        try:
            work()
        except Exception:
            _log.exception("a file for devices could not be made")

    threading.Thread(target=run, name="offlinekit-files", daemon=True).start()


def at_once(work: Callable[[], None]) -> None:
    """Runs work before going on: for tests that want the same steps each time."""
    work()


class Files:
    """A folder of files on their way to devices, of `limit` bytes at most as far as nobody is waiting for more."""

    def __init__(self, folder: str | None, secret: bytes, random: RandomBytes, *, background: Background = in_background,
                 limit: int = LIMIT) -> None:  # fmt: skip
        self._folder, self._secret, self._random = folder, secret, random
        self.background, self._limit = background, limit
        self._makers = threading.BoundedSemaphore(4)

    @property
    def folder(self) -> str:
        """The folder, made when first needed."""
        if self._folder is None:
            self._folder = os.path.join(tempfile.gettempdir(), f"offlinekit-files-{os.getuid() if hasattr(os, 'getuid') else 0}")
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        return self._folder

    def path(self, file: str, tail: str = _MADE) -> str:
        """Where a file stands."""
        return os.path.join(self.folder, file + tail)

    def new(self) -> str:
        """What a new file is called in the folder."""
        return self._random(16).hex()

    def name_for(self, identity: str, file: str) -> str:
        """The name under which an identity may fetch a file."""
        proof = hmac.digest(self._secret, b"file " + bytes.fromhex(file) + identity.encode(), sha256)
        return file + proof[:16].hex()

    def make(self, identity: str, now: float, pieces: Iterable[tuple[str, bytes]], done: Callable[[], object]) -> Manifest:
        """Begins a file of (collection, piece as it travels) for an identity; `done` is called when no more of them is read."""
        self.sweep(now)
        file, parts = self.new(), dict[str, int]()

        def work() -> None:
            try:
                self.write(file, pieces, parts, now)
            finally:
                self._makers.release()
                done()

        open(self.path(file, _PART), "xb").close()
        self._makers.acquire()
        self.background(work)
        size = self.size(file)
        return Manifest(name=self.name_for(identity, file), size=size, parts=list(parts.items()) if size else [])

    def write(self, file: str, pieces: Iterable[tuple[str, bytes]], parts: dict[str, int], now: float) -> None:
        """Writes a file to its end; `parts` takes the bytes of each collection."""
        path = self.path(file, _PART)
        try:
            with open(path, "ab", buffering=0) as target:
                last = ""
                for last, piece in pieces:
                    parts[last] = parts.get(last, 0) + len(piece)
                    target.write(piece)
                target.write(END)
                parts[last] = parts.get(last, 0) + len(END)
                os.fsync(target.fileno())  # under its final name nobody finds half of it, whatever happens to the power
            os.utime(path, (now, now))
            os.replace(path, self.path(file))
        except BaseException:
            with suppress(OSError):
                os.remove(path)
            raise

    def size(self, file: str) -> int:
        """Bytes of a file, 0 as long as it is being made."""
        try:
            return os.path.getsize(self.path(file))
        except FileNotFoundError:
            return 0

    def read(self, name: str, offset: int, identity: str) -> bytes:
        """Up to PART_MAX bytes from an offset; of a file that is being made after a while nothing, if there is nothing yet.

        Raises RecordNotFound for names that expired or are somebody else's.
        """
        if not _NAME.fullmatch(name) or offset < 0 or not hmac.compare_digest(self.name_for(identity, name[:32]), name):
            raise RecordNotFound("files", (name,))
        until = time.monotonic() + WAIT_S
        while True:
            for tail in (_PART, _MADE):  # in this order: it may be finished between the two looks
                try:
                    with open(self.path(name[:32], tail), "rb") as source:
                        source.seek(offset)
                        data = source.read(PART_MAX)
                        if data or tail == _MADE:
                            return data
                        dead = time.time() - os.fstat(source.fileno()).st_mtime > DEAD_S
                except FileNotFoundError:
                    if tail == _MADE:
                        raise RecordNotFound("files", (name,)) from None
                else:
                    break
            if dead:
                raise RecordNotFound("files", (name,))
            if time.monotonic() > until:
                return b""
            time.sleep(LOOK_S)

    def sweep(self, now: float) -> None:
        """Removes what has expired, what lost its maker, and of the rest the oldest beyond the limit."""
        left = []
        for entry in os.scandir(self.folder):
            with suppress(FileNotFoundError):
                about = entry.stat()
                if entry.name.endswith(_PART):
                    old = time.time() - about.st_mtime > LIFE_S
                else:
                    old = about.st_mtime < now - LIFE_S
                if old:
                    os.remove(entry.path)
                elif entry.name.endswith(_MADE):
                    left.append((about.st_mtime, about.st_size, entry.path))
        over = sum(size for _, size, _ in left) - self._limit
        for _, size, path in sorted(left):
            if over <= 0:
                break
            with suppress(FileNotFoundError):
                os.remove(path)
            over -= size
