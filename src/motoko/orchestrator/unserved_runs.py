"""Warn while runs are awaited that are held, or that no launcher serves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from typing import TYPE_CHECKING, Final, TypeAlias

from motoko.core.states import NON_TERMINAL
from motoko.storage.launcher_leases import live_launchers
from motoko.storage.query import query_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from motoko.storage.session import Session
    from motoko.storage.store import WorkflowStore

logger = logging.getLogger("motoko.orchestrator")

# The launcher's replacement takes less time.
POLL_SECONDS: Final = 5.0
UNSERVED: Final = "no launcher serves them: start one with `motoko launcher`"
HELD: Final = "all of them are held: release them with `motoko release --all`"

Obstacle: TypeAlias = "tuple[str, str]"  # a study, and why none of its runs is claimed


class UnservedRunMonitor:
    """Polls, while runs are awaited, whether a launcher will claim them."""

    def __init__(self, store: WorkflowStore) -> None:
        self._store = store
        self._polled: dict[asyncio.AbstractEventLoop, tuple[Counter[str], asyncio.Task[None]]] = {}
        self._warned: set[Obstacle] = set()

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
        found = frozenset[Obstacle]()
        while True:
            await asyncio.sleep(POLL_SECONDS)
            with contextlib.suppress(Exception):  # the waiting task meets it too
                found = await self._poll(found, frozenset(+awaited))

    async def _poll(
        self, before: frozenset[Obstacle], studies: frozenset[str]
    ) -> frozenset[Obstacle]:
        """Return the obstacles of runs of these studies.

        Warn once of those that existed ``before`` as well.
        """
        found = await query_in_thread(
            self._store.database, lambda session: self._obstacles(session, studies)
        )
        self._warned = {one for one in self._warned if one in found or one[0] not in studies}
        reported = sorted((found & before) - self._warned)
        self._warned.update(reported)
        for obstacle in (UNSERVED, HELD):
            if named := [study for study, other in reported if other == obstacle]:
                logger.warning("runs of %s are awaited, and %s", ", ".join(named), obstacle)
        return found

    def _obstacles(self, session: Session, studies: frozenset[str]) -> frozenset[Obstacle]:
        tables = session.tables
        launchers = live_launchers(tables, self._store.steady())
        served = {study for launcher in launchers for study in launcher.studies}
        found: set[Obstacle] = set()
        for study in studies:
            waiting = tables.study(study).count(None, lifecycles=NON_TERMINAL)
            if waiting and tables.created(study).count_held() == waiting:
                found.add((study, HELD))
            elif waiting and study not in served:
                found.add((study, UNSERVED))
        return frozenset(found)
