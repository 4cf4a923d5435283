"""Connections: how each is opened, what SQL functions it has, and SQLite's errors in our words."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import apsw

from offlinekit.exceptions import StoreBusy, StoreCorrupt, StoreError, StoreFull
from offlinekit.expr import fold

__all__ = ["BUSY_MS", "check_open", "code_of", "connect", "mapped", "mapped_files", "roll_back", "savepoint", "write_transaction"]

BUSY_MS = 10_000


@contextmanager
def mapped(path: str) -> Iterator[None]:
    """Raises SQLite's errors as ours, with the file's name and what to do; constraint violations pass."""
    try:
        yield
    except apsw.ConstraintError:
        raise
    except (apsw.BusyError, apsw.LockedError) as error:
        raise StoreBusy(f"{path}: another program holds the file; try again", code_of(error)) from error
    except apsw.FullError as error:
        raise StoreFull(f"{path}: the disk is full, nothing was changed; make room and try again", code_of(error)) from error
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise StoreCorrupt(
            f"{path}: the file is damaged or no SQLite database ({error}); restore a copy", code_of(error)
        ) from error
    except UnicodeDecodeError as error:
        raise StoreCorrupt(
            f"{path}: holds text that is not valid UTF-8 ({error}); repair it, or make the replica anew"
        ) from error
    except (apsw.IOError, apsw.CantOpenError, apsw.ReadOnlyError) as error:
        raise StoreError(f"{path}: cannot be read or written ({error}); check the path and its rights", code_of(error)) from error


@contextmanager
def mapped_files(path: str) -> Iterator[None]:
    """The same for files that are written without SQLite; nobody else's code may run in the block."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise StoreFull(f"{path}: the disk is full, nothing was changed; make room and try again") from error
        raise StoreError(f"{path}: cannot be read or written ({error.strerror}); check the path and its rights") from error


def code_of(error: apsw.Error) -> int:
    """SQLite's extended result code of an error."""
    return int(getattr(error, "extendedresult", 0) or 0)


def connect(
    path: str | os.PathLike[str], *, readonly: bool = False, immutable: bool = False, create: bool = True
) -> apsw.Connection:
    """A connection with WAL, synchronous=FULL, foreign keys and our functions; `immutable` for files from elsewhere."""
    name = os.fspath(path)
    if readonly or immutable:
        flags = apsw.SQLITE_OPEN_READONLY
    else:
        flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if create else 0)
    with mapped(name):
        if immutable:
            uri = "file:" + name.replace("%", "%25").replace("?", "%3f").replace("#", "%23") + "?immutable=1"
            db = apsw.Connection(uri, flags=flags | apsw.SQLITE_OPEN_URI)
        else:
            db = apsw.Connection(name, flags=flags | apsw.SQLITE_OPEN_URI)  # so that ATTACH takes URIs
        try:
            _configure(db, readonly=readonly or immutable, foreign=immutable)
        except BaseException:
            db.close()
            raise
    return db


def roll_back(path: str) -> None:
    """Undoes what a program left that died before the file had its write-ahead log; who only reads may not, and would fail."""
    if os.path.exists(path + "-journal"):
        with mapped(path):
            db = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
            try:
                db.set_busy_timeout(BUSY_MS)
                db.execute("SELECT count(*) FROM sqlite_schema")
            finally:
                db.close()


def _configure(db: apsw.Connection, *, readonly: bool, foreign: bool) -> None:
    db.set_busy_timeout(BUSY_MS)
    if foreign:  # a file that a peer made is never trusted
        db.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        db.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
        db.execute("SELECT count(*) FROM sqlite_schema")
        return
    if not readonly:
        db.pragma("journal_mode", "wal")
    db.pragma("synchronous", "full")
    db.pragma("fullfsync", "on")
    db.pragma("foreign_keys", "on")
    db.pragma("temp_store", "memory")
    db.pragma("cache_size", -16_000)
    for name in ("contains", "starts_with", "equals_folded"):
        db.create_scalar_function(f"ok_{name}", _text_only(getattr(fold, name)), 2, deterministic=True)
    db.create_scalar_function("ok_words", _words, -1, deterministic=True)
    db.create_scalar_function("ok_utf8", _utf8, 1, deterministic=True)  # type: ignore[arg-type]


def _text_only(function: Any) -> Any:
    return lambda value, folded: function(value, folded) if isinstance(value, str) else None


def _utf8(text: bytes) -> bool:
    """ok_utf8(text as a blob): whether it is text that can be read at all."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _words(*args: Any) -> bool:
    """ok_words(words as folded text joined by a space, field, ...): every word begins a word of some field."""
    found = _spaced(" ".join(fold.fold(a) for a in args[1:] if isinstance(a, str)))
    return all(_spaced(word) in found for word in args[0].split())


def _spaced(text: str) -> str:
    """The words of a text as a full-text index has them, each after one space."""
    return "".join(f" {word}" for word in "".join(c if c.isalnum() else " " for c in text).split())


def check_open(db: apsw.Connection) -> None:
    """Raises StoreError if SQLite has ended the transaction by itself, as it may do when a disk is full or fails.

    Who caught that error would otherwise go on without a transaction, and change part of what belongs together.
    """
    if db.get_autocommit():
        raise StoreError("the database rolled the transaction back after an error in it, nothing was changed; try again")


@contextmanager
def write_transaction(db: apsw.Connection, path: str) -> Iterator[None]:
    """BEGIN IMMEDIATE … COMMIT; rolled back on any exception, which is raised in our words."""
    with mapped(path):
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
            check_open(db)
            db.execute("COMMIT")
        except BaseException:
            if not db.get_autocommit():
                db.execute("ROLLBACK")
            raise


@contextmanager
def savepoint(db: apsw.Connection, name: str = "ok") -> Iterator[None]:
    """A savepoint: rolled back on any exception, released else."""
    db.execute(f"SAVEPOINT {name}")
    try:
        yield
    except BaseException:
        if not db.get_autocommit():
            db.execute(f"ROLLBACK TO {name}")
            db.execute(f"RELEASE {name}")
        raise
    check_open(db)
    db.execute(f"RELEASE {name}")
