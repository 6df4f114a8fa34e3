"""Release held runs, so that launchers claim them.

STUDY and --run_name remove every hold within them. Runs that a wider hold covers stay held.
"""

from __future__ import annotations

from motoko.cli.output import echo

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    import argparse

HELP = "let launchers claim held runs again"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from motoko.cli.selection_arguments import add_options

    add_options(parser, default=None)
    parser.add_argument("--all", action="store_true", help="remove all holds of the workflow")


def execute(args: argparse.Namespace) -> None:
    """Release the runs, and report their number; MotokoError if some stay held."""
    from motoko.cli.hold import check_narrowed
    from motoko.cli.selection_arguments import open_for_selection, selection_of
    from motoko.errors import MotokoError
    from motoko.operations import holds
    from motoko.printable import join_names

    check_narrowed(args)
    with open_for_selection(args, tolerant=True) as workflow:
        found = holds.release(workflow, selection_of(args))
    if found.summary:
        echo(found.summary)
    if found.remaining:
        subjects = join_names(hold.subject for hold in found.remaining)
        raise MotokoError(
            f"runs stay held, with {subjects}", hint=f"To release all of that: {found.rest}."
        )
