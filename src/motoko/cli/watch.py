"""Watch a run name in the terminal: progress, runs, events, failures, and what needs you.

  motoko watch                    the run name that is running, or the one that ended last
  motoko watch --run_name second

Keys 1 to 4 show the screens, Enter opens the row under the cursor, Esc returns, q quits, ? lists
all keys. Failed runs are retried (r), others cancelled (c), held (h) or released (u): each command
first shows its effect, and the equal command line.

The screens only read: quit, kill or stop this command at any time. It works over ssh, in tmux,
without colour (NO_COLOR), and in ASCII if the locale is not UTF-8. It needs `motoko[tui]`.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from motoko.api.workflow import Workflow

HELP = "watch the workflow on a screen, and act on its runs"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--run_name",
        "-n",
        metavar="N",
        help="the run name to watch (default: the one that is running, or the latest)",
    )


def execute(args: argparse.Namespace) -> int:
    """Show the screens until the user quits."""
    import contextlib

    from motoko.tui.run_app import require_terminal, require_textual, run_app

    require_textual()
    require_terminal()
    from motoko.cli.workflow_arguments import open_workflow
    from motoko.errors import MotokoError
    from motoko.launcher.services import Services
    from motoko.views.live import LiveViews
    from motoko.views.run_names import latest_run_name

    views = LiveViews(lambda: open_workflow(args, read_only=True, tolerant=True))

    @contextlib.contextmanager
    def open_writer() -> Iterator[Workflow]:
        workflow = open_workflow(args)
        with Services(workflow, temporary=True):
            yield workflow

    run_name = args.run_name or latest_run_name(views.connection)
    if not run_name:
        raise MotokoError(
            "this workflow has no runs yet", hint="Start it with `motoko run --run_name NAME`."
        )
    return run_app(views, open_writer, run_name)
