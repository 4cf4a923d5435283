"""A folder whose power can be cut: every write in it is recorded, and what any moment would have left can be put back.

    disk = Disk(folder)
    with disk.recording():
        ...                                       # opens, writes, commits; what SQLite and Python write here is recorded
        disk.note("order o1 is saved")            # what a user was told by now
    for n in range(disk.operations + 1):
        for mode in MODES:
            write_files(disk.after(n, mode, random.Random(n)), elsewhere)   # open it there: disk.told(n) must be there

The program runs once, and unhindered: a cut is a prefix of the record, so that nothing a dying program would still do is in it.
What a cut leaves of writes that were not synced is the mode's choice. These assumptions are made of a file system:

* what was synced stays; anything else may be lost, or kept, in any order, by sectors of 512 bytes, zeros where nothing was kept;
* names (created, renamed, deleted) are kept in their order, so that a cut keeps a beginning of those that were not synced. A new
  file's name is safe once its folder was synced, as SQLite does for its logs; syncing the file alone does not do it;
* writing a part of a sector leaves the rest of it as it is (SQLite's "powersafe overwrite", its default).

    with disk.failing(lambda path: True):         # a full disk, for a program that lives on
        ...                                       # StoreFull, and nothing was changed
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias, get_args

import apsw
from attrs import Factory, frozen, mutable

from offlinekit.testing._calls import failing_calls

__all__ = ["MODES", "Disk", "Mode", "Operation", "read_files", "write_files"]

SECTOR = 512
Mode: TypeAlias = Literal["kept", "lost", "hollow", "torn", "mixed"]
"""What becomes of what was not synced: all kept (the program was killed); all lost; names kept and contents lost; the last write
torn at a sector and the rest kept; any sectors lost and others kept, by chance."""
MODES: tuple[Mode, ...] = get_args(Mode)
_UNRECORDED = ("-shm",)  # SQLite makes it anew when nobody has it open


@frozen
class Operation:
    """One step: `kind`, the path below the folder, and what was written where; `size` of a truncation, `to` of a renaming."""

    kind: Literal["create", "write", "truncate", "sync", "sync names", "remove", "rename", "nothing"]
    path: str
    file: int = 0
    offset: int = 0
    data: bytes = b""
    size: int = 0
    to: str = ""


@mutable
class _File:
    """What a file holds for sure, and what was done to it since."""

    safe: bytearray
    pending: list[Operation] = Factory(list)


class Disk:
    """Records what happens to the files in a folder; see the module. One at a time in a process, for one thread."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = os.path.realpath(folder)
        self.done: list[Operation] = []
        self._notes: list[tuple[int, Any]] = []
        self._files: dict[str, int] = {}
        self._first: dict[str, bytes] = {}
        self._fails: Callable[[str], bool] = lambda path: False
        self._errno = errno.ENOSPC
        self.fails_to_sync: Callable[[str], bool] = self._fails

    @property
    def operations(self) -> int:
        """How many were recorded."""
        return len(self.done)

    def note(self, what: Any) -> None:
        """Remembers what somebody was told, or is about to do, at this moment."""
        self._notes.append((len(self.done), what))

    def told(self, n: int) -> list[Any]:
        """What was noted before operation n + 1."""
        return [what for at, what in self._notes if at <= n]

    @contextmanager
    def recording(self, *, fails_to_sync: Callable[[str], bool] = lambda path: False) -> Iterator[Disk]:
        """Records in the block what happens in the folder; open connections in it, and close them there.

        A sync of SQLite's fails for which `fails_to_sync(path below the folder)` is true. This error is raised also where SQLite
        itself would pass over it, as when it copies a log back after a commit: fail none of those.
        """
        self._first = read_files(self.folder)
        self._files = {path: n for n, path in enumerate(sorted(self._first))}
        self.done.clear()
        self._notes.clear()
        self.fails_to_sync = fails_to_sync
        vfs = _Vfs(self)
        try:
            with self._python():
                yield self
        finally:
            vfs.unregister()

    @contextmanager
    def failing(self, fails: Callable[[str], bool], error: Literal["full", "io"] = "full") -> Iterator[None]:
        """In the block, operations fail for which `fails(path below the folder)` is true: on a full disk writes and new files, on
        a bad one also truncations, renamings and removals.

        SQLite's own error handling runs, because its system calls fail. Needs an operating system of the POSIX family.
        """
        self._fails, self._errno = fails, errno.ENOSPC if error == "full" else errno.EIO
        try:
            with self._python(), failing_calls(lambda path: self.inside(path, shared=True), fails, self._errno):
                yield
        finally:
            self._fails = lambda path: False

    @contextmanager
    def _python(self) -> Iterator[None]:
        """What Python writes by itself goes through here."""
        opened, remove, replace, fsync = builtins.open, os.remove, os.replace, os.fsync
        handles: dict[int, str] = {}

        def open_(file: Any, mode: str = "r", *more: Any, **named: Any) -> Any:
            path = None if isinstance(file, int) or not set(mode) & set("wxa+") else self.inside(file)
            if path is None:
                return opened(file, mode, *more, **named)
            raw = _Raw(self, path, file, mode.replace("b", "").replace("t", ""))
            handles[raw.fileno()] = path
            if 0 in (*more[:1], named.get("buffering")):
                return raw
            buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding=named.get("encoding"))

        def remove_(file: Any, **more: Any) -> None:
            if (path := self.inside(file)) is None or not os.path.exists(file):
                return remove(file, **more)
            self.step(path, grows=False)
            self.removing(path, lambda: remove(file, **more))

        def replace_(source: Any, target: Any, **more: Any) -> None:
            a, b = self.inside(source), self.inside(target)
            if a is None or b is None:
                return replace(source, target, **more)
            self.step(a, grows=False)
            replace(source, target, **more)
            self.add(Operation("rename", a, to=b))
            self._files[b] = self._files.pop(a)

        def fsync_(fd: int) -> None:
            fsync(fd)
            if fd in handles:
                self.add(Operation("sync", handles[fd], self._files[handles[fd]]))

        places: list[tuple[Any, str, Any]] = [
            (builtins, "open", open_), (io, "open", open_), (os, "remove", remove_), (os, "unlink", remove_),
            (os, "replace", replace_), (os, "fsync", fsync_),
        ]  # fmt: skip
        former = [(owner, name, getattr(owner, name)) for owner, name, _ in places]
        for owner, name, function in places:
            setattr(owner, name, function)
        try:
            yield
        finally:
            for owner, name, function in former:
                setattr(owner, name, function)

    # -- what the recorders call

    def inside(self, path: str | bytes | os.PathLike[str] | None, *, shared: bool = False) -> str | None:
        """The path below the folder; None for files that are not recorded."""
        if path is None:
            return None
        whole = os.path.realpath(os.fsdecode(path))
        if not whole.startswith(self.folder + os.sep) or (whole.endswith(_UNRECORDED) and not shared):
            return None
        return whole[len(self.folder) + 1 :]

    def step(self, path: str, *, grows: bool = True) -> None:
        """Python is about to write: raises if that is to fail."""
        if (grows or self._errno != errno.ENOSPC) and self._fails(path):
            raise OSError(self._errno, os.strerror(self._errno), path)

    def add(self, operation: Operation) -> None:
        """Records an operation that was done."""
        self.done.append(operation)

    def file(self, path: str, *, new: bool) -> int:
        """The number of a file; a new one is recorded."""
        if new or path not in self._files:
            self._files[path] = len(self._first) + len(self.done)
            self.add(Operation("create", path, self._files[path]))
        return self._files[path]

    def removing(self, path: str, remove: Callable[[], object], *, sync: bool = False) -> None:
        """Removes a file; `sync`: so that its name does not come back."""
        remove()
        self.add(Operation("remove", path))
        self._files.pop(path, None)
        if sync:
            self.add(Operation("sync names", path))

    # -- what a cut leaves

    def after(self, n: int, mode: Mode, chance: random.Random | None = None) -> dict[str, bytes]:
        """The files, by their paths below the folder, as a cut after n operations leaves them."""
        chance = chance or random.Random(n)
        files = {number: _File(bytearray(self._first[path])) for number, path in enumerate(sorted(self._first))}
        names, moved = {path: n for n, path in enumerate(sorted(self._first))}, list[Operation]()
        for operation in self.done[:n]:
            match operation.kind:
                case "write" | "truncate":
                    files[operation.file].pending.append(operation)
                case "sync":
                    it = files[operation.file]
                    for pending in it.pending:
                        _apply(it.safe, pending)
                    it.pending.clear()
                case "sync names":
                    folder = os.path.dirname(operation.path)
                    for change in moved:
                        if os.path.dirname(change.path) == folder:
                            _rename(names, change)
                    moved = [change for change in moved if os.path.dirname(change.path) != folder]
                case "create":
                    files[operation.file] = _File(bytearray())
                    moved.append(operation)
                case "remove" | "rename":
                    moved.append(operation)
                case "nothing":
                    pass
        kept = {"lost": 0, "mixed": chance.randrange(len(moved) + 1)}.get(mode, len(moved))
        for change in moved[:kept]:
            _rename(names, change)
        last = self.done[n - 1] if n else None
        return {path: _left(files[number], mode, last, chance) for path, number in names.items()}


