"""Make FILE, which `motoko backup` wrote, the workflow's database. Nothing may be running.

Run directories stay as they are.
"""

from __future__ import annotations

from motoko.cli.output import say

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    import argparse

HELP = "go back to a copy of the database"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("file", metavar="FILE", help="what `motoko backup` wrote")
    parser.add_argument(
        "--validated", action="store_true", help="replace the results that there are, unasked"
    )


def execute(args: argparse.Namespace) -> int:
    """Put the copy in place, and say what is in it."""
    from pathlib import Path

    from motoko.cli import exit_status
    from motoko.cli.backup import describe
    from motoko.cli.opening import state_directory
    from motoko.operations.backup import restore

    source = Path(args.file)
    found = restore(state_directory(args), source, replace=args.validated)
    say(f"restored {describe(found.size, found.runs)} from {source}")
    return exit_status.OK
