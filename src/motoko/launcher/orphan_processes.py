"""End the processes that an attempt leaves outside of its process group, as with ``setsid``.

Such an orphan becomes a child of the launcher, which checks its own children first. A process
belongs to an attempt if its environment or output files name it. For attempts of earlier launchers
all processes are searched.
"""

from __future__ import annotations

import logging
import signal
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio

from motoko.launcher.attempt_paths import run_directory_of
from motoko.runtime.descendants import (
    adopted_children,
    describe_process,
    exited_children,
    is_subreaper,
    processes_of_attempt,
    reap,
)
from motoko.runtime.processes import signal_process
from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Collection

    from motoko.core.records import RunKey
    from motoko.runtime.processes import ProcessIdentity

KILL_SECONDS: Final = 5.0
FIRST_POLL_SECONDS: Final = 0.01
LAST_POLL_SECONDS: Final = 0.2

log = logging.getLogger(__name__)


class OrphanProcesses:
    """Finds and ends orphans; faster in a process that adopts them."""

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self.adopts = is_subreaper()
        self._exited: set[int] = set()

    def has_none(self, wrappers: Collection[int]) -> bool:
        """Return whether this process certainly has no child except ``wrappers``."""
        return self.adopts and not adopted_children(wrappers)

    async def terminate(
        self, key: RunKey, attempt: str, wrappers: Collection[int], *, child: bool
    ) -> list[int]:
        """End the orphans of an attempt: TERM, then KILL. Return those that remain.

        ``attempt``: its path. ``wrappers``: the wrappers that are children of this
        process. ``child``: the attempt's wrapper was one.
        """
        run = run_directory_of(attempt)
        if child and self.adopts:
            orphans = adopted_children(wrappers)
            if not orphans or not processes_of_attempt(attempt, run, orphans):
                return []
        left = await run_in_thread(partial(processes_of_attempt, attempt, run))
        if left:
            names = ", ".join(describe_process(process.pid) for process in left)
            log.info("run %s: ending the processes that it left: %s", key, names)
        for number, seconds in ((signal.SIGTERM, self._grace), (signal.SIGKILL, KILL_SECONDS)):
            left = await self._signal_all(attempt, left, number, seconds)
        return [process.pid for process in left]

    async def _signal_all(
        self, attempt: str, left: list[ProcessIdentity], number: signal.Signals, seconds: float
    ) -> list[ProcessIdentity]:
        pause, signalled, run = FIRST_POLL_SECONDS, set[int](), run_directory_of(attempt)
        with anyio.move_on_after(seconds):
            while left:
                for process in left:
                    if process.pid not in signalled:
                        signalled.add(process.pid)
                        _signal(process, number)
                await anyio.sleep(pause)
                pause = min(2 * pause, LAST_POLL_SECONDS)
                # A process may have started another one meanwhile.
                left = await run_in_thread(partial(processes_of_attempt, attempt, run))
        reap(signalled)
        return left

    def reap(self, wrappers: Collection[int]) -> None:
        """Reap adopted children that had exited at the previous call as well.

        The code that started a child of this process has reaped it by then.
        """
        exited = exited_children(adopted_children(wrappers)) if self.adopts else set[int]()
        reap(exited & self._exited)
        self._exited = exited


def _signal(process: ProcessIdentity, number: signal.Signals) -> None:
    try:
        signal_process(process, number)
    except PermissionError as error:
        log.debug("process %d was not signalled: %s", process.pid, error)
