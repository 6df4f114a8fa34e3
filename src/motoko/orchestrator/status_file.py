"""Publish an orchestrator's status in a file that other processes read.

It is a file, not a record of the database: conditions are evaluated often, and each commit would
stay in the database until the next packing.
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Final, TypeAlias

import anyio
import anyio.lowlevel

from motoko.core.orchestrator_status import OrchestratorStatus
from motoko.orchestrator.run_ends import file_stem
from motoko.runtime.files import private_directory, write_atomic
from motoko.runtime.untrusted_files import read_file
from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

    from motoko.core.orchestrator_status import EventStatus
    from motoko.runtime.ports import Clock
    from motoko.server.state_dir import StateDir

INTERVAL: Final = 1.0  # seconds between two versions
REPEATED_INTERVAL: Final = 10.0  # the same if conditions only repeat their answers
SLICE: Final = 0.001  # seconds of work between two turns of the event loop
MAX_BYTES: Final = 8 * 2**20

_Event: TypeAlias = "tuple[EventStatus, str]"  # and the same as JSON

logger = logging.getLogger("motoko.orchestrator")


class StatusPublisher:
    """Writes an orchestrator's status after changes, at most once a second.

    ``collect`` returns it without its events, and an iterator over these; it may leave out new
    times of repeated answers, unless its argument ``times`` is true. Between slices of the work of
    many events, ``give_way`` is awaited: no action waits for it.
    """

    def __init__(
        self,
        state: StateDir,
        run_name: str,
        clock: Clock,
        collect: Callable[..., tuple[OrchestratorStatus, Iterable[EventStatus]]],
        *,
        give_way: Callable[[], Awaitable[None]],
    ) -> None:
        self._state = state
        self._file = status_file(state, run_name)
        self._clock = clock
        self._collect = collect
        self._give_way = give_way
        self._wake = asyncio.Event()
        self._written: OrchestratorStatus | None = None
        self._written_at = -INTERVAL
        self._times_at = -REPEATED_INTERVAL
        self._events: dict[str, _Event] = {}

    def changed(self) -> None:
        """Publish soon. Call it in the event loop."""
        self._wake.set()

    async def run(self) -> None:
        """Publish changes until cancelled."""
        while True:
            await self._wake.wait()
            await anyio.sleep(max(0.0, self._written_at + INTERVAL - self._clock.monotonic()))
            await self._publish(self._give_way)

    async def publish(self) -> None:
        """Publish the current status if it has changed, without giving way to actions."""
        await self._publish(anyio.lowlevel.checkpoint)

    async def _publish(self, give_way: Callable[[], Awaitable[None]]) -> None:
        """Publish the current status if it has changed. A problem must not end the workflow."""
        self._wake.clear()
        now = self._clock.monotonic()
        times = now - self._times_at >= REPEATED_INTERVAL
        status, events = self._collect(times=times)
        repeats = await self._update_events(events, give_way)
        repeats = repeats and self._written == replace(status, written=0.0)
        if (repeats and not times) or not self._state.path.is_dir():
            return
        self._written, self._written_at = replace(status, written=0.0), now
        if times:
            self._times_at = now
        texts = [text for _, text in self._events.values()]
        try:
            await run_in_thread(lambda: self._write(status, texts))
        except Exception as error:  # noqa: BLE001 - such as a full disk
            logger.debug("the status of the orchestrator was not written: %s", error)

    async def _update_events(
        self, events: Iterable[EventStatus], give_way: Callable[[], Awaitable[None]]
    ) -> bool:
        """Encode the events that changed; return whether all differ in times only."""
        clock, found = self._clock, dict[str, _Event]()
        repeats = True
        deadline = clock.monotonic() + SLICE
        for event in events:
            entry = self._events.get(event.id)
            if entry is None or entry[0] is not event:
                repeats = repeats and entry is not None and event.repeats(entry[0])
                entry = (event, json.dumps(asdict(event)))
            found[event.id] = entry
            if clock.monotonic() >= deadline:
                await give_way()
                deadline = clock.monotonic() + SLICE
        repeats = repeats and found.keys() == self._events.keys()
        self._events = found
        return repeats

    def _write(self, status: OrchestratorStatus, events: list[str]) -> None:
        plain = status.plain()
        del plain["events"]
        text = f'{json.dumps(plain)[:-1]}, "events": [{", ".join(events)}]}}'
        private_directory(self._file.parent)
        write_atomic(self._file, text.encode())


def status_file(state: StateDir, run_name: str) -> Path:
    """Return the file with the status of the last orchestrator of a run name."""
    return state.events / f"{file_stem(run_name)}.json"


def read_status(state: StateDir, run_name: str) -> OrchestratorStatus | None:
    """Return the last status that an orchestrator published, None if there is no valid one."""
    content = read_file(status_file(state, run_name), limit=MAX_BYTES)
    try:
        found = OrchestratorStatus.of(json.loads(content.text))
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
        return None
    return found if found.run_name == run_name else None
