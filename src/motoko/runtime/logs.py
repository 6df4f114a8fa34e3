"""Log lines of daemons: bounded, without control characters, and none that forges another."""

from __future__ import annotations

import logging

from motoko.printable import indented

FORMAT = "%(asctime)s %(levelname)s %(message)s"


class SafeFormatter(logging.Formatter):
    """Formats a record so that only its first line begins at the margin."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line, and indented lines of a longer message or traceback."""
        return indented(super().format(record))


def log_to_stderr() -> None:
    """Log to standard error: Motoko's own lines from INFO on, others from WARNING on."""
    handler = logging.StreamHandler()
    handler.setFormatter(SafeFormatter(FORMAT))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("motoko").setLevel(logging.INFO)
