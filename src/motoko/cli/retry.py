"""Send runs that ended badly back to CREATED, so that a launcher tries them again.

With --changed: ended runs of any outcome whose scripts have changed since they were made.
"""

from __future__ import annotations

from motoko.cli.output import say

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    import argparse

HELP = "try badly ended runs again"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from motoko.cli.selection_arguments import add_options

    add_options(parser)
    parser.add_argument(
        "--changed", action="store_true", help="runs made with scripts that have changed since"
    )


def execute(args: argparse.Namespace) -> int:
    """Send the runs back, naming each."""
    from motoko.cli import exit_status
    from motoko.cli.selection_arguments import chosen, count, working
    from motoko.operations import bulk_edit

    with working(args) as workflow:
        find = bulk_edit.outdated if args.changed else bulk_edit.failed_runs
        keys = bulk_edit.retry(workflow, find(workflow, **chosen(args)), "motoko retry")
    for key in keys:
        say(f"{key} is CREATED again")
    say(f"{count(len(keys))} to be tried again; `motoko run` or a launcher executes them")
    return exit_status.OK
