"""Stopping the processes that work for a workflow."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from typing import TYPE_CHECKING, Final

from motoko.config import load_workflow
from motoko.core.states import ACTIVE
from motoko.errors import (
    ConfigError,
    DatabaseDamagedError,
    LauncherError,
    LeaseHeld,
    MotokoError,
    NoDatabaseError,
    StorageError,
)
from motoko.launcher.control import running_launchers, stop_launcher, suspend_runs
from motoko.launcher.workflow_users import detach_services
from motoko.operations.cancel import launchers_on_hold, needed
from motoko.operations.explain import LauncherCoverage
from motoko.operations.overview import executing
from motoko.runtime.daemons import PidFile
from motoko.runtime.processes import current, is_alive, is_visible
from motoko.server.lifecycle import is_hung, stop_server
from motoko.storage.leases import (
    LeaseHolder,
    StallReport,
    live_launchers,
    live_orchestrators,
    stall_reports,
)
from motoko.storage.store import WorkflowStore

if TYPE_CHECKING:
    from collections.abc import Mapping

    from motoko.core.records import RunKey
    from motoko.runtime.processes import ProcessIdentity
    from motoko.server.state_dir import StateDir

log = logging.getLogger(__name__)

GRACE: Final = 15.0  # seconds to finish the commit under way, and for `motoko run` to clean up
KILL_SECONDS: Final = 5.0
LOOK: Final = 0.02


def running_orchestrators(store: WorkflowStore) -> dict[str, LeaseHolder]:
    """Return the living orchestrators by run name; none where there is no database."""
    try:
        with store.autocommit_scope.read() as session:
            return live_orchestrators(session.tables, store.steady())
    except NoDatabaseError:
        return {}


def _known_orchestrators(state: StateDir) -> dict[str, LeaseHolder]:
    """Return the living orchestrators; none where the database is damaged, which is logged."""
    store = WorkflowStore(state, {}, look=True)
    try:
        return running_orchestrators(store)
    except DatabaseDamagedError as error:
        log.warning("which orchestrators run is not known: %s", error.message)
        return {}
    finally:
        store.close()


def stalled_orchestrators(store: WorkflowStore) -> dict[str, StallReport]:
    """Return what living orchestrators that are stalled wait for, by run name."""
    try:
        with store.autocommit_scope.read() as session:
            return stall_reports(session.tables, store.steady())
    except NoDatabaseError:
        return {}


def check_lease_free(store: WorkflowStore, run_name: str) -> None:
    """Raise LeaseHeld if a run name has an orchestrator."""
    holder = running_orchestrators(store).get(run_name)
    if holder is not None:
        raise LeaseHeld(
            f"run name {run_name!r} has an orchestrator already: {holder}",
            hint="Stop it with `motoko orchestrator stop`, or choose another --run_name.",
        )


def check_idle(store: WorkflowStore) -> None:
    """Raise StorageError if an orchestrator or a launcher works with the database."""
    orchestrators = _known_orchestrators(store.state)
    busy = [f"the orchestrator of run name {n!r} ({h})" for n, h in orchestrators.items()]
    launchers = running_launchers(store.state)
    busy += [f"a launcher (process {launcher.process.pid})" for launcher in launchers]
    if busy:
        raise StorageError(
            f"{store.state.path.parent} is in use by {', '.join(busy)}",
            hint="Stop what runs first: `motoko kill --stop-runs`.",
        )


def stop_orchestrators(
    store: WorkflowStore, run_name: str | None = None, *, stop_runs: bool = False
) -> dict[str, LeaseHolder]:
    """End the orchestrator of a run name, or all that are visible; returns those that have ended.

    With ``stop_runs`` the launcher sends their runs back to CREATED; otherwise they go on, with the
    launcher and the server of a ``motoko run``.
    MotokoError if there is none of that run name, if it is on another host or in another container,
    or if it does not end.
    """
    found = running_orchestrators(store)
    if run_name is not None:
        if run_name not in found:
            raise MotokoError(
                f"run name {run_name!r} has no orchestrator",
                hint=_names(found) or "No orchestrator runs.",
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
    _check_gone(here)
    if stop_runs:
        for name in here:
            suspend_runs(store.state, name)
    return here


def _check_gone(orchestrators: Mapping[str, LeaseHolder]) -> None:
    for name, holder in orchestrators.items():
        if not _gone(holder.process, GRACE):
            raise MotokoError(
                f"the orchestrator of {name!r} (process {holder.pid}) did not end in {GRACE:g} s",
                hint="Perhaps an action blocks. `motoko kill` makes it end.",
            )


def _names(found: Mapping[str, LeaseHolder]) -> str:
    return "There are: " + ", ".join(map(repr, sorted(found))) + "." if found else ""


def kill(state: StateDir, *, stop_runs: bool = False) -> list[str]:
    """End orchestrators, launchers and server, by force if need be; returns what was ended.

    Runs go on, or with ``stop_runs`` go back to CREATED. What runs on other hosts is left alone.
    LauncherError names the reason if runs could not be stopped; all else has ended by then.
    """
    served = PidFile(state.server_record).owner_alive()
    if served and is_hung(state):
        # First: everybody waits for it. Who cannot end without one starts another.
        stop_server(state)
    stopped = _end_orchestrators(state)
    trouble: MotokoError | None = None
    try:
        if _end_launchers(state, stop_runs=stop_runs):
            stopped.append("the launcher")
        if stop_runs:
            recalled, trouble = _recall_deserted(state)
            if recalled:
                stopped.append("1 run" if recalled == 1 else f"{recalled} runs")
    finally:
        stop_server(state)
        if served:
            stopped.append("the server")
        detach_services(state)  # what is started from now on is nobody's yet
    if trouble is not None:
        raise LauncherError(
            f"runs go on that no launcher can attend to: {trouble.message}",
            hint=f"Stopped: {', '.join(stopped) or 'nothing'}. Correct that, then say "
            "`motoko kill --stop-runs` again.",
        )
    return stopped


def left_going(state: StateDir) -> dict[str, int]:
    """Return how many runs go on, by run name; none if the database cannot tell."""
    store = WorkflowStore(state, {}, look=True)
    try:
        with store.autocommit_scope.read() as session:
            return executing(session, session.tables.study_names())
    except StorageError as error:
        log.debug("the runs cannot be counted: %s", error.message)
        return {}
    finally:
        store.close()


def _end_orchestrators(state: StateDir) -> list[str]:
    """End the orchestrators on this host, which leave their runs going; returns which."""
    ended = []
    for name, holder in _known_orchestrators(state).items():
        process = holder.process
        if not is_visible(process):
            log.warning(
                "the orchestrator of run name %r cannot be ended from here: %s", name, holder
            )
            continue
        if process.is_same(current()):
            continue
        _end(process)
        ended.append(f"the orchestrator of run name {name!r} (process {holder.pid})")
    return ended


def _end_launchers(state: StateDir, *, stop_runs: bool) -> bool:
    try:
        return stop_launcher(state, stop_runs=stop_runs)
    except LauncherError as error:
        log.warning("%s; it is made to end", error.message)
        return stop_launcher(state)


def _recall_deserted(state: StateDir) -> tuple[int, MotokoError | None]:
    """Take back the runs that go on and that no launcher attends to; returns how many it were.

    And why not all. It takes a launcher to end them. What had ended meanwhile is only recorded.
    """
    try:
        left, places, trouble = _deserted(state)
        if not left:
            return 0, trouble
        with launchers_on_hold(state, places):
            stop_launcher(state, stop_runs=True)
    except (ConfigError, LauncherError) as error:
        return 0, error
    store = WorkflowStore(state, {}, look=True)
    try:
        with store.autocommit_scope.read() as session:
            found = (session.run(key).uncounted > before for key, before in left.items())
            recalled = sum(found)
    finally:
        store.close()
    missed = len(_deserted(state)[0].keys() & left.keys())
    if missed:
        runs = "1 run" if missed == 1 else f"{missed} runs"
        return recalled, LauncherError(f"the launcher ended before it had stopped {runs}")
    return recalled, trouble


def _deserted(
    state: StateDir,
) -> tuple[dict[RunKey, int], dict[str | None, list[str]], ConfigError | None]:
    """Return how often the runs were taken back that go on without any launcher.

    And the studies that need one, by machine; and what is wrong with one for which there can be
    none, whose runs are left out.
    """
    store = WorkflowStore(state, {}, look=True)
    try:
        with store.autocommit_scope.read() as session:
            tables = session.tables
            if live_launchers(tables, store.steady()):
                return {}, {}, None
            studies = [tables.study(name) for name in tables.study_names()]
            going = [r for s in studies for r in s.records(s.ids(None, lifecycles=ACTIVE))]
            if not going:
                return {}, {}, None
            config = load_workflow(state.path.parent, tolerant=True)
            serving = LauncherCoverage.of(tables, config, store.steady())
            wrong = [config.unread[run.study] for run in going if run.study in config.unread]
            going = [run for run in going if run.study not in config.unread]
            counts = {run.key: run.uncounted for run in going}
            return counts, needed(serving, going), next(iter(wrong), None)
    except NoDatabaseError:
        return {}, {}, None
    except DatabaseDamagedError as error:
        log.warning("runs that go on are left alone: %s", error.message)
        return {}, {}, None
    finally:
        store.close()


def _end(process: ProcessIdentity) -> None:
    _signal(process, signal.SIGTERM)
    if not _gone(process, GRACE):
        _signal(process, signal.SIGKILL)
        _gone(process, KILL_SECONDS)


def _signal(process: ProcessIdentity, number: signal.Signals) -> None:
    """Signal the process alone: its group may be a pipeline of the user's."""
    if is_alive(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def _gone(process: ProcessIdentity, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while is_alive(process):
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK)
    return True
