"""Adopt the attempts of dead launchers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

from motoko.core.run_options import BASH
from motoko.launcher.executors.batch.submission_files import memberships
from motoko.storage.threads import run_in_committer, run_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from motoko.launcher.executors.base import ExecutorSet
    from motoko.launcher.start_notes import StartNotes
    from motoko.launcher.store_sync import StoreSync
    from motoko.storage.store import WorkflowStore

_T = TypeVar("_T")


class Recovery:
    """Passes the attempts of dead launchers to the executors of this one."""

    def __init__(
        self,
        store: WorkflowStore,
        sync: StoreSync,
        start_notes: StartNotes,
        executors: ExecutorSet,
        submissions: Path,
    ) -> None:
        self._store = store
        self._sync = sync
        self._start_notes = start_notes
        self._executors = executors
        self._submissions = submissions

    async def adopt_attempts(self) -> bool:
        """Adopt the attempts of launchers that are dead now; return whether there were any."""
        known = frozenset(attempt.token for attempt in self._executors.attempts())
        abandoned = await self._commit(lambda: self._sync.abandoned_attempts(known))
        if not abandoned:
            await self._remove_start_notes()
            return False
        # After the fence these launchers start nothing. Only then their notes and submissions are
        # complete, so both are read after it.
        owners = {attempt.record.launcher or "" for attempt, _ in abandoned}
        await run_in_thread(partial(self._start_notes.fence, owners))
        submitted = await run_in_thread(partial(memberships, self._submissions))
        for attempt, restarted in abandoned:
            attempt.submission = submitted.get(attempt.token)
            # Without a submission it runs here, whatever the current configuration says.
            generator = BASH if attempt.submission is None else self._submissions.name
            await self._executors[generator].adopt(attempt, restarted=restarted)
        return True

    async def _remove_start_notes(self) -> None:
        """Remove the notes of launchers without leases and active attempts."""
        others = await run_in_thread(self._start_notes.other_launchers)
        if others:
            used = await self._commit(self._sync.known_launchers)
            await run_in_thread(partial(self._start_notes.remove, others - used))

    async def _commit(self, work: Callable[[], _T]) -> _T:
        return await run_in_committer(self._store.database, work)
