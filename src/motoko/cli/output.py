"""The output of commands, made safe for a terminal, and their exit statuses."""

from __future__ import annotations

import sys

from motoko.errors import ExitStatus
from motoko.printable import count_runs, printable

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["ExitStatus", "count_runs", "echo"]


def echo(text: object, *, file: TextIO | None = None, end: str = "\n", flush: bool = False) -> None:
    """Print a text to ``file``, by default standard output, without control characters."""
    print(printable(str(text)), file=sys.stdout if file is None else file, end=end, flush=flush)


def size_text(size: int) -> str:
    """Return a number of bytes as ``12 bytes``, ``3.4 kB`` or ``1,200.0 GB``."""
    if size < 1000:
        return f"{size} byte" if size == 1 else f"{size} bytes"
    number, unit = size / 1000, "kB"
    for larger in ("MB", "GB"):
        if number >= 1000:
            number, unit = number / 1000, larger
    return f"{number:,.1f} {unit}"
