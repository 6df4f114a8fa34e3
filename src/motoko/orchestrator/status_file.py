"""Publish an orchestrator's status in a file that other processes read.

It is a file, not a record of the database: conditions are evaluated often, and each commit would
stay in the database until the next packing.
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Final

import anyio

from motoko.core.orchestrator_status import OrchestratorStatus
from motoko.orchestrator.run_ends import file_stem
from motoko.runtime.files import private_directory, write_atomic
from motoko.runtime.untrusted_files import read_file
from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from motoko.core.orchestrator_status import EventStatus
    from motoko.runtime.ports import Clock
    from motoko.server.state_dir import StateDir

INTERVAL: Final = 1.0  # seconds between two versions
REPEATED_INTERVAL: Final = 10.0  # the same if conditions only repeat their answers
MAX_BYTES: Final = 8 * 2**20

logger = logging.getLogger("motoko.orchestrator")


class StatusPublisher:
    """Writes the status that ``collect`` returns, after changes, at most once a second.

    ``collect`` may leave out new times of repeated answers, unless its argument ``times`` is true.
    """

    def __init__(
        self,
        state: StateDir,
        run_name: str,
        clock: Clock,
        collect: Callable[..., OrchestratorStatus],
    ) -> None:
        self._state = state
        self._file = status_file(state, run_name)
        self._clock = clock
        self._collect = collect
        self._wake = asyncio.Event()
        self._written: OrchestratorStatus | None = None
        self._written_at = -INTERVAL
        self._times_at = -REPEATED_INTERVAL
        self._texts: dict[str, tuple[EventStatus, str]] = {}

    def changed(self) -> None:
        """Publish soon. Call it in the event loop."""
        self._wake.set()

    async def run(self) -> None:
        """Publish changes until cancelled."""
        while True:
            await self._wake.wait()
            await anyio.sleep(max(0.0, self._written_at + INTERVAL - self._clock.monotonic()))
            await self.publish()

    async def publish(self) -> None:
        """Publish the current status if it has changed. A problem must not end the workflow."""
        self._wake.clear()
        now = self._clock.monotonic()
        times = now - self._times_at >= REPEATED_INTERVAL
        status = self._collect(times=times)
        repeats = self._written is not None and status.differs_in_times_only(self._written)
        if (repeats and not times) or not self._state.path.is_dir():
            return
        self._written, self._written_at = status, now
        if times:
            self._times_at = now
        try:
            await run_in_thread(lambda: self._write(status))
        except Exception as error:  # noqa: BLE001 - such as a full disk
            logger.debug("the status of the orchestrator was not written: %s", error)

    def _write(self, status: OrchestratorStatus) -> None:
        private_directory(self._file.parent)
        write_atomic(self._file, self._text(status).encode())

    def _text(self, status: OrchestratorStatus) -> str:
        """Return the status as JSON, made anew only for the events that changed."""
        former, self._texts = self._texts, {}
        for event in status.events:
            found = former.get(event.id)
            if found is None or found[0] is not event:
                found = (event, json.dumps(asdict(event)))
            self._texts[event.id] = found
        plain = replace(status, events=()).plain()
        del plain["events"]
        events = ", ".join(text for _, text in self._texts.values())
        return f'{json.dumps(plain)[:-1]}, "events": [{events}]}}'


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
