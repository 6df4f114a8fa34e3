"""Do everything here, in the foreground: database, server, launcher, orchestrator, results.

Ctrl-C stops the orchestrator; runs go on, with a launcher that ends when none is left. Ctrl-C once
more within 5 s cancels them. A hang-up (a closed terminal), TERM and `motoko orchestrator stop`
leave runs going, too. Start it again with the same run name, and it goes on where it was.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from typing import TYPE_CHECKING

from motoko.cli.output import say

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any

    from motoko.api.workflow import Workflow
    from motoko.operations.launcher_supervisor import LauncherSupervisor
    from motoko.operations.services import Services
    from motoko.operations.signals import SignalHandler
    from motoko.runtime.processes import ProcessIdentity

HELP = "run a workflow from its start to its results"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options; those of the orchestrator follow when the workflow is known."""
    from motoko.cli.workflow_arguments import add_orchestrator_options

    parser.add_argument(
        "--run_name", "-n", required=True, metavar="N", help="the name of this execution"
    )
    parser.add_argument(
        "--retry-failed", action="store_true", help="first send badly ended runs back to CREATED"
    )
    parser.add_argument(
        "--stop-runs",
        action="store_true",
        help="stop runs too where it ends with an error or by Ctrl-C; otherwise they go on",
    )
    parser.extend = add_orchestrator_options  # type: ignore[attr-defined]


def execute(args: argparse.Namespace) -> int:
    """Run the workflow, show how far it is, and print what came of it."""
    from motoko.cli import exit_status
    from motoko.operations.signals import SignalHandler

    interruption = SignalHandler()
    with interruption.caught():  # from the beginning: there is much to be imported
        _with_services(args, interruption)
    return exit_status.OK


def _with_services(args: argparse.Namespace, interruption: SignalHandler) -> None:
    import logging

    from motoko.cli import logs
    from motoko.cli.selection_arguments import retry_failed
    from motoko.operations.services import Services
    from motoko.operations.shutdown import check_lease_free

    logs.show(logging.INFO if args.verbose else logging.WARNING)
    workflow: Workflow = args.motoko_workflow
    workflow.run_name = args.run_name
    workflow.end_when_stalled = True
    workflow.get_orchestrator_function()  # a wrong one is told before anything is started
    interruption.check()
    with Services(workflow, temporary=True, create=True) as services:
        check_lease_free(workflow.store, args.run_name)
        if args.retry_failed:
            retry_failed(workflow, args.run_name)
        interruption.check()
        _run(args, workflow, services, interruption)


def _run(
    args: argparse.Namespace, workflow: Workflow, services: Services, interruption: SignalHandler
) -> None:
    from motoko.cli.remaining_runs import (
        as_warnings,
        handle_remaining_runs,
        leave_runs,
        see_to_runs_after,
    )
    from motoko.cli.workflow_arguments import orchestrator_params
    from motoko.errors import Fenced, LeaseHeld
    from motoko.operations.bulk_edit import attempts_under_way

    earlier = attempts_under_way(workflow, args.run_name)
    try:
        watch = _launcher(workflow, services)
        ours = threading.Event()

        def look() -> None:
            if ours.is_set():  # an orchestrator that ended just before may have had runs stopped
                ours.clear()
                services.resume(args.run_name)
            watch.look()

        try:
            _execute(workflow, orchestrator_params(args), interruption, ours.set, look)
        except OSError:
            interruption.check()  # it was the terminal, which has gone: a hang-up
            raise
    except KeyboardInterrupt as interrupt:
        if args.stop_runs and interruption.signal == signal.SIGINT:
            reached = see_to_runs_after(interrupt, workflow, services, stop=True)
        else:
            reached = leave_runs(workflow, services, interruption, earlier)
        with contextlib.suppress(OSError):  # a terminal that has gone
            if reached:
                with as_warnings():
                    _print_results(workflow)
            say("interrupted; the same command goes on where this one was", file=sys.stderr)
        raise
    except (LeaseHeld, Fenced):
        raise  # the runs are another orchestrator's
    except Exception as error:
        if see_to_runs_after(error, workflow, services, stop=args.stop_runs):
            with as_warnings():
                _print_results(workflow)
        raise
    handle_remaining_runs(workflow, services, stop=False)
    _print_results(workflow)


def _launcher(workflow: Workflow, services: Services) -> LauncherSupervisor:
    from motoko.operations.launcher_supervisor import LauncherSupervisor

    def start() -> ProcessIdentity:
        return services.start_launcher(workflow.run_name or "")

    return LauncherSupervisor(start(), start, workflow.store.state.logs / "launcher.log")


def _execute(
    workflow: Workflow,
    params: dict[str, Any],
    interruption: SignalHandler,
    started: Callable[[], object],
    look: Callable[[], object],
) -> None:
    from motoko.cli.progress import progress
    from motoko.operations.execute import execute as execute_workflow

    with progress() as (show, interval):
        execute_workflow(
            workflow,
            params,
            interruption,
            started=started,
            show=show,
            interval=interval,
            look_after=look,
        )


def _print_results(workflow: Workflow) -> None:
    from motoko.cli.tables import ROWS, print_remarks, print_summary
    from motoko.operations.overview import counts_by_state, remarks_of, runs_of

    name = workflow.run_name or ""
    with workflow.store.autocommit_scope.read() as session:
        counts = counts_by_state(session, workflow.task_managers, name)
        runs = runs_of(session, workflow.task_managers, name, ROWS)
        remarks = remarks_of(session, workflow.task_managers, name)
    print_summary(name, counts, runs)
    print_remarks(name, remarks)
