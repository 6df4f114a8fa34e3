"""Run the orchestrator only; `motoko launcher` starts the launcher that executes its runs.

If the orchestrator is stopped, its runs keep running. The same command with the same run name
resumes the workflow.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from typing import TYPE_CHECKING

from motoko.cli.output import echo

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from motoko.api.workflow import Workflow
    from motoko.operations.services import Services
    from motoko.operations.signals import SignalHandler

HELP = "run the orchestrator"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options; those of the orchestrator follow when the workflow is known."""
    from motoko.cli.workflow_arguments import add_execution_options

    add_execution_options(parser, stop_runs="when the orchestrator is stopped or fails")
    parser.add_argument(
        "--detach", "-d", action="store_true", help="run in the background, with a log in .wf/logs"
    )


def execute(args: argparse.Namespace) -> None:
    """Run the orchestrator here or in the background."""
    import os

    from motoko.operations.signals import SignalHandler
    from motoko.runtime.daemons import READY_FD

    workflow: Workflow = args.motoko_workflow
    workflow.run_name = args.run_name
    workflow.get_orchestrator_function()  # report an invalid one before anything starts
    # The background process executes the same command; READY_FD means that its parent waits.
    if args.detach and READY_FD not in os.environ:
        _detach(args, workflow)
        return
    signals = SignalHandler(args.motoko_runtime.clock)
    with signals.installed():  # before the slow imports
        _run(args, workflow, signals)


def _detach(args: argparse.Namespace, workflow: Workflow) -> None:
    from motoko.operations.orchestrator_process import start_detached
    from motoko.operations.services import Services
    from motoko.operations.usage import check_leases_free

    with Services(workflow, temporary=False):
        check_leases_free(workflow.store, [args.run_name])
        daemon = start_detached(workflow.store.state, args.run_name, args.motoko_argv)
        echo(f"orchestrator of {args.run_name!r}: process {daemon.process.pid}, log {daemon.log}")
        _warn_about_launchers(workflow)


def _warn_about_launchers(workflow: Workflow) -> None:
    from motoko.launcher.control import running_launchers

    running = running_launchers(workflow.store.state)
    for warning in filter(None, (launcher.environment_warning() for launcher in running)):
        echo(warning, file=sys.stderr)
    if not running:
        echo("No launcher is running: start one with `motoko launcher`.", file=sys.stderr)


def _run(args: argparse.Namespace, workflow: Workflow, signals: SignalHandler) -> None:
    import logging

    from motoko.cli.logs import show_log
    from motoko.cli.selection_arguments import retry_failed
    from motoko.cli.workflow_arguments import orchestrator_params
    from motoko.operations.execute import execute as execute_workflow
    from motoko.operations.orchestrator_process import pid_file
    from motoko.operations.services import Services
    from motoko.operations.usage import check_leases_free
    from motoko.runtime.daemons import PidFile, announce_failure, announce_ready

    show_log(logging.INFO)
    record = PidFile(pid_file(workflow.store.state, args.run_name))

    def started() -> None:
        if args.detach:
            record.write(run_name=args.run_name)
        announce_ready()

    try:
        signals.check()
        with Services(workflow, temporary=False) as services:
            if not args.detach:
                _warn_about_launchers(workflow)
            if args.retry_failed:
                check_leases_free(workflow.store, [args.run_name])
                retry_failed(workflow, args.run_name)
            services.resume(args.run_name)
            signals.check()
            with _stopping_runs(workflow, services, signals, enabled=args.stop_runs):
                execute_workflow(workflow, orchestrator_params(args), signals, started=started)
    except Exception as error:
        announce_failure(str(error))  # without effect after the start
        raise
    finally:
        record.remove()


@contextlib.contextmanager
def _stopping_runs(
    workflow: Workflow, services: Services, signals: SignalHandler, *, enabled: bool
) -> Iterator[None]:
    """If ``enabled``, stop the runs when the block fails or a signal other than SIGHUP ends it."""
    from motoko.cli.remaining_runs import handle_runs_after_error
    from motoko.errors import Fenced, LeaseHeld

    try:
        yield
    except (LeaseHeld, Fenced):
        raise  # the runs belong to another orchestrator
    except (Exception, KeyboardInterrupt) as error:
        if enabled and signals.signal != signal.SIGHUP:
            handle_runs_after_error(error, workflow, services, stop=True)
        raise
