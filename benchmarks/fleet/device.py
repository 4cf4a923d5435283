"""A device as a session of the protocol: tokens and views in memory and no records, so that one process is a thousand of them."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrs import evolve

from benchmarks.fleet.company import CUSTOMERS_EACH, OFFER, SCHEMA
from offlinekit import Replica
from offlinekit.ids import new_id
from offlinekit.protocol import messages as m
from offlinekit.protocol.codec import decode_answer, encode
from offlinekit.protocol.state import state_digest
from offlinekit.protocol.version import PROTOCOL_VERSION
from offlinekit.schema import projection_digest
from offlinekit.selection import Choice, Selection
from offlinekit.store.sqlite.replica_sync import held, views_held
from offlinekit.view import View, digest, pack_view, unpack_view, view_of
from offlinekit_adapters.http import HTTP

__all__ = ["Device", "Post", "prepared"]

Post = Callable[[bytes], Awaitable[bytes]]
GROUPS = (("customer", "line", "orders"), ("product",))
PROJECTION = projection_digest(SCHEMA.projection)
CITIES = ("Campinas", "Recife", "São Bento", "Joinville", "Belém")
CHOSEN = (Choice("product", quick=(("active", ()),)), Choice("customer", quick=(("mine", ()),), includes=("orders",)))


class Device:
    """One device. `same` holds views that several of them share by digest, and where a way from one to another was checked."""

    def __init__(self, number: int, seed: int, same: dict[bytes, View]) -> None:
        self.number, self.same, self.chance = number, same, random.Random(f"{seed} {number}")
        self.identity, self.id = f"rep-{number}", self.chance.randbytes(16)
        self.selection = Selection("s", self.identity, 0.0, None, "UTC", CHOSEN)
        self.tokens = dict.fromkeys(GROUPS, b"")
        self.digests: dict[str, bytes] = {}
        self.views = {name: View() for group in GROUPS for name in group}
        self.created = {"orders": View(), "line": View()}
        self.witness, self.turn = b"", b""
        self.awaited: list[bytes] = []
        self.waiting: list[m.WireMutation] = []

    def prepared_as(self, other: Device) -> None:
        """Starts with the catalogue of another one, as from a disk that was copied: a token tells of a group, not of a device."""
        self.tokens[("product",)] = other.tokens[("product",)]
        self.views["product"], self.digests["product"] = other.views["product"], other.digests["product"]
        self.witness = other.witness

    # -- requests

    def _common(self) -> dict[str, Any]:
        return {"version": PROTOCOL_VERSION, "device": self.id, "identity": self.identity, "schema": SCHEMA.version,
                "projection": PROJECTION, "witness": self.witness}  # fmt: skip

    def _table(self) -> m.Table:
        groups = [m.GroupState(collections=list(g), token=self.tokens[g], holds=any(self.views[c] for c in g)) for g in GROUPS]
        implicit = {name: pack_view(view) for name, view in self.created.items() if view}
        return m.Table(selection=self.selection.digest, groups=groups, implicit=implicit)

    async def pull(self, post: Post) -> tuple[str, int]:
        """One pull: how it was answered, and how many requests it took."""
        table = self._table()
        common = {**self._common(), "state": state_digest(table, PROJECTION), "awaited": self.awaited}
        for rounds in range(1, 9):
            answer = decode_answer(await post(encode(m.Pull(**common))))
            if isinstance(answer, m.NeedState):
                common["table"] = table
            elif isinstance(answer, m.NeedSelection):
                common |= {"table": table, "selection": self.selection.encode()}
            elif isinstance(answer, m.NeedView):
                common |= {"table": table, "views": {c: pack_view(self.views[c]) for c in answer.collections}}
            elif isinstance(answer, m.NeedSchema):
                common["fields"] = {PROJECTION: {c: list(f) for c, f in SCHEMA.projection.items()}}
            elif isinstance(answer, m.Same):
                self._settled(answer.receipts)
                return "same", rounds
            elif isinstance(answer, m.Delta) and answer.file is None:
                for group in answer.groups:
                    self._apply(group)
                self._settled(answer.receipts)
                return "delta", rounds
            else:
                raise RuntimeError(f"a pull was answered by {answer!r:.200}")
        raise RuntimeError("the authority asked for more and never answered")

    def _settled(self, receipts: list[bytes]) -> None:
        self.awaited = [id_ for id_ in self.awaited if id_ not in set(receipts)]

    def _apply(self, group: m.Group) -> None:
        """Takes the views over; a way between two views that another device has checked is not checked again."""
        for name, part in group.collections.items():
            before = self.digests.get(name, b"")
            if part.digest != before:
                known = self.same.get(before + part.digest)
                if known is None:
                    known = (self.views[name] | view_of(row[0] for row in part.put)) - unpack_view(part.drop)
                    assert digest(known) == part.digest, f"{self.identity}: the promised digest of {name} is another one"
                    if len(known) > 10 * CUSTOMERS_EACH:
                        self.same[before + part.digest] = self.same.setdefault(part.digest, known)
                self.views[name], self.digests[name] = known, part.digest
        self.tokens[tuple(sorted(group.collections))] = group.token
        self.witness = group.cursor

    # -- what people do

    def edit(self) -> None:
        """Chooses other customers, or takes one more product out of the catalogue, up to three."""
        product, customer = self.selection.choices
        if self.chance.random() < 0.5:
            city = (("in_city", (("city", self.chance.choice(CITIES)),)),) if len(customer.quick) == 1 else ()
            customer = evolve(customer, quick=(("mine", ()), *city))
        else:
            product = evolve(product, unpicks=(*product.unpicks, (f"P{self.chance.randrange(1000):07}",))[-3:])
        self.selection = evolve(self.selection, choices=(product, customer))

    def order(self, customer: str) -> None:
        """Writes an order of two lines."""
        id_, placed = str(new_id()), datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
        made: list[tuple[str, dict[str, Any]]] = [("orders", {"id": id_, "customer": customer, "placed": placed, "note": ""})]
        for _ in range(2):
            product = f"P{self.chance.randrange(1000):07}"
            made.append(("line", {"id": str(new_id()), "order": id_, "product": product, "quantity": 1}))
        changes = [m.WireChange(collection=c, key=[v["id"]], op="insert", after=v) for c, v in made]
        self.waiting.append(m.WireMutation(id=new_id().bytes, intent="order", changes=changes))

    async def push(self, post: Post) -> int:
        """Sends what waits; how many were accepted."""
        request = self.chance.randbytes(16)
        push = m.Push(**self._common(), turn=self.turn, request=request, mutations=self.waiting)
        answer = decode_answer(await post(encode(push)))
        assert isinstance(answer, m.Pushed), f"a push was answered by {answer!r:.200}"
        accepted = [result for result in answer.results if result.outcome == "accepted"]
        for result in accepted:
            self.awaited.append(result.id)
            for record in result.records:
                if record.ordinal:
                    self.created[record.collection] = self.created[record.collection] | View([record.ordinal])
        self.turn, self.witness, self.waiting = answer.turn, answer.cursor, []
        return len(accepted)


def prepared(folder: Path, url: str, seed: int, same: dict[bytes, View]) -> Device:
    """The first device, as a replica loads it."""
    device = Device(0, seed, same)
    with Replica.open(folder / "device.db", SCHEMA, offer=OFFER, identity=device.identity) as replica:
        with replica.store.write(0):
            replica.store.set_meta("selection", device.selection.encode())
        replica.start_sync(HTTP(f"{url}/sync", bearer="0", answer=600)).wait_synced(timeout=600)
        start, views = held(replica.store), views_held(replica.store, device.views)
    device.tokens = {tuple(sorted(g.collections)): g.tokens[0] for g in start.groups}
    device.views = {name: unpack_view(data) for name, data in views.items()}
    device.digests = {name: digest(view) for name, view in device.views.items()}
    device.witness = start.witness
    return device
