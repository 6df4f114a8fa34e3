"""Report a blocked event loop: the action that blocks it, and the line."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import sysconfig
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

BLOCKED_SECONDS: Final = 10.0
POLL_SECONDS: Final = 2.0
RESUME_SECONDS: Final = 1.0  # for a process that was stopped, until its loop turns

logger = logging.getLogger("motoko.orchestrator")


class LoopBlockMonitor:
    """Watches the running event loop from a thread, within a ``with`` block.

    ``tasks`` holds descriptions of the loop's tasks.
    """

    def __init__(
        self, tasks: Mapping[asyncio.Task[Any], str], *, blocked_seconds: float = BLOCKED_SECONDS
    ) -> None:
        self._tasks = tasks
        self._blocked_seconds = blocked_seconds
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._stopped = threading.Event()

    def __enter__(self) -> None:
        threading.Thread(target=self._watch, name="motoko-loop-watch", daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(min(POLL_SECONDS, self._blocked_seconds)):
            turned = threading.Event()
            try:
                self._loop.call_soon_threadsafe(turned.set)
            except RuntimeError:  # the loop is closed
                return
            in_time = turned.wait(self._blocked_seconds) or turned.wait(RESUME_SECONDS)
            if in_time or self._stopped.is_set():
                continue
            logger.warning(
                "the event loop has been blocked for %g s%s: nothing else runs meanwhile; put long "
                "work into `await asyncio.to_thread(...)`",
                self._blocked_seconds, self._culprit(),
            )  # fmt: skip
            while not turned.wait(POLL_SECONDS):
                if self._stopped.is_set():
                    return
            logger.warning("the event loop is no longer blocked")

    def _culprit(self) -> str:
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - its documented name
        task = None
        with contextlib.suppress(RuntimeError):
            task = asyncio.current_task(self._loop)
        description = None if task is None else self._tasks.get(task)
        by = "" if description is None else f" by {description.rstrip(',')}"
        return by if frame is None else f"{by}, at {user_location(frame)}"


def user_location(frame: FrameType) -> str:
    """Return the file, line and function of the innermost frame of user code."""
    own: FrameType | None = frame
    while own is not None and not _is_user_code(own.f_code.co_filename):
        own = own.f_back
    found = own or frame
    return f"{found.f_code.co_filename}:{found.f_lineno} in {found.f_code.co_name}"


def _is_user_code(filename: str) -> bool:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    libraries = [*map(sysconfig.get_path, names), str(Path(__file__).parent.parent)]
    return not filename.startswith(("<", *(f"{library}/" for library in libraries)))
