"""Reset the signal settings that a process inherits: ignored and blocked signals.

Both survive ``exec``. A shell ignores SIGINT for commands started with ``&``, ``nohup`` ignores
SIGHUP, and a parent that ignores SIGCHLD loses the exit statuses of its children.
"""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

# Python ignores these, and raises an exception for a broken pipe.
IGNORED_BY_PYTHON: Final = frozenset({signal.SIGPIPE, signal.SIGXFSZ})
UNCHANGEABLE: Final = frozenset({signal.SIGKILL, signal.SIGSTOP})
# Motoko needs the exit statuses of children, and the TERM that `motoko kill` sends.
REQUIRED: Final = frozenset({signal.SIGCHLD, signal.SIGTERM})


def changeable_signals() -> frozenset[int]:
    """Return all signals that a process can handle."""
    return frozenset(signal.valid_signals()) - UNCHANGEABLE


def reset_all() -> None:
    """Unblock every signal and restore its default action."""
    _reset(changeable_signals() - IGNORED_BY_PYTHON)


def reset_required() -> None:
    """Reset the signals that commands need; leave SIGINT and SIGHUP ignored if they are.

    Do nothing outside the main thread, where Python cannot change handlers.
    """
    if threading.current_thread() is threading.main_thread():
        _reset(REQUIRED)


def _reset(numbers: Iterable[int]) -> None:
    for number in numbers:
        if signal.getsignal(number) is signal.SIG_IGN:
            default = number == signal.SIGINT
            signal.signal(number, signal.default_int_handler if default else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
