"""The clock as a port, so that time can be moved in tests; nothing else in offlinekit reads the time."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

__all__ = ["Clock", "SystemClock", "at"]


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> float:
        """Seconds since 1970, which may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds since some point, which never go back."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()


def at(seconds: float) -> datetime:
    """The instant in UTC of a number of seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC)
