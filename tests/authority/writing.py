"""The other end of `plain_writer.py`: a handle on the process that writes the tables behind the authority's back."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any


class Refused(Exception):
    """SQLite refused a statement of the plain writer."""


class PlainWriter:
    """One process with one open file at a time."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("plain_writer.py")
        self._process = subprocess.Popen([sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> PlainWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.communicate()

    def _ask(self, command: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        pickle.dump(command, self._process.stdin)
        self._process.stdin.flush()
        return pickle.load(self._process.stdout)

    def open(self, path: str | os.PathLike[str], *statements: str) -> PlainWriter:
        """Open a file (closing the one before) and run what the program does first."""
        self._ask(os.fspath(path))
        self.write(*statements)
        return self

    def close(self) -> None:
        """Close the file."""
        self._ask(None)

    def attempt(self, *statements: str) -> list[Any]:
        """Run statements; the rows of each, or the text of its error."""
        answers: list[Any] = self._ask(list(statements))
        return answers

    def write(self, *statements: str) -> list[list[tuple[Any, ...]]]:
        """Run statements that must work; the rows of each."""
        answers = self.attempt(*statements)
        for sql, answer in zip(statements, answers, strict=True):
            if isinstance(answer, str):
                raise Refused(f"{answer}: {sql}")
        return answers
