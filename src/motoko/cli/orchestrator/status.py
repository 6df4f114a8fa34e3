"""Show which orchestrators run, what those that are stalled wait for, and what was logged.

Stalled means: no run can move, main and all actions wait, and nothing fires.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from motoko.cli.output import say

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from motoko.storage.leases import StallReport

HELP = "show which orchestrators run"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--run_name", "-n", metavar="N", help="the one of this run name only")
    parser.add_argument("--logs", action="store_true", help="print the logs, too")
    parser.add_argument(
        "--follow", action="store_true", help="print a log as it grows, until its writer has ended"
    )


def execute(args: argparse.Namespace) -> int:
    """Print who orchestrates, and logs if asked for."""
    from motoko.cli import exit_status
    from motoko.cli.workflow_arguments import state_directory
    from motoko.operations.explain import unserved_runs
    from motoko.operations.orchestrator_process import log_file, log_files
    from motoko.operations.shutdown import running_orchestrators, stalled_orchestrators
    from motoko.storage.store import WorkflowStore

    state = state_directory(args)
    store = WorkflowStore(state, {}, look=True)
    try:
        running, stalled = running_orchestrators(store), stalled_orchestrators(store)
        names = [name for name in sorted(running) if args.run_name in (None, name)]
        waiting = unserved_runs(store, names)
    finally:
        store.close()
    for name in names:
        say(f"run name {name}: {running[name]}")
        if name in stalled:
            say("\n".join(f"  {line}" for line in stall_lines(stalled[name])))
        if waiting[name]:
            from motoko.cli.tables import unserved_text

            say(f"  {unserved_text(waiting[name])}")
    if not names:
        whose = "" if args.run_name is None else f" of run name {args.run_name!r}"
        say(f"no orchestrator{whose} runs")
    if args.logs or args.follow:
        logs = log_files(state) if args.run_name is None else [log_file(state, args.run_name)]
        _print_logs([log for log in logs if log.exists()], follow=args.follow)
    return exit_status.OK


def stall_lines(stall: StallReport) -> list[str]:
    """Return what to say of a stalled orchestrator: since when, then who waits for what."""
    from motoko.runtime.clock import utc

    return [f"stalled since {utc(stall.since).isoformat(timespec='seconds')}", *stall.waits]


def _print_logs(logs: list[Path], *, follow: bool) -> None:
    from motoko.cli.logs import print_logs
    from motoko.operations.orchestrator_process import writer_alive

    if not logs:
        say("there is no log: only orchestrators started with --detach have one")
    print_logs(logs, lambda log: follow and writer_alive(log))
