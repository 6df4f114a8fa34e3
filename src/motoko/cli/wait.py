"""Wait until orchestrators have ended; print the end of each.

The exit status is that of the orchestrator, also if it ended before. Of several, it is the first in
time that is not 0. An orchestrator that was killed counts as an error (1). Ctrl-C stops the waiting
only. The command needs neither the database nor its server.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from motoko.cli.last_ends import end_lines
from motoko.cli.output import ExitStatus, echo

if TYPE_CHECKING:
    import argparse

    from motoko.orchestrator.run_ends import RunEnd

HELP = "wait for the end of orchestrators; exit with their status"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "run_names",
        nargs="*",
        metavar="RUN_NAME",
        help="default: all that are running; if there are none, the one that ended last",
    )
    parser.add_argument(
        "--run_name", "-n", action="append", default=[], metavar="N", help="the same as an argument"
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        metavar="TIME",
        help=f"exit with status {ExitStatus.WAIT_TIMEOUT:d} after this time, such as 90 (seconds), "
        "10min or 8h",
    )


def _seconds(text: str) -> float:
    from argparse import ArgumentTypeError

    from motoko.core.durations import EXAMPLES, parse_duration

    seconds = parse_duration(text)
    if seconds is None:
        raise ArgumentTypeError(f"{text!r} is not a time such as {EXAMPLES}")
    return seconds


def execute(args: argparse.Namespace) -> int:
    """Wait, and return the exit status."""
    import math

    from motoko.cli.workflow_arguments import state_directory
    from motoko.operations.wait import executions_to_await, wait_for_ends

    timeout = math.inf if args.timeout is None else args.timeout
    state, clock = state_directory(args), args.motoko_runtime.clock
    awaited = executions_to_await(state, [*args.run_names, *args.run_name], clock)
    ended: set[str] = set()

    def show(end: RunEnd) -> None:
        ended.add(end.run_name)
        echo("\n".join(end_lines(end)), flush=True)

    ends = wait_for_ends(awaited, state, clock, timeout=timeout, on_end=show)
    if ends is None:
        for one in awaited:
            if one.run_name not in ended:
                echo(
                    f"run name {one.run_name} has not ended (process {one.process.pid} on "
                    f"{one.process.host})", file=sys.stderr,
                )  # fmt: skip
        return ExitStatus.WAIT_TIMEOUT
    return next((end.status for end in ends if end.status), ExitStatus.OK)
