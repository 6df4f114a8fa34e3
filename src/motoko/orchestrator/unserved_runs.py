"""Warn if a script outside an orchestrator waits for runs that no launcher serves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from typing import TYPE_CHECKING, Final

from motoko.core.states import NON_TERMINAL
from motoko.storage.leases import live_launchers
from motoko.storage.query import query_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from motoko.storage.session import Session
    from motoko.storage.store import WorkflowStore

logger = logging.getLogger("motoko.orchestrator")

# The launcher's replacement takes less time.
POLL_SECONDS: Final = 5.0


class UnservedRunMonitor:
    """Polls, while runs are awaited, whether a launcher serves them."""

    def __init__(self, store: WorkflowStore) -> None:
        self._store = store
        self._polled: dict[asyncio.AbstractEventLoop, tuple[Counter[str], asyncio.Task[None]]] = {}
        self._warned: set[str] = set()

    @contextlib.contextmanager
    def waiting(self, studies: Iterable[str]) -> Iterator[None]:
        """Poll for runs of these studies within the block."""
        loop, own = asyncio.get_running_loop(), [*studies]
        if loop not in self._polled:
            counts = Counter[str]()
            task = loop.create_task(self._run(counts), name="motoko.unserved_runs")
            self._polled[loop] = counts, task
        counts, task = self._polled[loop]
        counts.update(own)
        try:
            yield
        finally:
            counts.subtract(own)
            if not any(counts.values()):
                task.cancel()
                self._polled.pop(loop, None)

    async def _run(self, awaited: Counter[str]) -> None:
        unserved = frozenset[str]()
        while True:
            await asyncio.sleep(POLL_SECONDS)
            with contextlib.suppress(Exception):  # the waiting task meets it too
                unserved = await self._poll(unserved, frozenset(+awaited))

    async def _poll(self, before: frozenset[str], studies: frozenset[str]) -> frozenset[str]:
        """Return which of these studies have unserved runs.

        Warn once of those that were unserved ``before`` as well.
        """
        unserved = await query_in_thread(
            self._store.database, lambda session: self._unserved(session, studies)
        )
        self._warned -= studies - unserved
        reported = sorted((unserved & before) - self._warned)
        self._warned.update(reported)
        if reported:
            logger.warning(
                "runs of %s are awaited, and no launcher serves them: start one with "
                "`motoko launcher`",
                ", ".join(reported),
            )
        return unserved

    def _unserved(self, session: Session, studies: frozenset[str]) -> frozenset[str]:
        tables = session.tables
        launchers = live_launchers(tables, self._store.steady())
        unserved = studies.difference(*(launcher.studies for launcher in launchers))
        return frozenset(
            study for study in unserved if tables.study(study).ids(None, lifecycles=NON_TERMINAL)
        )
