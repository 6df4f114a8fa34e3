"""Motoko's own log records on the terminal."""

from __future__ import annotations

import logging
import sys

from motoko.cli.output import echo
from motoko.runtime.logs import SafeFormatter


class _StderrHandler(logging.Handler):
    """Writes to the current ``sys.stderr``, which a live display replaces."""

    def emit(self, record: logging.LogRecord) -> None:
        echo(self.format(record), file=sys.stderr, flush=True)


def show_log(level: int) -> None:
    """Show Motoko's log records of at least this level on standard error."""
    handler = _StderrHandler()
    handler.setFormatter(SafeFormatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    logger = logging.getLogger("motoko")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(level)
