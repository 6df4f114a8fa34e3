"""Stop the workflow's orchestrators, its launcher, its notifier and its server.

Runs keep running, and the next launcher records their results. With --stop-runs they are stopped
and return to CREATED; for several runs the command asks first. No result is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from motoko.cli.output import count_runs, echo

if TYPE_CHECKING:
    import argparse

    from motoko.server.state_dir import StateDir

HELP = "stop orchestrators, launcher, notifier and server"
EFFECT = "be stopped and return to CREATED"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from motoko.cli import confirmation

    parser.add_argument(
        "--stop-runs",
        action="store_true",
        help="also stop runs, which return to CREATED; by default they keep running",
    )
    confirmation.add_options(parser)


def execute(args: argparse.Namespace) -> None:
    """Stop the processes, and report each."""
    from functools import partial

    from motoko.cli import confirmation
    from motoko.cli.remaining_runs import describe_active_runs
    from motoko.cli.workflow_arguments import state_directory
    from motoko.operations.shutdown import active_runs, kill, preview_stop

    state = state_directory(args)
    if args.dry_run:
        _show(state, stop_runs=args.stop_runs)
        return
    if args.stop_runs and not args.yes:
        preview = partial(preview_stop, state)
        confirmation.confirm(args, preview(), EFFECT, preview)
    stopped = kill(state, stop_runs=args.stop_runs, clock=args.motoko_runtime.clock)
    for process in stopped:
        echo(f"stopped {process}")
    active = {} if args.stop_runs else active_runs(state)
    if active:
        echo(describe_active_runs(active, ""))
    elif not stopped:
        echo("nothing is running")


def _show(state: StateDir, *, stop_runs: bool) -> None:
    from motoko.cli import confirmation
    from motoko.operations.shutdown import preview_stop
    from motoko.operations.usage import running_processes

    for process in running_processes(state) or ["no process"]:
        echo(f"{process} would be stopped")
    found = preview_stop(state)
    if stop_runs:
        confirmation.show(found, EFFECT)
    else:
        echo(f"{count_runs(len(found.runs))} would keep running")
