"""Show every state that a run was in, or the firings of the orchestrator's events.

`motoko history study.7` shows a run. `motoko history` shows all firings, with --event those of one
event. The time of a firing is that of its first commit; a firing without changes is not recorded.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    import argparse

    from rich.text import Text

    from motoko.operations.history import FiringEntry

HELP = "show the states of a run, or the firings of events"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("run", nargs="?", metavar="STUDY.ID", help="the run to show")
    parser.add_argument("--event", metavar="NAME", help="show the firings of this event only")
    parser.add_argument("--run_name", "-n", metavar="N", help="show this run name only")


def execute(args: argparse.Namespace) -> None:
    """Print the history as a table."""
    import contextlib

    from rich.table import Table

    from motoko.cli.tables import console, names_text, safe_text
    from motoko.cli.workflow_arguments import open_workflow
    from motoko.operations import history
    from motoko.runtime.ports import utc

    def moment(at: float) -> Text:
        return safe_text(utc(at).isoformat(sep=" ", timespec="milliseconds"))

    if args.run is not None and (args.event is not None or args.run_name is not None):
        args.motoko_parser.error("--event and --run_name do not apply to a run")
    with contextlib.closing(open_workflow(args, read_only=True, tolerant=True)) as workflow:
        if args.run is not None:
            table = Table("time", "state", "attempt", "cause", box=None)
            for item in history.run_record(workflow, args.run).history:
                columns = (item.state, str(item.attempt), item.cause)
                table.add_row(moment(item.time), *map(safe_text, columns))
        else:
            table = Table("time", "run name", "event", "status", "runs", box=None)
            firings = history.recorded_firings(workflow, event=args.event, run_name=args.run_name)
            for firing in firings:
                runs = names_text(firing.runs) or (firing.study and f"study {firing.study}")
                row = (firing.run_name, firing.event, _status(firing), runs)
                table.add_row(moment(firing.opened), *map(safe_text, row))
    console().print(table)


def _status(firing: FiringEntry) -> str:
    if firing.done is None:
        return "open"
    seconds = firing.done - firing.opened
    return f"done after {seconds:.3f} s" if seconds > 0 else "done"
