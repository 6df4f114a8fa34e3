"""Make FILE, which `motoko backup` wrote, the workflow's database. Nothing may be running.

Run directories stay as they are.
"""

from __future__ import annotations

from motoko.cli.output import say

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    import argparse
    from pathlib import Path

SHOWN = 20  # of what is lost
HELP = "go back to a copy of the database"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        help="what `motoko backup` wrote; with --salvage by default the workflow's own file",
    )
    parser.add_argument(
        "--salvage",
        action="store_true",
        help="take what is whole of a damaged FILE, and say what is lost; the workflow's own file "
        "is kept as wf.db.damaged-N",
    )
    parser.add_argument(
        "--validated", action="store_true", help="replace the results that there are, unasked"
    )


def execute(args: argparse.Namespace) -> int:
    """Put the copy in place, and say what is in it."""
    from pathlib import Path

    from motoko.cli import exit_status
    from motoko.cli.backup import describe
    from motoko.cli.workflow_arguments import state_directory
    from motoko.errors import ConfigError
    from motoko.operations.backup import restore

    source = None if args.file is None else Path(args.file)
    if args.salvage:
        return _salvage(args, source)
    if source is None:
        raise ConfigError(
            "name the FILE to go back to", hint="--salvage alone repairs the workflow's own file."
        )
    found = restore(state_directory(args), source, replace=args.validated)
    say(f"restored {describe(found.size, found.runs)} from {source}")
    return exit_status.OK


def _salvage(args: argparse.Namespace, source: Path | None) -> int:
    from motoko.cli import exit_status
    from motoko.cli.selection_arguments import count
    from motoko.cli.workflow_arguments import state_directory
    from motoko.operations.backup import salvage

    found = salvage(state_directory(args), source, replace=args.validated)
    say(f"salvaged {found.transactions} commits: {count(sum(found.runs.values()))}")
    for position, size in found.lost[:SHOWN]:
        say(f"lost: {size} bytes at byte {position}")
    if len(found.lost) > SHOWN:
        say(f"lost: {len(found.lost) - SHOWN} more places")
    if found.rebuilt:
        say("the indexes were built again from the records of the runs")
    for note in found.notes[:SHOWN]:
        say(f"problem: {note}")
    if len(found.notes) > SHOWN:
        say(f"problems: {len(found.notes) - SHOWN} more")
    return exit_status.OK
