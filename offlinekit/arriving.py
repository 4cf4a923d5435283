"""Answers whose files are on their way to a replica: what has come is built in meanwhile, and a restart goes on where it was.

An answer with files is written down in the main file when it comes, with the numbers of the files that collect it. Loads of
collections with files of their own are built while their records arrive; all else waits for the end, when the answer is applied
as one change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from hashlib import sha256
from typing import Any

import msgspec
from attrs import evolve, field, mutable

from offlinekit.changes import GroupDelta
from offlinekit.exceptions import OfflinekitError, ProtocolError, StoreBusy, StoreError, StoreFull
from offlinekit.progress import CollectionProgress, Progress
from offlinekit.protocol import messages as m
from offlinekit.protocol.codec import decode_answer, encode
from offlinekit.protocol.convert import group_delta
from offlinekit.store.pieces import Form, Piece
from offlinekit.store.sqlite.applying import begin_build, is_load, view_held
from offlinekit.store.sqlite.generations import Build, check_image
from offlinekit.store.sqlite.incoming import Incoming
from offlinekit.store.sqlite.replica_files import INCOMING, discard, file_of
from offlinekit.store.sqlite.replica_store import ReplicaStore
from offlinekit.store.sqlite.replica_sync import Held

__all__ = ["Arrivals", "Arriving", "Download", "question_of"]

_NAME = re.compile(r"[0-9a-f]{64}")
ROOM = 3  # times what arrives is what it takes on disk meanwhile: collected, beside what it replaces, with its indexes


def question_of(start: Held) -> bytes:
    """What an answer answers; another history makes another device of the replica."""
    groups = [[list(g.collections), list(g.tokens)] for g in start.groups]
    return sha256(msgspec.msgpack.encode([start.device, groups, start.selection, start.verify])).digest()[:16]


@mutable
class Download:
    """A file of an answer: that of its records, or with `image` the image of that collection."""

    manifest: m.Manifest
    incoming: Incoming
    image: str = ""
    fed: int = 0


@mutable
class _Tally:
    records: int = 0
    bytes: int = 0


@mutable(eq=False)
class Arriving:
    """An answer whose files are on their way: what the request started from, and the small values of when the answer came.

    `pulled` is when an answer came before: another one that comes while the fetching is interrupted is the newer one.
    """

    store: ReplicaStore
    start: Held
    answer: m.Delta
    meta: dict[str, Any]
    pulled: float | None
    downloads: list[Download]
    groups: list[GroupDelta] = field(init=False)
    builds: dict[str, Build] = field(factory=dict, init=False)
    expected: dict[str, int] = field(factory=dict, init=False)
    _tallies: dict[str, _Tally] = field(factory=dict, init=False)
    _loads: set[str] = field(factory=set, init=False)

    def __attrs_post_init__(self) -> None:
        self.groups = [group_delta(g) for g in self.answer.groups]
        db, parts = self.store.reader(), {c: p for g in self.groups for c, p in g.collections.items()}
        for name, part in parts.items():
            info = self.store.schema.info(name)
            if part.image and not info.own_file:
                raise ProtocolError(f"an image came for '{name}', which has no file of its own")
            if info.own_file and is_load(self.store, view_held(self.store, db, name), part):
                self._loads.add(name)
        images = {d.image: d.manifest.records for d in self.downloads if d.image}
        self.expected = {c: n for c, p in parts.items() if (n := p.in_file + images.get(c, 0)) > 0}
        self._tallies = {c: _Tally() for c in self.expected}

    @property
    def size(self) -> int:
        """Bytes that have come."""
        return sum(d.incoming.received for d in self.downloads)

    def feed_again(self) -> None:
        """After a restart: builds in what had come before it."""
        for d in self.downloads:
            for name in list(self._tallies):
                for piece in d.incoming.pieces(name):
                    self._feed(d, piece)

    def take(self, d: Download, part: bytes) -> None:
        """The next part of a file."""
        for piece in d.incoming.take(part):
            self._feed(d, piece)
        if d.incoming.ended and self._tallies:
            self._tallies[d.image or next(reversed(self._tallies))].bytes += d.incoming.received - d.fed
            d.fed = d.incoming.received

    def _feed(self, d: Download, piece: Piece) -> None:
        name, tally = piece.collection, self._tallies.get(piece.collection)
        if tally is None or piece.form != (Form.IMAGE if d.image else Form.RECORDS) or (d.image and d.image != name):
            raise ProtocolError(f"the file holds a piece of '{name:.60}' that the answer does not speak of")
        if not tally.bytes:
            self._make_sure_of_room(d, piece)
        d.fed += piece.size
        tally.records += piece.records
        tally.bytes += piece.size
        if d.image:
            d.incoming.unpack(piece)
        elif name in self._loads and not self._adopts(name):
            if name not in self.builds:
                self.builds[name] = begin_build(self.store, name)
            self.builds[name].add(piece)

    def _adopts(self, name: str) -> bool:
        return any(d.image == name for d in self.downloads)

    def _make_sure_of_room(self, d: Download, piece: Piece) -> None:
        size = d.manifest.raw_size if d.image else self.expected[piece.collection] * piece.raw_size // max(1, piece.records)
        d.incoming.need(ROOM * size)

    def complete(self) -> None:
        """All files are here: makes what is built of images, and of what only drops records."""
        for c, tally in self._tallies.items():
            if tally.records != (expected := self._in_file(c)):
                raise ProtocolError(f"the file holds {tally.records} records of '{c}' instead of {expected}")
        for d in self.downloads:
            if d.image:
                view = check_image(d.incoming.unpacked, self.store.schema.info(d.image), self.store.schema.version)
                if len(view) != d.manifest.records:
                    raise ProtocolError(f"the image of '{d.image}' does not hold as many records as promised")
                self.builds[d.image] = begin_build(self.store, d.image, d.incoming.unpacked)
        for name in self._loads - self.builds.keys():
            self.builds[name] = begin_build(self.store, name)

    def progress(self, at: Download, here: int) -> Progress:
        """How far they are, when so many bytes of a part of one file are here that was not taken yet."""
        parts = {c: CollectionProgress(0, total) for c, total in self.expected.items()}
        for d in self.downloads:
            loose = here if d is at else 0
            for c, found in (self._by_weight(d, loose) if d.manifest.size else self._by_pieces(d, loose)).items():
                was = parts[c]
                parts[c] = CollectionProgress(min(was.records + found.records, was.records_total), was.records_total,
                                              was.bytes + found.bytes, was.bytes_total + found.bytes_total)  # fmt: skip
        return Progress("downloading", sum(p.bytes for p in parts.values()), sum(p.bytes_total for p in parts.values()), parts)

    def _by_weight(self, d: Download, loose: int) -> dict[str, CollectionProgress]:
        """Of a file of which the manifest tells how many bytes of it each collection takes, in this order."""
        found, left = {}, d.incoming.received + loose
        weights = {c: w for c, w in d.manifest.parts if c in self.expected} or dict.fromkeys(list(self.expected)[:1], 1)
        whole, before = max(1, sum(weights.values())), 0
        for c, weight in weights.items():
            size = d.manifest.size * (before + weight) // whole - d.manifest.size * before // whole
            before += weight
            here, total = max(0, min(size, left)), d.manifest.records if d.image else self._in_file(c)
            found[c] = CollectionProgress(total * here // size if size else total, total, here, size)
            left -= size
        return found

    def _by_pieces(self, d: Download, loose: int) -> dict[str, CollectionProgress]:
        """Of a file that is still being made: what its pieces say, and how large it will be if the rest is like them."""
        name, records, size = d.incoming.partial()
        loose += d.incoming.received - d.fed
        current = name if name in self._tallies else next(iter(self._tallies), "")
        found = {}
        for c in self.expected:
            count, taken, total = self._tallies[c].records, self._tallies[c].bytes, self._in_file(c)
            if c == current:
                count, taken = count + (records * min(loose, size) // size if size else 0), taken + loose
            found[c] = CollectionProgress(count, total, taken, taken * total // count if count else taken)
        return found

    def _in_file(self, collection: str) -> int:
        return sum(g.collections[collection].in_file for g in self.groups if collection in g.collections)

    def applying(self, written: Mapping[str, int]) -> Progress:
        """All bytes are here, and so many records of each collection are written."""
        parts = {c: CollectionProgress(written.get(c, 0), n, self._tallies[c].bytes, self._tallies[c].bytes)
                 for c, n in self.expected.items()}  # fmt: skip
        size = sum(p.bytes for p in parts.values())
        return Progress("applying", size, size, parts)

    def pieces(self, collection: str) -> Iterable[Piece]:
        """The pieces of the answer's own file that hold records of a collection."""
        return (piece for d in self.downloads if not d.image for piece in d.incoming.pieces(collection))

    def give_up_builds(self) -> None:
        """Deletes what was built and did not become current."""
        for name, build in self.builds.items():
            build.close()
            with suppress(OfflinekitError):  # what led here matters more
                self.store.give_up(name, build.generation)
        self.builds.clear()

    def saved(self) -> dict[str, Any]:
        """What is written down of it."""
        return {
            "question": question_of(self.start), "answer": encode(self.answer), "meta": self.meta, "pulled": self.pulled,
            "witness": self.start.witness, "files": [d.incoming.number for d in self.downloads],
        }  # fmt: skip


