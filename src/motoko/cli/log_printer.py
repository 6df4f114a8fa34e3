"""Print logs and output of runs: their ends, then additions while they grow."""

from __future__ import annotations

import codecs
import sys
from typing import TYPE_CHECKING, Final

from motoko.cli.output import echo
from motoko.printable import LINE_LIMIT, printable
from motoko.runtime.file_tail import read_addition, tail_position
from motoko.runtime.untrusted_files import stat_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from motoko.runtime.ports import Clock

POLL_INTERVAL: Final = 0.2  # seconds


class LogPrinter:
    """Prints parts of several logs line by line, however long the lines are.

    With ``titles``, a heading names the log whenever it is another one than before.
    """

    def __init__(self, *, titles: bool) -> None:
        self._titles = titles
        self._current: str | None = None
        self._decoders: dict[str, codecs.IncrementalDecoder] = {}
        self._columns: dict[str, int] = {}  # characters of the current line so far

    def show(self, name: str, data: bytes) -> None:
        """Print a part of the log ``name``."""
        if not data:
            return
        if name not in self._decoders:
            self._decoders[name] = codecs.getincrementaldecoder("utf-8")("replace")
            self._columns[name] = 0
        if name != self._current:
            self._end_line()
            if self._titles:
                echo(f"==> {name} <==")
            self._current = name
        self._print(name, self._decoders[name].decode(data))

    def note(self, text: str) -> None:
        """Print a note about a log on standard error."""
        self._end_line()
        sys.stdout.flush()
        echo(text, file=sys.stderr, flush=True)

    def _end_line(self) -> None:
        if self._current is not None and self._columns[self._current]:
            sys.stdout.write("\n")
            self._columns[self._current] = 0

    def _print(self, name: str, text: str) -> None:
        column = self._columns[name]
        for number, part in enumerate(text.split("\n")):
            if number:
                sys.stdout.write("\n")
                column = 0
            room = LINE_LIMIT - column
            if room > 0:
                sys.stdout.write(printable(part[:room]))
                if len(part) > room:
                    sys.stdout.write("... (the line is longer)")
            column += len(part)
        self._columns[name] = column


def print_logs(
    logs: Sequence[Path],
    is_written: Callable[[Path], bool],
    clock: Clock,
    *,
    lines: int | None = None,
) -> None:
    """Print the ends of logs, then additions while ``is_written`` holds for one of them.

    ``lines``: the number of lines of the end, by default as many as are in a megabyte.
    """
    printer = LogPrinter(titles=len(logs) > 1)
    positions = {log: tail_position(log, lines) for log in logs}
    for log, position in positions.items():
        if position and lines is None:
            shown = stat_file(log).size - position
            printer.note(f"... (the last {shown:,} bytes of {log})")
    while True:
        # Evaluated before reading, so that the last lines of a writer that exited are read.
        growing = [log for log in logs if is_written(log)]
        for log in logs:
            positions[log] = _show_new(printer, log, positions[log])
        sys.stdout.flush()
        if not growing:
            return
        clock.sleep(POLL_INTERVAL)


def _show_new(printer: LogPrinter, log: Path, position: int) -> int:
    while (found := read_addition(log, position)).data:
        if found.truncated:
            printer.note(f"... ({log} was truncated)")
        printer.show(str(log), found.data)
        position = found.position
    return found.position
