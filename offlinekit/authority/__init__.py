"""The authority: the copy that decides what each device holds and which of its mutations take effect."""

from offlinekit.authority.hooks import Changes, Context, Updated
from offlinekit.authority.service import Authority

__all__ = ["Authority", "Changes", "Context", "Updated"]
