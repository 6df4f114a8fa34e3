"""Copy the workflow's database to FILE, while it runs or not. Run directories are not copied."""

from __future__ import annotations

from motoko.cli.output import say

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    import argparse

HELP = "copy the database to a file, also while it is used"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("file", metavar="FILE", help="the file to write")
    parser.add_argument("--validated", action="store_true", help="overwrite FILE if it exists")


def execute(args: argparse.Namespace) -> int:
    """Copy the database, and say what is in the copy."""
    from pathlib import Path

    from motoko.cli import exit_status
    from motoko.cli.workflow_arguments import state_directory
    from motoko.operations.backup import back_up

    target = Path(args.file)
    found = back_up(state_directory(args), target, replace=args.validated)
    say(f"copied {describe(found.size, found.runs)} to {target}")
    return exit_status.OK


def describe(size: int, runs: dict[str, int]) -> str:
    """Return in words what is in a database."""
    from motoko.cli.selection_arguments import count

    return f"{count(sum(runs.values()))} ({size / 2**20:.1f} MB)"
