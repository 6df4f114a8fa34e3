"""Run the orchestrator, and nothing else: a launcher has to be started by `motoko launcher`.

Stopping it leaves its runs going. Start it again with the same run name, and it goes on where it
was.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from typing import TYPE_CHECKING

from motoko.cli.output import say

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from motoko.api.workflow import Workflow
    from motoko.operations.services import Services
    from motoko.operations.signals import SignalHandler

HELP = "run the orchestrator"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options; those of the orchestrator follow when the workflow is known."""
    from motoko.cli.workflow_arguments import add_orchestrator_options

    parser.add_argument(
        "--run_name", "-n", required=True, metavar="N", help="the name of this execution"
    )
    parser.add_argument(
        "--detach", "-d", action="store_true", help="run in the background, with a log in .wf/logs"
    )
    parser.add_argument(
        "--retry-failed", action="store_true", help="first send badly ended runs back to CREATED"
    )
    parser.add_argument(
        "--stop-runs",
        action="store_true",
        help="stop runs too where it is stopped or ends with an error; otherwise they go on",
    )
    parser.extend = add_orchestrator_options  # type: ignore[attr-defined]


def execute(args: argparse.Namespace) -> int:
    """Run the orchestrator here or in the background."""
    import os

    from motoko.runtime.daemons import READY_FD

    workflow: Workflow = args.motoko_workflow
    workflow.run_name = args.run_name
    workflow.get_orchestrator_function()  # a wrong one is told before anything is started
    # In the background the same command runs, with somebody waiting for it to be ready.
    if args.detach and READY_FD not in os.environ:
        return _detach(args, workflow)
    return _run(args, workflow)


def _detach(args: argparse.Namespace, workflow: Workflow) -> int:
    from motoko.cli import exit_status
    from motoko.operations.orchestrator_process import start_detached
    from motoko.operations.services import Services
    from motoko.operations.shutdown import check_lease_free

    with Services(workflow, temporary=False):
        check_lease_free(workflow.store, args.run_name)
        daemon = start_detached(workflow.store.state, args.run_name, args.motoko_argv)
        say(f"orchestrator of {args.run_name!r}: process {daemon.process.pid}, log {daemon.log}")
        _hint(workflow)
    return exit_status.OK


def _hint(workflow: Workflow) -> None:
    from motoko.launcher.control import running_launchers

    running = running_launchers(workflow.store.state)
    for remark in filter(None, (launcher.environment_warning() for launcher in running)):
        say(remark, file=sys.stderr)
    if not running:
        say("No launcher runs: start one with `motoko launcher`.", file=sys.stderr)


def _run(args: argparse.Namespace, workflow: Workflow) -> int:
    from motoko.cli import exit_status
    from motoko.operations.signals import SignalHandler

    interruption = SignalHandler()
    with interruption.caught():  # from the beginning: there is much to be imported
        _with_services(args, workflow, interruption)
    return exit_status.OK


def _with_services(
    args: argparse.Namespace, workflow: Workflow, interruption: SignalHandler
) -> None:
    import logging

    from motoko.cli import logs
    from motoko.cli.selection_arguments import retry_failed
    from motoko.cli.workflow_arguments import orchestrator_params
    from motoko.operations import execute
    from motoko.operations.orchestrator_process import pid_file
    from motoko.operations.services import Services
    from motoko.operations.shutdown import check_lease_free
    from motoko.runtime.daemons import PidFile, announce_failure, announce_ready

    logs.show(logging.INFO)
    record = PidFile(pid_file(workflow.store.state, args.run_name))

    def started() -> None:
        if args.detach:
            record.write(run_name=args.run_name)
        announce_ready()

    try:
        interruption.check()
        with Services(workflow, temporary=False) as services:
            if not args.detach:
                _hint(workflow)
            if args.retry_failed:
                check_lease_free(workflow.store, args.run_name)
                retry_failed(workflow, args.run_name)
            services.resume(args.run_name)
            interruption.check()
            with _stopping_runs(workflow, services, interruption, wanted=args.stop_runs):
                execute.execute(workflow, orchestrator_params(args), interruption, started=started)
    except Exception as error:
        announce_failure(str(error))  # nobody waits any more if it had started
        raise
    finally:
        record.remove()


@contextlib.contextmanager
def _stopping_runs(
    workflow: Workflow, services: Services, interruption: SignalHandler, *, wanted: bool
) -> Iterator[None]:
    from motoko.cli.remaining_runs import see_to_runs_after
    from motoko.errors import Fenced, LeaseHeld

    try:
        yield
    except (LeaseHeld, Fenced):
        raise  # the runs are another orchestrator's
    except (Exception, KeyboardInterrupt) as error:
        if wanted and interruption.signal != signal.SIGHUP:
            see_to_runs_after(error, workflow, services, stop=True)
        raise
