"""Every error offlinekit raises.

OfflinekitError                         .retryable, .hint
├─ SchemaError(ValueError)              a declaration is wrong
│  └─ FilterError                       a filter is wrong; .collection, .field
│     └─ NotOffered                     a selection names what the offer does not hold; .collection, .choice
├─ InvalidValue(ValueError)             a value does not fit its field; .collection, .field, .value
├─ LimitExceeded(ValueError)            .limit (its name), .maximum, .value
├─ StateError(RuntimeError)             used in the wrong place or order
│  ├─ SelectionExpired                  reading what an expired selection held; .until
│  └─ AlreadySent                       a mutation that may already have taken effect; .mutation
├─ NotAllowed(PermissionError)          no scope or no intent permits it
├─ RecordNotFound(LookupError)          .collection, .key
├─ StoreError                           .code (SQLite's extended result code)
│  ├─ StoreBusy (retryable)             another program holds the file
│  ├─ StoreFull (retryable)             no room on the disk
│  ├─ StoreCorrupt                      the file is damaged
│  ├─ StoreTooNew                       written by a newer program; .found, .known
│  ├─ IdentityMismatch                  the file belongs to somebody else; .found, .asked
│  ├─ ConstraintViolated                a rule of the authority's own tables; .detail
│  └─ NotTracked                        changes of a collection are not seen; .collections
├─ TransportError (retryable)           no answer came
│  ├─ Offline                           the other side could not be reached
│  ├─ NotSynced(TimeoutError)           the wait for a sync is over; .reason
│  ├─ AuthenticationRequired            401: fresh credentials are needed
│  ├─ NotTheAuthority                   somebody else answered (a captive portal)
│  └─ TooLarge                          over the size limit, in either direction
└─ ProtocolError                        bytes that are not a message of ours
   └─ VersionNotSupported               .offered, .floor, .current

`Reject` is not an error of the library: an intent's hook raises it to refuse a mutation; it travels as data.
Messages are in lower case, without a full stop, and say what to do.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from enum import StrEnum
from typing import Any

__all__ = [
    "AlreadySent",
    "AuthenticationRequired",
    "ConstraintViolated",
    "FilterError",
    "IdentityMismatch",
    "InvalidValue",
    "LimitExceeded",
    "NotAllowed",
    "NotOffered",
    "NotSynced",
    "NotTheAuthority",
    "NotTracked",
    "Offline",
    "OfflinekitError",
    "ProtocolError",
    "RecordNotFound",
    "RefusalCode",
    "Reject",
    "RejectionCode",
    "SchemaError",
    "SelectionExpired",
    "StateError",
    "StoreBusy",
    "StoreCorrupt",
    "StoreError",
    "StoreFull",
    "StoreTooNew",
    "TooLarge",
    "TransportError",
    "VersionNotSupported",
    "nearest",
]


def nearest(wrong: str, known: Iterable[str]) -> str:
    """The end of an error message: the known name nearest to `wrong`, or all of them when none is near."""
    names = sorted(known)
    close = get_close_matches(wrong, names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(names)}" if names else "; none is declared"


class RejectionCode(StrEnum):
    """The library's own reasons for a refused mutation; intents add theirs with `Reject`."""

    NOT_ALLOWED = "not_allowed"  # no intent or scope permits it, or there is no such record: both answer alike
    INVALID = "invalid"  # a value or key does not fit the schema
    EXISTS = "exists"  # the key of an insertion is taken
    STALE = "stale"  # the record was changed meanwhile
    CONSTRAINT = "constraint"  # a rule of the authority's own tables
    INTERNAL = "internal"  # the authority failed five times to process it
    DEPENDENCY_DISCARDED = "dependency_discarded"  # it waited for a mutation that the user discarded
    DEPENDENCY_WITHDRAWN = "dependency_withdrawn"  # it waited for a mutation that the user withdrew


class RefusalCode(StrEnum):
    """Why an authority does not answer a whole request; a mutation alone is refused by a RejectionCode."""

    INVALID = "invalid"  # the request breaks a rule of the protocol or the schema
    NOT_OFFERED = "not_offered"  # the selection names what the offer does not hold, or no longer; its user must choose anew
    NOT_ALLOWED = "not_allowed"  # no scope permits it
    IDENTITY = "identity"  # the replica belongs to another identity
    VERSION = "version"  # the protocol version is not served
    NOT_TRACKED = "not_tracked"  # the authority does not see the changes of a collection; its operator must reconcile
    BUSY = "busy"  # the store is held by another program; try again
    UNKNOWN_FILE = "unknown_file"  # the file's name has expired or is not yours; ask again
    INTERNAL = "internal"  # an unexpected error; the authority's log has it


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 120


def shown(value: object, size: int) -> str:
    """A value of whoever sent it, for an error: `repr` would go as deep as it is nested, and fail."""
    return _SHORT.repr(value)[:size]


class OfflinekitError(Exception):
    """The root of the tree; `retryable` says whether the same call may succeed later."""

    retryable = False


class SchemaError(OfflinekitError, ValueError):
    """A schema, offer, scope or intent is declared wrongly; the message names the field and the nearest valid one."""


class FilterError(SchemaError):
    """A filter is wrong: an unknown field, a wrong type, a claim or param where none may stand."""

    def __init__(self, message: str, *, collection: str = "", field: str = "") -> None:
        super().__init__(message)
        self.collection, self.field = collection, field


