"""Conflict policies: what happens when a record is no longer what the device saw when it changed it."""

from __future__ import annotations

from collections.abc import Collection as Names
from collections.abc import Iterable, Mapping
from typing import Literal, Protocol, TypeAlias, get_args

from attrs import field, frozen

from offlinekit.exceptions import SchemaError, nearest
from offlinekit.nodes import Value
from offlinekit.schema import CollectionInfo

__all__ = ["MergeFields", "Policy", "check_policy", "merged"]

_Whole: TypeAlias = Literal["reject", "authority_wins"]


class _Update(Protocol):
    """What a device changed of a record: fields as they were shown before, and as it left them."""

    @property
    def before(self) -> Mapping[str, Value]: ...
    @property
    def after(self) -> Mapping[str, Value]: ...


def _names(names: Iterable[str]) -> frozenset[str]:
    return frozenset(names)


@frozen
class MergeFields:
    """A three-way merge: a field that one side changed has that side's value.

    A field that both changed has the authority's value, unless it is named in `device_wins`: `MergeFields(["phone"])`.
    """

    device_wins: frozenset[str] = field(default=(), converter=_names)


Policy: TypeAlias = _Whole | MergeFields
"""`"reject"`: the whole mutation is rejected as stale; the user corrects it and sends it again. `"authority_wins"`: the change of
that record is dropped, and the mutation is accepted as transformed. `MergeFields(…)`: changes are merged field by field; as
under `"authority_wins"`, a deletion of what was changed, a change of what was deleted and a key inserted twice are dropped."""


def check_policy(info: CollectionInfo, policy: Policy) -> None:
    """Raises SchemaError unless the policy exists and names fields that devices may write."""
    if isinstance(policy, MergeFields):
        for name in sorted(policy.device_wins):
            if name in info.key or info.field(name).online_only:
                raise SchemaError(f"'{info.name}': a device never changes '{name}', so that it cannot win there")
    elif policy not in get_args(_Whole):
        known = [*get_args(_Whole), "MergeFields(…)"]
        raise SchemaError(f"'{info.name}': unknown conflict policy '{policy}'{nearest(str(policy), known)}")


def merged(change: _Update, now: Mapping[str, Value], device_wins: Names[str]) -> dict[str, Value]:
    """What takes effect of an update of a record that is `now` something else: of fields that only the device changed,
    that it wins, or that both sides changed alike."""
    return {
        name: value
        for name, value in change.after.items()
        if name in device_wins or now[name] == value or (name in change.before and now[name] == change.before[name])
    }
