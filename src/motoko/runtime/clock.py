"""Read the clocks of the machine.

The time of day is for people, and may jump. Durations and deadlines follow the time since the boot,
which all processes of a machine share.
"""

from __future__ import annotations

import functools
import os
import time
from datetime import UTC, datetime


def uptime() -> float:
    """Return the seconds since the boot, on the clock of ``/proc/PID/stat``.

    Fall back to another clock that does not jump.
    """
    if _uptime_file_is_true():
        return _uptime_file()
    try:
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    except (AttributeError, OSError):
        return time.monotonic()


def process_age(started: int) -> float:
    """Return the age of a process in seconds, from field 22 of its ``/proc/PID/stat``."""
    return uptime() - started / os.sysconf("SC_CLK_TCK")


def _uptime_file() -> float:
    with open("/proc/uptime", "rb") as file:
        return float(file.read(64).split()[0])


@functools.cache
def _uptime_file_is_true() -> bool:
    # In some containers the file counts from the start of the container. This process then seems
    # to start in the future.
    try:
        with open("/proc/self/stat", "rb") as file:
            stat = file.read(4096)
        started = int(stat[stat.rindex(b")") + 2 :].split()[19]) / os.sysconf("SC_CLK_TCK")
        return started <= _uptime_file() + 1.0
    except (OSError, ValueError, IndexError):
        return False


def utc(epoch: float) -> datetime:
    """Return ``epoch``, in seconds, as an aware time in UTC."""
    return datetime.fromtimestamp(epoch, UTC)
