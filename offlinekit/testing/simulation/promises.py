"""What an answer to a pull promises, and what a device's model becomes when an answer was applied, wholly or in part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from attrs import frozen

from offlinekit.exceptions import OfflinekitError
from offlinekit.protocol import messages as m
from offlinekit.protocol.codec import decode_answer
from offlinekit.testing.simulation.model import Model
from offlinekit.testing.simulation.oracle import Rows

__all__ = ["Must", "Promise", "answered", "applied", "partly", "push_options", "subsets"]


@frozen
class Must:
    """What a device must hold if it was answered from some version of the records; `newest` and `oldest` are their numbers."""

    rows: Rows
    newest: int
    oldest: int


@frozen
class Promise:
    """What an answer to a pull promises to whoever applies it: one of `musts` in all collections, of which it moves `groups`."""

    musts: tuple[Must, ...]
    groups: tuple[tuple[str, ...], ...]
    answer: m.Delta | m.Same
    bound: float
    selection: bytes
    puts: Mapping[str, set[int]]
    load: bool


def answered(model: Model, answer: m.Pushed, serial: int = 0) -> None:
    """The device took in the answer to a push, which left this version of the records."""
    model.answered(answer.results, answer.now)
    model.forget_durable(answer.durable_through)
    model.since = max(model.since, serial)


def push_options(given: bytes) -> list[Callable[[Model], None]]:
    """What an answer to a push may have done to a device that failed over it."""
    try:
        answer = decode_answer(given)
    except OfflinekitError:
        return []
    if isinstance(answer, m.Pushed):
        return [lambda model: answered(model, answer)]
    return [Model.unanswered, Model.file_unloaded] if isinstance(answer, m.NewHistory) else []


def applied(model: Model, promise: Promise, must: Must) -> bool | None:
    """The whole answer; False when it leaves out something that has changed."""
    asked, moved = model.asked(load=promise.load), {c for g in promise.groups for c in g}
    if not moved <= asked:
        return False
    for collection, rows in must.rows.items():
        if collection in asked - moved and model.base[collection] != {k: model.cut(collection, r) for k, r in rows.items()}:
            return False
    model.since = max(model.since, must.oldest)
    partly(model, promise, must, promise.groups, True, True)
    return None


def partly(model: Model, promise: Promise, must: Must, groups: Iterable[tuple[str, ...]], settled: bool, durable: bool) -> None:
    """Some groups of an answer, and perhaps its receipts and what it calls durable."""
    if settled:
        model.settle(promise.answer.receipts)
    model.move_base({c: must.rows[c] for g in groups for c in g})
    model.tidy()
    if durable:
        model.forget_durable(promise.answer.durable_through)
    for group in groups:
        model.bounds |= dict.fromkeys(group, promise.bound)


def subsets(groups: tuple[tuple[str, ...], ...]) -> list[tuple[tuple[str, ...], ...]]:
    """All choices of groups."""
    found: list[tuple[tuple[str, ...], ...]] = [()]
    for group in groups:
        found += [(*f, group) for f in found]
    return found
