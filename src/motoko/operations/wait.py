"""Wait for the end of orchestrators. It needs no database and no server."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from motoko.errors import MotokoError, RunNameError, suggestion
from motoko.orchestrator.run_ends import end_file, executions, read_execution
from motoko.runtime.process_exit import wait_for_an_exit
from motoko.runtime.processes import is_alive

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from motoko.orchestrator.run_ends import Execution, RunEnd
    from motoko.runtime.ports import Clock
    from motoko.server.state_dir import StateDir

RECORD_SECONDS: Final = 0.5  # between two looks at the record of a process that may outlive the end
EXIT_SECONDS: Final = 10.0  # between two looks at a process whose exit the system reports


def executions_to_await(state: StateDir, run_names: Sequence[str], clock: Clock) -> list[Execution]:
    """Return the last executions of these run names, by default all that are running.

    If none is running, return the one that ended last. Raise RunNameError for a run name without
    executions, MotokoError if there are none at all.
    """
    known = executions(state)
    for name in run_names:
        if name not in known:
            raise RunNameError(
                f"run name {name!r} has had no orchestrator", hint=suggestion(name, [*known])
            )
    if run_names:
        return [known[name] for name in dict.fromkeys(run_names)]
    if not known:
        raise MotokoError(
            "this workflow has had no orchestrator", hint="Start one with `motoko run`."
        )
    now = clock.now()
    running = [one for one in known.values() if not _is_over(one, now)]
    return running or [max(known.values(), key=lambda one: _end_time(one, now))]


def wait_for_ends(
    awaited: Sequence[Execution],
    state: StateDir,
    clock: Clock,
    *,
    timeout: float = math.inf,
    on_end: Callable[[RunEnd], object] = lambda _: None,
) -> list[RunEnd] | None:
    """Wait until these executions have ended; return the ends in their order in time.

    Call ``on_end`` with each. A command counts as ended when its process has exited. Return None
    after ``timeout`` seconds.
    """
    pending, ends = list(awaited), []
    deadline = clock.monotonic() + timeout
    while True:
        now = clock.now()
        found = [(one, _end(one, state, now)) for one in pending]
        for end in sorted((e for _, e in found if e is not None), key=lambda e: e.time):
            ends.append(end)
            on_end(end)
        pending = [one for one, end in found if end is None]
        left = deadline - clock.monotonic()
        if not pending or left <= 0:
            return None if pending else ends
        alone = all(one.alone for one in pending)
        pause = min(left, EXIT_SECONDS if alone else RECORD_SECONDS)
        wait_for_an_exit([one.process for one in pending], pause)


def _end(awaited: Execution, state: StateDir, now: float) -> RunEnd | None:
    """Return the end of an execution, None if it is not over."""
    found = read_execution(end_file(state, awaited.run_name))
    if found is None:
        raise MotokoError(
            f"the record of run name {awaited.run_name!r} was removed while it was awaited",
            hint="The workflow was moved, or created again.",
        )
    if found.token != awaited.token:  # another orchestrator started since
        return found.previous or awaited.end(math.inf)
    return found.end(now) if _is_over(found, now) else None


def _is_over(execution: Execution, now: float) -> bool:
    if execution.recorded is not None:
        return not (execution.alone and not execution.copied and is_alive(execution.process))
    return not execution.is_running(now)


def _end_time(execution: Execution, now: float) -> float:
    end = execution.end(now)
    return execution.seen if end is None else end.time
