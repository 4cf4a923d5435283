"""Versions of the protocol.

History: 1 (2026): the first.

New fields with defaults need no new version (unknown fields are ignored); a new kind of message, or a changed meaning, does.
The floor rises only in a major release.
"""

from __future__ import annotations

from offlinekit.exceptions import VersionNotSupported

__all__ = ["FLOOR_VERSION", "PROTOCOL_VERSION", "check_version"]

PROTOCOL_VERSION = 1
FLOOR_VERSION = 1


def check_version(offered: int) -> None:
    """Raises VersionNotSupported outside the versions that this side speaks."""
    if not FLOOR_VERSION <= offered <= PROTOCOL_VERSION:
        raise VersionNotSupported(offered, FLOOR_VERSION, PROTOCOL_VERSION)
