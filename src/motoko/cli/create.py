"""Make the workflow's database, new and empty."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from motoko.cli.output import say

if TYPE_CHECKING:
    import argparse

    from motoko.api.workflow import Workflow

HELP = "make the workflow's database, new and empty"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("directory", nargs="?", metavar="DIR", help="the workflow's directory")
    parser.add_argument(
        "--validated", action="store_true", help="delete the results that there are, unasked"
    )


def execute(args: argparse.Namespace) -> int:
    """Create the database; results go only if the user said so."""
    from motoko.cli import exit_status
    from motoko.cli.workflow_arguments import open_workflow
    from motoko.operations.shutdown import check_idle
    from motoko.server.lifecycle import stop_server

    args.workflow_dir = args.directory or args.workflow_dir
    workflow = open_workflow(args)
    state = workflow.store.state
    replace = args.validated or _agreed(workflow)
    if replace and state.database.exists():
        check_idle(workflow.store)
    workflow.close()
    workflow.create(validated=replace)
    stop_server(state)  # whoever needs it starts it
    say(f"created {state.database}")
    return exit_status.OK


def _agreed(workflow: Workflow) -> bool:
    """Ask whether results may go, where there are some and somebody to ask."""
    if not workflow.store.state.database.exists() or not sys.stdin.isatty():
        return False
    say(f"{workflow.directory} has results already.", file=sys.stderr)
    say("Delete them? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
