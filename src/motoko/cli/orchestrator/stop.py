"""Stop the orchestrators of this workflow on this machine, or one of them.

Their runs go on, unless told otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from motoko.cli.output import say

if TYPE_CHECKING:
    import argparse

HELP = "stop orchestrators; their runs go on"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--run_name", "-n", metavar="N", help="the one of this run name only")
    parser.add_argument(
        "--stop-runs", action="store_true", help="stop their runs, too; they go back to CREATED"
    )


def execute(args: argparse.Namespace) -> int:
    """Stop them and say which."""
    from motoko.cli import exit_status
    from motoko.cli.workflow_arguments import state_directory
    from motoko.operations.shutdown import stop_orchestrators
    from motoko.storage.store import WorkflowStore

    store = WorkflowStore(state_directory(args), {}, look=True)
    try:
        stopped = stop_orchestrators(store, args.run_name, stop_runs=args.stop_runs)
    finally:
        store.close()
    for name, holder in stopped.items():
        say(f"stopped the orchestrator of run name {name!r} (process {holder.pid})")
    if not stopped:
        say("no orchestrator runs")
    return exit_status.OK
