"""Packing: old states leave the database file when it has doubled since they last did."""

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
    """When to pack: at ``minimum`` bytes, then whenever the file is ``growth`` times as large.

    States younger than ``keep`` seconds stay, for whoever still reads a snapshot of then.
    """

    minimum: int = 16 * MEGABYTE
    growth: float = 2.0
    keep: float = 600.0


class Packer:
    """Packs a storage in a thread of its own. ``note``: the file that keeps the size after it."""

    def __init__(self, note: Path, policy: PackPolicy, *, clock: Clock = SYSTEM.clock) -> None:
        self._clock = clock
        self._note = note
        self._policy = policy
        self._threshold = self._next(self._last_size())
        self._thread: threading.Thread | None = None
        self.storage: Any = None

    def pack_if_grown(self, size: int) -> None:
        """Begin to pack if the file has grown to that size and nobody packs it."""
        if size < self._threshold or self._busy():
            return
        self._thread = threading.Thread(target=self._pack, name="motoko-packer", daemon=True)
        self._thread.start()

    def _busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def wait(self) -> None:
        """Wait for the end of a pack under way."""
        if self._thread is not None:
            self._thread.join()

    def _pack(self) -> None:
        before, begin = self.storage.getSize(), self._clock.monotonic()
        try:
            self.storage.pack(self._clock.now() - self._policy.keep, references)
            after = self.storage.getSize()
            files.write_atomic(self._note, str(after).encode())
        except (OSError, ValueError, POSError, CorruptedError) as error:
            # Not at every commit again, but when it has doubled once more.
            self._threshold = self._next(before)
            log.error("the database could not be packed: %s", error)
            return
        self._threshold = self._next(after)
        log.info(
            "packed the database: %.1f MB, before %.1f MB, in %.1f s",
            after / MEGABYTE,
            before / MEGABYTE,
            self._clock.monotonic() - begin,
        )

    def _next(self, size: float) -> float:
        return max(self._policy.minimum, self._policy.growth * size)

    def _last_size(self) -> int:
        try:
            return int(self._note.read_bytes())
        except (FileNotFoundError, ValueError):
            return 0
