"""What became of a mutation, and what to do about a refused one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
from attrs import frozen

from offlinekit.changes import Change, State
from offlinekit.clock import at
from offlinekit.exceptions import StateError
from offlinekit.schema import Collection

if TYPE_CHECKING:  # pragma: no cover
    from offlinekit.replica.replica import Replica  # layer-exempt: the type of what made it
    from offlinekit.replica.transaction import Transaction  # layer-exempt: the type of what made it

__all__ = ["MutationHandle", "MutationState", "Rejection"]


@frozen
class MutationState:
    """Where a mutation stands; `code`, `message` and `fields` say why it was refused. `sent`: it may have taken effect.

    A `state` of None: it is known no more, because it was resolved, or accepted and durable.
    """

    state: State | None
    code: str = ""
    message: str = ""
    fields: tuple[str, ...] = ()
    sent: bool = False

    @property
    def settled(self) -> bool:
        """Whether nothing more will come by itself: it is answered, or parked until the user resolves what was refused."""
        return self.state != "pending"


class MutationHandle:
    """A mutation of this replica, by its id."""

    def __init__(self, replica: Replica, id_: UUID) -> None:
        self._replica, self.id = replica, id_

    def __repr__(self) -> str:
        return f"<mutation {self.id} {self.state}>"

    @property
    def now(self) -> MutationState:
        """Where it stands."""
        rows = self._replica.mutation_rows("id=?", (self.id.bytes,))
        if not rows:
            return MutationState(None)
        row = rows[0]
        fields = tuple(msgspec.msgpack.decode(row["fields"]))
        return MutationState(row["state"], row["code"], row["message"], fields, bool(row["sent"]))

    @property
    def state(self) -> State | None:
        """pending, parked, accepted, transformed or rejected."""
        return self.now.state

    def settled(self, timeout: float | None = None) -> MutationState:
        """Waits for the authority's answer and returns where it stands, also at the time-out; parked counts as an answer.

        Refuses to block a running event loop: there, `await mutation.wait()`.
        """
        self._replica.refuse_loop("await mutation.wait(timeout)")
        self._replica.wait_until(lambda: self.now.settled, timeout)
        return self.now

    async def wait(self, timeout: float | None = None) -> MutationState:
        """As `settled`, on an event loop."""
        loop, changed = asyncio.get_running_loop(), asyncio.Event()
        remove = self._replica.on_change(lambda _: loop.call_soon_threadsafe(changed.set))
        try:
            async with asyncio.timeout(timeout):
                while not self.now.settled:
                    changed.clear()
                    if not self.now.settled:
                        await changed.wait()
        except TimeoutError:
            pass
        finally:
            remove()
        return self.now

    def withdraw(self) -> None:
        """Takes an unsent mutation back; what depends on it is refused locally. Raises AlreadySent once it was sent."""
        self._replica.resolve(self.id.bytes, "dependency_withdrawn")

    def edit(self) -> Transaction:
        """A transaction that starts from this mutation's changes and replaces it; for unsent and refused ones."""
        return self._replica.correction(self.id.bytes)

    @property
    def changes(self) -> Sequence[Change]:
        """What it does, as storage values."""
        return self._replica.changes_of(self.id.bytes)


class Rejection(MutationHandle):
    """A refused mutation: rolled back from view, kept with the reason until it is corrected or discarded."""

    def __init__(self, replica: Replica, row: dict[str, Any]) -> None:
        super().__init__(replica, UUID(bytes=row["id"]))
        self.intent: str = row["intent"]
        self.code: str = row["code"]
        self.message: str = row["message"]
        self.fields: tuple[str, ...] = tuple(msgspec.msgpack.decode(row["fields"]))
        self.created: datetime = at(row["created"])

    @property
    def records(self) -> list[Collection]:
        """The records as they were sent (deleted ones are left out)."""
        found = []
        for change in self.changes:
            info = self._replica.schema.info(change.collection)
            key = dict(zip(info.key, change.key, strict=True))
            if change.op != "delete":
                found.append(info.record({**key, **change.after}))
        return found

    @property
    def waiting(self) -> list[MutationHandle]:
        """The mutations that wait for this one: a discard refuses them too."""
        return [MutationHandle(self._replica, i) for i in self._replica.waiting_for(self.id.bytes)]

    def resend(self) -> MutationHandle:
        """Sends the same changes again, as a new mutation."""
        with self.edit() as tx:
            pass
        return tx.mutation

    def discard(self) -> None:
        """Gives it up, and refuses what waits for it (`waiting`), only here: a copy of the device may still send it."""
        if self.now.state is None:
            raise StateError(f"mutation {self.id} was resolved already")
        self._replica.resolve(self.id.bytes, "dependency_discarded")
