"""Compact the ended runs of the studies that a launcher serves, one step at a time.

The launcher starts with a look at all runs, which also converts the database of an older Motoko.
Later it looks again once ENOUGH runs have ended. While it executes runs, it pauses after each step
for as long as the step took.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

import anyio

from motoko.errors import MotokoError
from motoko.storage.compaction import compact_study
from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from motoko.storage.store import WorkflowStore

ENOUGH: Final = 1000  # ended runs
RETRY_SECONDS: Final = 60.0

log = logging.getLogger(__name__)


class Compactor:
    """The progress of one launcher. ``situation`` returns its studies, and whether it is idle."""

    def __init__(
        self, store: WorkflowStore, situation: Callable[[], tuple[Iterable[str], bool]]
    ) -> None:
        self._store = store
        self._situation = situation
        self._positions: dict[str, int | None] = {}  # by study, None: nothing more to do
        self._ended = 0
        self._wake = asyncio.Event()

    def add(self, ended: int) -> None:
        """Count runs that have ended, in the event loop. Call this after each commit."""
        self._ended += ended
        if self._ended >= ENOUGH:
            self._ended = 0
            self._positions = {}
            self._wake.set()

    async def run(self) -> None:
        """Make the steps that are due, until cancelled."""
        while True:
            self._wake.clear()
            positions = self._positions
            due = [study for study in self._situation()[0] if positions.get(study, 0) is not None]
            for study in due:
                positions[study] = await self._step(study, positions.get(study) or 0)
            if not due:
                await self._wake.wait()

    async def _step(self, study: str, position: int) -> int | None:
        """Make one step; return where the next one proceeds, None if nothing is left."""
        clock = self._store.clock
        started = clock.monotonic()
        try:
            following = await run_in_thread(
                lambda: compact_study(self._store.database, study, position)
            )
        except MotokoError as problem:  # such as a full disk
            log.info("ended runs of %s are not compacted now: %s", study, problem)
            await anyio.sleep(RETRY_SECONDS)
            return position
        if not self._situation()[1]:
            await anyio.sleep(clock.monotonic() - started)
        return following
