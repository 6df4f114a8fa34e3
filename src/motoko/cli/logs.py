"""Print the output of runs, or the log of an orchestrator, the launcher or the server.

  motoko logs solve.7                standard output and error of the last attempt
  motoko logs solve.7 -f             the same while it grows, until the run is in a terminal state
  motoko logs --where "state = FAILED" --stderr --lines 5
  motoko logs --orchestrator -n a    the log of a detached orchestrator

Of one run, the last megabyte of each stream is printed; of several runs, the last 20 lines. With
--follow, a retry is announced, and its output printed. The output of earlier attempts is in the
directories run-ID.attempt-N.
"""

from __future__ import annotations

import sys

from motoko.cli.output import echo

TYPE_CHECKING = False  # type checkers assume True; importing `typing` costs milliseconds
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from motoko.api.workflow import Workflow
    from motoko.core.records import RunRecord
    from motoko.server.state_dir import StateDir

HELP = "print the output of runs, or the log of a background process"
SEVERAL_LINES = 20  # of each stream of several runs


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from motoko.cli.selection_arguments import add_options

    add_options(parser, default=None)
    parser.add_argument("--stdout", action="store_true", help="print standard output only")
    parser.add_argument("--stderr", action="store_true", help="print standard error only")
    parser.add_argument(
        "--attempt", type=int, metavar="N", help="print attempt N, as `motoko history` counts them"
    )
    parser.add_argument("--lines", type=_count, metavar="N", help="print only the last N lines")
    parser.add_argument(
        "--follow", "-f", action="store_true", help="also print what is written from now on"
    )
    parser.add_argument(
        "--orchestrator", action="store_true", help="print the logs of detached orchestrators"
    )
    parser.add_argument("--launcher", action="store_true", help="print the launcher's log")
    parser.add_argument("--server", action="store_true", help="print the database server's log")


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError
    return number


def execute(args: argparse.Namespace) -> None:
    """Print the output or the logs."""
    from motoko.cli.selection_arguments import open_for_selection, selection_of

    selection = selection_of(args)
    if args.orchestrator or args.launcher or args.server:
        if selection.is_narrowed or args.attempt is not None or args.stdout or args.stderr:
            args.motoko_parser.error("give either runs, or --orchestrator, --launcher, --server")
        _print_process_logs(args)
        return
    if not selection.is_narrowed:
        args.motoko_parser.error(
            "motoko logs needs RUNS, --where C, --orchestrator, --launcher or --server"
        )
    with open_for_selection(args, writes=False, tolerant=True) as workflow:
        _print_output(args, workflow, selection.find(workflow))


def _print_output(
    args: argparse.Namespace, workflow: Workflow, records: Sequence[RunRecord]
) -> None:
    from motoko.cli.log_printer import LogPrinter
    from motoko.operations.run_output import STREAMS, OutputRequest, read_outputs

    streams = [name for name in STREAMS if getattr(args, name)] or STREAMS
    lines = SEVERAL_LINES if args.lines is None and len(records) > 1 else args.lines
    request = OutputRequest(streams, attempt=args.attempt, lines=lines, follow=args.follow)
    printer = LogPrinter(titles=len(records) * len(streams) > 1)
    rounds = read_outputs(workflow.store, records, request, args.motoko_runtime.clock)
    _note_waiting(printer.note, workflow, records)
    for parts in rounds:
        for part in parts:
            if part.data is None:
                printer.note(part.name)
            else:
                printer.show(part.name, part.data)
        sys.stdout.flush()


def _note_waiting(
    note: Callable[[str], object], workflow: Workflow, records: Sequence[RunRecord]
) -> None:
    """Print the runs that have not started, and why."""
    from motoko.operations.run_details import waiting_reasons
    from motoko.printable import one_line

    waiting = [record for record in records if not record.attempt]
    for key, reason in waiting_reasons(workflow, waiting).items():
        note(f"{key} has not started" + (f": {one_line(reason)}" if reason else ""))


def _print_process_logs(args: argparse.Namespace) -> None:
    from motoko.cli.log_printer import print_logs
    from motoko.cli.workflow_arguments import state_directory
    from motoko.launcher.control import running_launchers
    from motoko.operations.orchestrator_process import is_writer_alive
    from motoko.operations.usage import server_process

    state = state_directory(args)
    launcher, server = state.logs / "launcher.log", state.logs / "server.log"

    def is_written(log: Path) -> bool:
        if not args.follow:
            return False
        if log == launcher:
            return bool(running_launchers(state))
        if log == server:
            return server_process(state) is not None
        return is_writer_alive(state, log)

    wanted = [launcher] * args.launcher + [server] * args.server
    if args.orchestrator:
        wanted += _orchestrator_logs(state, args.run_name)
    logs = [log for log in wanted if log.is_file()]
    for log in wanted:
        if log not in logs:
            echo(f"{log} does not exist", file=sys.stderr)
    print_logs(logs, is_written, args.motoko_runtime.clock, lines=args.lines)
    if not logs:
        raise SystemExit(1)


def _orchestrator_logs(state: StateDir, run_name: str | None) -> Sequence[Path]:
    from motoko.errors import MotokoError, suggestion
    from motoko.operations.orchestrator_process import log_file, log_files
    from motoko.orchestrator.run_ends import executions

    logs = log_files(state) if run_name is None else [log_file(state, run_name)]
    if any(log.is_file() for log in logs):
        return logs
    names = [name for name, one in executions(state).items() if one.log is not None]
    which = "" if run_name is None else f" of run name {run_name!r}"
    hint = "Only orchestrators in the background have one: `motoko run --detach`."
    if run_name is not None and names:
        hint = suggestion(run_name, names)
    raise MotokoError(f"no log of an orchestrator{which} exists", hint=hint)
