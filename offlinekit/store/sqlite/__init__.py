"""Both stores on SQLite, through apsw."""

from offlinekit.store.sqlite.authority_store import SQLiteStore

__all__ = ["SQLiteStore"]
