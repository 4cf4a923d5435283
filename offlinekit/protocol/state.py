"""What both sides compute alike: the digest that names everything a device holds and wants."""

from __future__ import annotations

from hashlib import sha256

import msgspec

from offlinekit.protocol.messages import Table

__all__ = ["state_digest"]


def state_digest(table: Table, projection: bytes) -> bytes:
    """16 bytes of SHA-256 over selection, implicit picks, projection and tokens."""
    groups = sorted([sorted(g.collections), g.token, g.holds, *g.also] for g in table.groups)
    plain = [table.selection, projection, sorted(map(list, table.implicit.items())), groups]
    return sha256(msgspec.msgpack.encode(plain)).digest()[:16]
