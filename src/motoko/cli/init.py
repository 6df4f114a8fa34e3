"""Write a small workflow that runs: two studies, and an orchestrator that joins them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from motoko.cli.output import say

if TYPE_CHECKING:
    import argparse

HELP = "write a small workflow that runs"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("directory", nargs="?", default=".", metavar="DIR", help="by default here")


def execute(args: argparse.Namespace) -> int:
    """Write the files and say what to do next."""
    from pathlib import Path

    from motoko.cli import exit_status
    from motoko.operations.workflow_template import write_workflow

    directory = Path(args.directory)
    for name in write_workflow(directory):
        say(directory / name)
    if directory.resolve() == Path.cwd():
        say("Run it: motoko run --run_name first")
    else:
        from shlex import quote

        say(f"Run it: cd {quote(str(directory))} && motoko run --run_name first")
    return exit_status.OK
