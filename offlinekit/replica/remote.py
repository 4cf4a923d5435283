"""Remote reads: typed queries that the authority answers, inside the scope, fields that are online_only included."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, TypeVar, cast

from offlinekit.exceptions import Offline, ProtocolError
from offlinekit.exchange import Effect, Exchanger
from offlinekit.expr import Allowed
from offlinekit.protocol.convert import checked
from offlinekit.protocol.messages import Records
from offlinekit.query import Page, Query, Select, check_query
from offlinekit.replica.link import AsyncLink, Link
from offlinekit.schema import Collection

if TYPE_CHECKING:  # pragma: no cover
    from offlinekit.replica.replica import Replica  # layer-exempt: the type of what made it

__all__ = ["Remote", "RemoteSelect"]

C = TypeVar("C", bound=Collection)


class RemoteSelect(Select[C]):
    """A query for the authority: `.all()` blocks, `await .fetch()` does not. At most 100 records unless `limit` says more."""

    def __init__(self, cls: type[C], run: Callable[[Query], Page[C]], query: Query | None = None) -> None:
        super().__init__(cls, run, query)

    async def fetch(self) -> Page[C]:
        """Runs the query on an event loop."""
        owner: Remote = self._run.__self__  # type: ignore[attr-defined]
        return cast("Page[C]", await owner.fetch(self.query))


class Remote:
    """`replica.remote`: reads at the authority, through the running sync."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    def select(self, collection: type[C]) -> RemoteSelect[C]:
        """A typed query; raises Offline after an attempt to reach the authority failed."""
        return RemoteSelect(collection, self._run)

    def _run(self, query: Query) -> Page[Any]:
        self._replica.refuse_loop("await replica.remote.select(...).fetch()")
        steps = self._steps(query)
        return self.page(query, self._link().ask(steps))

    async def fetch(self, query: Query) -> Page[Any]:
        """Runs a query on an event loop, through either shell."""
        steps = self._steps(query)
        return self.page(query, await self._link().ask_async(steps))

    def _steps(self, query: Query) -> Generator[Effect, bytes, Records]:
        check_query(query, self._replica.schema, Allowed("a remote query", online_only=True))
        return Exchanger(self._replica.store).query(query)

    def _link(self) -> Link | AsyncLink:
        if self._replica.link is None:
            raise Offline(
                "no sync is running, so the authority cannot be asked; call replica.start_sync() or keep_synced() first"
            )
        return self._replica.link

    def page(self, query: Query, answer: Records) -> Page[Any]:
        """The records of an answer; raises ProtocolError if it is not one to this query."""
        info = self._replica.schema.info(query.collection)
        checked(answer.rows, len(answer.fields))
        if missing := sorted({*info.key, *(n for n, _ in query.order)} - set(answer.fields)):
            raise ProtocolError(f"the authority answered without {', '.join(missing)} of '{info.name}'")
        rows = [dict(zip(answer.fields, row, strict=True)) for row in answer.rows]
        known = [{n: v for n, v in row.items() if n in info.fields} for row in rows]
        page: Page[Any] = Page(info.record(row) for row in known)
        page.total = answer.total
        limit = 100 if query.limit is None else query.limit
        if rows and len(rows) == limit:
            last = rows[-1]
            page.next = tuple(last[n] for n, _ in query.order) + tuple(last[k] for k in info.key)
        return page
