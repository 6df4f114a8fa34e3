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
    from motoko.launcher.services import Services
    from motoko.operations.signals import SignalHandler

HELP = "run the orchestrator"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options; those of the orchestrator follow when the workflow is known."""
    from motoko.cli.workflow_arguments import add_execution_options

    add_execution_options(parser, stop_runs="when the orchestrator is stopped or fails")


def execute(args: argparse.Namespace) -> None:
    """Run the orchestrator here or in the background."""
    from motoko.cli.background import announcing_failure, shall_detach
    from motoko.cli.workflow_arguments import check_main
    from motoko.operations.signals import SignalHandler

    workflow: Workflow = args.motoko_workflow
    workflow.run_name = args.run_name
    check_main(args)  # before anything starts
    if shall_detach(args):
        _detach(args, workflow)
        return
    signals = SignalHandler(args.motoko_runtime.clock)
    with announcing_failure(), signals.installed():  # before the slow imports
        _run(args, workflow, signals)


def _detach(args: argparse.Namespace, workflow: Workflow) -> None:
    from motoko.cli.background import start_in_background
    from motoko.launcher.services import Services
    from motoko.operations.usage import check_leases_free

    with Services(workflow, temporary=False):
        check_leases_free(workflow.store, [args.run_name])
        start_in_background(args, workflow)
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

    from motoko.cli.log_output import show_log
    from motoko.cli.selection_arguments import retry_failed
    from motoko.cli.workflow_arguments import command_origin, orchestrator_params
    from motoko.launcher.services import Services
    from motoko.operations.execute import execute as execute_workflow
    from motoko.operations.usage import check_leases_free
    from motoko.runtime.daemons import announce_ready

    show_log(logging.INFO)
    workflow.context.origin = command_origin(args)
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
            execute_workflow(workflow, orchestrator_params(args), signals, started=announce_ready)


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
