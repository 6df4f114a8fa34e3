"""Stop the orchestrators of this workflow on this machine, or one of them.

Their runs keep running, unless --stop-runs is given.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from motoko.cli.output import echo

if TYPE_CHECKING:
    import argparse

HELP = "stop orchestrators; their runs keep running"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--run_name", "-n", metavar="N", help="stop that of this run name only")
    parser.add_argument(
        "--stop-runs", action="store_true", help="also stop their runs, which return to CREATED"
    )


def execute(args: argparse.Namespace) -> None:
    """Stop the orchestrators, and report each."""
    from motoko.cli.workflow_arguments import open_store
    from motoko.operations.shutdown import stop_orchestrators

    with contextlib.closing(open_store(args)) as store:
        stopped = stop_orchestrators(store, args.run_name, stop_runs=args.stop_runs)
    for name, holder in stopped.items():
        echo(f"stopped the orchestrator of run name {name!r} (process {holder.pid})")
    if not stopped:
        echo("no orchestrator is running")
