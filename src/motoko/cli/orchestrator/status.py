"""Show the running orchestrators, the ends of the others, and logs.

An orchestrator is stalled if no run can change state, main and all actions wait, and nothing fires.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from motoko.cli.output import echo

if TYPE_CHECKING:
    import argparse

    from motoko.storage.orchestrator_leases import StallReport

HELP = "show the running orchestrators"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--run_name", "-n", metavar="N", help="show this run name only")
    parser.add_argument("--logs", action="store_true", help="also print the logs")
    parser.add_argument(
        "--follow", action="store_true", help="print a log as it grows, until its writer exits"
    )


def execute(args: argparse.Namespace) -> None:
    """Print the orchestrators, and on request their logs."""
    from motoko.cli.last_ends import ends_if_unreadable, print_ends
    from motoko.cli.log_printer import print_logs
    from motoko.cli.tables import unserved_text
    from motoko.cli.workflow_arguments import open_store
    from motoko.operations.explain import unserved_runs
    from motoko.operations.orchestrator_process import is_writer_alive, log_file, log_files
    from motoko.operations.usage import running_orchestrators, stalled_orchestrators

    with (
        contextlib.closing(open_store(args)) as store,
        ends_if_unreadable(store.state, args.run_name),
    ):
        running, stalled = running_orchestrators(store), stalled_orchestrators(store)
        names = [name for name in sorted(running) if args.run_name in (None, name)]
        waiting = unserved_runs(store, names)
    for name in names:
        echo(f"run name {name}: {running[name]}")
        if name in stalled:
            echo("\n".join(f"  {line}" for line in stall_lines(stalled[name])))
        if waiting[name]:
            echo(f"  {unserved_text(waiting[name])}")
    if not names:
        which = "" if args.run_name is None else f" of run name {args.run_name!r}"
        echo(f"no orchestrator{which} is running")
    print_ends(store.state, args.run_name, without=running)
    if args.logs or args.follow:
        state, name = store.state, args.run_name
        found = log_files(state) if name is None else [log_file(state, name)]
        logs = [log for log in found if log.exists()]
        if not logs:
            echo("no log exists: only orchestrators started with --detach have one")
        clock = args.motoko_runtime.clock
        print_logs(logs, lambda log: args.follow and is_writer_alive(state, log), clock)


def stall_lines(stall: StallReport) -> list[str]:
    """Return a description of a stall: its beginning, then what each await waits for."""
    from motoko.runtime.ports import utc_text

    return [f"stalled since {utc_text(stall.since)}", *stall.waits]
