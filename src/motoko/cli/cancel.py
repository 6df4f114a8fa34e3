"""Cancel runs: those that wait at once, those that run through their launcher."""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    import argparse

HELP = "cancel runs that have not ended"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from motoko.cli.selecting import add_options

    add_options(parser)
    parser.add_argument("--all", action="store_true", help="allow cancelling without --constraints")


def execute(args: argparse.Namespace) -> int:
    """Cancel the runs, naming each."""
    from motoko.cli import exit_status
    from motoko.cli.selecting import chosen, count, working
    from motoko.operations import changing

    if not (args.constraints or args.all):
        args.motoko_parser.error("motoko cancel needs --constraints C, or --all")
    with working(args) as workflow:
        records = changing.cancellable(workflow, **chosen(args))
        keys = changing.cancel(workflow, records, "motoko cancel")
    for key in keys:
        print(f"{key} is to end CANCELLED")
    print(f"{count(len(keys))} cancelled")
    return exit_status.OK
