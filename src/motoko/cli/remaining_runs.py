"""What becomes of the runs when an orchestrator ends before they do."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
from collections import Counter
from typing import TYPE_CHECKING

from motoko.cli.output import say

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from motoko.api.workflow import Workflow
    from motoko.operations.services import Services
    from motoko.operations.signals import SignalHandler


SLOW = 1.0  # seconds
AGAIN_SECONDS = 5.0  # in which a further Ctrl-C cancels the runs


@contextlib.contextmanager
def as_warnings() -> Iterator[None]:
    """Have what fails in the block told as a warning: the error that is on its way says more."""
    try:
        yield
    except Exception as problem:  # noqa: BLE001 - whatever it is
        text = str(problem).partition("\n")[0] or type(problem).__name__
        say(f"warning: this could not be told to its end: {text}", file=sys.stderr)


def see_to_runs_after(
    error: BaseException, workflow: Workflow, services: Services, *, stop: bool
) -> bool:
    """Do what ``handle_remaining_runs`` does; where the server has gone without asking what is left.

    Returns whether there is a server to be asked.
    """
    from motoko.errors import ServerError

    if not _reachable(workflow, after_signal=isinstance(error, KeyboardInterrupt)):
        return False
    with as_warnings():
        if not isinstance(error, ServerError):
            handle_remaining_runs(workflow, services, stop=stop)
            return True
        if stop:
            services.recall(workflow.run_name or "")
    return False


def _reachable(workflow: Workflow, *, after_signal: bool) -> bool:
    from motoko.runtime.files import file_identity
    from motoko.server.lifecycle import is_responding

    state = workflow.store.state
    if file_identity(state.path) is None:
        # Launcher and server end by themselves.
        say(f"warning: without {state.path}, what runs goes on", file=sys.stderr)
        return False
    if after_signal and not is_responding(state):
        say("warning: no database server answers; what runs goes on", file=sys.stderr)
        return False
    return True


def leave_runs(
    workflow: Workflow, services: Services, interruption: SignalHandler, earlier: frozenset[str]
) -> bool:
    """Say which runs go on without their orchestrator; a further Ctrl-C cancels them.

    It leaves the attempts with the tokens ``earlier``: this command did not start them. Returns
    whether there is a server to be asked. The terminal may be gone.
    """
    from motoko.errors import MotokoError

    services.left = True  # whatever fails from here on
    cancels = interruption.signal == signal.SIGINT
    if cancels:
        interruption.expect_another()
    try:
        with contextlib.suppress(KeyboardInterrupt), contextlib.suppress(OSError):
            if not _reachable(workflow, after_signal=True):
                return False
            services.left = _say_what_goes_on(workflow, cancels=cancels)
        if cancels and services.left and interruption.comes_again(AGAIN_SECONDS):
            services.left = not _cancel(workflow, earlier)
    except MotokoError as error:
        say(f"warning: whether runs go on is not known: {error.message}", file=sys.stderr)
        return False
    return True


def _say_what_goes_on(workflow: Workflow, *, cancels: bool) -> bool:
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
    say(left_without_orchestrator(counts.total(), waiting, name), file=sys.stderr)
    if cancels:
        within = f"within {AGAIN_SECONDS:g} s"
        say(f"  Ctrl-C once more {within} cancels what this command started", file=sys.stderr)
    return True


def left_without_orchestrator(active: int, waiting: int, run_name: str) -> str:
    """Return what to say of runs that go on when their orchestrator has stopped."""
    parts = []
    if active:
        parts.append(runs_of(active))
    if waiting:
        parts.append("1 run waits to start" if waiting == 1 else f"{waiting} runs wait to start")
    name = shlex.quote(run_name)
    return (
        f"the orchestrator has stopped; {' and '.join(parts)}\n"
        f"  follow them with `motoko info`, stop them with `motoko cancel --all --run_name {name}`"
    )


def runs_of(number: int) -> str:
    """Return what to say of so many runs that go on."""
    return "1 run goes on" if number == 1 else f"{number} runs go on"


def _cancel(workflow: Workflow, earlier: frozenset[str]) -> bool:
    """Cancel the runs of the run name, except these attempts; return whether all have ended."""
    from motoko.core.states import ACTIVE
    from motoko.operations import bulk_edit, cancel

    name = workflow.run_name or ""
    with _told_if_slow("waiting for runs to end; what ignores TERM is killed after 5 s"):
        going = bulk_edit.cancellable(workflow, run_name=name)
        records = [r for r in going if r.token not in earlier or r.lifecycle not in ACTIVE]
        found = cancel.cancel(workflow, records, "Ctrl-C of motoko run", wait=True)
    say(
        f"cancelled {len(found.ended)} of {len(records)} runs; "
        f"`motoko run --run_name {shlex.quote(name)} --retry-failed` runs them again",
        file=sys.stderr,
    )
    if len(records) < len(going):
        left = runs_of(len(going) - len(records))
        say(f"{left}: an earlier command started them", file=sys.stderr)
    return not found.going and len(records) == len(going)


@contextlib.contextmanager
def _told_if_slow(what: str) -> Iterator[None]:
    import threading

    timer = threading.Timer(SLOW, lambda: say(what, file=sys.stderr, flush=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def handle_remaining_runs(workflow: Workflow, services: Services, *, stop: bool) -> None:
    """Say how many runs go on; with ``stop`` have those of the run name CREATED again before.

    The launcher that was started for the time being is stopped first, if nobody else uses it: it
    leaves the runs of all run names. Raises nothing: it is told beside an error that says more.
    """
    from motoko.errors import MotokoError
    from motoko.operations.overview import executing

    name = workflow.run_name or ""
    try:
        if stop:
            with _told_if_slow("waiting for runs to end; what ignores TERM is killed after 5 s"):
                services.recall(name)
        deserted = services.stop_launcher()
        workflow.store.database.catch_up()
        with workflow.store.autocommit_scope.read() as session:
            going = executing(session, workflow.task_managers)
    except MotokoError as error:
        say(f"warning: whether runs go on is not known: {error.message}", file=sys.stderr)
        return
    left = going if deserted else {name: going.get(name, 0)}
    if any(left.values()):
        say(describe_active_runs(left, name), file=sys.stderr)


def describe_active_runs(left: Mapping[str, int], run_name: str) -> str:
    """Return what to say of runs that go on, their numbers by run name; others are named."""
    number = sum(left.values())
    runs, it = ("1 run goes on", "it") if number == 1 else (f"{number} runs go on", "them")
    whose = ", ".join(f"{left[name]} of {name!r}" for name in sorted(left) if left[name])
    named = "" if number == left.get(run_name) else f" ({whose})"
    return (
        f"{runs}{named}; `motoko kill --stop-runs` stops {it}, the next `motoko run` takes {it} up"
    )
