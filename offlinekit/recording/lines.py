"""The file of a recording: one JSON value a line, up to a size; and how values stand in it."""

from __future__ import annotations

import logging
import math
import os
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import msgspec

from offlinekit.exceptions import ProtocolError

__all__ = ["LIMIT", "Lines", "Recording", "plain", "read_lines", "unplain"]

LIMIT = 64 << 20  # bytes
_log = logging.getLogger("offlinekit.recording")
_FULL = b'{"event":"full"}\n'


class Lines:
    """Writes events until the file is full, closed or fails; then it is `over`, and what comes later is dropped.

    Each line is with the operating system when `write` returns, so that a program that dies leaves what it had recorded.
    Raises FileExistsError rather than write over another recording.
    """

    def __init__(self, path: str | os.PathLike[str], limit: int = LIMIT) -> None:
        self.path, self._left = os.fspath(path), limit - len(_FULL)
        self._file = open(self.path, "xb", buffering=0, opener=lambda p, flags: os.open(p, flags, 0o600))  # noqa: SIM115
        self.over = False

    def write(self, event: Mapping[str, Any]) -> None:
        """Adds a line; raises nothing."""
        if self.over:
            return
        try:
            line = msgspec.json.encode(plain(event)) + b"\n"
            if len(line) > self._left:
                self._file.write(_FULL)
                self.close()
                _log.warning("%s: the recording has reached its limit and ends", self.path)
                return
            self._left -= self._file.write(line) or 0
        except OSError as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """Ends the recording because of an error, which disturbs nobody else."""
        self.close()
        _log.error("%s: the recording ends: %s: %s", self.path, type(error).__name__, error, exc_info=error)

    def close(self) -> None:
        """Closes the file."""
        self.over = True
        try:
            self._file.close()
        except OSError as error:  # on some systems a full disk is told only now
            _log.error("%s: closing the recording failed: %s", self.path, error)


class Recording:
    """A recording under way, in the `lines` of a file; `stop()`, or the end of its `with` block, ends it."""

    lines: Lines

    @property
    def path(self) -> str:
        """The file."""
        return self.lines.path

    @property
    def over(self) -> bool:
        """Whether nothing is recorded any more: it was stopped, its file is full, or writing failed."""
        return self.lines.over

    def stop(self) -> None:
        """Ends it."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def read_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The events of a recording, with their line numbers from 1; of a last line that was cut off nothing.

    Raises ProtocolError for what is no recording.
    """
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                yield number, unplain(msgspec.json.decode(line, type=dict[str, Any]))
            except msgspec.MsgspecError as error:
                raise ProtocolError(f"{os.fspath(path)}, line {number}: this is no recording: {error}") from error


def plain(value: Any) -> Any:
    """A value as JSON can hold it: bytes, infinite numbers and mappings of anything but text are written out."""
    if isinstance(value, bytes):
        return {"$bytes": b64encode(value).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": repr(value)}
    if isinstance(value, Mapping):
        if all(isinstance(name, str) for name in value):
            return {name: plain(v) for name, v in value.items()}
        return {"$pairs": [[plain(name), plain(v)] for name, v in value.items()]}
    return [plain(v) for v in value] if isinstance(value, list | tuple) else value


def unplain(value: Any) -> Any:
    """The inverse of `plain`."""
    if isinstance(value, dict):
        if "$bytes" in value:
            return b64decode(value["$bytes"])
        if "$float" in value:
            return float(value["$float"])
        if "$pairs" in value:
            return {unplain(name): unplain(v) for name, v in value["$pairs"]}
        return {name: unplain(v) for name, v in value.items()}
    return [unplain(v) for v in value] if isinstance(value, list) else value
