"""Packing: drop old states when the database file has doubled in size since the last time."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ZODB.FileStorage.format import CorruptedError
from ZODB.POSException import POSError

from motoko.runtime import files
from motoko.runtime.ports import SYSTEM
from motoko.server.class_allow_list import references

if TYPE_CHECKING:
    from pathlib import Path

    from motoko.runtime.ports import Clock

log = logging.getLogger(__name__)

MEGABYTE: Final = 2**20


@dataclass(frozen=True, slots=True)
class PackPolicy:
    """Pack at ``minimum`` bytes, then whenever the file is ``growth`` times as large.

    States younger than ``keep`` seconds stay, for snapshots of that age.
    """

    minimum: int = 16 * MEGABYTE
    growth: float = 2.0
    keep: float = 600.0


class Packer:
    """Packs a storage in a thread. ``size_file`` keeps the size after the last pack."""

    def __init__(self, size_file: Path, policy: PackPolicy, *, clock: Clock = SYSTEM.clock) -> None:
        self._clock = clock
        self._size_file = size_file
        self._policy = policy
        self._threshold = self._next_threshold(self._last_size())
        self._thread: threading.Thread | None = None
        self.storage: Any = None

    def pack_if_grown(self, size: int) -> None:
        """Start to pack if the file has grown to the threshold, unless a pack is running."""
        running = self._thread is not None and self._thread.is_alive()
        if size >= self._threshold and not running:
            self._thread = threading.Thread(target=self._pack, name="motoko-packer", daemon=True)
            self._thread.start()

    def wait(self) -> None:
        """Wait for the end of a running pack."""
        if self._thread is not None:
            self._thread.join()

    def _pack(self) -> None:
        before, started = self.storage.getSize(), self._clock.monotonic()
        try:
            self.storage.pack(self._clock.now() - self._policy.keep, references)
            after = self.storage.getSize()
            files.write_atomic(self._size_file, str(after).encode())
        except (OSError, ValueError, POSError, CorruptedError) as error:
            # Retry after it has doubled once more, not at every commit.
            self._threshold = self._next_threshold(before)
            log.error("the database could not be packed: %s", error)
            return
        self._threshold = self._next_threshold(after)
        log.info(
            "packed the database: %.1f MB, before %.1f MB, in %.1f s",
            after / MEGABYTE,
            before / MEGABYTE,
            self._clock.monotonic() - started,
        )

    def _next_threshold(self, size: float) -> float:
        return max(self._policy.minimum, self._policy.growth * size)

    def _last_size(self) -> int:
        try:
            return int(self._size_file.read_bytes())
        except (FileNotFoundError, ValueError):
            return 0
