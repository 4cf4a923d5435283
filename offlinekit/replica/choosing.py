"""What the Offline Configurator asks of a replica: the saved selection, candidates, previews, and saving.

What is not held is asked of the authority. Where it cannot be reached, held records answer, and the answer says so; a replica
that never pulled knows nothing, so there the error stands.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import apsw
from attrs import evolve

from offlinekit.configurator.preview import Preview, PreviewOf, Stranded
from offlinekit.exceptions import Offline, TransportError
from offlinekit.exchange import Effect, Exchanger, Previewed
from offlinekit.expr import Allowed, Bounds, Compiler
from offlinekit.expr.sql import quote
from offlinekit.nodes import And, Value, everything
from offlinekit.protocol.messages import Records
from offlinekit.query import Page, Query, check_query
from offlinekit.schema import CollectionInfo
from offlinekit.selection import Selection, candidates, plan_of
from offlinekit.store.sqlite.pending import Unanswered, unanswered
from offlinekit.terms import in_term

if TYPE_CHECKING:  # pragma: no cover
    from offlinekit.replica.replica import Replica  # layer-exempt: the type of what made it

__all__ = ["ReplicaDesk"]

T = TypeVar("T")


class ReplicaDesk:
    """The replica's side of a configuration."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self.schema, self.offer, self.identity, self.zone = replica.schema, replica.offer, replica.identity, replica.zone

    def now(self) -> float:
        """Seconds since 1970."""
        return self._replica.now()

    def saved(self) -> Selection:
        """The saved selection."""
        return self._replica.selection

    def save(self, selection: Selection) -> None:
        """Makes a selection active from the next pull on."""
        self._replica.save_selection(selection)

    # -- asking

    def _ask(self, steps: Generator[Effect, bytes, T], instead: str) -> T | None:
        """The authority's answer, or None when held records must do."""
        self._replica.refuse_loop(instead)
        try:
            return None if self._replica.link is None else self._replica.link.ask(steps)
        except TransportError:
            if self._pulled:
                return None
            raise

    async def _fetch(self, steps: Generator[Effect, bytes, T]) -> T | None:
        """As `_ask`, on an event loop."""
        try:
            return None if self._replica.link is None else await self._replica.link.ask_async(steps)
        except TransportError:
            if self._pulled:
                return None
            raise

    @property
    def _pulled(self) -> bool:
        return self._replica.store.meta("claims", self._replica.reader()) is not None

    @property
    def _exchanger(self) -> Exchanger:
        return Exchanger(self._replica.store)

    # -- candidates

    def read(self, query: Query, candidate: Selection, chosen: bool) -> tuple[Page[Any], bool]:
        """Candidates, and whether they are only those held."""
        steps = self._reading(query, candidate, chosen)
        return self._read(query, candidate, chosen, self._ask(steps, "await configuration.candidates(...).fetch()"))

    async def fetch_read(self, query: Query, candidate: Selection, chosen: bool) -> tuple[Page[Any], bool]:
        """As `read`, on an event loop."""
        return self._read(query, candidate, chosen, await self._fetch(self._reading(query, candidate, chosen)))

    def _reading(self, query: Query, candidate: Selection, chosen: bool) -> Generator[Effect, bytes, Records]:
        check_query(query, self.schema, Allowed("a remote query", online_only=True))
        return self._exchanger.query(query, candidate, chosen)

    def _read(self, query: Query, candidate: Selection, chosen: bool, found: Records | None) -> tuple[Page[Any], bool]:
        if found is not None:
            return self._replica.remote.page(query, found), False
        claims = self._replica.store.meta("claims", self._replica.reader())
        if claims is None:
            raise Offline("no sync is running and nothing was pulled yet, so nobody knows what there is to choose from")
        bounds = Bounds(self.now(), candidate.zone)
        among = candidates(self.schema, self.offer, candidate.choice(query.collection), claims, bounds, chosen=chosen)
        return self._replica.run_query(evolve(query, where=And((query.where, among)))), True

    # -- previews

    def preview(self, selection: Selection) -> Preview:
        """What saving it would move: by the authority, or from held records when it cannot be reached."""
        steps = self._exchanger.preview(selection)
        return self._previewed(selection, self._ask(steps, "await replica.configure(...).fetch_preview()"))

    async def fetch_preview(self, selection: Selection) -> Preview:
        """As `preview`, on an event loop."""
        return self._previewed(selection, await self._fetch(self._exchanger.preview(selection)))

    def _previewed(self, selection: Selection, found: Previewed | None) -> Preview:
        if found is None:
            return self._held(selection)
        parts = {n: PreviewOf(p.fetch, p.drop, p.hold, p.bytes, p.disk) for n, p in found.parts.items()}
        return Preview(parts, stranded=self._stranded(found.leaving))

    def _held(self, selection: Selection) -> Preview:
        db, parts, leaving = self._replica.reader(), {}, []
        each = self._disk_bytes(db) / max(1, sum(db.execute(f"SELECT count(*) FROM {quote(i.name)}").get
                                                 for i in self.schema.replicated))  # fmt: skip
        waiting = [u for u in unanswered(db, self.schema) if u.ordinal and u.op != "delete"]
        for info in self.schema.replicated:
            condition, bindings = self._held_by(selection, info)
            counting = f"SELECT count(*) FROM {quote(info.name)} r WHERE {condition}"
            hold = db.execute(counting, bindings).get
            total = db.execute(f"SELECT count(*) FROM {quote(info.name)} WHERE _ordinal>0").get
            parts[info.name] = PreviewOf(0, max(0, total - hold), hold, 0, round(hold * each))
            leaving += [u for u in waiting if u.collection == info.name
                        and not db.execute(f"{counting} AND r._ordinal=?", (*bindings, u.ordinal)).get]  # fmt: skip
        return Preview(parts, offline=True, stranded=self._stranded(leaving))

    @staticmethod
    def _disk_bytes(db: apsw.Connection) -> int:
        """What the replica's files hold, without the pages that wait to be used again."""
        total = 0
        for _, name, _ in db.execute("PRAGMA database_list"):
            count, free, size = (
                db.execute(f"PRAGMA {quote(name)}.{what}").get for what in ("page_count", "freelist_count", "page_size")
            )
            total += (count - free) * size
        return total

    def _stranded(self, leaving: Iterable[Unanswered]) -> tuple[Stranded, ...]:
        found: dict[bytes, list[Unanswered]] = {}
        for u in leaving:
            found.setdefault(u.mutation, []).append(u)
        return tuple(
            Stranded(UUID(bytes=id_), us[0].intent,
                     tuple((u.collection, self.schema.info(u.collection).load_key(u.key)) for u in us))
            for id_, us in found.items()
        )  # fmt: skip

    def _held_by(self, selection: Selection, info: CollectionInfo) -> tuple[str, list[Value]]:
        claims = self._replica.store.meta("claims", self._replica.reader()) or {}
        scopes = {c.name: everything for c in self.schema.replicated}
        plan = plan_of(self.schema, self.offer, scopes, selection, claims, self.now())
        compiler = Compiler(self.schema)
        parts = [in_term(term, "r", compiler, self.schema) for term in plan.terms.get(info.name, ())]
        parts.append(f"r._ordinal IN (SELECT ordinal FROM ok_created WHERE collection='{info.name}')")
        return f"({' OR '.join(parts)}) AND r._ordinal>0", compiler.bindings
