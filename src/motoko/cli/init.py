"""Write a small example workflow: two studies, and an orchestrator that connects them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from motoko.cli.output import echo

if TYPE_CHECKING:
    import argparse

HELP = "write a small example workflow"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "directory", nargs="?", default=".", metavar="DIR", help="where to write it (default: here)"
    )


def execute(args: argparse.Namespace) -> None:
    """Write the files, and print the command to run next."""
    from pathlib import Path
    from shlex import quote

    from motoko.operations.workflow_template import write_workflow

    directory = Path(args.directory)
    for name in write_workflow(directory):
        echo(directory / name)
    cd = "" if directory.resolve() == Path.cwd() else f"cd {quote(str(directory))} && "
    echo(f"Run it: {cd}motoko run --run_name first")
