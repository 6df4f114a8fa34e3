"""The outside world as interfaces: clock, random numbers and processes.

One composition root per kind of process builds a :class:`Runtime` and passes it on. Tests and
simulations pass their own.
"""

from __future__ import annotations

import functools
import os
import random
import secrets
import subprocess
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class Clock(Protocol):
    """Reads times, in seconds, and lets threads sleep."""

    def now(self) -> float:
        """Return the time of day since the epoch. It may jump."""

    def uptime(self) -> float:
        """Return the time since the machine was booted, suspended time included."""

    def monotonic(self) -> float:
        """Return a time that never jumps, comparable within this process only."""

    def sleep(self, seconds: float) -> None:
        """Block the calling thread."""


class Random(Protocol):
    """Draws random numbers."""

    def uniform(self, low: float, high: float) -> float:
        """Return a number between ``low`` and ``high``."""

    def token(self, size: int) -> str:
        """Return ``size`` random bytes in hexadecimal."""


class Processes(Protocol):
    """Starts programs and signals processes."""

    def run(
        self, arguments: Sequence[str | Path], *, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a program to its end and return its status and output; raise OSError."""

    def signal_group(self, group: int, number: int) -> None:
        """Signal a process group; raise OSError."""


COMMAND_SECONDS: Final = 15.0
AGREEMENT_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The output of a scheduler's command. ``status`` is None if it has no exit status.

    ``problem`` says why the output is incomplete, None if it is complete. ``not_found``: the
    program does not exist or is not executable.
    """

    status: int | None
    stdout: str = ""
    stderr: str = ""
    problem: str | None = None
    not_found: bool = False

    @property
    def succeeded(self) -> bool:
        """Whether the command did its work."""
        return self.status == 0 and self.problem is None


class CommandRunner(Protocol):
    """Runs a scheduler's programs."""

    async def run(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        directory: str | None = None,
        seconds: float = COMMAND_SECONDS,
    ) -> CommandResult:
        """Run a command in ``directory`` for at most ``seconds``, and return its output."""


def uptime() -> float:
    """Return the seconds since the boot, on the clock of ``/proc/PID/stat``.

    Fall back to another clock that does not jump.
    """
    if _uptime_file_is_true() and not _boot_clock_agrees():
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
def _boot_clock_agrees() -> bool:
    """Return whether the clock of the system call, which is faster to read, shows the same."""
    try:
        return abs(time.clock_gettime(time.CLOCK_BOOTTIME) - _uptime_file()) < AGREEMENT_SECONDS
    except (AttributeError, OSError):
        return False


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


def utc_text(epoch: float) -> str:
    """Return ``epoch`` for the user: ISO 8601 in UTC, to the second."""
    return utc(epoch).isoformat(timespec="seconds")


class SystemClock:
    """The machine's clocks.

    The time of day is for people, and may jump. Durations and deadlines follow the time since the
    boot, which all processes of a machine share.
    """

    def now(self) -> float:
        """Return the time of day since the epoch. It may jump."""
        return time.time()

    def uptime(self) -> float:
        """Return the time since the machine was booted, suspended time included."""
        return uptime()

    def monotonic(self) -> float:
        """Return a time that never jumps, comparable within this process only."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Block the calling thread."""
        time.sleep(seconds)


class SystemRandom:
    """Random numbers of the interpreter and of the operating system."""

    def uniform(self, low: float, high: float) -> float:
        """Return a number between ``low`` and ``high``."""
        return random.uniform(low, high)

    def token(self, size: int) -> str:
        """Return ``size`` random bytes in hexadecimal."""
        return secrets.token_hex(size)


class SystemProcesses:
    """The processes of this machine."""

    def run(
        self, arguments: Sequence[str | Path], *, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a program to its end and return its status and output; raise OSError."""
        return subprocess.run(arguments, input=stdin, capture_output=True, check=False)

    def signal_group(self, group: int, number: int) -> None:
        """Signal a process group; raise OSError."""
        os.killpg(group, number)


@dataclass(frozen=True, slots=True)
class Runtime:
    """The ports that a process works through."""

    clock: Clock = field(default_factory=SystemClock)
    rng: Random = field(default_factory=SystemRandom)
    processes: Processes = field(default_factory=SystemProcesses)


SYSTEM: Final[Runtime] = Runtime()
