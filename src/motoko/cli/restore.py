"""Replace the workflow's database by FILE, which `motoko backup` wrote.

No process may use the workflow. Run directories are not changed. Before existing results are
replaced, the command asks; --yes confirms.
"""

from __future__ import annotations

import sys

from motoko.cli.output import count_runs, echo

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from motoko.operations.backup import RestorePreview
    from motoko.storage.salvage import SalvageReport

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
        "--yes",
        "-y",
        "--validated",
        dest="yes",
        action="store_true",
        help="replace existing results without a question; required without a terminal",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would be replaced, and change nothing"
    )


def execute(args: argparse.Namespace) -> None:
    """Restore the copy, and describe it."""
    from pathlib import Path

    from motoko.cli import confirmation
    from motoko.cli.backup import describe
    from motoko.cli.workflow_arguments import state_directory
    from motoko.errors import ConfigError
    from motoko.operations.backup import preview_restore, restore

    source = None if args.file is None else Path(args.file)
    if args.salvage:
        _salvage(args, source)
        return
    if source is None:
        raise ConfigError(
            "name the FILE to restore", hint="--salvage alone repairs the workflow's own file."
        )
    state = state_directory(args)
    replace = args.yes
    if args.dry_run or (not replace and confirmation.has_terminal() and state.database.exists()):
        for line in _preview_lines(preview_restore(state, source), source):
            echo(line, file=None if args.dry_run else sys.stderr)
        if args.dry_run:
            return
        confirmation.ask()
        replace = True
    found = restore(state, source, replace=replace)
    echo(f"restored {describe(found.size, found.runs)} from {source}")


def _preview_lines(found: RestorePreview, source: Path) -> list[str]:
    from motoko.cli.backup import describe

    restored = describe(found.restored.size, found.restored.runs)
    if found.replaced is None:
        return [f"{restored} of {source} would be restored; no results exist yet"]
    if found.problem is not None:
        present = f"results that cannot be read ({found.problem})"
        return [f"{present} would be replaced by {restored} of {source}"]
    before, after = found.replaced.runs, found.restored.runs
    lines = [
        f"{study}: {count_runs(before.get(study, 0))}, then {after.get(study, 0)}"
        for study in sorted({*before, *after})
    ]
    present = describe(found.replaced.size, before)
    return [*lines, f"{present} would be replaced by {restored} of {source}"]


def _salvage(args: argparse.Namespace, source: Path | None) -> None:
    from motoko.cli.workflow_arguments import state_directory
    from motoko.operations.backup import preview_salvage, salvage

    state = state_directory(args)
    if args.dry_run:
        _report(preview_salvage(state, source), "would salvage")
    else:
        found = salvage(state, source, replace=args.yes, rng=args.motoko_runtime.rng)
        _report(found, "salvaged")


def _report(found: SalvageReport, done: str) -> None:
    echo(f"{done} {found.transactions} commits: {count_runs(sum(found.runs.values()))}")
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
