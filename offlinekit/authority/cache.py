"""What an authority remembers to save work; correctness never depends on it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

__all__ = ["Cache"]

K = TypeVar("K")
T = TypeVar("T")


class Cache(Generic[K, T]):
    """A map that forgets what was not used for longest, when all of it weighs more than `size`; safe in threads."""

    def __init__(self, size: int, weigh: Callable[[T], int] = lambda value: 1) -> None:
        self._size, self._weigh, self._lock = size, weigh, threading.Lock()
        self._items, self._weights, self._weight = OrderedDict[K, T](), dict[K, int](), 0
        self._making: dict[K, Future[T]] = {}

    def get(self, key: K) -> T | None:
        """The value, or None."""
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
            return self._items.get(key)

    def put(self, key: K, value: T) -> None:
        """Remembers a value, weighed anew."""
        weight = self._weigh(value)
        with self._lock:
            self._weight += weight - self._weights.get(key, 0)
            self._items[key], self._weights[key] = value, weight
            self._items.move_to_end(key)
            while self._weight > self._size and len(self._items) > 1:
                self._weight -= self._weights.pop(self._items.popitem(last=False)[0])

    def made(self, key: K, make: Callable[[], T]) -> T:
        """The value, made by the first of those who want it at the same time; the others wait for it, and for its error."""
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
                return self._items[key]
            making = self._making.get(key)
            if making is None:
                mine = self._making[key] = Future()
        if making is not None:
            return making.result()
        try:
            value = make()
            self.put(key, value)
            mine.set_result(value)
            return value
        except BaseException as error:
            mine.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._making[key]

    def clear(self) -> None:
        """Forgets everything."""
        with self._lock:
            self._items.clear()
            self._weights.clear()
            self._weight = 0
