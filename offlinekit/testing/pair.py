"""An authority and a replica in one process, with a clock to move and a plug to pull, for testing one's own app.

    with linked_pair(schema, offer=offer, scopes=scopes, claims={"rep": "rep-17"}) as pair:
        pair.authority.load([Customer(code="1", name="Ana", city="Recife", rep="rep-17")])
        pair.replica.configure().quick("mine").save()
        pair.sync()

Everything runs in the caller's thread and nothing waits: `sync()` returns when the device and the authority agree.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from offlinekit.authority import Authority
from offlinekit.authority.files import at_once
from offlinekit.conflict import Policy
from offlinekit.exceptions import AuthenticationRequired, Offline, TransportError
from offlinekit.exchange import Effect, Exchanger, Fetch
from offlinekit.nodes import Filter
from offlinekit.offer import Offer
from offlinekit.replica import Link, Replica
from offlinekit.schema import Collection, Schema
from offlinekit.store.sqlite import SQLiteStore
from offlinekit.store.sqlite.verifying import Verified
from offlinekit.sync import SyncReport

__all__ = ["MovableClock", "Pair", "linked_pair"]

T = TypeVar("T")


class MovableClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.time = now

    def now(self) -> float:
        """Seconds since 1970."""
        return self.time

    def monotonic(self) -> float:
        """Seconds that never go back, as long as nobody moves the clock back."""
        return self.time

    def move(self, *, seconds: float = 0.0, minutes: float = 0.0, hours: float = 0.0, days: float = 0.0) -> None:
        """Moves the clock, back too."""
        self.time += seconds + 60 * minutes + 3600 * hours + 86_400 * days


class _Direct:
    """Stands where a sync thread would: answers remote reads and previews at once."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair

    def ask(self, steps: Generator[Effect, bytes, T]) -> T:
        """Runs an exchange."""
        return self._pair.drive(steps)

    async def ask_async(self, steps: Generator[Effect, bytes, T]) -> T:
        """The same for a caller on an event loop."""
        return self._pair.drive(steps)

    def verify(self, _timeout: float | None) -> Verified:
        """What a sync does when it is asked to."""
        self._pair.sync()
        self._pair.replica.want_verification()
        self._pair.sync()
        done = self._pair.replica.verified
        assert done is not None
        return done


class Pair:
    """The two sides; `claims=None` makes the authority answer 401, `plugged=False` cuts the line."""

    def __init__(
        self, authority: Authority, replica: Replica, clock: MovableClock, identity: str, claims: Mapping[str, Any]
    ) -> None:
        self.authority, self.replica, self.clock = authority, replica, clock
        self.identity = identity
        self.claims: Mapping[str, Any] | None = claims
        self.plugged = True
        replica._link = cast(Link, _Direct(self))

    def pull_the_plug(self) -> None:
        """Cuts the line."""
        self.plugged = False

    def plug_in(self) -> None:
        """Mends it."""
        self.plugged = True

    def drive(self, steps: Generator[Effect, bytes, T]) -> T:
        """Carries an exchange to the authority and back."""
        try:
            effect = next(steps)
            while True:
                if not self.plugged:
                    raise Offline("the plug is pulled")
                if self.claims is None:
                    raise AuthenticationRequired("sign in again")
                if isinstance(effect, Fetch):
                    answer = self.authority.fetch(effect.name, effect.offset, self.identity)
                else:
                    answer = self.authority.handle(effect.body, self.identity, self.claims)
                effect = steps.send(answer)
        except StopIteration as stop:
            return cast(T, stop.value)
        finally:
            steps.close()

    def sync(self, rounds: int = 10) -> SyncReport:
        """Pushes and pulls until nothing is left to do; raises what a transport would."""
        report, exchanger, load = SyncReport(), Exchanger(self.replica.store), False
        left = rounds
        while left > 0:
            left -= 1
            pushed = self.drive(exchanger.push())
            report.sent += pushed.sent
            for outcome, count in pushed.outcomes.items():
                report.outcomes[outcome] = report.outcomes.get(outcome, 0) + count
            if pushed.kind != "nothing":
                report.answers.append(pushed.kind)
                self.replica.tell(set())
                if pushed.kind != "revoked" and sum(pushed.outcomes.values()) == pushed.sent:
                    continue
            moved = self.drive(exchanger.pull(load=load))
            report.answers.append(moved.kind)
            for into, part in ((report.received, moved.put), (report.dropped, moved.drop)):
                for name, count in part.items():
                    into[name] = into.get(name, 0) + count
            self.replica.tell({n for n, c in (*moved.put.items(), *moved.drop.items()) if c})
            if moved.more:
                load, left = True, left + 1
            elif moved.kind not in ("new_history", "stale", "cancelled"):
                return report
        raise TransportError(f"not settled after {rounds} rounds: {report.answers}")


@contextmanager
def linked_pair(
    schema: Schema, *, scopes: Mapping[type[Collection], Filter], offer: Offer | None = None, identity: str = "tester",
    claims: Mapping[str, Any] | None = None, conflicts: Mapping[type[Collection], Policy] | None = None,
    clock: MovableClock | None = None, zone: str = "UTC", folder: str | None = None,
) -> Iterator[Pair]:  # fmt: skip
    """An authority and a replica in a temporary folder (or `folder`), closed at the end of the block."""
    clock = clock or MovableClock()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        place = folder or temporary
        store = SQLiteStore(os.path.join(place, "authority.db"), clock=clock)
        authority = Authority(store, schema, offer=offer, scopes=scopes, conflicts=conflicts, files=os.path.join(place, "files"),
                              snapshot_age_s=0, background=at_once)  # fmt: skip  # what was written is seen by the next pull
        replica = Replica.open(os.path.join(place, "replica.db"), schema, offer=offer, identity=identity, zone=zone, clock=clock)
        try:
            yield Pair(authority, replica, clock, identity, dict(claims or {}))
        finally:
            replica.close()
            authority.close()
