"""The store in one SQLite file keeps the contract of an authority's store."""

from __future__ import annotations

from pathlib import Path

from offlinekit import SQLiteStore
from offlinekit.testing import StoreContract


class TestSQLiteStore(StoreContract):
    def make_store(self, folder: Path) -> SQLiteStore:
        return SQLiteStore(folder / "authority.db")
