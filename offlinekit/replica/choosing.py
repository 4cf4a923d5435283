"""What the Offline Configurator asks of a replica: the saved selection, previews, and saving."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offlinekit.configurator.preview import Preview, PreviewOf
from offlinekit.exceptions import TransportError
from offlinekit.exchange import Exchanger
from offlinekit.expr import Compiler
from offlinekit.expr.sql import quote
from offlinekit.nodes import Value, everything
from offlinekit.schema import CollectionInfo
from offlinekit.selection import Selection, plan_of
from offlinekit.terms import in_term

if TYPE_CHECKING:  # pragma: no cover
    from offlinekit.replica.replica import Replica  # layer-exempt: the type of what made it

__all__ = ["ReplicaDesk"]


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

    # -- previews

    def preview(self, selection: Selection) -> Preview:
        """What saving it would move: by the authority, or from held records when it cannot be reached."""
        link = self._replica.link
        if link is not None:
            try:
                found = link.ask(Exchanger(self._replica.store).preview(selection))
                return Preview({n: PreviewOf(p.fetch, p.drop, p.hold, p.bytes) for n, p in found.parts.items()})
            except TransportError:
                if self._replica.store.meta("claims", self._replica.reader()) is None:
                    raise  # never synced, so nothing is known that could answer
        return self._held(selection)

    def _held(self, selection: Selection) -> Preview:
        db, found = self._replica.reader(), {}
        for info in self.schema.replicated:
            condition, bindings = self._held_by(selection, info)
            hold = db.execute(f"SELECT count(*) FROM {quote(info.name)} r WHERE {condition}", bindings).get
            total = db.execute(f"SELECT count(*) FROM {quote(info.name)} WHERE _ordinal>0").get
            found[info.name] = PreviewOf(0, max(0, total - hold), hold, 0)
        return Preview(found, offline=True)

    def _held_by(self, selection: Selection, info: CollectionInfo) -> tuple[str, list[Value]]:
        claims = self._replica.store.meta("claims", self._replica.reader()) or {}
        scopes = {c.name: everything for c in self.schema.replicated}
        plan = plan_of(self.schema, self.offer, scopes, selection, claims, self.now())
        compiler = Compiler(self.schema)
        parts = [in_term(term, "r", compiler, self.schema) for term in plan.terms.get(info.name, ())]
        parts.append(f"r._ordinal IN (SELECT ordinal FROM ok_created WHERE collection='{info.name}')")
        return f"({' OR '.join(parts)}) AND r._ordinal>0", compiler.bindings
