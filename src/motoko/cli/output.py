"""The output of commands, made safe for a terminal, and their exit statuses."""

from __future__ import annotations

import sys
from enum import IntEnum

from motoko.printable import printable

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from typing import TextIO


class ExitStatus(IntEnum):
    """The exit status of a command; after a signal it is 128 + the signal's number."""

    OK = 0
    ERROR = 1
    USAGE = 2  # invalid arguments, motoko.yaml, bd.yaml or orchestrator module
    FAILED = 3  # a failed run was not handled
    STALLED = 4  # no run can change state
    INTERRUPTED = 130  # Ctrl-C
    BROKEN_PIPE = 141  # the reader of the output exited


def echo(text: object, *, file: TextIO | None = None, end: str = "\n", flush: bool = False) -> None:
    """Print a text to ``file``, by default standard output, without control characters."""
    print(printable(str(text)), file=sys.stdout if file is None else file, end=end, flush=flush)


def count_runs(number: int) -> str:
    """Return ``1 run`` or ``7 runs``."""
    return f"{number} run" if number == 1 else f"{number} runs"
