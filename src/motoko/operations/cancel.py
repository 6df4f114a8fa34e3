"""Cancel runs, with or without a running launcher."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from motoko.core.states import ACTIVE, Lifecycle
from motoko.errors import LauncherError
from motoko.launcher.control import running_launchers, start_launcher, stop_launcher
from motoko.launcher.workflow_users import services_lock
from motoko.operations import bulk_edit
from motoko.operations.explain import LauncherCoverage
from motoko.printable import count_runs
from motoko.storage.launcher_leases import machine_names
from motoko.storage.query import existing_records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from motoko.api.workflow import Workflow
    from motoko.core.records import RunKey, RunRecord
    from motoko.launcher.control import LauncherProcess
    from motoko.server.state_dir import StateDir

CANCEL_TIMEOUT: Final = 60.0
POLL_INTERVAL: Final = 0.1


@dataclass(frozen=True, slots=True)
class CancelResult:
    """The outcome of cancelling runs.

    ``ended``: the runs in a terminal state, and which. ``pending``: the others. ``problem``: why
    these wait for a launcher to start; None if a launcher is cancelling them.
    """

    ended: Mapping[RunKey, Lifecycle] = field(default_factory=dict)
    pending: Sequence[RunKey] = ()
    problem: LauncherError | None = None

    @property
    def summary(self) -> str:
        """One line about the outcome."""
        cancelled = sum(outcome is Lifecycle.CANCELLED for outcome in self.ended.values())
        otherwise = len(self.ended) - cancelled
        parts = []
        if cancelled or not (otherwise or self.pending):
            parts.append(f"{count_runs(cancelled)} cancelled")
        if self.pending:
            parts.append(f"{count_runs(len(self.pending))} will be CANCELLED")
        if otherwise:
            was = "was" if otherwise == 1 else "were"
            parts.append(f"{count_runs(otherwise)} {was} already in a terminal state")
        return ", ".join(parts)


def cancel(
    workflow: Workflow,
    runs: Iterable[RunRecord],
    cause: str,
    *,
    wait: bool = False,
    timeout: float = CANCEL_TIMEOUT,
    on_unowned: Callable[[int], object] = lambda _: None,
) -> CancelResult:
    """Cancel runs with their processes and scheduler jobs.

    Launchers end the runs that they own; with ``wait``, wait for that. For other runs, call
    ``on_unowned`` with their number, start a launcher that claims nothing, and stop it afterwards.
    Block for at most ``timeout`` seconds.
    """
    keys = bulk_edit.cancel(workflow, runs, cause)
    problem: LauncherError | None = None
    unowned = _unowned(workflow, keys)
    try:
        if unowned:
            on_unowned(len(unowned))
            awaited = keys if wait else [record.key for record in unowned]
            _end_unowned(workflow, keys, awaited, timeout)
        elif wait:
            deadline = workflow.store.runtime.clock.monotonic() + timeout
            _wait(workflow, keys, deadline, lambda: True)
    except LauncherError as error:
        problem = error
    records = _records(workflow, keys)
    ended = {r.key: r.lifecycle for r in records if r.lifecycle.is_terminal}
    pending = [r.key for r in records if not r.lifecycle.is_terminal]
    if unowned and problem is None and _unowned(workflow, pending):
        problem = LauncherError(
            f"they did not end within {timeout:g} s",
            hint=f"The launcher's log is {workflow.store.state.logs / 'launcher.log'}.",
        )
    return CancelResult(ended, pending, problem)


def _end_unowned(
    workflow: Workflow, keys: Sequence[RunKey], awaited: Sequence[RunKey], timeout: float
) -> None:
    state, clock = workflow.store.state, workflow.store.runtime.clock
    # Under the lock no other process finds a launcher that is about to stop.
    with services_lock(state):
        deadline = clock.monotonic() + timeout
        unowned, unread = _unowned(workflow, keys), workflow.config.unread
        coverage = _coverage(workflow)
        studies = studies_by_machine(coverage, [r for r in unowned if r.study not in unread])
        awaited = [key for key in awaited if key.study not in unread]
        with paused_launchers(state, studies) as started:
            _wait(
                workflow,
                awaited,
                deadline,
                lambda: not started or any(launcher.is_running() for launcher in started),
            )
    for record in unowned:
        if record.study in unread:
            raise LauncherError(unread[record.study].message)


def _wait(
    workflow: Workflow, keys: Sequence[RunKey], deadline: float, is_running: Callable[[], bool]
) -> None:
    clock = workflow.store.runtime.clock
    while _any_active(workflow, keys):
        if not is_running() or clock.monotonic() >= deadline:
            return
        clock.sleep(POLL_INTERVAL)


@contextlib.contextmanager
def paused_launchers(
    state: StateDir, needed: Mapping[str | None, Sequence[str]]
) -> Iterator[Sequence[LauncherProcess]]:
    """Run launchers that claim nothing, for these studies of each machine, within the block.

    Yield those that this call started. Raise LauncherError if one does not start.
    """
    started: list[LauncherProcess] = []
    try:
        for machine, studies in needed.items():
            launcher = start_launcher(
                state, pause_claims=True, studies=studies, machine_name=machine
            )
            if launcher.started_here:
                started.append(launcher)
        yield started
    finally:
        own = {launcher.process.label for launcher in started}
        others = {launcher.process.label for launcher in running_launchers(state)} - own
        stop_launcher(state, excluded=others)


def studies_by_machine(
    coverage: LauncherCoverage, runs: Iterable[RunRecord]
) -> dict[str | None, list[str]]:
    """Return the configured studies of these runs by machine; None stands for this machine."""
    found: dict[str | None, set[str]] = {}
    for record in runs:
        if record.study in coverage.defaults:
            machine = coverage.machine_of(record.study, record.options.get("machine_name"))
            here = machine in machine_names(None)
            found.setdefault(None if here else machine, set()).add(record.study)
    return {machine: sorted(studies) for machine, studies in found.items()}


def _coverage(workflow: Workflow) -> LauncherCoverage:
    store = workflow.store
    with store.autocommit_scope.read() as session:
        return LauncherCoverage.read(session.tables, workflow.config, store)


def _unowned(workflow: Workflow, keys: Iterable[RunKey]) -> list[RunRecord]:
    coverage = _coverage(workflow)
    active = (r for r in _records(workflow, keys) if r.lifecycle in ACTIVE)
    return [record for record in active if not coverage.is_managed(record)]


def _any_active(workflow: Workflow, keys: Iterable[RunKey]) -> bool:
    with workflow.store.autocommit_scope.read() as session:
        records = (record for key in keys for record in existing_records(session, [key]))
        return any(record.lifecycle in ACTIVE for record in records)


def _records(workflow: Workflow, keys: Iterable[RunKey]) -> list[RunRecord]:
    with workflow.store.autocommit_scope.read() as session:
        return existing_records(session, keys)
