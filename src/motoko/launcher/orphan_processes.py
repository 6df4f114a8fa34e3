"""Ending what attempts leave behind outside of their process groups, as ``setsid`` does.

A process that loses its parent becomes the launcher's child, so that a look at those tells whether
there is anything. Whose it is its environment tells, or where it prints to. For an attempt that an
earlier launcher started, all processes are looked through.
"""

from __future__ import annotations

import logging
import os
import signal
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio

from motoko.runtime.descendants import (
    adopted_children,
    describe_process,
    exited_children,
    is_subreaper,
    processes_of_attempt,
    reap,
)
from motoko.runtime.processes import is_alive
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
    """Finds and ends them; a process that adopts orphans finds them at once."""

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._adopts = is_subreaper()
        self._ended: set[int] = set()

    async def end(
        self, key: RunKey, private: str, known: Collection[int], *, child: bool
    ) -> list[int]:
        """End what an attempt left behind: TERM, then KILL. Return what cannot be ended.

        ``private``: the attempt's private directory. ``known``: the wrappers that are children of
        this process. ``child``: the attempt's wrapper was one.
        """
        if child and self._adopts:
            orphans = adopted_children(known)
            if not orphans or not processes_of_attempt(private, orphans):
                return []
        left = await run_in_thread(partial(processes_of_attempt, private))
        if left:
            names = ", ".join(describe_process(process.pid) for process in left)
            log.info("run %s: ending what it left behind: %s", key, names)
        for number, seconds in ((signal.SIGTERM, self._grace), (signal.SIGKILL, KILL_SECONDS)):
            left = await self._end(private, left, number, seconds)
        return [process.pid for process in left]

    async def _end(
        self, private: str, left: list[ProcessIdentity], number: signal.Signals, seconds: float
    ) -> list[ProcessIdentity]:
        pause, told = FIRST_POLL_SECONDS, set[int]()
        with anyio.move_on_after(seconds):
            while left:
                for process in left:
                    if process.pid not in told:
                        told.add(process.pid)
                        _signal(process, number)
                await anyio.sleep(pause)
                pause = min(2 * pause, LAST_POLL_SECONDS)
                # Once more: a process may have started another one meanwhile.
                left = await run_in_thread(partial(processes_of_attempt, private))
        reap(told)
        return left

    def collect(self, known: Collection[int]) -> None:
        """Collect adopted children that have ended, at the second look.

        Whoever started one of this process's own children has collected it by then.
        """
        ended = exited_children(adopted_children(known)) if self._adopts else set[int]()
        reap(ended & self._ended)
        self._ended = ended


def _signal(process: ProcessIdentity, number: signal.Signals) -> None:
    try:
        if is_alive(process):
            os.kill(process.pid, number)
    except (ProcessLookupError, PermissionError) as error:
        log.debug("process %d was not signalled: %s", process.pid, error)
