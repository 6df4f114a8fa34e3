"""List runs that can go; with --delete, delete them and their directories.

Without --constraints these are all runs that have ended. With them, runs that still go on are
cancelled first, their scheduler jobs too.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from motoko.cli.output import say

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from motoko.operations.cancel import CancelResult
    from motoko.operations.clean import Deleted

SHOWN = 5  # runs named in a message
HELP = "list or delete runs and their directories"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from motoko.cli.selection_arguments import add_options

    parser.add_argument("--delete", action="store_true", help="delete what would be listed")
    add_options(parser)


def execute(args: argparse.Namespace) -> int:
    """List the runs, and delete them if asked to."""
    from motoko.cli import exit_status
    from motoko.cli.selection_arguments import chosen, count, working
    from motoko.cli.tables import print_runs
    from motoko.operations import clean
    from motoko.operations.cancel import CancelResult

    with working(args, writes=args.delete, tolerant=not args.delete) as workflow:
        found = clean.candidates(workflow, **chosen(args))
        active = f"; {len(found.active)} of them would be cancelled first"
        if not args.delete:
            print_runs(found.runs, run_names=True)
            say(
                f"{count(len(found.runs))} would be deleted (--delete does it)"
                f"{active if found.active else ''}"
            )
            pending = clean.pending(workflow)
            if pending:
                say(f"directories of {count(pending)} deleted earlier are still to be removed")
            return exit_status.OK
        cancelled = CancelResult()
        if found.active:
            say(f"cancelling {count(len(found.active))}", file=sys.stderr)
            cancelled = clean.end(workflow, found.active)
        deleted = clean.delete(workflow, found.runs)
        for key in deleted.runs:
            say(f"deleted {key}")
        say(f"{count(len(deleted.runs))} deleted")
        _check_nothing_left(cancelled, deleted)
    return exit_status.OK


def _check_nothing_left(cancelled: CancelResult, deleted: Deleted) -> None:
    """Raise MotokoError naming the runs or directories that stay."""
    from motoko.cli.selection_arguments import count
    from motoko.errors import MotokoError

    if deleted.kept:
        places = [f"{key} ({_some(problems)})" for key, problems in deleted.kept.items()]
        raise MotokoError(
            f"{count(len(places))} kept, since the directory cannot be removed: {_some(places)}",
            hint="Change what protects it, then clean again.",
        )
    if deleted.left:
        raise MotokoError(
            f"directories of deleted runs could not be removed: {_some(deleted.left)}",
            hint="The next `motoko clean --delete` and the next launcher try again.",
        )
    if cancelled.going:
        trouble = cancelled.trouble
        why = "" if trouble is None else f" ({trouble.message})"
        raise MotokoError(
            f"{count(len(cancelled.going))} did not end in time, and stay: "
            f"{_some(cancelled.going)}{why}",
            hint="They are cancelled as soon as their launcher works; then clean again.",
        )


def _some(items: Sequence[object]) -> str:
    return ", ".join(map(str, items[:SHOWN])) + (", ..." if len(items) > SHOWN else "")
