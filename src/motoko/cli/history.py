"""Show every state that runs were in, or the firings of the orchestrator's events.

`motoko history study.7` shows a run; RUNS and --where show several. `motoko history` shows all
firings, with --event those of one event. The time of a firing is that of its first commit; a firing
without changes is not recorded.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from rich.table import Table
    from rich.text import Text

    from motoko.core.records import RunRecord
    from motoko.operations.history import FiringEntry

HELP = "show the states of runs, or the firings of events"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    from motoko.cli.selection_arguments import add_options

    add_options(parser)
    parser.add_argument("--event", metavar="NAME", help="show the firings of this event only")


def execute(args: argparse.Namespace) -> None:
    """Print the history as a table."""
    from motoko.cli.selection_arguments import open_for_selection, selection_of
    from motoko.cli.tables import console
    from motoko.operations import history

    selection = selection_of(args)
    if selection.is_narrowed and args.event is not None:
        args.motoko_parser.error("--event shows firings: give either --event or runs")
    with open_for_selection(args, writes=False, tolerant=True) as workflow:
        if selection.is_narrowed:
            table = _transitions_table(history.complete_records(workflow, selection))
        else:
            firings = history.recorded_firings(workflow, event=args.event, run_name=args.run_name)
            table = _firings_table(firings)
    console().print(table)


def _transitions_table(records: Sequence[RunRecord]) -> Table:
    from rich.table import Table

    from motoko.cli.tables import safe_text

    several = len(records) != 1
    table = Table(*["run"] * several, "time", "state", "attempt", "cause", box=None)
    for record in records:
        for item in record.history:
            name = [safe_text(str(record.key))] * several
            columns = (item.state, str(item.attempt), item.cause)
            table.add_row(*name, _moment(item.time), *map(safe_text, columns))
    return table


def _firings_table(firings: Sequence[FiringEntry]) -> Table:
    from rich.table import Table

    from motoko.cli.tables import names_text, safe_text

    table = Table("time", "run name", "event", "status", "runs", box=None)
    for firing in firings:
        runs = names_text(firing.runs) or (firing.study and f"study {firing.study}")
        row = (firing.run_name, firing.event, _status(firing), runs)
        table.add_row(_moment(firing.opened), *map(safe_text, row))
    return table


def _moment(at: float) -> Text:
    from motoko.cli.tables import safe_text
    from motoko.runtime.ports import utc

    return safe_text(utc(at).isoformat(sep=" ", timespec="milliseconds"))


def _status(firing: FiringEntry) -> str:
    if firing.done is None:
        return "open"
    seconds = firing.done - firing.opened
    return f"done after {seconds:.3f} s" if seconds > 0 else "done"
