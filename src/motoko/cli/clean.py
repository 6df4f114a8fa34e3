"""List runs that can go; with --delete, delete them and their directories.

Without --constraints these are all runs that have ended. Runs that are SUBMITTED or START are
never deleted.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

HELP = "list or delete runs and their directories"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from motoko.cli.selecting import add_options

    parser.add_argument("--delete", action="store_true", help="delete what would be listed")
    add_options(parser)


def execute(args: argparse.Namespace) -> int:
    """List the runs, and delete them if asked to."""
    from motoko.cli import exit_status
    from motoko.cli.selecting import chosen, count, working
    from motoko.cli.tables import print_runs
    from motoko.operations import cleaning

    with working(args, writes=args.delete) as workflow:
        found = cleaning.candidates(workflow, **chosen(args))
        if found.active:
            print(f"{found.active} runs are active and stay", file=sys.stderr)
        if not args.delete:
            print_runs(found.runs, run_names=True)
            print(f"{count(len(found.runs))} would be deleted (--delete does it)")
            return exit_status.OK
        deleted = cleaning.delete(workflow, found.runs)
        for key in deleted:
            print(f"deleted {key}")
        print(f"{count(len(deleted))} deleted")
    return exit_status.OK
