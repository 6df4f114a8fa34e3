"""Looking after the launcher of a ``motoko run``: one that has ended is started again."""

from __future__ import annotations

import logging
import re
import time
from typing import TYPE_CHECKING, Final

from motoko.errors import LauncherError, MotokoError
from motoko.runtime.processes import Liveness, liveness

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from motoko.runtime.processes import ProcessIdentity

PAUSE: Final = 3.0  # seconds between two starts, at least
QUICK: Final = 60.0  # a launcher that lived longer than so many seconds did some work
MOST: Final = 5  # starts in a row of launchers that end quickly
TAIL_BYTES: Final = 8192
# How the daemon's log lines begin; what does not begin so belongs to the line before.
_LINE: Final = re.compile(r"\d{4}-\d\d-\d\d [\d:,]+ ([A-Z]+) (.*)")

logger = logging.getLogger("motoko.operations")


class LauncherSupervisor:
    """Knows the launcher's process. ``start`` starts a launcher that logs to ``log``, or finds one.

    ``clock`` gives seconds.
    """

    def __init__(
        self,
        process: ProcessIdentity,
        start: Callable[[], ProcessIdentity],
        log: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._process = process
        self._start = start
        self._log = log
        self._clock = clock
        self._started = clock()
        self._quick = 0
        self._read = 0
        self._words: str | None = None  # why it could not be started, the last time

    def look(self) -> None:
        """Start the launcher again if it has ended. Blocks.

        LauncherError, with its last words, where that was of no use several times in a row, or
        where it cannot be started for the reason for which it ended, as on a full disk.
        """
        now = self._clock()
        found = liveness(self._process)
        if found is Liveness.ALIVE or now - self._started < PAUSE:
            return
        if found is Liveness.UNKNOWN:  # in another container: whoever starts one finds it
            self._process, self._started = self._start(), now
            return
        self._quick = self._quick + 1 if now - self._started < QUICK else 1
        if self._quick > MOST:
            last = self._words or report_restarts(self._new_lines()) or "it does not say why"
            raise LauncherError(
                f"the launcher ended again and again: {last}", hint=f"Its log is {self._log}."
            )
        self._started = now
        words = report_restarts(self._new_lines())
        self._read = self._size()
        why = "" if words is None else f": {words}"
        try:
            self._process = self._start()
        except MotokoError as error:
            if error.message in (words, self._words):
                raise LauncherError(
                    f"the launcher cannot go on: {error.message}", hint=error.hint
                ) from error
            self._words = error.message
            logger.warning(
                "the launcher has ended%s (log: %s), and could not be started again: %s",
                why, self._log, error.message,
            )  # fmt: skip
        else:
            self._words = None
            logger.warning(
                "the launcher has ended%s (log: %s); it was started again", why, self._log
            )

    def _size(self) -> int:
        return self._log.stat().st_size if self._log.exists() else 0

    def _new_lines(self) -> list[str]:
        return _tail(self._log, self._read)


def report_restarts(lines: list[str]) -> str | None:
    """Return the error that a launcher's log ends with, None if it does not end with one."""
    for number, line in reversed(list(enumerate(lines))):
        match = _LINE.match(line)
        if match is None:
            continue
        if match[1] in ("ERROR", "CRITICAL"):
            return match[2]
        crashed = number < len(lines) - 1  # a traceback, of which the last line says what it is
        return lines[-1] if crashed else None
    return lines[-1] if lines else None


def _tail(log: Path, start: int) -> list[str]:
    if not log.exists():
        return []
    with log.open("rb") as file:
        end = file.seek(0, 2)
        file.seek(max(start, end - TAIL_BYTES))
        text = file.read().decode(errors="replace")
    return [line for line in text.splitlines() if line.strip()]
