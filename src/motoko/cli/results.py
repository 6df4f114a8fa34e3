"""Show the runs of a study as a table, or write them as CSV, JSON or Parquet.

`motoko results solve` shows job parameters, state, fields and reasons in the terminal, failed runs
first. CSV, JSON and Parquet have all columns, in the order of the runs' ids. --columns chooses
columns by name. --sort y puts the smallest y first, --sort -y the largest; runs without y are last.

With --quantity there is a row for each step of each run.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    import argparse

HELP = "show the results of a study, or write them to a file"
ROWS = 1000  # runs in a table for the terminal


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    from motoko.cli import table_arguments
    from motoko.cli.selection_arguments import RUNS

    parser.add_argument("runs", metavar="STUDY", help=f"the study, or some of its runs: {RUNS}")
    parser.add_argument(
        "--where",
        "--constraints",
        dest="constraints",
        action="append",
        default=[],
        metavar="C",
        help="show runs that satisfy a constraint such as 'x > 2'; if repeated, all must hold",
    )
    parser.add_argument("--run_name", "-n", metavar="N", help="show runs of this run name only")
    parser.add_argument("--failed", action="store_true", help="show failed runs only")
    parser.add_argument(
        "--columns", action="append", type=_names, metavar="A,B", help="show these columns"
    )
    parser.add_argument(
        "--quantity",
        action="append",
        type=_names,
        metavar="Q",
        help="show the steps of this quantity; several are joined on the step",
    )
    parser.add_argument(
        "--sort", action="append", type=_names, metavar="[-]A", help="sort by this column"
    )
    parser.signed = ("--sort",)  # type: ignore[attr-defined]  # of cli.parser.Parser
    parser.add_argument(
        "--limit",
        type=_limit,
        metavar="N",
        help=f"show at most so many runs (default: {ROWS} in a table; 0: all)",
    )
    table_arguments.add_options(parser)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _limit(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError
    return number


_limit.__name__ = "number"  # argparse names it in errors


def _joined(lists: list[list[str]] | None) -> list[str] | None:
    return None if lists is None else [name for names in lists for name in names]


def execute(args: argparse.Namespace) -> None:
    """Print or write the table."""
    import contextlib
    import sys

    from motoko.cli.output import count_runs, echo
    from motoko.cli.table_arguments import (
        TABLE,
        check_output,
        format_of,
        garbage_collection_paused,
    )
    from motoko.cli.table_output import put_table
    from motoko.cli.workflow_arguments import open_workflow
    from motoko.operations.results import ResultsQuery, load_results

    is_table = format_of(args) == TABLE
    check_output(args)
    limit = (ROWS if is_table else 0) if args.limit is None else args.limit
    query = ResultsQuery(
        args.runs,
        args.constraints,
        args.run_name,
        failed=args.failed,
        columns=_joined(args.columns),
        quantities=_joined(args.quantity),
        sort=_joined(args.sort) or (),
        limit=limit or None,
        compact=is_table,
    )
    workflow = open_workflow(args, read_only=True, tolerant=True)
    with contextlib.closing(workflow), garbage_collection_paused():
        results = load_results(workflow, query)
        for warning in results.warnings:
            echo(f"warning: {warning}", file=sys.stderr)
        put_table(args, results.table, compact=is_table and args.columns is None)
    if results.left_out:
        echo(f"{count_runs(results.left_out)} left out (--limit 0 shows all)", file=sys.stderr)
