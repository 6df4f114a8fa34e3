"""Motoko's log on the terminal, and the logs of what runs in the background."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

LOOK: Final = 0.2  # seconds


class _ToStderr(logging.Handler):
    """Writes to what is ``sys.stderr`` by then: a live display puts itself in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr, flush=True)


def show(level: int) -> None:
    """Show Motoko's log lines from this level on, on standard error."""
    handler = _ToStderr()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    logger = logging.getLogger("motoko")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(level)


def print_logs(logs: Sequence[Path], grows: Callable[[Path], bool]) -> None:
    """Print logs, and go on while ``grows`` says that one of them is still written."""
    readers = [_reader(log, title=len(logs) > 1) for log in logs]
    while True:
        # Asked before reading, so that the last words of a writer that has ended are read.
        growing = [log for log in logs if grows(log)]
        for read in readers:
            read()
        if not growing:
            return
        time.sleep(LOOK)


def _reader(log: Path, *, title: bool) -> Callable[[], None]:
    position = 0

    def read() -> None:
        nonlocal position
        with log.open("rb") as file:
            file.seek(position)
            content = file.read()
        position += len(content)
        if content:
            if title:
                print(f"==> {log} <==")
            sys.stdout.write(content.decode(errors="replace"))
            sys.stdout.flush()

    return read
