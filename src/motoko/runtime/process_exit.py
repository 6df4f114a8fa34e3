"""Wait for the exit of processes that are not children."""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING, Final

from motoko.runtime.processes import is_alive

if TYPE_CHECKING:
    from collections.abc import Iterable

    from motoko.runtime.processes import ProcessIdentity

POLL_SECONDS: Final = 0.25  # if the system cannot report an exit, or the process is elsewhere


def wait_for_an_exit(processes: Iterable[ProcessIdentity], seconds: float) -> None:
    """Block until one of these processes exits, for at most ``seconds``.

    The function may return earlier: check the condition again, and call it again.
    """
    opened: list[int] = []
    poll = select.poll()
    try:
        for process in processes:
            descriptor = _open(process)
            if descriptor is None:
                seconds = min(seconds, POLL_SECONDS)
            else:
                opened.append(descriptor)
                poll.register(descriptor, select.POLLIN)
        if opened:
            poll.poll(max(0.0, seconds) * 1000)
        else:
            time.sleep(max(0.0, seconds))
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _open(process: ProcessIdentity) -> int | None:
    """Return a descriptor of a living process, None if it exited or is not visible."""
    try:
        descriptor = os.pidfd_open(process.pid)  # Linux 5.3
    except (AttributeError, OSError):
        return None
    if is_alive(process):
        return descriptor
    os.close(descriptor)
    return None
