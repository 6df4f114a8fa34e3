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

    States younger than ``keep`` seconds stay, for snapshots of that age. They do not count as
    packed: the next pack begins when they are old enough, and at the earliest after ``pause`` times
    the duration of the last one.
    """

    minimum: int = 16 * MEGABYTE
    growth: float = 2.0
    keep: float = 600.0
    pause: float = 10.0


class Packer:
    """Packs a storage in a thread. ``size_file`` keeps the size of what the last pack packed."""

    def __init__(self, size_file: Path, policy: PackPolicy, *, clock: Clock = SYSTEM.clock) -> None:
        self._clock = clock
        self._size_file = size_file
        self._policy = policy
        self._threshold, self._earliest = self._former_pack()
        self._thread: threading.Thread | None = None
        self.storage: Any = None

    def pack_if_grown(self, size: int) -> None:
        """Start to pack if the file has grown to the threshold, unless a pack is running."""
        if size < self._threshold or self._clock.monotonic() < self._earliest:
            return
        if self._thread is None or not self._thread.is_alive():
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
            packed = self.storage.packed_bytes
            files.write_atomic(self._size_file, str(packed).encode())
        except (OSError, ValueError, POSError, CorruptedError) as error:
            # Retry after it has doubled once more, not at every commit.
            self._threshold = self._next_threshold(before)
            if self.storage.is_closed:
                return
            log.error("the database could not be packed: %s", error)
            return
        ended = self._clock.monotonic()
        pause = max(self._policy.keep, self._policy.pause * (ended - started))
        self._threshold, self._earliest = self._next_threshold(packed), ended + pause
        log.info(
            "packed the database: %.1f MB, before %.1f MB, in %.1f s",
            self.storage.getSize() / MEGABYTE,
            before / MEGABYTE,
            ended - started,
        )

    def _next_threshold(self, size: float) -> float:
        return max(self._policy.minimum, self._policy.growth * size)

    def _former_pack(self) -> tuple[float, float]:
        """Return the threshold and the earliest time after the pack of an earlier server."""
        try:
            size = int(self._size_file.read_bytes())
            age = self._clock.now() - self._size_file.stat().st_mtime
        except (FileNotFoundError, ValueError):
            size, age = 0, self._policy.keep
        rest = self._policy.keep - age if 0 <= age < self._policy.keep else 0.0
        return self._next_threshold(size), self._clock.monotonic() + rest
