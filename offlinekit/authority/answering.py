"""How the differences of an answer travel: in its message, in a file of pieces, or as an image and the difference to that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
from attrs import evolve, field, frozen

from offlinekit.authority.files import Files
from offlinekit.authority.images import Image, Images
from offlinekit.nodes import Const, nothing
from offlinekit.protocol import messages as m
from offlinekit.protocol.codec import INLINE_MAX
from offlinekit.schema import Schema
from offlinekit.selection import Plan, Source
from offlinekit.store.port import AuthorityStore, Snapshot
from offlinekit.view import View, digest, pack_view

__all__ = ["Answering", "Asked", "Difference"]

INLINE_ROWS = 5000
STALE = 4  # an image is of use while at most one in so many of its records has changed


@frozen
class Difference:
    """What changes in one collection, of which `held` records were held; in `unknown` ranges rather more than must be.

    With an `image`, put and drop are the difference to that.
    """

    held: int
    new: View
    put: View
    drop: View
    added_fields: tuple[str, ...] = ()
    added: View = field(factory=View)
    unknown: Sequence[int] = ()
    image: m.Manifest | None = None
    moved: int = 0


@frozen
class Asked:
    """What matters of a pull for how its answer travels."""

    request: m.Pull
    identity: str
    snapshot: Snapshot
    fields: Mapping[str, Sequence[str]]
    plan: Plan


class Answering:
    """Packs answers; `count` is told what was done."""

    def __init__(self, store: AuthorityStore, schema: Schema, files: Files, count: Callable[[str], None]) -> None:
        self._store, self._schema, self._count = store, schema, count
        self.images = Images(files, schema)
        self.inline_rows, self.stale = INLINE_ROWS, STALE

    def parts(self, asked: Asked, differences: Mapping[str, Difference]) -> tuple[dict[str, m.Part], dict[str, View]]:
        """The parts of an answer, and the records of those that go into its file."""
        inline = self.inline(asked, differences)
        if inline is not None:
            return inline, {}
        differences = {c: self._from_image(asked, c, d) or d for c, d in differences.items()}
        if any(d.image for d in differences.values()) and (inline := self.inline(asked, differences)) is not None:
            return inline, {}
        in_file = {c: d.put | d.added for c, d in differences.items() if d.put or d.added}
        parts = {
            c: m.Part(digest=digest(d.new), drop=pack_view(d.drop), in_file=len(in_file.get(c, ())), image=d.image, moved=d.moved)
            for c, d in differences.items()
        }
        return parts, in_file

    def inline(self, asked: Asked, differences: Mapping[str, Difference]) -> dict[str, m.Part] | None:
        """The parts with their records in them, or None when they do not fit a message."""
        snapshot, fields = asked.snapshot, asked.fields
        if sum(len(d.put) + len(d.added) for d in differences.values()) > self.inline_rows:
            return None
        parts, size = {}, 0
        for c, d in differences.items():
            put = [list(row) for row in snapshot.rows(c, fields[c], d.put)]
            added = None
            if d.added_fields:
                rows = [list(row) for row in snapshot.rows(c, d.added_fields, d.added)]
                added = m.Added(fields=list(d.added_fields), rows=rows)
            parts[c] = m.Part(digest=digest(d.new), drop=pack_view(d.drop), put=put, added=added, image=d.image, moved=d.moved)
            size += len(msgspec.msgpack.encode(parts[c]))
        return parts if size <= INLINE_MAX else None

    def _from_image(self, asked: Asked, collection: str, d: Difference) -> Difference | None:
        """The difference to an image, where that is less; where there is none of use, somebody makes one in the background."""
        info, terms = self._schema.info(collection), asked.plan.terms.get(collection, ())
        # Whatever an image holds, the difference to it is right: so one of what the first filter selects is of use to all.
        source = next((t for t in terms if isinstance(t, Source) and t.where != nothing), None)
        if (
            not info.own_file or len(d.put) < self.images.least or source is None
            or asked.request.layout != self.images.layout or tuple(asked.fields[collection]) != tuple(info.replicated)
        ):  # fmt: skip
            return None
        key = asked.plan.own_hash(source)
        image = self.images.find(key)
        if image is not None and (difference := self._to_image(asked, collection, d, image)) is not None:
            self._count("image named")
            return difference

        def make() -> None:
            with self._store.snapshot() as snapshot:
                view = snapshot.evaluate(collection, source.where, asked.plan.scopes)
                self.images.make(info, key, snapshot, view, self._store.now())
            self._count("image made")

        self.images.asked(key, asked.request.device, make, self._store.now)
        return None

    def _to_image(self, asked: Asked, collection: str, d: Difference, image: Image) -> Difference | None:
        snapshot = asked.snapshot
        if not snapshot.honoured(image.cursor):  # of another history, or newer than what this answer is of
            return None
        drop = image.view - d.new
        put = (d.new - image.view) | (d.new & image.view & snapshot.changed(collection, image.cursor))
        if self.stale * (len(put) + len(drop)) > len(image.view):
            return None
        if drop and len(snapshot.evaluate(collection, Const(True), asked.plan.scopes, drop)) < len(drop):
            return None  # it holds what is out of the asker's reach today
        manifest = self.images.manifest(image, asked.identity, collection, self._store.now())
        return evolve(d, put=put, drop=drop, added_fields=(), added=View(), image=manifest, moved=len(d.put | d.added))
