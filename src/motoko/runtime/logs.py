"""Format log lines of daemons: bounded, without control characters, unforgeable."""

from __future__ import annotations

import logging

from motoko.printable import indented

FORMAT = "%(asctime)s %(levelname)s %(message)s"


class SafeFormatter(logging.Formatter):
    """Indent all lines of a record but its first."""

    def format(self, record: logging.LogRecord) -> str:
        """Format the record; indent further lines of its message or traceback."""
        return indented(super().format(record))


def log_to_stderr() -> None:
    """Log to standard error: Motoko from INFO, other packages from WARNING."""
    handler = logging.StreamHandler()
    handler.setFormatter(SafeFormatter(FORMAT))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("motoko").setLevel(logging.INFO)
