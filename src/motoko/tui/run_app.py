"""Start the application, and leave the terminal as it was whatever ends it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

from motoko.errors import MotokoError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from motoko.api.workflow import Workflow
    from motoko.views.live import LiveViews

CLOSING: Final = 1.0  # seconds for the end of what threads do
SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def require_terminal() -> None:
    """Raise MotokoError if the command has no terminal that can show screens."""
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise MotokoError(
            "motoko watch needs a terminal",
            hint="`motoko info` and `motoko why` print the same facts.",
        )
    if os.environ.get("TERM", "") in ("", "dumb"):
        raise MotokoError(
            "the terminal cannot move its cursor (TERM is not set, or dumb)",
            hint="Set TERM, or use `motoko info`.",
        )


def require_textual() -> None:
    """Raise MotokoError if Textual is not installed."""
    try:
        import textual  # noqa: F401
    except ImportError as error:
        raise MotokoError(
            "watch needs textual, which is not installed", hint="pip install 'motoko[tui]'"
        ) from error


def run_app(
    views: LiveViews,
    open_writer: Callable[[], AbstractContextManager[Workflow]],
    run_name: str,
) -> int:
    """Show the screens until the user quits or a signal arrives; return the exit status."""
    from motoko.tui.app import WatchApp
    from motoko.tui.signs import signs_for

    app = WatchApp(views, open_writer, run_name, signs_for(os.environ), SIGNALS)
    loop = asyncio.new_event_loop()
    status = loop.run_until_complete(app.run_async())
    closed = loop.create_task(views.close())
    loop.run_until_complete(asyncio.wait({closed}, timeout=CLOSING))
    status = 1 if status is None else status
    if not closed.done():  # a thread waits for a server that does not answer
        sys.stdout.flush()
        os._exit(status)
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    return status
