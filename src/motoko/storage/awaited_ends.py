"""Find which of many awaited runs are in a terminal state."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from BTrees.IIBTree import IISet, intersection, multiunion

from motoko.core.states import FAILURES, TERMINAL, Lifecycle
from motoko.storage.query import BULK

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from motoko.core.records import RunRecord
    from motoko.storage.session import Session
    from motoko.storage.study_table import StudyTable


@dataclass(frozen=True, slots=True)
class ReadEnds:
    """The runs of a study in a terminal state, in order of their ends, and records of failures."""

    ids: array[int]
    failures: Mapping[int, RunRecord]


def read_ends(
    session: Session, study: str, ids: Sequence[int], *, failures_only: bool = False
) -> ReadEnds:
    """Return those of ``ids``, which are ascending, that are in a terminal state.

    With ``failures_only`` others may come first, in any order.
    """
    order, times, failures = array("i"), array("d"), dict[int, "RunRecord"]()
    found: Iterable[int] = ids
    if len(ids) > BULK:  # then indexes are cheaper than records
        table, wanted = session.tables.study(study), IISet(ids)
        found = intersection(wanted, _ended(table, FAILURES if failures_only else TERMINAL))
        if failures_only:
            order.extend(intersection(wanted, _ended(table, [Lifecycle.FINISHED])))
            times.extend(0.0 for _ in order)
    records = session.tables.study(study).records(found, keep=False, where=_is_terminal)
    for record in records if ids else ():
        order.append(record.id)
        times.append(record.history[-1].time if record.history else 0.0)
        if record.lifecycle.is_failure:
            failures[record.id] = record
    by_time = sorted(range(len(order)), key=times.__getitem__)
    return ReadEnds(array("i", map(order.__getitem__, by_time)), failures)


def _ended(table: StudyTable, lifecycles: Iterable[Lifecycle]) -> Any:
    return multiunion(table.id_sets("lifecycles", lifecycles, None))


def _is_terminal(record: RunRecord) -> bool:
    return record.lifecycle.is_terminal
