"""Hold runs: no launcher claims them until `motoko release`.

STUDY and --run_name hold the runs that are created later as well; ids and --where hold the runs
that they select now. Runs that are running continue. Held runs can be cancelled, and stay held if
they are retried.
"""

from __future__ import annotations

from motoko.cli.output import echo

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    import argparse

HELP = "keep runs from being claimed, until they are released"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from motoko.cli.selection_arguments import add_options

    add_options(parser, default=None)
    parser.add_argument("--all", action="store_true", help="hold all runs of the workflow")


def execute(args: argparse.Namespace) -> None:
    """Hold the runs, and report their number."""
    from motoko.cli.selection_arguments import open_for_selection, selection_of
    from motoko.operations import holds

    check_narrowed(args)
    with open_for_selection(args, tolerant=True) as workflow:
        found = holds.hold(workflow, selection_of(args), "motoko hold")
    echo(found.summary)
    for rule in found.rules:
        what = f"runs of {rule.subject}" if rule.study or rule.run_name else "all runs"
        echo(f"{what} that are created later are held, too")


def check_narrowed(args: argparse.Namespace) -> None:
    """Exit with a usage error unless runs, a run name or --all are given."""
    narrowed = bool(args.runs or args.bd_study or args.constraints or args.run_name)
    parser = args.motoko_parser
    if args.all and narrowed:
        parser.error("--all is for the whole workflow: name runs, or use --all, not both")
    if not (args.all or narrowed):
        parser.error(f"{parser.prog} needs runs, --where C, --run_name N or --all")
