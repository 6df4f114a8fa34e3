"""Stop the processes of a workflow."""

from __future__ import annotations

import contextlib
import logging
import signal
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from motoko.config import load_workflow
from motoko.core.states import ACTIVE
from motoko.errors import (
    ConfigError,
    DatabaseDamagedError,
    LauncherError,
    MotokoError,
    NoDatabaseError,
    StorageError,
)
from motoko.launcher.control import stop_launcher, suspend_runs
from motoko.launcher.workflow_users import detach_services
from motoko.notifier.control import stop_notifier
from motoko.notifier.watched import forget_executions
from motoko.operations.cancel import paused_launchers, studies_by_machine
from motoko.operations.explain import LauncherCoverage
from motoko.operations.overview import counts_by_run_name
from motoko.operations.preview import Preview
from motoko.operations.usage import known_orchestrators, running_orchestrators
from motoko.runtime.daemons import PidFile
from motoko.runtime.ports import SYSTEM
from motoko.runtime.processes import (
    current,
    is_alive,
    is_visible,
    signal_process,
    wait_until_dead,
)
from motoko.server.lifecycle import is_hung, stop_server
from motoko.storage.launcher_leases import live_launchers
from motoko.storage.query import existing_records
from motoko.storage.store import WorkflowStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from motoko.core.records import RunKey, RunRecord
    from motoko.runtime.ports import Clock
    from motoko.runtime.processes import ProcessIdentity
    from motoko.server.state_dir import StateDir
    from motoko.storage.orchestrator_leases import LeaseHolder
    from motoko.storage.session import Session

T = TypeVar("T")

log = logging.getLogger(__name__)

GRACE: Final = 15.0  # seconds to finish the current commit, and for `motoko run` to clean up
KILL_SECONDS: Final = 5.0


def stop_orchestrators(
    store: WorkflowStore, run_name: str | None = None, *, stop_runs: bool = False
) -> dict[str, LeaseHolder]:
    """Stop the orchestrator of a run name, or all that are visible; return those that exited.

    With ``stop_runs`` the launcher sends their runs back to CREATED. Otherwise runs, launcher and
    server stay. Raise MotokoError if the run name has no orchestrator, if it is on another host or
    in another container, or if it does not exit.
    """
    found = running_orchestrators(store)
    if run_name is not None:
        if run_name not in found:
            names = ", ".join(map(repr, sorted(found)))
            raise MotokoError(
                f"run name {run_name!r} has no orchestrator",
                hint=f"These run names have one: {names}."
                if found
                else "No orchestrator is running.",
            )
        found = {run_name: found[run_name]}
    here = {name: holder for name, holder in found.items() if is_visible(holder.process)}
    if run_name is not None and not here:
        raise MotokoError(
            f"the orchestrator of {run_name!r} runs on another machine or in another container: "
            f"{found[run_name]}",
            hint=f"Stop it there: on {found[run_name].host}.",
        )
    for holder in here.values():
        _signal(holder.process, signal.SIGTERM)
    for name, holder in here.items():
        if not wait_until_dead(partial(is_alive, holder.process), GRACE, store.runtime.clock):
            raise MotokoError(
                f"the orchestrator of {name!r} (process {holder.pid}) did not exit in {GRACE:g} s",
                hint="An action may be blocking it. `motoko kill` kills it.",
            )
    if stop_runs:
        for name in here:
            suspend_runs(store.state, name)
    return here


def kill(state: StateDir, *, stop_runs: bool = False, clock: Clock = SYSTEM.clock) -> list[str]:
    """Stop all processes of a workflow, by force if necessary; return their names.

    Runs continue, or with ``stop_runs`` return to CREATED. Processes on other hosts are left alone.
    Raise LauncherError, with everything else stopped, if runs could not be stopped.
    """
    served = PidFile(state.server_record).owner_alive()
    if served and is_hung(state):
        # First, because every other process waits for it, or starts another one to exit.
        stop_server(state, clock=clock)
    # First: what this command ends is no news.
    stopped = ["the notifier"] if stop_notifier(state) else []
    forget_executions(state)
    stopped += _stop_orchestrators(state, clock)
    problem: MotokoError | None = None
    active = preview_stop(state).runs if stop_runs else ()
    try:
        if _stop_launchers(state, stop_runs=stop_runs):
            stopped.append("the launcher")
        if stop_runs:
            problem = _requeue_unowned(state)
            if active and (requeued := _count_requeued(state, active)):
                stopped.append("1 run" if requeued == 1 else f"{requeued} runs")
    finally:
        stop_server(state, clock=clock)
        if served:
            stopped.append("the server")
        detach_services(state)  # services that start from now on have no user yet
    if problem is not None:
        raise LauncherError(
            f"runs are still running that no launcher can stop: {problem.message}",
            hint=f"Stopped: {', '.join(stopped) or 'nothing'}. Correct the problem, then repeat "
            "`motoko kill --stop-runs`.",
        )
    return stopped


