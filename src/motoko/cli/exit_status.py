"""What the exit status of a command says."""

from __future__ import annotations

OK = 0
ERROR = 1
USAGE = 2  # the command line, motoko.yaml, bd.yaml or the orchestrator's module is wrong
FAILED = 3  # runs ended badly and nothing handled it
STALLED = 4  # nothing can move any more
INTERRUPTED = 130  # Ctrl-C
BROKEN_PIPE = 141  # whoever read the output has gone


def of_signal(number: int) -> int:
    """Return the exit status of a command that a signal ended."""
    return 128 + number
