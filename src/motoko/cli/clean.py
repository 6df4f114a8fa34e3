"""List runs to delete; with --delete, delete them and their directories.

With --pack, move the directories of ended runs into zip files of a thousand runs each. The runs
stay, and `motoko logs` reads their output there.

Of a study without ids and without --where, these are the runs in a terminal state. With ids or
--where, these are all matching runs; active runs and their scheduler jobs are cancelled first.

Before it deletes several runs, the command asks; --yes confirms.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from motoko.cli.output import count_runs, echo

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from motoko.api.workflow import Workflow
    from motoko.core.records import RunRecord
    from motoko.operations.cancel import CancelResult
    from motoko.operations.clean import CleanupResult
    from motoko.operations.preview import Preview

SHOWN = 5  # runs named in a message
HELP = "list or delete runs and their directories"


EFFECT = "be deleted"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from motoko.cli import confirmation
    from motoko.cli.selection_arguments import add_options

    action = parser.add_mutually_exclusive_group()
    action.add_argument("--delete", action="store_true", help="delete the listed runs")
    action.add_argument(
        "--pack", action="store_true", help="move the directories of ended runs into zip files"
    )
    add_options(parser)
    confirmation.add_options(parser)


def execute(args: argparse.Namespace) -> None:
    """List the runs; with --delete, delete them."""
    from functools import partial

    from motoko.cli import confirmation
    from motoko.cli.selection_arguments import open_for_selection, selection_of
    from motoko.operations import clean

    if args.pack:
        _pack(args)
        return
    deletes = args.delete and not args.dry_run
    with open_for_selection(args, writes=deletes, tolerant=not deletes) as workflow:
        selection = selection_of(args)
        preview = partial(clean.preview_cleanup, workflow, selection)
        found = preview(measure=not args.yes)
        if not deletes:
            _list(workflow, found, args)
        else:
            _delete(workflow, confirmation.confirm(args, found, _effect(found), preview))


def _pack(args: argparse.Namespace) -> None:
    from dataclasses import replace

    from motoko.cli import confirmation
    from motoko.cli.selection_arguments import open_for_selection, selection_of
    from motoko.errors import MotokoError
    from motoko.operations import pack

    with open_for_selection(args, writes=False) as workflow:
        found = pack.preview_packing(workflow, selection_of(args))
        results = pack.pack(workflow, found.keys, dry_run=args.dry_run)
        if args.dry_run:
            packed = [r for r in found.runs if r.id not in results[r.study].left]
            confirmation.show(replace(found, runs=packed), "be packed")
        else:
            echo(f"{count_runs(sum(len(one.packed) for one in results.values()))} packed")
        left = [
            f"{study}.{run_id} ({reason})"
            for study, result in results.items()
            for run_id, reason in result.left.items()
        ]
        if left and args.dry_run:
            echo(f"{count_runs(len(left))} would stay as they are: {_some(left)}")
        elif left:
            raise MotokoError(
                f"{count_runs(len(left))} not packed: {_some(left)}",
                hint="Their directories stay as they are.",
            )


def _effect(found: Preview) -> str:
    active = len(found.active)
    return f"{EFFECT}; {active} of them would be cancelled first" if active else EFFECT


def _list(workflow: Workflow, found: Preview, args: argparse.Namespace) -> None:
    from motoko.cli import confirmation
    from motoko.cli.tables import print_runs
    from motoko.operations import clean

    print_runs(found.runs)
    confirmation.show(found, _effect(found))
    if not args.delete and found.runs:
        echo("add --delete to delete them")
    pending = clean.pending_removals(workflow)
    if pending:
        echo(f"directories of {count_runs(pending)} deleted earlier must still be removed")


def _delete(workflow: Workflow, runs: Sequence[RunRecord]) -> None:
    from motoko.core.states import ACTIVE
    from motoko.operations import clean
    from motoko.operations.cancel import CancelResult

    cancelled = CancelResult()
    active = [record for record in runs if record.lifecycle in ACTIVE]
    if active:
        echo(f"cancelling {count_runs(len(active))}", file=sys.stderr)
        cancelled = clean.cancel_active(workflow, active)
    result = clean.delete(workflow, runs)
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
