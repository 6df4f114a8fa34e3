"""Motoko's log on the terminal, and the log files of background processes."""

from __future__ import annotations

import codecs
import logging
import sys
from typing import TYPE_CHECKING, Final

from motoko.cli.output import echo
from motoko.printable import LINE_LIMIT, printable
from motoko.runtime.logs import SafeFormatter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from motoko.runtime.ports import Clock

POLL_INTERVAL: Final = 0.2  # seconds
SHOWN_BYTES: Final = 1_000_000  # of the end of an existing log
CHUNK: Final = 65_536  # bytes per read


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


def print_logs(logs: Sequence[Path], is_written: Callable[[Path], bool], clock: Clock) -> None:
    """Print the ends of logs, then additions while ``is_written`` holds for one of them."""
    readers = [_Reader(log, title=len(logs) > 1) for log in logs]
    while True:
        # Evaluated before reading, so that the last lines of a writer that exited are read.
        growing = [log for log in logs if is_written(log)]
        for reader in readers:
            reader.show_new()
        if not growing:
            return
        clock.sleep(POLL_INTERVAL)


class _Reader:
    """Prints additions to a log line by line, however long the lines are."""

    def __init__(self, log: Path, *, title: bool) -> None:
        self._log = log
        self._title = title
        self._position = max(0, log.stat().st_size - SHOWN_BYTES)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._column = 0  # characters of the current line so far
        if self._position:
            echo(f"... (the last {SHOWN_BYTES:,} bytes of {log})")

    def show_new(self) -> None:
        """Print the additions since the last call."""
        titled = not self._title
        with self._log.open("rb") as file:
            file.seek(self._position)
            while content := file.read(CHUNK):
                self._position += len(content)
                if not titled:
                    echo(f"==> {self._log} <==")
                    titled = True
                self._show(self._decoder.decode(content))
        sys.stdout.flush()

    def _show(self, text: str) -> None:
        for number, part in enumerate(text.split("\n")):
            if number:
                sys.stdout.write("\n")
                self._column = 0
            room = LINE_LIMIT - self._column
            if room > 0:
                sys.stdout.write(printable(part[:room]))
                if len(part) > room:
                    sys.stdout.write("... (the line is longer)")
            self._column += len(part)
