"""Send failed runs back to CREATED, so that a launcher executes them again.

With --changed: all runs in a terminal state whose scripts have changed since their creation.
"""

from __future__ import annotations

from motoko.cli.output import count_runs, echo

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    import argparse

HELP = "execute failed runs again"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from motoko.cli.selection_arguments import add_options

    add_options(parser)
    parser.add_argument(
        "--changed", action="store_true", help="select runs whose scripts have changed since"
    )


def execute(args: argparse.Namespace) -> None:
    """Send the runs back, and report each."""
    from motoko.cli.selection_arguments import open_for_selection, selection_of
    from motoko.operations import bulk_edit

    with open_for_selection(args) as workflow:
        find = bulk_edit.outdated_runs if args.changed else bulk_edit.failed_runs
        keys = bulk_edit.retry(workflow, find(workflow, selection_of(args)), "motoko retry")
    for key in keys:
        echo(f"{key} is CREATED again")
    echo(f"{count_runs(len(keys))} to retry; `motoko run` or a launcher executes them")
