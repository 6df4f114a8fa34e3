"""Stop the workflow's orchestrators, its launcher and its server.

Runs keep running, and the next launcher records their results. With --stop-runs they are stopped
and return to CREATED. No result is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from motoko.cli.output import echo

if TYPE_CHECKING:
    import argparse

HELP = "stop orchestrators, launcher and server"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--stop-runs",
        action="store_true",
        help="also stop runs, which return to CREATED; by default they keep running",
    )


def execute(args: argparse.Namespace) -> None:
    """Stop the processes, and report each."""
    from motoko.cli.remaining_runs import describe_active_runs
    from motoko.cli.workflow_arguments import state_directory
    from motoko.operations.shutdown import active_runs, kill

    state = state_directory(args)
    stopped = kill(state, stop_runs=args.stop_runs, clock=args.motoko_runtime.clock)
    for process in stopped:
        echo(f"stopped {process}")
    active = {} if args.stop_runs else active_runs(state)
    if active:
        echo(describe_active_runs(active, ""))
    elif not stopped:
        echo("nothing is running")
