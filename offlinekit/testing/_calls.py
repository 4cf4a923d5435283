"""System calls of SQLite's that fail when they are told to, so that SQLite handles the error as it would on a bad disk."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import apsw

__all__ = ["failing_calls"]

_Function = Callable[..., int]
_KEPT: list[Any] = []  # what SQLite was once given may never be freed: a file may be open that calls it
_TYPES: dict[str, Any] = {
    "open": ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_int, use_errno=True),
    "close": ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, use_errno=True),
    "pwrite": ctypes.CFUNCTYPE(ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64, use_errno=True),
    "pwrite64": ctypes.CFUNCTYPE(
        ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64, use_errno=True
    ),
    "ftruncate": ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int64, use_errno=True),
    "unlink": ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, use_errno=True),
}


@contextmanager
def failing_calls(place: Callable[[str], str | None], fails: Callable[[str], bool], number: int) -> Iterator[None]:
    """Calls that would change a file fail with this `errno`, where `place` gives its path and `fails` is true of that."""
    vfs = apsw.VFS("offlinekit-calls", apsw.vfs_names()[0])
    paths: dict[int, str] = {}

    def refuse(path: str | None) -> bool:
        if path is None or not fails(path):
            return False
        ctypes.set_errno(number)
        return True

    def shrinking(real: _Function) -> _Function:
        return real if number == errno.ENOSPC else by_number(real)

    def by_number(real: _Function) -> _Function:
        return lambda fd, *more: -1 if refuse(paths.get(fd)) else real(fd, *more)

    def opening(real: _Function) -> _Function:
        def call(name: bytes, flags: int, mode: int) -> int:
            path = place(os.fsdecode(name))
            if flags & os.O_CREAT and not os.path.exists(name) and refuse(path):
                return -1
            fd = real(name, flags, mode)
            if fd >= 0 and path is not None:
                paths[fd] = path
            return fd

        return call

    def closing(real: _Function) -> _Function:
        def call(fd: int) -> int:
            paths.pop(fd, None)
            return real(fd)

        return call

    def unlinking(real: _Function) -> _Function:
        if number == errno.ENOSPC:
            return real
        return lambda name: -1 if os.path.exists(name) and refuse(place(os.fsdecode(name))) else real(name)

    makers = {"open": opening, "close": closing, "unlink": unlinking, "ftruncate": shrinking}
    former: dict[str, int] = {}
    for name, type_ in _TYPES.items():
        pointer = vfs.xGetSystemCall(name)
        if pointer:
            function = type_(makers.get(name, by_number)(type_(pointer)))
            _KEPT.append(function)
            former[name] = pointer
            vfs.xSetSystemCall(name, ctypes.cast(function, ctypes.c_void_p).value or 0)
    try:
        yield
    finally:
        for name, pointer in former.items():
            vfs.xSetSystemCall(name, pointer)
        vfs.unregister()
