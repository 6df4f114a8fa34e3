"""Write the zip file of a pack, which has its name once it is complete and synced.

Most files of runs are so small that the usual methods of ``zipfile`` take longer than the disk.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import os
import shutil
import stat
import time
import zipfile
import zlib
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from motoko.runtime import fault_points
from motoko.runtime.files import PRIVATE_FILE, sync_directory
from motoko.runtime.run_listing import Entry
from motoko.worker.regular_files import FLAGS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from motoko.runtime.run_listing import Listing

LEVEL: Final = 1  # of compression: fast
STORED: Final = 512  # bytes: less is not compressed, which would take longer than all else
SMALL: Final = 2**13  # bytes: zlib needs little memory, which it would take long to prepare
CHUNK: Final = 2**20
NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_EARLIEST: Final = 315_619_200  # seconds since the epoch: zip files know no time before 1980
_LATEST: Final = 4_354_732_800  # nor after 2107


class ChangedError(Exception):
    """A directory changed while it was read."""

    def __init__(self, listing: Listing) -> None:
        self.listing = listing


@contextlib.contextmanager
def new_pack(path: Path) -> Iterator[zipfile.ZipFile]:
    """Yield a zip file that has this path once it is complete and synced."""
    temporary = path.parent / f".{path.name}.tmp"
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        with open(descriptor, "w+b") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as archive:
                yield archive
            file.flush()
            fault_points.point("packs.written")
            os.fsync(file.fileno())
        os.rename(temporary, path)
        sync_directory(path.parent)
        fault_points.point("packs.renamed")
    finally:
        temporary.unlink(missing_ok=True)


def add_directory(archive: zipfile.ZipFile, root: str, listing: Listing) -> None:
    """Add a directory; raise ChangedError if it cannot be read or has changed."""
    try:
        for entry in listing.entries:
            _add_entry(archive, root, listing, entry)
    except OSError as error:
        if error.errno in NO_SPACE:
            raise
        raise ChangedError(listing) from error


def _add_entry(archive: zipfile.ZipFile, root: str, listing: Listing, entry: Entry) -> None:
    name, data = f"{listing.name}/{entry.name}", listing.contents.get(entry.name)
    if stat.S_ISDIR(entry.mode):
        name, data = name.rstrip("/") + "/", b""
    elif stat.S_ISLNK(entry.mode):
        data = os.fsencode(os.readlink(f"{root}/{name}"))
    info = _info(name, entry)
    if data is not None:
        _add(archive, info, data)
        return
    descriptor = os.open(f"{root}/{name}", FLAGS | os.O_NOFOLLOW)
    try:
        if not _add_file(archive, info, descriptor, entry):
            raise ChangedError(listing)
    finally:
        os.close(descriptor)


def _add_file(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, descriptor: int, entry: Entry
) -> bool:
    """Add an open file; return whether it is still as it was when it was listed."""
    if Entry.of(entry.name, os.fstat(descriptor)) != entry:
        return False
    if entry.size <= CHUNK:
        data = os.read(descriptor, entry.size + 1)
        _add(archive, info, data)
        return len(data) == entry.size
    copied = 0
    info.compress_type = zipfile.ZIP_DEFLATED
    with archive.open(info, "w") as target:
        while data := os.read(descriptor, CHUNK):
            copied += target.write(data)
    return copied == entry.size


@lru_cache
def _date_time(seconds: int) -> tuple[int, int, int, int, int, int]:
    return time.gmtime(min(max(seconds, _EARLIEST), _LATEST))[:6]


def _info(name: str, entry: Entry) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _date_time(entry.modified // 10**9))
    info.external_attr = entry.mode << 16
    info.file_size = entry.size
    info.create_system = 3  # Unix: external_attr has the mode
    return info


def _add(archive: zipfile.ZipFile, info: zipfile.ZipInfo, data: bytes) -> None:
    """Add data that are in memory, like ``ZipFile.writestr``."""
    info.CRC, info.file_size = zlib.crc32(data), len(data)
    info.compress_type, info.flag_bits = zipfile.ZIP_STORED, 0
    if len(data) > STORED:
        info.compress_type = zipfile.ZIP_DEFLATED
        memory = (-13, 5) if len(data) <= SMALL else (-zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL)
        compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, *memory)
        data = compressor.compress(data) + compressor.flush()
    info.compress_size, info.header_offset = len(data), archive.start_dir
    assert archive.fp is not None
    header = info.FileHeader(zip64=False)
    archive.fp.write(header + data)
    archive.start_dir += len(header) + len(data)
    archive.filelist.append(info)
    archive.NameToInfo[info.filename] = info


def copy_member(archive: zipfile.ZipFile, target: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    """Copy a file or directory of another pack."""
    own = copy.copy(info)
    if info.file_size <= CHUNK:
        _add(target, own, archive.read(info))
        return
    with archive.open(info) as source, target.open(own, "w") as written:
        shutil.copyfileobj(source, written, CHUNK)
