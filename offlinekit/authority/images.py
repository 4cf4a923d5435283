"""Images: what many devices ask for, made once with indexes and search inside, and adopted by each as it is.

An image holds what a filter within its scope held at a cursor. Later askers get it with the difference since then, as one change.
It is given only to askers with the same filter and scope, and only as long as none of its records has left that scope or was
deleted: nobody sees what was out of his reach when he asked. It stands in the folder of files with a page about it, so that
it survives restarts and other processes find it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256

import msgspec
from attrs import frozen
from msgspec import Struct

from offlinekit.authority.files import Files
from offlinekit.exceptions import OfflinekitError
from offlinekit.protocol.messages import Manifest
from offlinekit.schema import CollectionInfo, Schema
from offlinekit.store.pieces import IMAGE_STEP, Pieces, image_pieces
from offlinekit.store.port import Snapshot
from offlinekit.store.sqlite.generations import Build, image_layout
from offlinekit.store.sqlite.replica_files import discard
from offlinekit.view import View, pack_view, unpack_view

__all__ = ["Image", "Images"]

RECORDS_LEAST = 20_000
ASKED_LEAST = 2  # devices that asked for the same since this process began
PAUSE = 20  # times what making one took until the same is made again
PAUSE_MAX_S = 3600.0


class _Page(Struct, frozen=True, kw_only=True):
    """What is known of an image."""

    file: str
    cursor: bytes
    view: bytes
    raw_size: int


@frozen
class Image:
    """An image that can be named: `view` at `cursor`, made for `key`."""

    key: bytes
    file: str
    cursor: bytes
    view: View
    raw_size: int


class Images:
    """The images of an authority's folder; made in the background, one at a time."""

    def __init__(self, files: Files, schema: Schema) -> None:
        self._files, self.schema = files, schema
        self.least, self.asked_least = RECORDS_LEAST, ASKED_LEAST
        self.layout = image_layout(schema)
        self._lock = threading.Lock()
        self._known: dict[bytes, Image] = {}
        self._asked: dict[bytes, set[bytes]] = {}
        self._next: dict[bytes, float] = {}
        self._making = False

    def _page(self, key: bytes) -> str:
        return os.path.join(self._files.folder, sha256(key + self.layout).hexdigest()[:32] + ".page")

    def find(self, key: bytes) -> Image | None:
        """The image that was made last, if its file is still there."""
        try:
            with open(self._page(key), "rb") as source:
                page = msgspec.msgpack.decode(source.read(), type=_Page)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None
        known = self._known.get(key)
        if known is None or known.file != page.file:
            known = Image(key, page.file, page.cursor, unpack_view(page.view), page.raw_size)
            self._known[key] = known
        return known if self._files.size(known.file) else None

    def manifest(self, image: Image, identity: str, collection: str, now: float) -> Manifest:
        """What an asker is told of it."""
        size = self._files.size(image.file)
        for path in (self._files.path(image.file), self._page(image.key)):
            with suppress(FileNotFoundError):
                os.utime(path, (now, now))  # so that it stays
        return Manifest(name=self._files.name_for(identity, image.file), size=size, parts=[(collection, size)],
                        raw_size=image.raw_size, records=len(image.view))  # fmt: skip

    def asked(self, key: bytes, device: bytes, make: Callable[[], object], clock: Callable[[], float]) -> None:
        """Somebody could have used an image: makes it in the background once several have asked for the same."""
        now = clock()
        with self._lock:
            if len(self._asked) > 1024:
                self._asked.clear()
            devices = self._asked.setdefault(key, set())
            devices.add(device)
            if len(devices) < self.asked_least or self._making or 0 < self._next.get(key, now) - now < PAUSE_MAX_S:
                return
            self._making = True

        def work() -> None:
            try:
                make()
            finally:
                with self._lock:
                    self._making = False
                    self._next[key] = clock() + PAUSE * (clock() - now)

        self._files.background(work)

    def make(self, info: CollectionInfo, key: bytes, snapshot: Snapshot, view: View, now: float) -> None:
        """Makes an image of the records of a view."""
        file = self._files.new()
        build = Build(os.path.join(self._files.folder, "image"), info, self.schema.version, int(file[:12], 16))
        try:
            for _, piece in snapshot.pieces(info.name, info.replicated, view):
                for whole in Pieces().feed(piece):
                    build.add(whole)
            build.as_image(view)
        except BaseException:
            build.close()
            with suppress(OfflinekitError):
                discard(build.path)
            raise
        build.close()
        try:
            raw_size = os.path.getsize(build.path)
            with open(build.path, "rb") as source:
                steps = iter(lambda: source.read(IMAGE_STEP), b"")
                self._files.write(file, ((info.name, p) for p in image_pieces(info.name, steps)), {}, now)
        finally:
            os.remove(build.path)
        page = _Page(file=file, cursor=snapshot.cursor, view=pack_view(view), raw_size=raw_size)
        path = self._page(key)
        with open(path + ".new", "wb") as target:
            target.write(msgspec.msgpack.encode(page))
        os.utime(path + ".new", (now, now))
        os.replace(path + ".new", path)
