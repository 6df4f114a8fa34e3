"""Choose the run name that a screen shows first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from motoko.operations.orchestrator_facts import known_run_names
from motoko.orchestrator.run_ends import executions
from motoko.storage.orchestrator_leases import live_orchestrators

if TYPE_CHECKING:
    from motoko.views.connection import ReadConnection


def latest_run_name(connection: ReadConnection) -> str:
    """Return the run name that started last, a running one if there is any; empty without one."""
    store = connection.workflow.store
    started = {name: one.started for name, one in executions(store.state).items()}
    with connection.read() as session:
        if session is None:
            names: list[str] = []
        else:
            names = [*live_orchestrators(session.tables, store.steady())]
            names = names or known_run_names(session.tables)
    names = names or [*started]
    return max(names, key=lambda name: started.get(name, 0.0), default="")
