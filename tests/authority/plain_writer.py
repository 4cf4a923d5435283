"""A program that knows nothing of offlinekit and writes with the standard library's `sqlite3`, told what over a pipe.

It is run as a process of its own: two copies of SQLite in one process drop each other's file locks. Commands come pickled on
the standard input, answers go pickled to the standard output.
"""

from __future__ import annotations

import pickle
import sqlite3
import sys
from typing import Any


def run(db: sqlite3.Connection, statements: list[str]) -> list[Any]:
    """Run each statement; return its rows, or the error's text."""
    answers: list[Any] = []
    for sql in statements:
        try:
            answers.append(db.execute(sql).fetchall())
        except sqlite3.Error as error:
            answers.append(f"{type(error).__name__}: {error}")
    return answers


def main() -> None:
    """Serve until the input ends: a list of statements is run, a path opens a file, None closes it."""
    db = None
    while True:
        try:
            command = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        answer: Any = None
        if isinstance(command, list):
            assert db is not None
            answer = run(db, command)
        else:
            if db is not None:
                db.close()
                db = None
            if command is not None:
                db = sqlite3.connect(command, isolation_level=None, timeout=10)
                db.text_factory = bytes  # text need not be valid UTF-8
                db.execute("PRAGMA synchronous=OFF")
        pickle.dump(answer, sys.stdout.buffer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
