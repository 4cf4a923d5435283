"""The package of this device in figures: what a selection holds, what is still to fetch, and whether it fits."""

from __future__ import annotations

import json
import time
from weakref import WeakKeyDictionary

from attrs import evolve, frozen

from offlinekit import Configuration, Preview, Replica
from offlinekit_portal.contract import offer
from offlinekit_portal.web.desk import Desk
from offlinekit_portal.web.registers import ICONS, REGISTERS

RATE = 600_000  # bytes a second on a middling 4G connection
FRESH_S = 20.0
ROOM = 64_000_000  # what a device should keep free
LOADING = 3  # times the size of a package, while it is loaded
DOWNLOAD = "download"
_counted: WeakKeyDictionary[Replica, tuple[tuple[bytes, str], float, Preview]] = WeakKeyDictionary()


@frozen
class Line:
    """One line of the package: a register, or related records that come along."""

    icon: str
    label: str
    slug: str
    records: int
    bytes: int
    fetch: int


@frozen
class Package:
    """A package in figures."""

    lines: tuple[Line, ...]
    preview: Preview
    free: int
    here: bool  # whether it has just been counted, and need not be counted again

    @property
    def total(self) -> int:
        """Bytes of the whole package on this device; without a connection, of what is there already."""
        return self.preview.disk_bytes

    @property
    def empty(self) -> bool:
        """Whether nothing is chosen that there is."""
        return not any(line.records for line in self.lines)

    @property
    def fits(self) -> bool:
        """Whether there is room for it; while it is loaded it needs that room several times."""
        return self.preview.offline or self.preview.fits(max(0, self.free - ROOM) // LOADING)

    @property
    def seconds(self) -> int:
        """How long fetching takes, roughly."""
        return 1 + self.preview.fetch_bytes // RATE

    @property
    def there(self) -> int:
        """Percent of the records that are on this device already; all of them only when nothing is to be fetched."""
        rows, fetch = self.preview.rows, self.preview.fetch
        return 100 if not fetch else max(0, min(99, int(100 * (1 - fetch / max(1, rows)))))


def _key(desk: Desk, configuration: Configuration) -> tuple[bytes, str]:
    """What a count depends on: the choices, and the package that is here; while one arrives, none is."""
    held = desk.replica.held_selection.id if desk.pulled() else ""
    return evolve(configuration.selection, id="", since=0.0, until=None).encode(), held


def count(desk: Desk, configuration: Configuration) -> Package:
    """Counts what saving would mean: at the head office, or from what is held when it cannot be reached."""
    preview = configuration.preview()
    _counted[desk.replica] = (_key(desk, configuration), time.monotonic(), preview)
    return _package(desk, configuration, preview, True)


def counted(desk: Desk, configuration: Configuration) -> Package | None:
    """The last count, if there is one: it may be of earlier choices, which `here` tells."""
    found = _counted.get(desk.replica)
    if found is None:
        return None
    key, when, preview = found
    here = key == _key(desk, configuration) and time.monotonic() - when < FRESH_S and preview.offline is not desk.connected
    return _package(desk, configuration, preview, here)


def fresh(desk: Desk, configuration: Configuration) -> Package:
    """The last count if it is of these choices, else a new one."""
    found = counted(desk, configuration)
    return found if found is not None and found.here else count(desk, configuration)


def _package(desk: Desk, configuration: Configuration, preview: Preview, here: bool) -> Package:
    lines = []
    for register in REGISTERS:
        own = preview.of(register.cls)
        lines.append(Line(register.icon, register.label, register.slug, own.hold, own.disk_bytes, own.fetch))
        chosen = configuration.of(register.cls).includes
        for include in offer.of(register.cls).includes:
            if include.name in chosen:
                parts = [preview.collections[name] for name in include.reaches]
                lines.append(Line(ICONS.get(include.name, "list-check"), include.label, "", sum(p.hold for p in parts),
                                  sum(p.disk_bytes for p in parts), sum(p.fetch for p in parts)))  # fmt: skip
    return Package(tuple(lines), preview, desk.bytes_free(), here)


# -- fetching


@frozen
class Download:
    """A package on its way: what is expected of each line, and how far it is."""

    selection: str
    began: float
    total: int
    records: dict[str, int]


def begin(desk: Desk, selection: str, package: Package | None) -> None:
    """Notes what a saved selection is to bring, so that its page knows it after a restart too."""
    records = {} if package is None else {line.slug: line.records for line in package.lines if line.slug}
    size = 0 if package is None else package.preview.fetch_bytes
    desk.remember(DOWNLOAD, json.dumps([selection, time.time(), size, records]))


def under_way(desk: Desk) -> Download | None:
    """The last download begun."""
    kept = desk.setting(DOWNLOAD)
    return Download(*json.loads(kept)) if kept else None
