"""Conflict policies: what happens when a record is no longer what the device saw when it changed it."""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = ["POLICIES", "Policy"]

Policy: TypeAlias = Literal["reject", "authority_wins"]

POLICIES: dict[str, str] = {
    "reject": "the whole mutation is rejected as stale; the user corrects it and sends it again",
    "authority_wins": "the change of that record is dropped, and the mutation is accepted as transformed",
}
