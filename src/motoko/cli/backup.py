"""Copy the workflow's database to FILE. The workflow may be running.

Run directories are not copied. Use `motoko restore FILE` to go back to the copy.
"""

from __future__ import annotations

from motoko.cli.output import count_runs, echo

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    import argparse

HELP = "copy the workflow's database to a file"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("file", metavar="FILE", help="the file to write")
    parser.add_argument("--validated", action="store_true", help="overwrite FILE if it exists")


def execute(args: argparse.Namespace) -> None:
    """Copy the database and describe the copy."""
    from pathlib import Path

    from motoko.cli.workflow_arguments import state_directory
    from motoko.operations.backup import back_up

    target = Path(args.file)
    found = back_up(state_directory(args), target, replace=args.validated)
    echo(f"copied {describe(found.size, found.runs)} to {target}")


def describe(size: int, runs: dict[str, int]) -> str:
    """Return the number of runs in a database, and its size."""
    return f"{count_runs(sum(runs.values()))} ({size / 2**20:.1f} MB)"
