"""Create an empty database for the workflow.

Existing results are deleted only after a confirmation. Existing run directories are moved aside.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from motoko.cli.output import echo

if TYPE_CHECKING:
    import argparse

    from motoko.api.workflow import Workflow

HELP = "create an empty database for the workflow"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("directory", nargs="?", metavar="DIR", help="the workflow's directory")
    parser.add_argument(
        "--validated", action="store_true", help="delete existing results without confirmation"
    )


def execute(args: argparse.Namespace) -> None:
    """Create the database; delete results only with the user's consent."""
    from motoko.cli.workflow_arguments import open_workflow
    from motoko.operations.usage import check_not_in_use
    from motoko.server.lifecycle import stop_server

    args.workflow_dir = args.directory or args.workflow_dir
    workflow = open_workflow(args)
    state = workflow.store.state
    replace = args.validated or _confirmed(workflow)
    if replace and state.database.exists():
        check_not_in_use(state)
    workflow.close()
    workflow.create(validated=replace)
    stop_server(state)  # the next command that needs it starts it
    echo(f"created {state.database}")


def _confirmed(workflow: Workflow) -> bool:
    """Ask for consent, if results exist and the input is a terminal."""
    if not workflow.store.state.database.exists() or not sys.stdin.isatty():
        return False
    echo(f"{workflow.directory} already has results.", file=sys.stderr)
    echo("Delete them? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
