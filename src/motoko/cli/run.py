"""Run a workflow: start database, server and launcher, execute the orchestrator, print the results.

Ctrl-C stops the orchestrator. Its runs keep running, under a launcher that stops when none is left.
A second Ctrl-C within 5 s cancels them. A closed terminal, TERM and `motoko orchestrator stop` also
leave the runs running. The same command with the same run name resumes the workflow.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING

from motoko.cli.output import echo

if TYPE_CHECKING:
    import argparse

    from motoko.api.workflow import Workflow
    from motoko.launcher.services import Services
    from motoko.operations.signals import SignalHandler

HELP = "run a workflow from its start to its results"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options; those of the orchestrator follow when the workflow is known."""
    from motoko.cli.workflow_arguments import add_execution_options

    add_execution_options(parser, stop_runs="after an error or Ctrl-C")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="show which runs it would create and reuse, and what it would wait for; execute the "
        "orchestrator on a copy of the database, and start nothing",
    )


def execute(args: argparse.Namespace) -> None:
    """Run the workflow, show its progress, and print the results."""
    from motoko.cli.background import announcing_failure, shall_detach, start_in_background
    from motoko.cli.workflow_arguments import check_main
    from motoko.operations.signals import SignalHandler

    if shall_detach(args) and not args.dry_run:
        args.motoko_workflow.run_name = args.run_name
        check_main(args)
        _check_lease_free(args)
        start_in_background(args, args.motoko_workflow)
        return
    signals = SignalHandler(args.motoko_runtime.clock)
    with announcing_failure(), signals.installed():  # before the slow imports
        import logging

        from motoko.cli.log_output import show_log
        from motoko.cli.selection_arguments import retry_failed
        from motoko.cli.workflow_arguments import command_origin
        from motoko.launcher.services import Services
        from motoko.operations.usage import check_leases_free

        show_log(logging.INFO if args.verbose or args.detach else logging.WARNING)
        workflow: Workflow = args.motoko_workflow
        workflow.run_name = args.run_name
        workflow.end_when_stalled = True
        check_main(args)  # before anything starts
        signals.check()
        if args.dry_run:
            _dry_run(args, workflow, signals)
            return
        workflow.context.origin = command_origin(args)
        with Services(workflow, temporary=True, create=True) as services:
            check_leases_free(workflow.store, [args.run_name])
            if args.retry_failed:
                retry_failed(workflow, args.run_name)
            signals.check()
            _run(args, workflow, services, signals)


def _check_lease_free(args: argparse.Namespace) -> None:
    from motoko.cli.workflow_arguments import open_store
    from motoko.operations.usage import check_leases_free

    with contextlib.closing(open_store(args)) as store:
        check_leases_free(store, [args.run_name])


def _run(
    args: argparse.Namespace, workflow: Workflow, services: Services, signals: SignalHandler
) -> None:
    from motoko.cli.remaining_runs import (
        as_warnings,
        handle_remaining_runs,
        handle_runs_after_error,
        leave_runs,
    )
    from motoko.errors import Fenced, LeaseHeld
    from motoko.operations.bulk_edit import active_attempts

    earlier = active_attempts(workflow, args.run_name)
    try:
        try:
            _execute(args, workflow, services, signals)
        except OSError:
            signals.check()  # the terminal is closed: a hang-up
            raise
    except KeyboardInterrupt as interrupt:
        if args.stop_runs and signals.signal == signal.SIGINT:
            reached = handle_runs_after_error(interrupt, workflow, services, stop=True)
        else:
            reached = leave_runs(workflow, services, signals, earlier)
        with contextlib.suppress(OSError):  # a closed terminal
            if reached:
                with as_warnings():
                    _print_results(workflow)
            echo("interrupted; the same command resumes the workflow", file=sys.stderr)
        raise
    except (LeaseHeld, Fenced):
        raise  # the runs belong to another orchestrator
    except Exception as error:
        if handle_runs_after_error(error, workflow, services, stop=args.stop_runs):
            with as_warnings():
                _print_results(workflow)
        raise
    handle_remaining_runs(workflow, services, stop=False)
    _print_results(workflow)


def _execute(
    args: argparse.Namespace, workflow: Workflow, services: Services, signals: SignalHandler
) -> None:
    from motoko.cli.progress import progress
    from motoko.cli.workflow_arguments import orchestrator_params
    from motoko.operations.execute import execute as execute_workflow
    from motoko.operations.launcher_supervisor import LauncherSupervisor
    from motoko.runtime.daemons import announce_ready

    clock = args.motoko_runtime.clock
    start = partial(services.start_launcher, args.run_name)
    log = workflow.store.state.logs / "launcher.log"
    supervisor = LauncherSupervisor(start(), start, log, clock=clock)
    started = threading.Event()

    def on_start() -> None:
        started.set()
        announce_ready()

    def supervise() -> None:
        if started.is_set():  # an orchestrator that ended just before may have suspended the runs
            started.clear()
            services.resume(args.run_name)
        supervisor.check()

    with progress(clock) as (show, interval):
        execute_workflow(
            workflow,
            orchestrator_params(args),
            signals,
            started=on_start,
            show=show,
            interval=interval,
            supervise=supervise,
        )


def _dry_run(args: argparse.Namespace, workflow: Workflow, signals: SignalHandler) -> None:
    from motoko.cli.run_plan import print_plan
    from motoko.cli.workflow_arguments import orchestrator_params
    from motoko.operations.dry_run import plan_execution

    params = orchestrator_params(args)
    plan = plan_execution(workflow, params, signals, retry_failed=args.retry_failed)
    print_plan(plan)
    if plan.error is not None:
        raise plan.error


def _print_results(workflow: Workflow) -> None:
    from motoko.cli.tables import ROWS, print_results
    from motoko.operations.results import study_results

    name = workflow.run_name or ""
    with workflow.store.autocommit_scope.read() as session:
        results = study_results(session, workflow.task_managers.values(), name, ROWS)
    print_results(name, results)
