"""Ending runs on request, also those that no launcher attends to."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from motoko.core.states import ACTIVE, Lifecycle
from motoko.errors import LauncherError, UnknownRunError
from motoko.launcher.control import running_launchers, start_launcher, stop_launcher
from motoko.launcher.workflow_users import services_lock
from motoko.operations import bulk_edit
from motoko.operations.explain import LauncherCoverage
from motoko.storage.leases import machine_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from motoko.api.workflow import Workflow
    from motoko.core.records import RunKey, RunRecord
    from motoko.launcher.control import LauncherProcess
    from motoko.server.state_dir import StateDir
    from motoko.storage.session import Session

END_SECONDS: Final = 60.0
LOOK: Final = 0.1


@dataclass(frozen=True, slots=True)
class CancelResult:
    """What became of runs that were to be cancelled.

    ``ended``: those that have ended, and as what; ``going``: those that are still to end.
    ``trouble``: why the latter do so only when a launcher works, None where one sees to it.
    """

    ended: Mapping[RunKey, Lifecycle] = field(default_factory=dict)
    going: Sequence[RunKey] = ()
    trouble: LauncherError | None = None


def cancel(
    workflow: Workflow,
    runs: Iterable[RunRecord],
    cause: str,
    *,
    wait: bool = False,
    patience: float = END_SECONDS,
    deserted: Callable[[int], object] = lambda _: None,
) -> CancelResult:
    """Cancel runs, their processes and scheduler jobs included.

    Those that a launcher attends to it ends, which with ``wait`` is waited for. For others one is
    started that claims nothing, and stopped afterwards; ``deserted`` is told how many that are.
    Waits ``patience`` seconds at most.
    """
    keys = bulk_edit.cancel(workflow, runs, cause)
    trouble: LauncherError | None = None
    left = _deserted(workflow, keys)
    try:
        if left:
            deserted(len(left))
            _end_deserted(
                workflow, keys, keys if wait else [record.key for record in left], patience
            )
        elif wait:
            _wait(workflow, keys, time.monotonic() + patience, lambda: True)
    except LauncherError as error:
        trouble = error
    ended, going = _outcomes(workflow, keys)
    still = {record.key for record in _deserted(workflow, going)} if left else set()
    if still and trouble is None:
        trouble = LauncherError(
            f"they did not end within {patience:g} s",
            hint=f"The launcher's log is {workflow.store.state.logs / 'launcher.log'}.",
        )
    return CancelResult(ended, going, trouble)


def _end_deserted(
    workflow: Workflow, keys: Sequence[RunKey], awaited: Sequence[RunKey], patience: float
) -> None:
    state = workflow.store.state
    # Whoever comes meanwhile finds no launcher that is about to stop.
    with services_lock(state):
        deadline = time.monotonic() + patience
        left, unread = _deserted(workflow, keys), workflow.config.unread
        known = [record for record in left if record.study not in unread]
        awaited = [key for key in awaited if key.study not in unread]
        with launchers_on_hold(state, _needed(workflow, known)) as started:

            def works() -> bool:
                return not started or any(running.is_running() for running in started)

            _wait(workflow, awaited, deadline, works)
    for record in left:
        if record.study in unread:
            raise LauncherError(unread[record.study].message)


def _wait(
    workflow: Workflow, keys: Sequence[RunKey], deadline: float, works: Callable[[], bool]
) -> None:
    while _active(workflow, keys) and works() and time.monotonic() < deadline:
        time.sleep(LOOK)


@contextlib.contextmanager
def launchers_on_hold(
    state: StateDir, needed: Mapping[str | None, Sequence[str]]
) -> Iterator[Sequence[LauncherProcess]]:
    """Have launchers in the block that claim nothing, for these studies of each machine.

    Yields those that were started for that. LauncherError says why one does not start.
    """
    started: list[LauncherProcess] = []
    try:
        for machine, studies in needed.items():
            running = start_launcher(state, hold=True, studies=studies, machine_name=machine)
            if running.started_here:
                started.append(running)
        yield started
    finally:
        ours = {running.process.label for running in started}
        others = {running.process.label for running in running_launchers(state)} - ours
        stop_launcher(state, spared=others)


def _needed(workflow: Workflow, runs: Iterable[RunRecord]) -> dict[str | None, list[str]]:
    """Return which studies need a launcher, by machine; None: this one."""
    store = workflow.store
    with store.autocommit_scope.read() as session:
        serving = LauncherCoverage.of(session.tables, workflow.config, store.steady())
    return needed(serving, runs)


def needed(serving: LauncherCoverage, runs: Iterable[RunRecord]) -> dict[str | None, list[str]]:
    """Return the studies of these runs by the machine that they are for; None: this one.

    Runs of studies that are not configured any more are nobody's.
    """
    found: dict[str | None, set[str]] = {}
    for record in (record for record in runs if record.study in serving.defaults):
        machine = serving.machine(record.study, record.options.get("machine_name"))
        here = machine in machine_names(None)
        found.setdefault(None if here else machine, set()).add(record.study)
    return {machine: sorted(studies) for machine, studies in found.items()}


def _deserted(workflow: Workflow, keys: Iterable[RunKey]) -> list[RunRecord]:
    store = workflow.store
    with store.autocommit_scope.read() as session:
        serving = LauncherCoverage.of(session.tables, workflow.config, store.steady())
        return [record for record in _going(session, keys) if not serving.attended(record)]


def _active(workflow: Workflow, keys: Iterable[RunKey]) -> bool:
    with workflow.store.autocommit_scope.read() as session:
        return any(_going(session, keys))


def _outcomes(
    workflow: Workflow, keys: Iterable[RunKey]
) -> tuple[dict[RunKey, Lifecycle], list[RunKey]]:
    ended: dict[RunKey, Lifecycle] = {}
    going: list[RunKey] = []
    with workflow.store.autocommit_scope.read() as session:
        for key in keys:
            with contextlib.suppress(UnknownRunError):
                lifecycle = session.run(key).lifecycle
                if lifecycle.is_terminal:
                    ended[key] = lifecycle
                else:
                    going.append(key)
    return ended, going


def _going(session: Session, keys: Iterable[RunKey]) -> Iterator[RunRecord]:
    for key in keys:
        with contextlib.suppress(UnknownRunError):
            record = session.run(key)
            if record.lifecycle in ACTIVE:
                yield record