def active_runs(state: StateDir) -> dict[str, int]:
    """Return the number of active runs by run name; none if the database cannot be read."""
    return _read(state, lambda s: counts_by_run_name(s, s.tables.study_names()), {})


def preview_stop(state: StateDir) -> Preview:
    """Return the active runs; none if the server hangs or the database cannot be read."""
    if PidFile(state.server_record).owner_alive() and is_hung(state):
        return Preview(())

    def read(session: Session) -> Preview:
        studies = [session.tables.study(name) for name in session.tables.study_names()]
        return Preview([r for s in studies for r in s.records(s.ids(None, lifecycles=ACTIVE))])

    return _read(state, read, Preview(()))


def _read(state: StateDir, query: Callable[[Session], T], otherwise: T) -> T:
    with contextlib.closing(_read_only(state)) as store:
        try:
            with store.autocommit_scope.read() as session:
                return query(session)
        except StorageError as error:
            log.debug("cannot read the runs: %s", error.message)
            return otherwise


def _stop_orchestrators(state: StateDir, clock: Clock) -> list[str]:
    """Stop the orchestrators on this host, not their runs; return their descriptions."""
    stopped = []
    for name, holder in known_orchestrators(state).items():
        process = holder.process
        if not is_visible(process):
            log.warning("cannot stop the orchestrator of run name %r from here: %s", name, holder)
        elif not process.is_same(current()):
            _signal(process, signal.SIGTERM)
            if not wait_until_dead(partial(is_alive, process), GRACE, clock):
                _signal(process, signal.SIGKILL)
                wait_until_dead(partial(is_alive, process), KILL_SECONDS, clock)
            stopped.append(f"the orchestrator of run name {name!r} (process {holder.pid})")
    return stopped


def _stop_launchers(state: StateDir, *, stop_runs: bool) -> bool:
    try:
        return stop_launcher(state, stop_runs=stop_runs)
    except LauncherError as error:
        log.warning("%s; it is stopped without them", error.message)
        return stop_launcher(state)


def _count_requeued(state: StateDir, earlier: Iterable[RunRecord]) -> int:
    """Return how many runs were stopped after these records of them were read."""
    before = {record.key: record.uncounted for record in earlier}

    def count(session: Session) -> int:
        found = existing_records(session, before)
        return sum(record.uncounted > before[record.key] for record in found)

    return _read(state, count, 0)


def _requeue_unowned(state: StateDir) -> MotokoError | None:
    """Start a launcher that stops runs without one; return why it did not stop all."""
    try:
        unowned, studies, problem = _unowned_runs(state)
        if not unowned:
            return problem
        with paused_launchers(state, studies):
            stop_launcher(state, stop_runs=True)
    except (ConfigError, LauncherError) as error:
        return error
    missed = len(_unowned_runs(state)[0] & unowned)
    if missed:
        runs = "1 run" if missed == 1 else f"{missed} runs"
        return LauncherError(f"the launcher exited before it had stopped {runs}")
    return problem


def _unowned_runs(
    state: StateDir,
) -> tuple[set[RunKey], dict[str | None, list[str]], ConfigError | None]:
    """Return the active runs without a launcher, and their studies by machine.

    Leave out runs of studies with an invalid configuration, and return the first such error.
    """
    with contextlib.closing(_read_only(state)) as store:
        try:
            with store.autocommit_scope.read() as session:
                tables, now = session.tables, store.steady()
                if live_launchers(tables, now):
                    return set(), {}, None
                studies = [tables.study(name) for name in tables.study_names()]
                active = [r for s in studies for r in s.records(s.ids(None, lifecycles=ACTIVE))]
                if not active:
                    return set(), {}, None
                config = load_workflow(state.path.parent, tolerant=True)
                coverage = LauncherCoverage.read(tables, config, store)
                problems = [config.unread[r.study] for r in active if r.study in config.unread]
                active = [run for run in active if run.study not in config.unread]
                keys = {run.key for run in active}
                return keys, studies_by_machine(coverage, active), next(iter(problems), None)
        except NoDatabaseError:
            return set(), {}, None
        except DatabaseDamagedError as error:
            log.warning("active runs are left alone: %s", error.message)
            return set(), {}, None


def _read_only(state: StateDir) -> WorkflowStore:
    return WorkflowStore(state, {}, read_only=True)


def _signal(process: ProcessIdentity, number: signal.Signals) -> None:
    """Signal the process alone: its group may be a pipeline of the user's."""
    if is_alive(process):
        signal_process(process, number)
