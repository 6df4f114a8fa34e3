"""Send failed runs back to CREATED, so that a launcher executes them again.

With --changed: all runs in a terminal state whose scripts have changed since their creation.

Without RUNS, --where and --run_name the command only shows which runs it would send back; --yes
confirms. For several runs it asks first.
"""

from __future__ import annotations

from motoko.cli.output import count_runs, echo

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    import argparse

HELP = "execute failed runs again"
EFFECT = "go back to CREATED"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from motoko.cli import confirmation
    from motoko.cli.selection_arguments import add_options

    add_options(parser)
    parser.add_argument(
        "--changed", action="store_true", help="select runs whose scripts have changed since"
    )
    confirmation.add_options(parser)


def execute(args: argparse.Namespace) -> None:
    """Preview the runs; send them back unless they are only shown, and report each."""
    from functools import partial

    from motoko.cli import confirmation
    from motoko.cli.selection_arguments import open_for_selection, selection_of
    from motoko.operations import bulk_edit

    selection = selection_of(args)
    is_bare = not (selection.is_narrowed or args.run_name)
    only_show = args.dry_run or (is_bare and not args.yes)
    with open_for_selection(args, writes=not only_show) as workflow:
        is_affected = bulk_edit.outdated_filter(workflow) if args.changed else bulk_edit.is_failed
        preview = partial(bulk_edit.preview_selected, workflow, selection, is_affected)
        found = preview()
        if only_show:
            confirmation.show(found, EFFECT)
            if not args.dry_run and found.runs:
                echo("add --yes to send them back, or select some with RUNS or --where C")
            return
        runs = confirmation.confirm(args, found, EFFECT, preview)
        keys = bulk_edit.retry(workflow, runs, "motoko retry")
    for key in keys:
        echo(f"{key} is CREATED again")
    echo(f"{count_runs(len(keys))} to retry; `motoko run` or a launcher executes them")
