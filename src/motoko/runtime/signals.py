"""The signal settings that a process inherits: which signals are ignored and which are blocked.

Both pass through ``exec``. A shell ignores SIGINT for what it runs with ``&``, ``nohup`` ignores
SIGHUP, and a parent that ignores SIGCHLD takes the exit statuses of the children away.
"""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

# Python ignores these itself, so that a broken pipe is an exception.
OF_PYTHON: Final = frozenset({signal.SIGPIPE, signal.SIGXFSZ})
# Nobody can change what these do.
FIXED: Final = frozenset({signal.SIGKILL, signal.SIGSTOP})
# What Motoko's commands rely on: the statuses of children, and the request to end of `motoko kill`.
NEEDED: Final = frozenset({signal.SIGCHLD, signal.SIGTERM})


def changeable() -> frozenset[int]:
    """Return all signals that a process may handle."""
    return frozenset(signal.valid_signals()) - FIXED


def reset_all() -> None:
    """Give every signal its default action and unblock it, whatever the parent process set."""
    _reset(changeable() - OF_PYTHON)


def reset_needed() -> None:
    """Reset what a command relies on; SIGINT and SIGHUP stay ignored if the parent ignores them.

    Do nothing outside the main thread, where Python cannot change handlers.
    """
    if threading.current_thread() is threading.main_thread():
        _reset(NEEDED)


def _reset(numbers: Iterable[int]) -> None:
    for number in numbers:
        if signal.getsignal(number) is signal.SIG_IGN:
            default = number == signal.SIGINT
            signal.signal(number, signal.default_int_handler if default else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
