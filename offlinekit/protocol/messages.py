"""Every message of the protocol. A device sends a Request, the authority answers with one Answer.

Digests and ids are raw bytes: 16 for states, selections, projections, views and ids, 12 for records. Bitmaps are in the portable
Roaring format, empty bytes for an empty one. Values are storage values. Cursors, tokens and turns are opaque to the device.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from msgspec import Meta, Struct, field

from offlinekit.schema import NAME_MAX

__all__ = [
    "AWAITED_MAX",
    "COLLECTIONS_MAX",
    "GROUPS_MAX",
    "Added",
    "Answer",
    "Delta",
    "Expired",
    "Fork",
    "Group",
    "GroupState",
    "HeldBack",
    "Manifest",
    "NeedSchema",
    "NeedSelection",
    "NeedState",
    "NeedView",
    "NewHistory",
    "Part",
    "Preview",
    "PreviewPart",
    "Previewed",
    "Pull",
    "Push",
    "Pushed",
    "Query",
    "Records",
    "Refused",
    "Report",
    "Request",
    "Revoked",
    "Same",
    "Table",
    "WireChange",
    "WireMutation",
    "WireReceipt",
    "WireRecord",
]

AWAITED_MAX = 1000
GROUPS_MAX = 64
COLLECTIONS_MAX = 1024  # named in one place of a message
_YEAR_9999 = 253_402_300_799

_Bitmap: TypeAlias = bytes
_Id: TypeAlias = Annotated[bytes, Meta(min_length=16, max_length=16)]
_Named: TypeAlias = Annotated[bytes, Meta(max_length=16)]  # an id, or nothing
_Name: TypeAlias = Annotated[str, Meta(max_length=NAME_MAX)]
_Moment: TypeAlias = Annotated[float, Meta(ge=0, le=_YEAR_9999)]
_Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_Ordinal: TypeAlias = Annotated[int, Meta(ge=0, le=2**32 - 1)]


class _Message(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    """The base of all messages."""


# -- what a device sends


class Report(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """For the operator's insight only; no answer depends on it."""

    pending: _Count = 0
    rejected: _Count = 0
    program: _Name = ""


class Request(_Message, frozen=True, kw_only=True, omit_defaults=True):
    """What every request carries. `projection` names the field lists in `fields`, which are sent when asked for."""

    version: int
    device: _Id
    identity: str
    schema: int
    projection: _Id
    fields: dict[bytes, dict[str, list[str]]] | None = None
    report: Report | None = None


