"""The processes of a workflow: the orchestrator of a run name, and the launchers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from motoko.operations.reason_text import duration
from motoko.orchestrator.run_ends import EndKind
from motoko.runtime.processes import is_stopped
from motoko.storage.launcher_leases import launcher_report, registered_launchers
from motoko.views.campaign import Activity, LauncherView, Need, OrchestratorView

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from motoko.operations.orchestrator_facts import OrchestratorFacts
    from motoko.orchestrator.run_ends import RunEnd
    from motoko.storage.launcher_leases import LauncherRegistration
    from motoko.storage.store import WorkflowStore
    from motoko.storage.tables import Tables


def orchestrator_view(facts: OrchestratorFacts, end: RunEnd | None) -> OrchestratorView:
    """Return the view of a run name's orchestrator; ``end``: the last one that is recorded."""
    holder = facts.holder
    if holder is None:
        if end is None:
            return OrchestratorView()
        finished = end.kind is EndKind.FINISHED
        return OrchestratorView(
            Activity.FINISHED if finished else Activity.ENDED,
            end.time,
            end.kind.value if finished else f"{end.kind}, exit status {end.status}: {end.reason}",
        )
    process = f"process {holder.pid} on {holder.host}"
    if is_stopped(holder.process):
        text = f"`kill -CONT {holder.pid}` continues it"
        return OrchestratorView(Activity.SUSPENDED, holder.since, text, process)
    if facts.stall is not None:
        text = "; ".join(facts.stall.waits)
        return OrchestratorView(Activity.STALLED, facts.stall.since, text, process)
    return OrchestratorView(Activity.RUNNING, holder.since, "", process)


def orchestrator_needs(found: OrchestratorView, run_name: str, *, left: int) -> Iterator[Need]:
    """Yield what the orchestrator of a run name needs a person for; ``left``: unfinished runs."""
    start = f"motoko run --run_name {run_name}"
    if found.activity is Activity.STALLED:
        command = f"motoko why --run_name {run_name}"
        yield Need(1, 0, "orchestrator", f"stalled: {found.text}", command)
    elif found.activity is Activity.SUSPENDED:
        yield Need(1, 0, "orchestrator", f"suspended; {found.text}")
    elif found.activity is Activity.ENDED:
        yield Need(1, 0, "orchestrator", found.text, start)
    elif found.activity is Activity.NONE and left:
        yield Need(3, 0, "orchestrator", "no orchestrator is running", start)


def launcher_views(tables: Tables, store: WorkflowStore) -> list[LauncherView]:
    """Return the launchers that did not unregister, the newest first."""
    now, steady = store.now(), store.steady()
    found = [_launcher(tables, one, steady, now) for one in registered_launchers(tables)]
    return sorted(found, key=lambda view: -view.since)


def _launcher(tables: Tables, one: LauncherRegistration, steady: float, now: float) -> LauncherView:
    report = launcher_report(tables, one)
    live = one.is_live(tables, steady)
    if is_stopped(one.identity):
        state = "suspended"
    elif not live:
        state = "not heard from"
    else:
        state = "claims paused" if report.claims_paused else "running"
    age = max(0.0, steady - tables.renewed_at(one.key))
    problem = "; ".join(filter(None, (report.problem, report.directories)))
    return LauncherView(
        one.name, one.host, one.identity.pid, one.since, one.generator, ", ".join(one.studies),
        state, now - age, problem,
    )  # fmt: skip


def launcher_needs(launchers: Sequence[LauncherView], now: float, *, active: int) -> Iterator[Need]:
    """Yield what launchers need a person for; ``active``: the number of active runs."""
    for one in launchers:
        where = f"launcher on {one.host} (process {one.pid})"
        if one.state == "suspended":
            yield Need(1, 0, where, f"suspended; `kill -CONT {one.pid}` continues it")
        elif one.state == "not heard from" and active:
            text = f"not heard from for {duration(now - one.heard)}"
            yield Need(2, 0, where, text, "motoko doctor")
        if one.problem:
            yield Need(2, 0, where, one.problem, "motoko doctor")
