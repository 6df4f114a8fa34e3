"""Cancel runs: those that wait at once, those that were started through their launcher.

Where no launcher works one is started for that, and stopped when they have ended; their processes
and scheduler jobs end too.
"""

from __future__ import annotations

import sys

from motoko.cli.output import say

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    import argparse

    from motoko.operations.cancel import CancelResult

HELP = "cancel runs that have not ended"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from motoko.cli.selection_arguments import add_options

    add_options(parser)
    parser.add_argument("--all", action="store_true", help="allow cancelling without --constraints")


def execute(args: argparse.Namespace) -> int:
    """Cancel the runs, naming each."""
    from motoko.cli import exit_status
    from motoko.cli.selection_arguments import chosen, count, working
    from motoko.errors import MotokoError
    from motoko.operations import bulk_edit, cancel

    if not (args.constraints or args.all):
        args.motoko_parser.error("motoko cancel needs --constraints C, or --all")
    with working(args, tolerant=True) as workflow:
        records = bulk_edit.cancellable(workflow, **chosen(args))
        found = cancel.cancel(workflow, records, "motoko cancel", deserted=_tell)
    for key, outcome in found.ended.items():
        say(f"{key} ended {outcome}")
    for key in found.going:
        say(f"{key} is to end CANCELLED")
    say(summary(found))
    if found.trouble is not None:
        raise MotokoError(
            f"{count(len(found.going))} still to be ended: {found.trouble.message}",
            hint="They are cancelled as soon as a launcher works: `motoko launcher`.",
        )
    return exit_status.OK


def _tell(number: int) -> None:
    from motoko.cli.selection_arguments import count

    them = "it" if number == 1 else "them"
    say(f"no launcher attends to {count(number)}: one is started to end {them}", file=sys.stderr)


def summary(found: CancelResult) -> str:
    """Return one line about what became of the runs."""
    from motoko.cli.selection_arguments import count
    from motoko.core.states import Lifecycle

    cancelled = sum(outcome is Lifecycle.CANCELLED for outcome in found.ended.values())
    otherwise = len(found.ended) - cancelled
    parts = [f"{count(cancelled)} cancelled"] if cancelled or not (otherwise or found.going) else []
    if found.going:
        be = "is" if len(found.going) == 1 else "are"
        parts.append(f"{count(len(found.going))} {be} to end CANCELLED")
    if otherwise:
        parts.append(f"{count(otherwise)} had ended before")
    return ", ".join(parts)