class GroupState(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A group of collections that share a cursor: its token, empty before the first pull and after `new_history`.

    `holds` says that some view of the group is not empty. `also` are further tokens, where parts of the group were loaded apart:
    the answer then brings all of it to one cursor and one token.
    """

    collections: Annotated[list[str], Meta(max_length=COLLECTIONS_MAX)]
    token: bytes = b""
    holds: bool = False
    also: Annotated[list[bytes], Meta(max_length=COLLECTIONS_MAX)] = field(default_factory=list)


class Table(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a state digest stands for; `implicit` holds bitmaps of the ordinals that the device created."""

    selection: _Id
    groups: Annotated[list[GroupState], Meta(max_length=GROUPS_MAX)]
    implicit: Annotated[dict[str, _Bitmap], Meta(max_length=COLLECTIONS_MAX)] = field(default_factory=dict)


class Contents(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Marks of the records of a collection as the device holds them, see `contents.py`: by range, and by range and ordinal."""

    ranges: dict[int, bytes]
    records: dict[int, dict[int, bytes]] = field(default_factory=dict)


class Pull(Request, frozen=True, kw_only=True, omit_defaults=True, tag="pull"):
    """Asks for what changed. The optional parts are sent only when the authority asked for them.

    `verify`: nothing that the device holds is taken for granted, whatever its tokens say. `layout` tells which images it adopts.
    """

    state: _Id
    witness: bytes = b""
    awaited: Annotated[list[_Id], Meta(max_length=AWAITED_MAX)] = field(default_factory=list)
    table: Table | None = None
    selection: bytes | None = None
    views: dict[str, bytes] | None = None
    verify: bool = False
    contents: dict[str, Contents] | None = None
    layout: bytes = b""


class Preview(Pull, frozen=True, kw_only=True, omit_defaults=True, tag="preview"):
    """A pull that moves nothing: what would saving the candidate selection fetch and drop?

    `pending` holds bitmaps of records with unanswered changes: which of them would leave?
    """

    candidate: bytes
    pending: dict[str, bytes] = field(default_factory=dict)


class WireChange(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`changes.Change`."""

    collection: _Name
    key: list[Any]
    op: _Name
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    digest: bytes = b""


class WireMutation(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`changes.Mutation`."""

    id: _Id
    intent: _Name
    changes: list[WireChange]
    after: list[_Id] = field(default_factory=list)
    projection: _Named = b""


class Push(Request, frozen=True, kw_only=True, omit_defaults=True, tag="push"):
    """Mutations, at the device's turn, under a random request id."""

    turn: _Named
    request: _Id
    mutations: list[WireMutation]
    witness: bytes = b""


class Query(Request, frozen=True, kw_only=True, omit_defaults=True, tag="query"):
    """A remote read; `where` is an encoded filter, `order` pairs of (field, descending).

    With a `candidate`, an encoded selection, only among the records that its filters list; `chosen`: that it chooses of them.
    """

    collection: str
    where: bytes
    candidate: bytes = b""
    chosen: bool = False
    search: str = ""
    order: list[tuple[str, bool]] = field(default_factory=list)
    limit: int = 100
    after: list[Any] | None = None
    total: bool = False


# -- what the authority answers


class Added(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Values of fields that the projection gained, for records already held: (ordinal, value, …)."""

    fields: list[str]
    rows: list[list[Any]]


class Manifest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file to fetch, which consists of pieces, see `store/pieces.py`. `size` is 0 while it is still being made.

    `parts` tells how many of these bytes each collection takes, in the order of the file: to show progress by, nothing else. Of
    an image `raw_size` is what it takes on disk, and `records` how many are in it.
    """

    name: str
    size: _Count = 0
    parts: list[tuple[str, _Count]] = field(default_factory=list)
    raw_size: _Count = 0
    records: _Count = 0


class Part(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One collection of a delta: (ordinal, field, …) of each record to put, a bitmap to drop, the digest of the new view.

    With `in_file` the records to put stand in the delta's file instead. With an `image` the device takes that for what it held:
    put and drop are the difference to it, and `moved` tells how many records are others than the device holds.
    """

    digest: bytes
    put: list[list[Any]] = field(default_factory=list)
    drop: bytes = b""
    added: Added | None = None
    in_file: _Count = 0
    image: Manifest | None = None
    moved: _Count = 0


class Group(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One group of a delta: all of it is applied in one transaction, with its token and cursor."""

    collections: dict[str, Part]
    token: bytes
    cursor: bytes


class _Answered(_Message, frozen=True, kw_only=True, omit_defaults=True):
    """What every answer to a pull or push that went through carries. `receipts`: those of `awaited` that are contained."""

    now: _Moment
    durable_through: _Count = 0
    receipts: list[bytes] = field(default_factory=list)


class Same(_Answered, frozen=True, kw_only=True, omit_defaults=True, tag="same"):
    """Nothing changed for `state`, which earlier builds left out."""

    state: bytes = b""


class Delta(_Answered, frozen=True, kw_only=True, omit_defaults=True, tag="delta"):
    """The difference, as the answer to `state`; `claims` are those that the offer names."""

    state: bytes
    groups: list[Group]
    file: Manifest | None = None
    claims: dict[str, Any] = field(default_factory=dict)
    unfit: int = 0

    def files(self) -> list[tuple[Manifest, str]]:
        """The files that belong to it: images with their collections, then the one with its records."""
        images = [(p.image, c) for g in self.groups for c, p in g.collections.items() if p.image is not None]
        return [*images, *([(self.file, "")] if self.file is not None else [])]


class NeedState(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="need_state"):
    """Send the table of this state."""


class NeedSelection(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="need_selection"):
    """Send the selection."""


class NeedView(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="need_view"):
    """Send the views of these collections; and the contents of those in `contents`, with records' marks of the ranges listed."""

    collections: list[str]
    contents: dict[str, list[int]] = field(default_factory=dict)


class NeedSchema(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="need_schema"):
    """Send the field lists of these projections."""

    projections: list[bytes]


class NewHistory(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="new_history"):
    """The cursor or witness is of another history: everything answered is unanswered again."""


class Expired(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="expired"):
    """The selection is not valid any more (by the authority's clock); nothing moves until it is renewed."""

    until: _Moment
    now: _Moment


class HeldBack(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="held_back"):
    """The answer would drop most of a collection; it waits for an operator."""

    collection: str
    held: int
    drop: int


class Revoked(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="revoked"):
    """The operator revoked this device."""


class Fork(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="fork"):
    """The turn was used by a copy of this device."""


class WireRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A record after the mutation: its ordinal if the mutation inserted it, its replicated fields if they differ from what was
    sent (`values`), or `gone` if it is no longer in scope."""

    collection: str
    key: list[Any]
    ordinal: _Ordinal = 0
    values: dict[str, Any] | None = None
    gone: bool = False


class WireReceipt(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The durable answer to one mutation: accepted, transformed or rejected; or parked, for which nothing is stored."""

    id: bytes
    outcome: str
    position: _Count = 0
    code: str = ""
    message: str = ""
    fields: list[str] = field(default_factory=list)
    records: list[WireRecord] = field(default_factory=list)


class Pushed(_Answered, frozen=True, kw_only=True, omit_defaults=True, tag="pushed"):
    """The answers to a push, the next turn, and a witness. Mutations without an answer are sent again."""

    request: bytes
    turn: bytes
    cursor: bytes
    results: list[WireReceipt]


class PreviewPart(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Counts of one collection, and estimates of the bytes to fetch (`bytes`) and held on the device's `disk`.

    `leaving` is a bitmap: what would be dropped of the `pending` records.
    """

    fetch: int = 0
    drop: int = 0
    hold: int = 0
    bytes: int = 0
    disk: int = 0
    leaving: _Bitmap = b""


class Previewed(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="previewed"):
    """The answer to a preview."""

    collections: dict[str, PreviewPart]


class Records(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="records"):
    """The answer to a query: rows in the order of `fields`."""

    fields: list[str]
    rows: list[list[Any]]
    total: int | None = None


class Refused(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="refused"):
    """The request cannot be answered; `code` is a `RefusalCode`, or one that a later authority knows."""

    code: str
    message: str
    retry_after_s: Annotated[float, Meta(ge=0)] | None = None


Answer = (
    Same | Delta | NeedState | NeedSelection | NeedView | NeedSchema | NewHistory | Expired | HeldBack | Revoked | Fork
    | Pushed | Previewed | Records | Refused
)  # fmt: skip
