"""Motoko's log on the terminal, and the logs of what runs in the background."""

from __future__ import annotations

import codecs
import logging
import sys
import time
from typing import TYPE_CHECKING, Final

from motoko.cli.output import say
from motoko.printable import LINE_LIMIT, printable
from motoko.runtime.logs import SafeFormatter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

LOOK: Final = 0.2  # seconds
SHOWN_BYTES: Final = 1_000_000  # of the end of a log that exists already
CHUNK: Final = 65_536  # bytes read at once


class _ToStderr(logging.Handler):
    """Writes to what is ``sys.stderr`` by then: a live display puts itself in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record), file=sys.stderr, flush=True)


def show(level: int) -> None:
    """Show Motoko's log lines from this level on, on standard error."""
    handler = _ToStderr()
    handler.setFormatter(SafeFormatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    logger = logging.getLogger("motoko")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(level)


def print_logs(logs: Sequence[Path], grows: Callable[[Path], bool]) -> None:
    """Print the ends of logs, then what is added while ``grows`` says that one is still written."""
    readers = [_Reader(log, title=len(logs) > 1) for log in logs]
    while True:
        # Asked before reading, so that the last words of a writer that has ended are read.
        growing = [log for log in logs if grows(log)]
        for reader in readers:
            reader.show_new()
        if not growing:
            return
        time.sleep(LOOK)


class _Reader:
    """Shows what is added to a log, line by line, however long the lines are."""

    def __init__(self, log: Path, *, title: bool) -> None:
        self._log = log
        self._title = title
        self._position = max(0, log.stat().st_size - SHOWN_BYTES)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._column = 0  # characters of the current line so far
        if self._position:
            say(f"... (the last {SHOWN_BYTES:,} bytes of {log})")

    def show_new(self) -> None:
        """Show what was added since the last call."""
        titled = not self._title
        with self._log.open("rb") as file:
            file.seek(self._position)
            while content := file.read(CHUNK):
                self._position += len(content)
                if not titled:
                    say(f"==> {self._log} <==")
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
