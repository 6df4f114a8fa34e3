"""Cancel runs that are not in a terminal state.

A CREATED run is cancelled at once. For any other run, its launcher ends the processes and scheduler
jobs. If no launcher manages the run, this command starts one and stops it afterwards.

For several runs the command asks first; --yes confirms.
"""

from __future__ import annotations

import sys

from motoko.cli.output import count_runs, echo

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    import argparse

    from motoko.operations.cancel import CancelResult

HELP = "cancel runs that are not in a terminal state"


EFFECT = "be cancelled"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from motoko.cli import confirmation
    from motoko.cli.selection_arguments import add_options

    add_options(parser, default=None)
    parser.add_argument(
        "--all", action="store_true", help="allow the command without RUNS and --where"
    )
    confirmation.add_options(parser)


def execute(args: argparse.Namespace) -> None:
    """Preview the runs; cancel them unless they are only shown, and report each."""
    from functools import partial

    from motoko.cli import confirmation
    from motoko.cli.selection_arguments import open_for_selection, selection_of
    from motoko.operations import bulk_edit, cancel

    selection = selection_of(args)
    if not (selection.is_narrowed or args.all):
        args.motoko_parser.error("motoko cancel needs RUNS, --where C or --all")
    with open_for_selection(args, writes=not args.dry_run, tolerant=True) as workflow:
        is_affected = bulk_edit.is_cancellable
        preview = partial(bulk_edit.preview_selected, workflow, selection, is_affected)
        if args.dry_run:
            confirmation.show(preview(), EFFECT)
            return
        runs = confirmation.confirm(args, preview(), EFFECT, preview)
        found = cancel.cancel(workflow, runs, "motoko cancel", on_unowned=_report_unowned)
    _report(found)


def _report(found: CancelResult) -> None:
    from motoko.errors import MotokoError

    for key, outcome in found.ended.items():
        echo(f"{key} ended {outcome}")
    for key in found.pending:
        echo(f"{key} will be CANCELLED")
    echo(found.summary)
    if found.problem is not None:
        raise MotokoError(
            f"{count_runs(len(found.pending))} not cancelled yet: {found.problem.message}",
            hint="The next launcher cancels them: `motoko launcher`.",
        )


def _report_unowned(number: int) -> None:
    echo(f"no launcher manages {count_runs(number)}: starting one", file=sys.stderr)
