"""The history of a workflow: the transitions of a run, and the recorded firings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from motoko.core.records import RunKey
from motoko.errors import UnknownNameError, suggestion
from motoko.storage.orchestrator_leases import orchestrator_report, run_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from motoko.api.workflow import Workflow
    from motoko.core.records import RunRecord
    from motoko.operations.bulk_edit import RunSelection
    from motoko.orchestrator.firing_executor import FiringId
    from motoko.storage.tables import Tables


@dataclass(frozen=True, slots=True)
class FiringEntry:
    """A recorded firing. Times are in seconds since the epoch; ``done`` is None while open.

    ``study``: the study of a trigger without runs, empty if it concerns none in particular.
    """

    run_name: str
    event: str
    opened: float
    done: float | None
    runs: Sequence[RunKey]
    study: str = ""


def complete_records(workflow: Workflow, selection: RunSelection) -> list[RunRecord]:
    """Return the selected runs, by study and id, with their whole histories."""
    records = selection.find(workflow)
    with workflow.store.autocommit_scope.read() as session:
        return [session.tables.complete_record(record) for record in records]


def recorded_firings(
    workflow: Workflow, *, event: str | None = None, run_name: str | None = None
) -> list[FiringEntry]:
    """Return the recorded firings by time; raise UnknownNameError for an event without any."""
    with workflow.store.autocommit_scope.read() as session:
        found = [_entry(*firing) for firing in session.tables.firings(run_name)]
    if event is not None:
        names = sorted({firing.event for firing in found})
        found = [f for f in found if event in (f.event, f.event.rpartition(".")[2])]
        if not found:
            raise UnknownNameError(f"no firing of event {event!r}", hint=suggestion(event, names))
    return sorted(found, key=lambda firing: firing.opened)


def unregistered_firings(tables: Tables) -> list[FiringEntry]:
    """Return the open firings of events that the last orchestrator did not register.

    They resume when an orchestrator registers the event again.
    """
    found: list[FiringEntry] = []
    for run_name in run_names(tables):
        open_firings = tables.open_firings(run_name)
        registered = orchestrator_report(tables, run_name).events if open_firings else None
        if registered is not None:
            left = [firing_id for firing_id in open_firings if firing_id[1] not in registered]
            found += [_entry(firing_id, tables.firing(firing_id) or {}) for firing_id in left]
    return sorted(found, key=lambda firing: firing.opened)


def _entry(firing_id: FiringId, stored: Mapping[str, Any]) -> FiringEntry:
    run_name, event, _ = firing_id
    runs = [RunKey(*key) for key in stored["runs"]]
    study = "" if runs else stored["trigger"]
    return FiringEntry(run_name, event, stored["opened"], stored.get("done"), runs, study)
