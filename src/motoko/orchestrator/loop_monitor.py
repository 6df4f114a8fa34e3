"""Reporting an event loop that is blocked: by which action, and where."""

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
LOOK_SECONDS: Final = 2.0
# A process that was stopped for a while has to come round before its loop can turn.
SPARE_SECONDS: Final = 1.0

logger = logging.getLogger("motoko.orchestrator")


class LoopBlockMonitor:
    """Watches the running event loop from a thread, within a ``with`` block.

    ``work`` says what the loop's tasks do.
    """

    def __init__(
        self, work: Mapping[asyncio.Task[Any], str], *, patience: float = BLOCKED_SECONDS
    ) -> None:
        self._work = work
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._ended = threading.Event()

    def __enter__(self) -> None:
        threading.Thread(target=self._watch, name="motoko-loop-watch", daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def _watch(self) -> None:
        while not self._ended.wait(min(LOOK_SECONDS, self._patience)):
            turned = threading.Event()
            try:
                self._loop.call_soon_threadsafe(turned.set)
            except RuntimeError:  # the loop is closed
                return
            if turned.wait(self._patience) or turned.wait(SPARE_SECONDS) or self._ended.is_set():
                continue
            logger.warning(
                "the event loop has been blocked for %g s%s: nothing else runs meanwhile; let "
                "`await asyncio.to_thread(...)` do what takes long",
                self._patience, self._where(),
            )  # fmt: skip
            while not turned.wait(LOOK_SECONDS):
                if self._ended.is_set():
                    return
            logger.warning("the event loop is no longer blocked")

    def _where(self) -> str:
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - its documented name
        task = None
        with contextlib.suppress(RuntimeError):
            task = asyncio.current_task(self._loop)
        about = None if task is None else self._work.get(task)
        by = "" if about is None else f" by {about.rstrip(',')}"
        return by if frame is None else f"{by}, at {place(frame)}"


def place(frame: FrameType) -> str:
    """Return the file, line and function of the innermost frame of the user's own code."""
    own: FrameType | None = frame
    while own is not None and not _is_users(own.f_code.co_filename):
        own = own.f_back
    found = own or frame
    return f"{found.f_code.co_filename}:{found.f_lineno} in {found.f_code.co_name}"


def _is_users(filename: str) -> bool:
    libraries = (
        sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")
    )
    places = [*libraries, str(Path(__file__).parent.parent)]
    return not filename.startswith(("<", *(f"{place}/" for place in places)))
