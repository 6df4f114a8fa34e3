"""Apply ``keep`` to the directories of ended runs: pack or remove them, one step at a time.

A launcher does so while it executes nothing. It also makes a step beside its runs as soon as
BACKLOG ended runs have directories, or else a long campaign would exceed the quota of files.
While an orchestrator works, the NEWEST ended runs keep theirs: its actions may read their files.
Others are then treated at least BATCH at a time, since a step takes longer than a run of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio

from motoko.config import KEEP_ALL, KEEP_FAILED
from motoko.core.records import RunKey
from motoko.errors import MotokoError
from motoko.launcher.packing import (
    NOT_ENDED,
    PackingHelper,
    loose_runs,
    pack_runs,
    remove_finished,
)
from motoko.runtime.pack_joining import MAX_RUNS
from motoko.storage.orchestrator_leases import live_orchestrators
from motoko.storage.session import Session
from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from motoko.storage.store import WorkflowStore

NEWEST: Final = 1000
BACKLOG: Final = NEWEST + MAX_RUNS
BATCH: Final = 100
LOOK_SECONDS: Final = 10.0  # between looks whether the orchestrator has ended
UNUSED_SECONDS: Final = 30.0  # after them the process that packs beside runs is ended
LAST_SECONDS: Final = 5.0
LAST_RUNS: Final = 200  # in a step

log = logging.getLogger(__name__)


class DirectoryKeeper:
    """The ended runs of one launcher whose directories are not yet packed or removed.

    ``situation`` returns ``keep``, the studies served, and whether the launcher executes nothing.
    """

    def __init__(
        self, store: WorkflowStore, situation: Callable[[], tuple[str, Collection[str], bool]]
    ) -> None:
        self._store = store
        self._situation = situation
        self._earlier: dict[RunKey, None] = {}  # found by a search; only steps use it
        self._ended: dict[RunKey, None] = {}  # in the order of their ends
        self._in_step = 0
        self._keep = KEEP_ALL
        self._searched: set[str] = set()
        self.stayed: dict[str, str] = {}  # by study, a directory left in the last step, and why
        self._wake = asyncio.Event()
        self._helper = PackingHelper()
        self._helper_used = 0.0

    def add(self, keys: Iterable[RunKey]) -> None:
        """Note runs that have ended, in the event loop. Call this after each commit."""
        if self._situation()[0] == KEEP_ALL:
            return
        for key in keys:
            self._ended.pop(key, None)
            self._ended[key] = None
        self._wake.set()

    def __len__(self) -> int:
        """Return the number of runs to treat, those of the current step included."""
        return len(self._earlier) + len(self._ended) + self._in_step

    async def run(self) -> None:
        """Make the steps that are due after commits, one at a time, until cancelled."""
        try:
            while True:
                while await self._step_if_due(MAX_RUNS):
                    pass
                if self._store.clock.monotonic() >= self._helper_used + UNUSED_SECONDS:
                    self._helper.close()
                look = len(self) > 0 or self._helper.is_running
                with anyio.move_on_after(LOOK_SECONDS if look else None):
                    await self._wake.wait()
                self._wake.clear()
        finally:
            self._helper.close()

    async def finish(self) -> None:
        """Make the steps that are due before the launcher ends, for up to LAST_SECONDS."""
        end = self._store.clock.monotonic() + LAST_SECONDS  # a later launcher does the rest
        try:
            while await self._step_if_due(LAST_RUNS) and self._store.clock.monotonic() < end:
                pass
        finally:
            self._helper.close()

    async def _step_if_due(self, limit: int) -> bool:
        """Return whether another step may be due."""
        keep, studies, idle = self._situation()
        if keep != self._keep:  # it may apply to directories that stayed
            self._keep = keep
            self._searched.clear()
        return self.is_due(keep, studies, idle=idle) and await run_in_thread(
            partial(self.step, keep, studies, limit, helper=not idle)
        )

    def is_due(self, keep: str, studies: Iterable[str], *, idle: bool) -> bool:
        """Return whether there may be something to do."""
        if keep == KEEP_ALL:
            return False
        return len(self) >= (1 if idle else BACKLOG) or (
            idle and not self._searched.issuperset(studies)
        )

    def step(
        self, keep: str, studies: Iterable[str], limit: int = MAX_RUNS, *, helper: bool = False
    ) -> bool:
        """Pack or remove the directories of up to ``limit`` runs; return whether some remain.

        Log and leave the directories that cannot be packed or removed. Blocks.
        """
        self._search(studies)
        self._store.database.catch_up()  # the orchestrator may just have released its lease
        with contextlib.closing(Session(self._store.database)) as session:
            orchestrated = bool(live_orchestrators(session.tables, self._store.steady()))
        newest, least = (NEWEST, NEWEST + BATCH) if orchestrated else (0, 1)
        if len(self) < least:
            return False
        chosen = [*self._earlier, *self._ended][: min(limit, len(self) - newest)]
        self._in_step = len(chosen)
        for key in chosen:  # now: one that has not ended may end, and be added, during the step
            self._earlier.pop(key, None)
            self._ended.pop(key, None)
        for study in dict.fromkeys(key.study for key in chosen):
            ids = {key.id for key in chosen if key.study == study}
            self._apply(keep, study, ids, helper=helper)
        if helper:
            self._helper_used = self._store.clock.monotonic()
        self._in_step = 0
        return len(self) >= least

    def _search(self, studies: Iterable[str]) -> None:
        """Find the directories that earlier launchers left."""
        for study in set(studies) - self._searched:
            if study in self._store.studies:
                self._searched.add(study)
                earlier = loose_runs(self._store.runs_root(study))
                keys = (RunKey(study, run_id) for run_id in earlier)
                self._earlier.update((key, None) for key in keys if key not in self._ended)

    def _apply(self, keep: str, study: str, ids: set[int], *, helper: bool) -> None:
        self.stayed.pop(study, None)
        try:
            if keep == KEEP_FAILED:
                result = remove_finished(self._store, study, ids)
            else:
                result = pack_runs(self._store, study, ids, self._helper if helper else None)
        except (MotokoError, OSError) as problem:
            self.stayed[study] = f"directories of runs of {study} stay: {problem}"
            log.warning("%s", self.stayed[study])
            return
        reasons = [
            f"the directory of run {study}.{run_id} stays: {reason}"
            for run_id, reason in result.left.items()
            if reason != NOT_ENDED  # its end follows, such as that of a run of an earlier launcher
        ]
        for reason in reasons:
            log.info("%s", reason)
        if reasons:
            others = f"; those of {len(reasons) - 1} other runs stay, too"
            self.stayed[study] = reasons[0] + (others if len(reasons) > 1 else "")
