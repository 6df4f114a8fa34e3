"""Group the reasons of many runs, and order them by urgency."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from motoko.core.reasons import SHOWN, Code, Reason, reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from motoko.core.records import RunKey, RunRecord
    from motoko.core.states import Lifecycle

# Fields in which runs of one group differ.
_OWN: Final = frozenset({"at", "seconds", "timeout_at", "id"})
_ORDER: Final[Mapping[Code, int]] = MappingProxyType({
    **dict.fromkeys((Code.CONDITION_RAISED, Code.FAILED, Code.NOT_MANAGED), 1),
    **dict.fromkeys((Code.NO_LAUNCHER, Code.STUDY_NOT_SERVED, Code.MACHINE_NOT_SERVED), 2),
    Code.LAUNCHER_SUSPENDED: 2,
    **dict.fromkeys((Code.HELD, Code.RUN_NAME_SUSPENDED, Code.CLAIMS_PAUSED), 3),
    **dict.fromkeys((Code.RETRY_DELAYED, Code.RETRY_DUE), 4),
    **dict.fromkeys((Code.STUDY_LIMIT, Code.QUEUE_LIMIT, Code.SLOTS_IN_USE), 5),
})  # fmt: skip
_LEAST: Final = 6


@dataclass(frozen=True, slots=True)
class ReasonGroup:
    """The runs of a study in one state that have one reason; ``runs``: the first of them."""

    study: str
    lifecycle: Lifecycle
    reason: Reason
    number: int
    runs: tuple[RunKey, ...]


def urgency(code: Code) -> int:
    """Return the rank of a reason: 1 needs a person most."""
    return _ORDER.get(code, _LEAST)


def failure(record: RunRecord) -> Reason:
    """Return why a run failed."""
    code = record.exit_code
    number = -code if code is not None and code < 0 else None
    return reason(
        Code.FAILED,
        outcome=record.lifecycle.value,
        exit_code=code,
        signal=number,
        reason=record.reason or "",
    )


def group_reasons(found: Iterable[tuple[RunRecord, Reason]]) -> tuple[ReasonGroup, ...]:
    """Return the groups, the most urgent first, then the largest."""
    groups: dict[Any, list[tuple[RunRecord, Reason]]] = {}
    for record, own in found:
        shared = repr(sorted((k, v) for k, v in own.fields.items() if k not in _OWN))
        groups.setdefault((record.study, record.lifecycle, own.code, shared), []).append(
            (record, own)
        )
    made = [_group(members) for members in groups.values()]
    return tuple(sorted(made, key=lambda group: (urgency(group.reason.code), -group.number)))


def _group(members: list[tuple[RunRecord, Reason]]) -> ReasonGroup:
    """Return a group with the reason of the run that moves first."""
    earliest = min((own for _, own in members), key=lambda own: own.fields.get("at") or 0.0)
    keys = sorted(record.key for record, _ in members)
    record = members[0][0]
    return ReasonGroup(record.study, record.lifecycle, earliest, len(members), tuple(keys[:SHOWN]))
