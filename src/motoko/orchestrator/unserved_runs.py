"""Outside an orchestrator: a warning where runs are waited for that no launcher serves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from typing import TYPE_CHECKING, Final

from motoko.core.states import OUTCOMES, Lifecycle
from motoko.storage.session import Session
from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator

    from motoko.storage.store import WorkflowStore
    from motoko.storage.tables import Tables

    # The studies that launchers serve which are alive at this time.
    Served = Callable[[Tables, float], Collection[str]]

logger = logging.getLogger("motoko.orchestrator")

# A launcher that is being replaced is missing for less than that.
LOOK_SECONDS: Final = 5.0
UNENDED: Final = tuple(state.value for state in Lifecycle if state not in OUTCOMES)


class UnservedRunMonitor:
    """Looks now and then, as long as runs are waited for, whether a launcher serves them."""

    def __init__(self, store: WorkflowStore, served: Served) -> None:
        self._store = store
        self._served = served
        self._on_loops: dict[asyncio.AbstractEventLoop, _LoopState] = {}
        self._warned: set[str] = set()

    @contextlib.contextmanager
    def waiting(self, studies: Iterable[str]) -> Iterator[None]:
        """Note that runs of these studies are waited for in the running loop."""
        loop, waited = asyncio.get_running_loop(), [*studies]
        if loop not in self._on_loops:
            self._on_loops[loop] = _LoopState(self._look)
        here = self._on_loops[loop]
        here.studies.update(waited)
        try:
            yield
        finally:
            here.studies.subtract(waited)
            if not any(here.studies.values()):
                here.task.cancel()
                self._on_loops.pop(loop, None)

    async def _look(self, before: frozenset[str], studies: frozenset[str]) -> frozenset[str]:
        """Return which of these studies have runs that nobody serves, and warn of them once.

        Only those are warned of that were among them ``before`` already.
        """
        unattended = await run_in_thread(lambda: self._unattended(studies))
        self._warned -= studies - unattended
        told = sorted((unattended & before) - self._warned)
        self._warned.update(told)
        if told:
            logger.warning(
                "runs of %s are waited for, and no launcher serves them: start one with "
                "`motoko launcher`",
                ", ".join(told),
            )
        return unattended

    def _unattended(self, studies: frozenset[str]) -> frozenset[str]:
        session = Session(self._store.database)
        try:
            tables = session.tables
            lacking = studies - {*self._served(tables, self._store.steady())}
            return frozenset(
                name for name in lacking if len(tables.study(name).ids(None, lifecycles=UNENDED))
            )
        finally:
            session.close()


class _LoopState:
    """What is waited for in one loop, and the task that looks after it."""

    def __init__(
        self, look: Callable[[frozenset[str], frozenset[str]], Awaitable[frozenset[str]]]
    ) -> None:
        self.studies: Counter[str] = Counter()
        self._look = look
        self.task = asyncio.get_running_loop().create_task(self._run(), name="motoko.unattended")

    async def _run(self) -> None:
        found: frozenset[str] = frozenset()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            studies = frozenset(name for name, waits in self.studies.items() if waits)
            with contextlib.suppress(Exception):  # who waits meets it too
                found = await self._look(found, studies)
