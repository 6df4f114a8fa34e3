"""Restart the launcher of a ``motoko run`` when its process has exited."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Final

from motoko.errors import LauncherError, MotokoError
from motoko.runtime.daemons import read_tail
from motoko.runtime.ports import SYSTEM
from motoko.runtime.processes import Liveness, liveness

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from motoko.runtime.ports import Clock
    from motoko.runtime.processes import ProcessIdentity

RESTART_INTERVAL: Final = 3.0  # seconds between two starts, at least
SHORT_LIFE: Final = 60.0  # seconds; a launcher that ran longer did some work
MAX_RESTARTS: Final = 5  # in a row, of launchers with a short life
# The start of a line in the daemon's log; any other line continues the one before.
_LINE: Final = re.compile(r"\d{4}-\d\d-\d\d [\d:,]+ ([A-Z]+) (.*)")

logger = logging.getLogger("motoko.operations")


class LauncherSupervisor:
    """Restarts a launcher. ``start`` starts a launcher that logs to ``log``, or finds one."""

    def __init__(
        self,
        process: ProcessIdentity,
        start: Callable[[], ProcessIdentity],
        log: Path,
        *,
        clock: Clock = SYSTEM.clock,
    ) -> None:
        self._process = process
        self._start = start
        self._log = log
        self._clock = clock
        self._started = clock.monotonic()
        self._short_lives = 0
        self._log_offset = 0
        self._start_failure: str | None = None  # the message of the last failed start

    def check(self) -> None:
        """Start the launcher again if its process has exited. Blocks.

        Raise LauncherError, with the last error in the log, after repeated exits, or if the start
        fails for the same reason as the exit, such as a full disk.
        """
        now = self._clock.monotonic()
        found = liveness(self._process)
        if found is Liveness.ALIVE or now - self._started < RESTART_INTERVAL:
            return
        if found is Liveness.UNKNOWN:  # in another container: starting it finds it
            self._process, self._started = self._start(), now
            return
        self._short_lives = self._short_lives + 1 if now - self._started < SHORT_LIFE else 1
        lines = read_tail(self._log, self._log_offset) if self._log.exists() else []
        reason = last_error([line for line in lines if line.strip()])
        if self._short_lives > MAX_RESTARTS:
            last = self._start_failure or reason or "its log gives no reason"
            raise LauncherError(
                f"the launcher exited {MAX_RESTARTS + 1} times in a row: {last}",
                hint=f"Its log is {self._log}.",
            )
        self._started = now
        self._log_offset = self._log.stat().st_size if self._log.exists() else 0
        self._restart(reason)

    def _restart(self, reason: str | None) -> None:
        why = "" if reason is None else f": {reason}"
        try:
            self._process = self._start()
        except MotokoError as error:
            if error.message in (reason, self._start_failure):
                raise LauncherError(
                    f"the launcher cannot continue: {error.message}", hint=error.hint
                ) from error
            self._start_failure = error.message
            logger.warning(
                "the launcher exited%s (log: %s), and could not be restarted: %s",
                why, self._log, error.message,
            )  # fmt: skip
        else:
            self._start_failure = None
            logger.warning("the launcher exited%s (log: %s); it was restarted", why, self._log)


def last_error(lines: Sequence[str]) -> str | None:
    """Return the error that a launcher's log ends with, None if it does not end with one."""
    for number, line in reversed(list(enumerate(lines))):
        match = _LINE.match(line)
        if match is None:
            continue
        if match[1] in ("ERROR", "CRITICAL"):
            return match[2]
        crashed = number < len(lines) - 1  # with a traceback, which ends with the exception
        return lines[-1] if crashed else None
    return lines[-1] if lines else None