def _left(file: _File, mode: Mode, last: Operation | None, chance: random.Random) -> bytes:
    """The contents of a file after a cut."""
    content = bytearray(file.safe)
    for operation in file.pending:
        if mode == "kept" or (mode == "torn" and operation is not last):
            _apply(content, operation)
        elif mode == "torn" and operation.kind == "write":
            sectors = _sectors(operation)
            for sector in sectors[: chance.randrange(len(sectors))]:
                _apply(content, sector)
        elif mode == "mixed":
            for sector in _sectors(operation):
                if chance.random() < 0.5:
                    _apply(content, sector)
    return bytes(content)


def _sectors(operation: Operation) -> list[Operation]:
    """The parts of a write that are written whole or not at all."""
    if operation.kind != "write":
        return [operation]
    found, start = [], operation.offset
    end = start + len(operation.data)
    while start < end:
        stop = min(end, (start // SECTOR + 1) * SECTOR)
        data = operation.data[start - operation.offset : stop - operation.offset]
        found.append(Operation("write", operation.path, operation.file, start, data))
        start = stop
    return found


def _apply(content: bytearray, operation: Operation) -> None:
    if operation.kind == "truncate":
        del content[operation.size :]
        content.extend(bytes(operation.size - len(content)))
        return
    content.extend(bytes(max(0, operation.offset - len(content))))
    content[operation.offset : operation.offset + len(operation.data)] = operation.data


def _rename(names: dict[str, int], change: Operation) -> None:
    if change.kind == "create":
        names[change.path] = change.file
    elif (number := names.pop(change.path, None)) is not None and change.kind == "rename":
        names[change.to] = number


def read_files(folder: str | os.PathLike[str]) -> dict[str, bytes]:
    """The files below a folder with their contents, without what a power cut takes in any case."""
    found = {}
    for place, _, names in os.walk(os.path.realpath(folder)):
        for name in names:
            if not name.endswith(_UNRECORDED):
                path = os.path.join(place, name)
                with open(path, "rb") as source:
                    found[os.path.relpath(path, os.path.realpath(folder))] = source.read()
    return found


def write_files(files: Mapping[str, bytes], folder: str | os.PathLike[str]) -> None:
    """Puts these files into a folder."""
    for name, content in files.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as target:
            target.write(content)


class _Raw(io.FileIO):
    """A file that Python writes: recorded write by write."""

    def __init__(self, disk: Disk, path: str, file: Any, mode: str) -> None:
        exists = os.path.exists(file)
        if not exists or "w" in mode:
            disk.step(path)
        super().__init__(file, mode)
        self._disk, self._path = disk, path
        self._file = disk.file(path, new=not exists)
        if exists and "w" in mode:
            disk.add(Operation("truncate", path, self._file, size=0))

    def write(self, data: Any) -> int:
        """Writes and records."""
        self._disk.step(self._path)
        count = super().write(data)
        offset = self.tell() - count  # also of what is appended
        self._disk.add(Operation("write", self._path, self._file, offset, bytes(data)[:count]))
        return count

    def truncate(self, size: int | None = None) -> int:
        """Truncates and records."""
        self._disk.step(self._path, grows=False)
        found = super().truncate(size)
        self._disk.add(Operation("truncate", self._path, self._file, size=found))
        return found


class _Vfs(apsw.VFS):
    """SQLite's way to the files: its own, recorded. As the default it serves every connection that is opened meanwhile."""

    def __init__(self, disk: Disk) -> None:
        self._disk, self._base = disk, apsw.vfs_names()[0]
        super().__init__("offlinekit-crash", self._base, makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        """Opens a file, recorded if it lies in the folder."""
        whole = name.filename() if isinstance(name, apsw.URIFilename) else name
        path = self._disk.inside(whole)
        if path is None:
            return apsw.VFSFile(self._base, name, flags)
        return _VfsFile(self._disk, self._base, path, name, flags, exists=os.path.exists(whole))

    def xDelete(self, name: str, sync: bool) -> None:
        """Deletes a file, and records it."""
        path = self._disk.inside(name)
        if path is None or not os.path.exists(name):
            super().xDelete(name, sync)
        else:
            self._disk.removing(path, lambda: super(_Vfs, self).xDelete(name, sync), sync=sync)


class _VfsFile(apsw.VFSFile):
    """A file of SQLite's; what it shares in memory and its locks are those of the real one."""

    def __init__(self, disk: Disk, base: str, path: str, name: Any, flags: list[int], *, exists: bool) -> None:
        super().__init__(base, name, flags)
        self._disk, self._path = disk, path
        self._file = disk.file(path, new=not exists)
        log = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL | apsw.SQLITE_OPEN_WAL
        self._readonly = bool(flags[0] & apsw.SQLITE_OPEN_READONLY)
        self._syncs_names = bool(flags[0] & log and flags[0] & apsw.SQLITE_OPEN_CREATE)

    def xLock(self, level: int) -> None:
        """Locks. A connection that only reads may not lock alone when it closes; SQLite expects that, and goes on."""
        try:
            super().xLock(level)
        except apsw.IOError:
            if not self._readonly:
                raise
            raise apsw.BusyError from None  # the one error that is not raised once more when SQLite has gone on

    def xWrite(self, data: bytes, offset: int) -> None:
        """Writes and records."""
        super().xWrite(data, offset)
        self._disk.add(Operation("write", self._path, self._file, offset, bytes(data)))

    def xTruncate(self, size: int) -> None:
        """Truncates and records."""
        super().xTruncate(size)
        self._disk.add(Operation("truncate", self._path, self._file, size=size))

    def xSync(self, flags: int) -> None:
        """Syncs and records; with its first sync of a log each connection syncs the folder, too."""
        if self._disk.fails_to_sync(self._path):
            raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)
        super().xSync(flags)
        self._disk.add(Operation("sync", self._path, self._file))
        if self._syncs_names:
            self._disk.add(Operation("sync names", self._path))
            self._syncs_names = False
