"""What becomes of the runs when an orchestrator ends before they do."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from motoko.cli.output import say

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from motoko.operations.services import Services
    from motoko.workflow import Workflow


SLOW = 1.0  # seconds


@contextlib.contextmanager
def beside_an_error() -> Iterator[None]:
    """Have what fails in the block told as a warning: the error that is on its way says more."""
    try:
        yield
    except Exception as problem:  # noqa: BLE001 - whatever it is
        text = str(problem).partition("\n")[0] or type(problem).__name__
        say(f"warning: this could not be told to its end: {text}", file=sys.stderr)


def see_to_runs_after(
    error: BaseException, workflow: Workflow, services: Services, *, stop: bool
) -> bool:
    """Do what ``see_to_runs`` does; where the server has gone without asking what is left.

    Returns whether there is a server to be asked.
    """
    from motoko.errors import ServerError
    from motoko.runtime.files import inode
    from motoko.storage.server import answers

    state = workflow.store.state
    if inode(state.path) is None:
        # Launcher and server end by themselves.
        say(f"warning: without {state.path}, what runs goes on", file=sys.stderr)
        return False
    if isinstance(error, KeyboardInterrupt) and not answers(state):
        say("warning: no database server answers; what runs goes on", file=sys.stderr)
        return False
    with beside_an_error():
        if not isinstance(error, ServerError):
            see_to_runs(workflow, services, stop=stop)
            return True
        if stop:
            services.recall(workflow.run_name or "")
    return False


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


def see_to_runs(workflow: Workflow, services: Services, *, stop: bool) -> None:
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
        with workflow.store.script.view() as session:
            going = executing(session, workflow.task_managers)
    except MotokoError as error:
        say(f"warning: whether runs go on is not known: {error.message}", file=sys.stderr)
        return
    left = going if deserted else {name: going.get(name, 0)}
    if any(left.values()):
        say(runs_that_go_on(left, name), file=sys.stderr)


def runs_that_go_on(left: Mapping[str, int], run_name: str) -> str:
    """Return what to say of runs that go on, their numbers by run name; others are named."""
    number = sum(left.values())
    runs, it = ("1 run goes on", "it") if number == 1 else (f"{number} runs go on", "them")
    whose = ", ".join(f"{left[name]} of {name!r}" for name in sorted(left) if left[name])
    named = "" if number == left.get(run_name) else f" ({whose})"
    return (
        f"{runs}{named}; `motoko kill --stop-runs` stops {it}, the next `motoko run` takes {it} up"
    )
