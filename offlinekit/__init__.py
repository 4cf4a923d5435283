"""offlinekit: exact partial replicas in SQLite that work with no network, and writes that are never lost."""

from offlinekit.authority import Authority, Changes, Context, Updated
from offlinekit.changes import State
from offlinekit.configurator import Configuration, Preview
from offlinekit.conflict import MergeFields
from offlinekit.exceptions import (
    AlreadySent,
    AuthenticationRequired,
    FilterError,
    InvalidValue,
    LimitExceeded,
    NotSynced,
    Offline,
    OfflinekitError,
    Reject,
    SchemaError,
    SelectionExpired,
    StateError,
)
from offlinekit.ids import new_id
from offlinekit.nodes import Filter, claim, everything, hour, nothing, param, today
from offlinekit.offer import Advanced, Always, Include, Offer, Quick, QuickParam
from offlinekit.progress import CollectionProgress, Progress
from offlinekit.query import desc
from offlinekit.replica import Link, MutationState, Rejection, Replica, Transaction
from offlinekit.schema import Collection, Field, Schema, field
from offlinekit.store.sqlite import SQLiteStore
from offlinekit.sync import Status, SyncReport

__all__ = [
    "Advanced",
    "AlreadySent",
    "Always",
    "AuthenticationRequired",
    "Authority",
    "Changes",
    "Collection",
    "CollectionProgress",
    "Configuration",
    "Context",
    "Field",
    "Filter",
    "FilterError",
    "Include",
    "InvalidValue",
    "LimitExceeded",
    "Link",
    "MergeFields",
    "MutationState",
    "NotSynced",
    "Offer",
    "Offline",
    "OfflinekitError",
    "Preview",
    "Progress",
    "Quick",
    "QuickParam",
    "Reject",
    "Rejection",
    "Replica",
    "SQLiteStore",
    "Schema",
    "SchemaError",
    "SelectionExpired",
    "State",
    "StateError",
    "Status",
    "SyncReport",
    "Transaction",
    "Updated",
    "claim",
    "desc",
    "everything",
    "field",
    "hour",
    "new_id",
    "nothing",
    "param",
    "today",
]
