"""Show every state that a run was in, or the firings of the orchestrator's events.

`motoko history study.7` shows a run; `motoko history` all firings; with --event those of one. The
time of a firing is that of its first commit; a firing that changed nothing is not recorded.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    import argparse

    from rich.text import Text

    from motoko.operations.history import FiringEntry

HELP = "show what happened to a run, or which events fired"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("run", nargs="?", metavar="STUDY.ID", help="the run to show")
    parser.add_argument("--event", metavar="NAME", help="the firings of one event")
    parser.add_argument("--run_name", "-n", metavar="N", help="one run name only")


def execute(args: argparse.Namespace) -> int:
    """Print the history as a table."""
    from rich.table import Table

    from motoko.cli import exit_status
    from motoko.cli.tables import console, names_text, safe_text
    from motoko.cli.workflow_arguments import open_workflow
    from motoko.operations import history
    from motoko.runtime.clock import utc

    def moment(at: float) -> Text:
        return safe_text(utc(at).isoformat(sep=" ", timespec="milliseconds"))

    if args.run is not None and (args.event is not None or args.run_name is not None):
        args.motoko_parser.error("a run has neither --event nor --run_name")
    workflow = open_workflow(args, look=True, tolerant=True)
    try:
        if args.run is not None:
            table = Table("time", "state", "attempt", "cause", box=None)
            for move in history.run_record(workflow, args.run).history:
                what = (move.state, str(move.attempt), move.cause)
                table.add_row(moment(move.time), *map(safe_text, what))
        else:
            table = Table("time", "run name", "event", "status", "runs", box=None)
            for firing in history.past_firings(workflow, event=args.event, run_name=args.run_name):
                runs = names_text(firing.runs) or (firing.study and f"study {firing.study}")
                columns = (firing.run_name, firing.event, _status(firing), runs)
                table.add_row(moment(firing.opened), *map(safe_text, columns))
    finally:
        workflow.close()
    console().print(table)
    return exit_status.OK


def _status(firing: FiringEntry) -> str:
    if firing.done is None:
        return "open"
    seconds = firing.done - firing.opened
    return f"done after {seconds:.3f} s" if seconds > 0 else "done"
