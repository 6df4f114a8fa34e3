"""Write a report of one run name: an HTML file that needs no server, no script and no network.

It shows progress, failures by cause, events, the flow between studies, and the runs, failed ones
first. It needs `motoko[web]`.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    import argparse

HELP = "write a report of one run name as an HTML file"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--run_name", "-n", required=True, metavar="N", help="the run name")
    parser.add_argument(
        "--output", "-o", metavar="FILE", help="the file to write (default: report-N.html)"
    )


def execute(args: argparse.Namespace) -> None:
    """Write the report, and print the name of its file."""
    import contextlib
    from pathlib import Path
    from urllib.parse import quote

    from motoko.cli.optional import required
    from motoko.cli.output import echo
    from motoko.cli.workflow_arguments import open_workflow

    write_report = required("report", "motoko.web.report", "write_report", extra="web")
    file = Path(args.output or f"report-{quote(args.run_name, safe='')}.html")
    with contextlib.closing(open_workflow(args, read_only=True, tolerant=True)) as workflow:
        write_report(workflow, args.run_name, file)
    echo(file)