class NotOffered(FilterError):
    """A selection names a choice that the offer does not hold, or not so; a newer offer may have dropped it."""

    def __init__(self, message: str, *, collection: str = "", choice: str = "") -> None:
        super().__init__(message, collection=collection)
        self.choice = choice


class InvalidValue(OfflinekitError, ValueError):
    """A value does not fit the field it was given for."""

    def __init__(self, collection: str, field: str, value: object, why: str) -> None:
        super().__init__(f"{collection}.{field} cannot hold {shown(value, 80)}: {why}")
        self.collection, self.field, self.value, self.why = collection, field, value, why


class LimitExceeded(OfflinekitError, ValueError):
    """Something is larger than its limit; the message names limit and value."""

    def __init__(self, limit: str, maximum: int, value: int, hint: str = "") -> None:
        super().__init__(f"{limit}: {value} is more than the limit of {maximum}" + (f"; {hint}" if hint else ""))
        self.limit, self.maximum, self.value = limit, maximum, value


class StateError(OfflinekitError, RuntimeError):
    """A call at the wrong place: a closed replica, a nested transaction, a thread that does not own it."""


class SelectionExpired(StateError):
    """The selection is no longer valid, so what it held may not be read until it is renewed and pulled."""

    def __init__(self, collection: str, until: object) -> None:
        super().__init__(
            f"the selection that holds '{collection}' expired at {until}; renew it (replica.configure().renew().save())"
            " and sync: what you wrote is safe and is still sent"
        )
        self.collection, self.until = collection, until


class AlreadySent(StateError):
    """A mutation that was sent and not yet answered can be neither withdrawn nor edited."""

    def __init__(self, mutation: str) -> None:
        super().__init__(f"mutation {mutation} was already sent and may have taken effect; wait for its answer")
        self.mutation = mutation


class NotAllowed(OfflinekitError, PermissionError):
    """No scope or no declared intent permits it."""


class RecordNotFound(OfflinekitError, LookupError):
    """There is no such record here."""

    def __init__(self, collection: str, key: Sequence[Any]) -> None:
        super().__init__(f"no record {', '.join(map(repr, key))} in '{collection}' here")
        self.collection, self.key = collection, tuple(key)


class StoreError(OfflinekitError):
    """The database refused; the original error is the cause."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class StoreBusy(StoreError):
    """Another program has held the file for longer than the time-out."""

    retryable = True


class StoreFull(StoreError):
    """There is no room on the disk; nothing was changed."""

    retryable = True


class StoreCorrupt(StoreError):
    """The file is damaged or is no database of ours; it was left untouched."""


class StoreTooNew(StoreError):
    """A newer program wrote the file; it was left untouched."""

    def __init__(self, found: int, known: int, what: str = "schema") -> None:
        super().__init__(f"the file was written with {what} version {found}, this program knows {known}: update it")
        self.found, self.known = found, known


class IdentityMismatch(StoreError):
    """The file belongs to another identity; nothing was moved."""

    def __init__(self, found: str, asked: str) -> None:
        super().__init__(f"the file belongs to '{found}', not to '{asked}': open a file of its own for each identity")
        self.found, self.asked = found, asked


class ConstraintViolated(StoreError):
    """The database's own rules (unique, foreign key, check, trigger) refuse a write."""

    def __init__(self, detail: str, code: int = 0) -> None:
        super().__init__(f"the database refuses: {detail}", code)
        self.detail = detail


class NotTracked(StoreError):
    """Changes of a collection are not seen, so it is refused until `offlinekit reconcile` has run."""

    def __init__(self, collections: Sequence[str], why: str) -> None:
        names = ", ".join(collections)
        super().__init__(f"{names}: changes are no longer tracked ({why}); run 'offlinekit reconcile FILE --schema module:name'")
        self.collections = tuple(collections)


class TransportError(OfflinekitError):
    """No answer came; nothing is known about what the other side did."""

    retryable = True

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Offline(TransportError):
    """An attempt to reach the authority failed."""


class NotSynced(TransportError, TimeoutError):
    """What was waited for has not been answered and pulled; nothing is lost, and the sync goes on."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"not synced: {reason}; what was written is safe and will be sent")
        self.reason = reason


class AuthenticationRequired(TransportError):
    """The authority wants fresh credentials; the sync pauses, work goes on."""


class NotTheAuthority(TransportError):
    """Something that is not the authority answered, such as the login page of a hotel's network."""


class TooLarge(TransportError):
    """A message is over the size limit; sending it again will not help."""

    retryable = False


class ProtocolError(OfflinekitError):
    """Bytes that are not a message of this protocol, or one that may not come here."""


class VersionNotSupported(ProtocolError):
    """The other side speaks a version of the protocol that this one does not."""

    def __init__(self, offered: int, floor: int, current: int) -> None:
        super().__init__(f"protocol version {offered} is not served (known: {floor} to {current}): update the older")
        self.offered, self.floor, self.current = offered, floor, current


class Reject(Exception):
    """Raised by an intent's hook: the mutation is refused, with a code for programs and a message for people.

    `fields` names the fields to correct: `"total"`, or `Order.total`.
    """

    def __init__(self, code: str, message: str = "", *, fields: Iterable[Any] = ()) -> None:
        super().__init__(message or code)
        self.code, self.message = code, message or code
        self.fields = tuple(f if isinstance(f, str) else str(f.name) for f in fields)
