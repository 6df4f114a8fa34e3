"""Collect the failed runs of a run name with their causes, and keep them as runs change."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from motoko.core.states import Lifecycle
from motoko.handles.failure_text import cause_line
from motoko.storage.newest_runs import newest
from motoko.views.failures import FailedRun, FailureGroup, group_failures

if TYPE_CHECKING:
    from collections.abc import Mapping

    from motoko.core.records import RunRecord
    from motoko.storage.ended_runs import NewEnds
    from motoko.storage.store import WorkflowStore
    from motoko.storage.study_table import StudyTable
    from motoko.storage.tables import Tables

CAUSES: Final = (Lifecycle.FAILED, Lifecycle.TIMEOUT, Lifecycle.LOST)  # a person cancels a run
MOST: Final = 2_000  # failed runs of a study that are grouped
READ: Final = 200  # causes that one look reads


class FailedRuns:
    """The newest failed runs of a run name. A look reads only the causes that it does not know."""

    def __init__(self, store: WorkflowStore, run_name: str) -> None:
        self._store = store
        self._run_name = run_name
        self._known: dict[str, dict[int, FailedRun]] = {}
        self._counts: dict[str, int] = {}
        self.groups: tuple[FailureGroup, ...] = ()
        self.left_out = 0

    def look(self, tables: Tables, ends: Mapping[str, NewEnds]) -> None:
        """Update ``groups``, and ``left_out``: the number of failed runs that are in none."""
        changed, left_out, room = False, 0, READ
        for study in tables.study_names():
            table = tables.study(study)
            known = self._known.setdefault(study, {})
            number = table.count(self._run_name, lifecycles=CAUSES)
            failed_again = ends[study].failed if study in ends else ()
            for run_id in failed_again:
                changed = known.pop(run_id, None) is not None or changed
            wanted = min(number, MOST)
            if number != self._counts.get(study, 0) or failed_again or len(known) != wanted:
                read = self._update(table, known, room)
                changed, room = True, room - read
            self._counts[study] = number
            left_out += number - len(known)
        self.left_out = left_out
        if changed:
            runs = (one for known in self._known.values() for one in known.values())
            self.groups = group_failures(runs)

    def _update(self, table: StudyTable, known: dict[int, FailedRun], room: int) -> int:
        """Read at most ``room`` unknown causes, the newest first; return their number."""
        current = dict.fromkeys(islice(newest(table, self._run_name, lifecycles=CAUSES), MOST))
        for run_id in [run_id for run_id in known if run_id not in current]:
            del known[run_id]
        unknown = [run_id for run_id in current if run_id not in known][: max(0, room)]
        for record in table.records(sorted(unknown), keep=False):
            known[record.id] = failed_run(self._store, record)
        return len(unknown)


def failed_run(store: WorkflowStore, record: RunRecord) -> FailedRun:
    """Return a failed run with the cause of its failure."""
    ends = (one.time for one in reversed(record.history) if one.state == record.lifecycle)
    at = next(ends, 0.0)
    return FailedRun(
        record.key, record.lifecycle.value, record.exit_code, cause_line(store, record), at
    )
