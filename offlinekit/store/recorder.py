"""The port of a flight recorder: what a replica tells somebody who writes down what happened, in the order in which it did.

Everything is told under the store's lock, which is what gives the events of several threads one order. Without a recorder
nothing of this costs anything.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

from offlinekit.changes import Mutation
from offlinekit.exceptions import OfflinekitError, TransportError
from offlinekit.store.pieces import Piece

__all__ = ["Recordable", "Recorder", "recorded"]

E = TypeVar("E")
T = TypeVar("T")


class Recorder(Protocol):
    """Who is told; it raises nothing, and it answers with nothing that matters."""

    def touching(self, id_: bytes) -> None:
        """A mutation is about to be given up; or to be replaced, and it and what waits for it are taken out of view."""
        ...

    def committed(self, mutation: Mutation, replaces: bytes | None) -> None:
        """A local transaction was committed, perhaps the correction of another one."""
        ...

    def resolved(self, id_: bytes, code: str) -> None:
        """A mutation was given up."""
        ...

    def selected(self, selection: bytes) -> None:
        """A selection was saved."""
        ...

    def wanted(self) -> None:
        """The next pull is to verify."""
        ...

    def filed(self, name: str, pieces: Callable[[str], Iterable[Piece]], collections: Sequence[str]) -> None:
        """A received file with pieces of these collections is about to be applied."""
        ...

    def begun(self, by: Any, kind: str, how: Mapping[str, Any]) -> int:
        """An exchange begins, of those that `by` makes; returns its number."""
        ...

    def step(self, exchange: int, given: bytes | Exception | None, take: Callable[..., E]) -> E:
        """Lets an exchange take what it is given: nothing, an answer or an error; returns or raises what it does."""
        ...

    def left(self, exchange: int) -> None:
        """Nobody goes on with an exchange."""
        ...

    def stop(self) -> None:
        """Ends the recording."""
        ...


class Recordable(Protocol):
    """What has a recorder: a replica's store."""

    recorder: Recorder | None

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """The lock under which everything is told."""
        ...


def recorded(
    store: Recordable, by: Any, kind: str, steps: Generator[E, bytes, T], how: Mapping[str, Any]
) -> Generator[E, bytes, T]:  # fmt: skip
    """The same exchange, told to the store's recorder, if there is one.

    Each step is taken under the store's lock then. An exchange that began before the recording would bring into it what nobody
    could explain: it ends as if its connection had broken, and is asked anew.
    """
    recorder = store.recorder
    number = 0 if recorder is None else recorder.begun(by, kind, how)

    def take(step: Callable[..., E], given: Any) -> E:
        now = store.recorder
        if now is None:
            return step(given)
        if now is not recorder:
            raise TransportError("a recording began meanwhile; asking again")
        with store.lock:
            return now.step(number, given, step)

    step: Callable[..., E] = steps.send
    given: Any = None
    try:
        while True:
            effect = take(step, given)
            try:
                step, given = steps.send, (yield effect)
            except OfflinekitError as error:
                step, given = steps.throw, error
    except StopIteration as stop:
        result: T = stop.value
        return result
    except GeneratorExit:
        if recorder is not None and store.recorder is recorder:
            with store.lock:
                recorder.left(number)
        raise
    finally:
        steps.close()
