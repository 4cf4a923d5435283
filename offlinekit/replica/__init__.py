"""The replica: a device's copy, which holds what its user chose and works with no network."""

from offlinekit.replica.link import AsyncLink, Link
from offlinekit.replica.mutations import MutationHandle, MutationState, Rejection
from offlinekit.replica.replica import Reason, Replica
from offlinekit.replica.transaction import Transaction

__all__ = ["AsyncLink", "Link", "MutationHandle", "MutationState", "Reason", "Rejection", "Replica", "Transaction"]
