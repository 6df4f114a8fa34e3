"""Query the runs of studies in SQL, as DuckDB understands it.

  motoko sql "select x, avg(y) from solve where state = 'FINISHED' group by x"

Each study is a table of its runs, of all run names, with the columns of `motoko results --format
csv`. Column names with a dot and words that SQL reserves need double quotes: "jobs.x", "order".
Times are in UTC. Lists of numbers are lists, other nested values are JSON text.

A query reads nothing but these tables: no file and no network. It changes nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    import argparse

HELP = "query the results of studies in SQL"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    from motoko.cli import table_arguments

    parser.add_argument("query", metavar="QUERY", help="the query, as one argument")
    parser.add_argument("--run_name", "-n", metavar="N", help="read runs of this run name only")
    table_arguments.add_options(parser)


def execute(args: argparse.Namespace) -> None:
    """Print or write the result."""
    import contextlib

    from motoko.cli.table_arguments import check_output, format_of, garbage_collection_paused
    from motoko.cli.table_output import put_table
    from motoko.cli.workflow_arguments import open_workflow
    from motoko.operations.sql import query_runs

    format_of(args)
    check_output(args)
    workflow = open_workflow(args, read_only=True, tolerant=True)
    with contextlib.closing(workflow), garbage_collection_paused():
        put_table(args, query_runs(workflow, args.query, args.run_name))
