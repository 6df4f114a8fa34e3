"""Replace the workflow's database by FILE, which `motoko backup` wrote.

No process may use the workflow. Run directories are not changed.
"""

from __future__ import annotations

from motoko.cli.output import count_runs, echo

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    import argparse
    from pathlib import Path

SHOWN = 20  # losses and problems
HELP = "go back to a copy of the database"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        help="a copy that `motoko backup` wrote; with --salvage the default is the workflow's file",
    )
    parser.add_argument(
        "--salvage",
        action="store_true",
        help="recover the intact part of a damaged FILE and list the losses; the workflow's own "
        "file is kept as wf.db.damaged-N",
    )
    parser.add_argument(
        "--validated", action="store_true", help="replace existing results without confirmation"
    )


def execute(args: argparse.Namespace) -> None:
    """Restore the copy, and describe it."""
    from pathlib import Path

    from motoko.cli.backup import describe
    from motoko.cli.workflow_arguments import state_directory
    from motoko.errors import ConfigError
    from motoko.operations.backup import restore

    source = None if args.file is None else Path(args.file)
    if args.salvage:
        _salvage(args, source)
        return
    if source is None:
        raise ConfigError(
            "name the FILE to restore", hint="--salvage alone repairs the workflow's own file."
        )
    found = restore(state_directory(args), source, replace=args.validated)
    echo(f"restored {describe(found.size, found.runs)} from {source}")


def _salvage(args: argparse.Namespace, source: Path | None) -> None:
    from motoko.cli.workflow_arguments import state_directory
    from motoko.operations.backup import salvage

    state, rng = state_directory(args), args.motoko_runtime.rng
    found = salvage(state, source, replace=args.validated, rng=rng)
    echo(f"salvaged {found.transactions} commits: {count_runs(sum(found.runs.values()))}")
    for position, size in found.gaps[:SHOWN]:
        echo(f"lost: {size} bytes at byte {position}")
    if len(found.gaps) > SHOWN:
        echo(f"lost: {len(found.gaps) - SHOWN} more places")
    if found.rebuilt:
        echo("rebuilt the indexes from the records of the runs")
    for note in found.notes[:SHOWN]:
        echo(f"problem: {note}")
    if len(found.notes) > SHOWN:
        echo(f"problems: {len(found.notes) - SHOWN} more")
