"""The object cache of a ZEO client, in memory.

ZEO keeps it in a temporary file: each access costs several system calls, and the end of each client
waits until the disk has written that file.
"""

from __future__ import annotations

from mmap import mmap
from struct import pack
from typing import Any

from ZEO.cache import ZEC_HEADER_SIZE, ClientCache


class _Memory(mmap):
    """Anonymous memory with the methods of a file. The system provides only the part in use."""

    def flush(self, offset: int = 0, size: int = 0) -> None:
        """Do nothing: there is no file."""

    def truncate(self) -> None:
        """Do nothing: the cache replaces its content then."""


class MemoryCache(ClientCache):  # type: ignore[misc]
    """A cache of ``size`` bytes."""

    f: Any  # the name is ZEO's

    def __init__(self, size: int) -> None:
        super().__init__(None, size)

    def _initfile(self, fsize: int) -> None:
        """Begin with one free block; ZEO calls this for a new cache and for one to clear."""
        file = self.f
        self.f = _Memory(-1, self.maxsize)
        file.seek(0)
        self.f.write(file.read(ZEC_HEADER_SIZE))
        self.f.write(b"f" + pack(">I", self.maxsize - ZEC_HEADER_SIZE))
        file.close()
        super()._initfile(self.maxsize)

    def close(self) -> None:
        """Free the memory; later calls raise AttributeError or ValueError."""
        memory, self.f = self.f, None
        super().close()
        if memory is not None:
            memory.close()
