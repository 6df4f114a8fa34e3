"""Handle the runs that are left when an orchestrator ends before them."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
from collections import Counter
from typing import TYPE_CHECKING

from motoko.cli.output import count_runs, echo

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from motoko.api.workflow import Workflow
    from motoko.errors import MotokoError
    from motoko.launcher.services import Services
    from motoko.operations.signals import SignalHandler

SLOW_SECONDS = 1.0
REPEAT_SECONDS = 5.0  # in which a further Ctrl-C cancels the runs
STOPPING = "waiting for runs to end; a run that ignores TERM is killed after 5 s"


@contextlib.contextmanager
def as_warnings() -> Iterator[None]:
    """Report an exception of the block as a warning, because a more important error follows."""
    try:
        yield
    except Exception as problem:  # noqa: BLE001 - any failure is less important
        text = str(problem).partition("\n")[0] or type(problem).__name__
        echo(f"warning: could not finish reporting: {text}", file=sys.stderr)


def handle_runs_after_error(
    error: BaseException, workflow: Workflow, services: Services, *, stop: bool
) -> bool:
    """Do the same as ``handle_remaining_runs``, but query nothing if the server failed.

    Return whether a server is reachable.
    """
    from motoko.errors import ServerError

    if not _is_reachable(workflow, after_signal=isinstance(error, KeyboardInterrupt)):
        return False
    with as_warnings():
        if not isinstance(error, ServerError):
            handle_remaining_runs(workflow, services, stop=stop)
            return True
        if stop:
            services.suspend(workflow.run_name or "")
    return False


def _is_reachable(workflow: Workflow, *, after_signal: bool) -> bool:
    from motoko.runtime.files import file_identity
    from motoko.server.lifecycle import is_responding

    state = workflow.store.state
    if file_identity(state.path) is None:
        # Launcher and server stop by themselves.
        echo(f"warning: {state.path} does not exist; runs keep running", file=sys.stderr)
        return False
    if after_signal and not is_responding(state):
        echo("warning: the database server does not respond; runs keep running", file=sys.stderr)
        return False
    return True


def leave_runs(
    workflow: Workflow, services: Services, signals: SignalHandler, earlier: frozenset[str]
) -> bool:
    """Report the runs that keep running; a further Ctrl-C cancels them.

    Do not cancel the attempts with the tokens ``earlier``, which this command did not start. Return
    whether a server is reachable. The terminal may be closed.
    """
    from motoko.errors import MotokoError

    services.leave_launcher = True  # even if the following fails
    cancels = signals.signal == signal.SIGINT
    if cancels:
        signals.expect_repeat()
    try:
        with contextlib.suppress(KeyboardInterrupt), contextlib.suppress(OSError):
            if not _is_reachable(workflow, after_signal=True):
                return False
            services.leave_launcher = _report_remaining(workflow, cancels=cancels)
        if cancels and services.leave_launcher and signals.wait_for_repeat(REPEAT_SECONDS):
            services.leave_launcher = not _cancel(workflow, earlier)
    except MotokoError as error:
        _warn_unknown(error)
        return False
    return True


def _warn_unknown(error: MotokoError) -> None:
    what = "cannot find out whether runs are still running"
    echo(f"warning: {what}: {error.message}", file=sys.stderr)


def _report_remaining(workflow: Workflow, *, cancels: bool) -> bool:
    from motoko.core.states import Lifecycle
    from motoko.storage.query import count_active_runs, query_database

    name = workflow.run_name or ""
    workflow.store.database.catch_up()
    counts = Counter[Lifecycle]()
    database = workflow.store.database
    for numbers in query_database(database, lambda s: count_active_runs(s, name)).values():
        counts.update(numbers)
    if not counts:
        return False
    waiting = counts.pop(Lifecycle.CREATED, 0)
    echo(describe_remaining_runs(counts.total(), waiting, name), file=sys.stderr)
    if cancels:
        within = f"within {REPEAT_SECONDS:g} s"
        echo(f"  press Ctrl-C again {within} to cancel what this command started", file=sys.stderr)
    return True


def describe_remaining_runs(active: int, waiting: int, run_name: str) -> str:
    """Return a message about the runs that a stopped orchestrator leaves."""
    parts = [_are_running(active)] if active else []
    if waiting:
        parts.append(f"{count_runs(waiting)} {'waits' if waiting == 1 else 'wait'} to start")
    name = shlex.quote(run_name)
    return (
        f"the orchestrator has stopped; {' and '.join(parts)}\n"
        f"  follow them with `motoko info`, stop them with `motoko cancel --all --run_name {name}`"
    )


def _are_running(number: int) -> str:
    return f"{count_runs(number)} {'is' if number == 1 else 'are'} still running"


def _cancel(workflow: Workflow, earlier: frozenset[str]) -> bool:
    """Cancel the runs of the run name, except these attempts; return whether all have ended."""
    from motoko.core.states import ACTIVE
    from motoko.operations import bulk_edit, cancel

    name = workflow.run_name or ""
    with _message_if_slow(STOPPING):
        runs = bulk_edit.cancellable_runs(workflow, bulk_edit.RunSelection(run_name=name))
        records = [r for r in runs if r.token not in earlier or r.lifecycle not in ACTIVE]
        found = cancel.cancel(workflow, records, "Ctrl-C of motoko run", wait=True)
    echo(
        f"cancelled {len(found.ended)} of {len(records)} runs; "
        f"`motoko run --run_name {shlex.quote(name)} --retry-failed` runs them again",
        file=sys.stderr,
    )
    if len(records) < len(runs):
        not_cancelled = _are_running(len(runs) - len(records))
        echo(f"{not_cancelled}: an earlier command started them", file=sys.stderr)
    return not found.pending and len(records) == len(runs)


@contextlib.contextmanager
def _message_if_slow(message: str) -> Iterator[None]:
    import threading

    timer = threading.Timer(SLOW_SECONDS, lambda: echo(message, file=sys.stderr, flush=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def handle_remaining_runs(workflow: Workflow, services: Services, *, stop: bool) -> None:
    """Report the number of active runs; with ``stop``, first send those of the run name to CREATED.

    Stop the temporary launcher, which leaves the runs of every run name. Raise no error, because a
    more important one may follow.
    """
    from motoko.errors import MotokoError
    from motoko.operations.overview import counts_by_run_name

    name = workflow.run_name or ""
    try:
        if stop:
            with _message_if_slow(STOPPING):
                services.suspend(name)
        unowned = services.stop_launcher()
        workflow.store.database.catch_up()
        with workflow.store.autocommit_scope.read() as session:
            active = counts_by_run_name(session, workflow.task_managers)
    except MotokoError as error:
        _warn_unknown(error)
        return
    left = active if unowned else {name: active.get(name, 0)}
    if any(left.values()):
        echo(describe_active_runs(left, name), file=sys.stderr)


def describe_active_runs(left: Mapping[str, int], run_name: str) -> str:
    """Return a message about active runs, counted by run name; it names other run names."""
    number = sum(left.values())
    them = "it" if number == 1 else "them"
    names = ", ".join(f"{left[name]} of {name!r}" for name in sorted(left) if left[name])
    named = "" if number == left.get(run_name) else f" ({names})"
    return (
        f"{_are_running(number)}{named}; `motoko kill --stop-runs` stops {them}, "
        f"the next `motoko run` adopts {them}"
    )
