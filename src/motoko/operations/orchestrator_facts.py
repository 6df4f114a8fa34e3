"""The orchestrator of a run name: whether it runs, and the status that it published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from motoko.orchestrator.status_file import read_status
from motoko.storage.orchestrator_leases import (
    ORCHESTRATOR,
    live_orchestrator,
    orchestrator_report,
    run_names,
)

if TYPE_CHECKING:
    from motoko.api.workflow import Workflow
    from motoko.core.orchestrator_status import OrchestratorStatus
    from motoko.storage.orchestrator_leases import LeaseHolder, StallReport
    from motoko.storage.tables import Tables


@dataclass(frozen=True, slots=True)
class OrchestratorFacts:
    """The last orchestrator of a run name.

    ``holder``: its process if it is running. ``status``: the last one published, None if there is
    none. ``is_current``: it is that of the last orchestrator, which may have ended since.
    """

    run_name: str
    holder: LeaseHolder | None
    status: OrchestratorStatus | None
    is_current: bool
    stall: StallReport | None

    @classmethod
    def read(cls, workflow: Workflow, tables: Tables, run_name: str) -> OrchestratorFacts:
        """Read the facts about a run name."""
        store = workflow.store
        holder = live_orchestrator(tables, run_name, store.steady())
        status = read_status(store.state, run_name)
        lease = tables.lease(ORCHESTRATOR + run_name)
        last = {} if lease is None else lease["holder"]
        current = status is not None and (
            (last.get("pid"), last.get("since")) == (status.pid, status.since)
        )
        stall = None if holder is None else orchestrator_report(tables, run_name).stall
        return cls(run_name, holder, status, current, stall)


def known_run_names(tables: Tables) -> list[str]:
    """Return the run names that have runs or had an orchestrator, sorted."""
    studies = [tables.study(name) for name in tables.study_names()]
    return sorted({name for study in studies for name in study.run_names()} | {*run_names(tables)})
