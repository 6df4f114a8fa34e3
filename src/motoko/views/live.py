"""Keep campaigns current for those who watch them: read after commits, at a bounded cost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import anyio
import anyio.to_thread

from motoko.errors import MotokoError
from motoko.views.connection import ReadConnection
from motoko.views.reader import CampaignReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from motoko.api.workflow import Workflow
    from motoko.views.campaign import Campaign

T = TypeVar("T")

FAST: Final = 0.25  # seconds between two readings after commits, at least
SLOW: Final = 1.0  # the same without commits
LATEST: Final = 0.7  # the longest pause after a commit: the screen is at most a second behind
SHARE: Final = 25.0  # of the time that a reading takes, between two readings
IDLE: Final = 60.0  # seconds without a watcher after which a run name is forgotten

logger = logging.getLogger("motoko.views")


@dataclass(frozen=True, slots=True)
class Latest:
    """The latest reading of a run name. ``number`` counts the readings.

    ``problem``: why the last reading failed; then ``campaign`` is the one before, if any.
    """

    campaign: Campaign | None = None
    number: int = 0
    problem: str = ""


class Watch:
    """One run name that is watched. ``latest`` is replaced at each reading."""

    def __init__(self, reader: CampaignReader) -> None:
        self.reader = reader
        self.latest = Latest()
        self.watchers = 0
        self.left = 0.0
        self._changed = anyio.Event()

    def publish(self, latest: Latest) -> None:
        """Replace the latest reading, and wake those who wait."""
        self.latest = latest
        self._changed.set()
        self._changed = anyio.Event()

    async def newer(self, number: int) -> Latest:
        """Wait for a reading after the one with this number; return the latest."""
        while self.latest.number <= number:
            await self._changed.wait()
        return self.latest


class LiveViews:
    """Reads a workflow for screens, in threads. Start ``run`` in a task group; end with ``close``.

    ``open_workflow`` opens it read-only; slow queries get a connection of their own.
    """

    def __init__(self, open_workflow: Callable[[], Workflow]) -> None:
        self._open = open_workflow
        self.connection = ReadConnection(open_workflow(), self._notify, reopen=open_workflow)
        self._queries: ReadConnection | None = None
        self._threads = anyio.CapacityLimiter(1)
        self._query_threads = anyio.CapacityLimiter(1)
        self._watches: dict[str, Watch] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._dirty = False
        self._committed = anyio.Event()
        self._wanted = anyio.Event()
        self._clock = self.workflow.store.clock

    @property
    def workflow(self) -> Workflow:
        """The workflow, as it is configured now."""
        return self.connection.workflow

    def _notify(self) -> None:
        """Note a commit. Another thread calls this, often."""
        if not self._dirty and self._loop is not None:
            self._dirty = True
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._committed.set()

    def now(self) -> float:
        """Return the time of day, in seconds since the epoch."""
        return self.workflow.store.now()

    # -- reading -----------------------------------------------------------------------------

    async def read(self, work: Callable[[ReadConnection], T]) -> T:
        """Call ``work`` with the connection, in a thread: for work of milliseconds."""
        return await anyio.to_thread.run_sync(partial(work, self.connection), limiter=self._threads)

    async def query(self, work: Callable[[ReadConnection], T]) -> T:
        """Call ``work`` with another connection, in a thread: for work of seconds."""
        return await anyio.to_thread.run_sync(
            partial(self._query, work), limiter=self._query_threads
        )

    def _query(self, work: Callable[[ReadConnection], T]) -> T:
        if self._queries is None:
            self._queries = ReadConnection(self._open(), reopen=self._open)
        return work(self._queries)

    @contextlib.contextmanager
    def watch(self, run_name: str) -> Iterator[Watch]:
        """Keep the campaign of a run name current within the block."""
        found = self._watches.get(run_name)
        if found is None:
            found = self._watches[run_name] = Watch(CampaignReader(self.connection, run_name))
        found.watchers += 1
        self._wanted.set()
        try:
            yield found
        finally:
            found.watchers -= 1
            found.left = self._clock.monotonic()

    async def campaign(self, run_name: str) -> Latest:
        """Return the present campaign of a run name."""
        with self.watch(run_name) as watch:
            fresh = watch.watchers > 1 and watch.latest.number
            return watch.latest if fresh else await self._refresh(watch)

    # -- refreshing --------------------------------------------------------------------------

    async def run(self) -> None:
        """Refresh the watched run names until cancelled."""
        self._loop = asyncio.get_running_loop()
        while True:
            await self._forget()
            watched = [watch for watch in self._watches.values() if watch.watchers]
            if not watched:
                self._wanted = anyio.Event()
                with anyio.move_on_after(IDLE):
                    await self._wanted.wait()
                continue
            self._committed, self._dirty = anyio.Event(), False
            start = self._clock.monotonic()
            for watch in watched:
                await self._refresh(watch)
            cost = self._clock.monotonic() - start
            least = min(max(FAST, SHARE * cost), LATEST)
            await anyio.sleep(least)
            with anyio.move_on_after(SLOW - least):
                await self._committed.wait()

    async def _forget(self) -> None:
        """Drop what nobody has watched for IDLE seconds."""
        now = self._clock.monotonic()
        for name, watch in [*self._watches.items()]:
            if not watch.watchers and now - watch.left >= IDLE:
                del self._watches[name]
                await self.read(lambda _, reader=watch.reader: reader.close())  # type: ignore[misc]

    async def _refresh(self, watch: Watch) -> Latest:
        try:
            campaign = await self.read(lambda _: watch.reader.read())
        except Exception as error:
            expected = isinstance(error, MotokoError | OSError)
            logger.log(
                logging.DEBUG if expected else logging.ERROR,
                "run name %r cannot be read", watch.reader.run_name, exc_info=True,
            )  # fmt: skip
            problem = error.message if isinstance(error, MotokoError) else repr(error)
            latest = replace(watch.latest, problem=problem, number=watch.latest.number + 1)
        else:
            latest = Latest(campaign, watch.latest.number + 1)
        watch.publish(latest)
        return latest

    async def close(self) -> None:
        """Disconnect."""
        with anyio.CancelScope(shield=True):
            await self.read(lambda connection: connection.close())
            if self._queries is not None:
                await self.query(lambda connection: connection.close())