class Arrivals:
    """The answers on their way to one replica, in the hands of one program."""

    def __init__(self, store: ReplicaStore) -> None:
        self.store = store
        self._mine: dict[bytes, Arriving] = {}
        self._swept = False

    def begin(self, start: Held, answer: m.Delta, meta: dict[str, Any]) -> Arriving:
        """Writes down an answer with files, in the place of another one to the same question."""
        question, pulled = question_of(start), self.store.meta("pulled", self.store.reader())
        self.forget(question)
        downloads: list[Download] = []
        try:
            with self.store.write(0):
                for manifest, image in _files_of(answer):
                    downloads.append(Download(manifest, Incoming(self.store.path, size=manifest.size), image))
                arriving = Arriving(self.store, start, answer, meta, pulled, downloads)
                others = [saved for saved in self._saved() if saved["question"] != question]
                self.store.set_meta("arriving", [*others, arriving.saved()])
        except BaseException:
            for d in downloads:
                d.incoming.close()
            raise
        self._mine[question] = arriving
        return arriving

    def find(self, start: Held, other: Callable[[], Held]) -> Arriving | None:
        """The answer to what is to be asked, if it is on its way. It waits while the other thing is asked for, and no longer.

        What another run of the program began is gone on with, unless another program does so now.
        """
        if not self._mine and not self.store.meta("arriving", self.store.reader()):
            return None
        question, asked = question_of(start), {question_of(start), question_of(other())}
        for gone in self._mine.keys() - asked:
            self.forget(gone)
        for saved in self._saved():
            if saved["question"] == question and question not in self._mine:
                self._take_over(start, saved)
            elif saved["question"] not in asked and not self._swept:
                self._delete(saved)
        self._swept = True
        return self._mine.get(question)

    def _saved(self) -> list[dict[str, Any]]:
        return self.store.meta("arriving", self.store.reader()) or []

    def _take_over(self, start: Held, saved: dict[str, Any]) -> None:
        answer = decode_answer(saved["answer"])
        assert isinstance(answer, m.Delta)
        downloads: list[Download] = []
        arriving: Arriving | None = None
        try:
            for (manifest, image), number in zip(_files_of(answer), saved["files"], strict=True):
                incoming = Incoming(self.store.path, size=manifest.size, number=number)
                downloads.append(Download(manifest, incoming, image))
            arriving = Arriving(self.store, evolve(start, witness=saved["witness"]), answer, saved["meta"], saved["pulled"],
                                downloads)  # fmt: skip
            arriving.feed_again()
            self._mine[saved["question"]] = arriving
        except (StoreError, ProtocolError) as error:
            if arriving is not None:
                arriving.give_up_builds()
            for d in downloads:
                d.incoming.close()
            if isinstance(error, StoreFull):
                raise
            if not isinstance(error, StoreBusy):  # what was left is of no use; it is asked for anew
                self._forget_saved(saved["question"])

    def _delete(self, saved: dict[str, Any]) -> None:
        for number in saved["files"]:
            if not discard(file_of(self.store.path, INCOMING, number)):
                return  # another program goes on with it
        self._forget_saved(saved["question"])

    def _forget_saved(self, question: bytes) -> None:
        with self.store.write(0):
            self.store.set_meta("arriving", [saved for saved in self._saved() if saved["question"] != question] or None)

    def forget(self, question: bytes) -> None:
        """Deletes an answer that was applied, or is not wanted any more."""
        arriving = self._mine.pop(question, None)
        if arriving is not None:
            arriving.give_up_builds()
            for d in arriving.downloads:
                d.incoming.close()
            with suppress(StoreError):  # on a full disk: then it names files that are gone, and is forgotten later
                self._forget_saved(question)

    def forget_all(self) -> None:
        """Deletes them all."""
        for question in list(self._mine):
            self.forget(question)

    def release(self) -> None:
        """Leaves them to the next run of the program."""
        for arriving in self._mine.values():
            arriving.give_up_builds()
            for d in arriving.downloads:
                d.incoming.release()
        self._mine.clear()


def _files_of(answer: m.Delta) -> list[tuple[m.Manifest, str]]:
    """The files of an answer; raises ProtocolError for a name that no authority gives."""
    files = answer.files()
    for manifest, _ in files:
        if not _NAME.fullmatch(manifest.name):
            raise ProtocolError(f"{manifest.name!r:.60} is no name of a file")
    return files
