"""List runs to delete; with --delete, delete them and their directories.

Without --constraints, these are all runs in a terminal state. With --constraints, these are all
matching runs; active runs and their scheduler jobs are cancelled first.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from motoko.cli.output import count_runs, echo

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from motoko.operations.cancel import CancelResult
    from motoko.operations.clean import CleanupResult

SHOWN = 5  # runs named in a message
HELP = "list or delete runs and their directories"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from motoko.cli.selection_arguments import add_options

    parser.add_argument("--delete", action="store_true", help="delete the listed runs")
    add_options(parser)


def execute(args: argparse.Namespace) -> None:
    """List the runs; with --delete, delete them."""
    from motoko.cli.selection_arguments import open_for_selection, selection_of
    from motoko.cli.tables import print_runs
    from motoko.operations import clean
    from motoko.operations.cancel import CancelResult

    with open_for_selection(args, writes=args.delete, tolerant=not args.delete) as workflow:
        plan = clean.plan_cleanup(workflow, selection_of(args))
        number = count_runs(len(plan.runs))
        if not args.delete:
            print_runs(plan.runs)
            active = f"; {len(plan.active)} of them would be cancelled first" if plan.active else ""
            echo(f"{number} would be deleted (add --delete){active}")
            pending = clean.pending_removals(workflow)
            if pending:
                echo(f"directories of {count_runs(pending)} deleted earlier must still be removed")
            return
        cancelled = CancelResult()
        if plan.active:
            echo(f"cancelling {count_runs(len(plan.active))}", file=sys.stderr)
            cancelled = clean.cancel_active(workflow, plan.active)
        result = clean.delete(workflow, plan.runs)
        for key in result.deleted:
            echo(f"deleted {key}")
        echo(f"{count_runs(len(result.deleted))} deleted")
        _check_complete(cancelled, result)


def _check_complete(cancelled: CancelResult, result: CleanupResult) -> None:
    """Raise MotokoError if runs or directories were not deleted."""
    from motoko.errors import MotokoError

    if result.kept:
        obstacles = [f"{key} ({_some(problems)})" for key, problems in result.kept.items()]
        raise MotokoError(
            f"{count_runs(len(obstacles))} kept, because their directories cannot be removed: "
            f"{_some(obstacles)}",
            hint="Resolve these problems, then run this command again.",
        )
    if result.left:
        raise MotokoError(
            f"directories of deleted runs could not be removed: {_some(result.left)}",
            hint="The next `motoko clean --delete` and the next launcher try again.",
        )
    if cancelled.pending:
        why = "" if cancelled.problem is None else f" ({cancelled.problem.message})"
        raise MotokoError(
            f"{count_runs(len(cancelled.pending))} kept, because they did not end in time: "
            f"{_some(cancelled.pending)}{why}",
            hint="The next launcher cancels them; then run this command again.",
        )


def _some(items: Sequence[object]) -> str:
    return ", ".join(map(str, items[:SHOWN])) + (", ..." if len(items) > SHOWN else "")
