"""Stop the workflow's orchestrators, its launcher and its server. Runs go on; nothing is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from motoko.cli.output import say

if TYPE_CHECKING:
    import argparse

HELP = "stop orchestrators, launcher and server"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--stop-runs",
        action="store_true",
        help="stop runs too; they go back to CREATED. Otherwise they go on, and the next launcher "
        "takes their results",
    )


def execute(args: argparse.Namespace) -> int:
    """Stop everything, and say what was stopped."""
    from motoko.cli import exit_status
    from motoko.cli.remaining_runs import describe_active_runs
    from motoko.cli.workflow_arguments import state_directory
    from motoko.operations.shutdown import kill, left_going

    state = state_directory(args)
    stopped = kill(state, stop_runs=args.stop_runs)
    for what in stopped:
        say(f"stopped {what}")
    left = {} if args.stop_runs else left_going(state)
    if left:
        say(describe_active_runs(left, ""))
    elif not stopped:
        say("nothing runs")
    return exit_status.OK
