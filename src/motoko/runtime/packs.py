"""Packs: zip files that hold the directories of many ended runs, ``packed/N-FIRST-LAST.zip``.

They are beside the run directories, on the same file system, and are moved and copied with them. A
pack holds whole directories of runs with ids from FIRST to LAST; N counts up. Of two versions of
one file the pack with the higher number has the later one. A pack is written under another name,
synced and renamed, so that each pack is complete. Only then are the directories removed.

A new pack also takes over some of the latest ones: see ``pack_joining``.

Directories with anything that a zip file cannot hold (FIFOs, sockets, devices, names that are no
UTF-8), unreadable files or very large ones stay as they are.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import os
import re
import shutil
import stat
import time
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from motoko.runtime import fault_points
from motoko.runtime.file_lock import FileLock
from motoko.runtime.files import PRIVATE_FILE, sync_directory
from motoko.runtime.pack_joining import PATH_BYTES, Load, number_taken_over
from motoko.runtime.run_listing import Entry, Listing, UnpackableError, list_directory, run_id_of
from motoko.worker import INPUTS
from motoko.worker.regular_files import FLAGS

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence

PACKED: Final = "packed"  # the directory of the packs
LOCK_SECONDS: Final = 60.0  # another process writes a pack
LEVEL: Final = 1  # of compression: fast
CHUNK: Final = 2**20
NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DAMAGED: Final = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
_PACK: Final = re.compile(r"([0-9]{1,9})-([0-9]{1,10})-([0-9]{1,10})\.zip")
_EARLIEST: Final = 315_619_200  # seconds since the epoch: zip files know no time before 1980
_LATEST: Final = 4_354_732_800  # nor after 2107


@dataclass(frozen=True, slots=True, order=True)
class Pack:
    """A pack: its number, and the lowest and the highest id of its runs."""

    number: int
    first: int
    last: int

    @classmethod
    def parse(cls, name: str) -> Pack | None:
        """Return the pack with this file name, None for another name."""
        found = _PACK.fullmatch(name)
        return None if found is None else cls(*map(int, found.groups()))

    def may_hold(self, run_id: int) -> bool:
        """Return whether the run is in its range."""
        return self.first <= run_id <= self.last

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"{self.number}-{self.first}-{self.last}.zip"


def packs_lock(root: Path) -> FileLock:
    """Return the lock of a study's packs; create their directory."""
    (root / PACKED).mkdir(parents=True, exist_ok=True)
    return FileLock(root / PACKED / ".lock", timeout=LOCK_SECONDS, purpose="packing runs")


# -- writing -----------------------------------------------------------------------------------


class _Changed(Exception):
    """A directory changed while it was read."""

    def __init__(self, listing: Listing) -> None:
        self.listing = listing


class _NotJoined(Exception):
    """A pack could not be copied into a new one."""

    def __init__(self, pack: Pack) -> None:
        self.pack = pack


def write_pack(root: str, listings: Iterable[Listing]) -> list[Listing]:
    """Write a pack with these directories; return those that it holds.

    Leave out directories that cannot be read or change meanwhile. The pack survives a power cut
    when this returns. The caller holds the lock of the packs.
    """
    remaining, oldest = list(listings), 1
    _remove_taken_over(root)
    while remaining:
        try:
            _write_pack(root, remaining, oldest)
        except _Changed as problem:
            remaining.remove(problem.listing)
        except _NotJoined as problem:  # it is damaged, or there is no space for a copy
            oldest = problem.pack.number + 1
        else:
            break
    return remaining


def _write_pack(root: str, listings: Sequence[Listing], oldest: int) -> None:
    """Write a pack that may take over packs from the number ``oldest`` on."""
    directory = Path(root, PACKED)
    directory.mkdir(exist_ok=True)
    for temporary in directory.glob(".*.tmp"):  # of a process that was killed
        temporary.unlink()
    ids = [listing.run_id for listing in listings]
    packs = list_packs(root)
    number = max((pack.number for pack in packs), default=0) + 1
    joinable = [pack for pack in packs if pack.number >= oldest]
    new = Load(frozenset(one.name for one in listings), sum(one.weight for one in listings))
    former = joinable[: number_taken_over(new, _loads(root, joinable))]
    ids += [run_id for pack in former for run_id in (pack.first, pack.last)]
    begun: list[Pack] = []
    try:
        with _new_pack(directory / Pack(number, min(ids), max(ids)).name) as archive:
            for listing in listings:
                _write_directory(archive, root, listing)
            for pack in former:
                begun.append(pack)
                _take_over(archive, root, pack)
    except (OSError, *DAMAGED) as error:
        if begun:
            raise _NotJoined(begun[-1]) from error
        raise
    for pack in former:
        fault_points.point("packs.joining")
        (directory / pack.name).unlink()


def _loads(root: str, packs: Iterable[Pack]) -> Iterator[Load]:
    """Yield what packs hold, up to one that cannot be read."""
    for pack in packs:
        try:
            with open_pack(root, pack) as archive:
                held = archive.infolist()
        except (OSError, *DAMAGED):
            return
        weight = sum(info.file_size + PATH_BYTES for info in held)
        yield Load(frozenset(map(_top, held)), weight)


def _remove_taken_over(root: str) -> None:
    """Remove the packs that the latest one took over, if that was interrupted."""
    latest, *others = list_packs(root) or [Pack(0, 0, 0)]
    for pack in others:
        if not latest.first <= pack.first <= pack.last <= latest.last:
            break
        with contextlib.suppress(OSError, *DAMAGED), open_pack(root, latest) as archive:
            present = set(map(_identity, archive.infolist()))
            with open_pack(root, pack) as former:
                taken_over = present.issuperset(map(_identity, former.infolist()))
            if taken_over:
                Path(root, PACKED, pack.name).unlink()
                continue
        break


def _take_over(archive: zipfile.ZipFile, root: str, pack: Pack) -> None:
    with open_pack(root, pack) as former:
        for info in former.infolist():
            _copy(former, archive, info)


def _identity(info: zipfile.ZipInfo) -> tuple[str, int, int]:
    return info.filename, info.file_size, info.CRC


def _top(info: zipfile.ZipInfo) -> str:
    return info.filename.partition("/")[0]


@contextlib.contextmanager
def _new_pack(path: Path) -> Iterator[zipfile.ZipFile]:
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


def _write_directory(archive: zipfile.ZipFile, root: str, listing: Listing) -> None:
    for entry in listing.entries:
        try:
            _write_entry(archive, root, listing, entry)
        except OSError as error:
            if error.errno in NO_SPACE:
                raise
            raise _Changed(listing) from error


def _write_entry(archive: zipfile.ZipFile, root: str, listing: Listing, entry: Entry) -> None:
    path = f"{root}/{listing.name}/{entry.name}"
    name = f"{listing.name}/{entry.name}"
    if stat.S_ISDIR(entry.mode):
        archive.writestr(_info(name.rstrip("/") + "/", entry), b"")
    elif stat.S_ISLNK(entry.mode):
        archive.writestr(_info(name, entry), os.fsencode(os.readlink(path)))
    else:
        _write_file(archive, _info(name, entry), path, listing, entry)


def _write_file(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: str, listing: Listing, entry: Entry
) -> None:
    descriptor = os.open(path, FLAGS | os.O_NOFOLLOW)
    with open(descriptor, "rb", buffering=0) as source:
        if Entry.of(entry.name, os.fstat(descriptor)) != entry:
            raise _Changed(listing)
        if entry.size <= CHUNK:
            data = source.read(entry.size + 1)
            copied = len(data)
            archive.writestr(info, data)
        else:
            copied = 0
            with archive.open(info, "w") as target:
                while data := source.read(CHUNK):
                    copied += target.write(data)
        if copied != entry.size:
            raise _Changed(listing)


def _info(name: str, entry: Entry) -> zipfile.ZipInfo:
    seconds = min(max(entry.modified / 1e9, _EARLIEST), _LATEST)
    info = zipfile.ZipInfo(name, time.gmtime(seconds)[:6])
    info.external_attr = entry.mode << 16
    info.file_size = entry.size
    info.create_system = 3  # Unix: external_attr has the mode
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


# -- removal -----------------------------------------------------------------------------------


def remove_directory(root: str, listing: Listing, *, packed: bool) -> bool:
    """Remove a directory; return False if it has changed since it was listed.

    It is removed through its descriptor: a later attempt may replace it at any time. If it is
    ``packed``, its marker goes first, so that readers use the pack from then on; otherwise last, so
    that an interrupted removal can be completed. Raise OSError if it cannot be removed.
    """
    path = f"{root}/{listing.name}"
    try:
        if list_directory(root, listing.name) != listing:
            return False
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (UnpackableError, FileNotFoundError):
        return False
    try:
        if os.fstat(descriptor).st_ino != listing.entries[0].inode:
            return False
        _remove_content(descriptor, marker_first=packed)
    finally:
        os.close(descriptor)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(path)
    return True


def _remove_content(directory: int, *, marker_first: bool) -> None:
    names = sorted(os.listdir(directory), key=lambda name: (name == INPUTS) != marker_first)
    for name in names:
        mode = os.lstat(name, dir_fd=directory).st_mode
        if stat.S_ISDIR(mode):
            shutil.rmtree(name, dir_fd=directory)
        else:
            os.unlink(name, dir_fd=directory)
        fault_points.point("packs.removing")


def is_packed(root: str, listing: Listing) -> bool:
    """Return whether a pack holds everything in a directory: then its removal was interrupted."""
    for pack in find_packs(root, listing.run_id):
        with contextlib.suppress(OSError, zipfile.BadZipFile), open_pack(root, pack) as archive:
            held = {info.filename: info for info in archive.infolist()}
            if f"{listing.name}/" in held:  # the latest version
                return all(_is_held(root, listing, entry, held) for entry in listing.entries)
    return False


def _is_held(
    root: str, listing: Listing, entry: Entry, held: Mapping[str, zipfile.ZipInfo]
) -> bool:
    path = f"{root}/{listing.name}/{entry.name}"
    if stat.S_ISDIR(entry.mode):
        return f"{listing.name}/{entry.name}".rstrip("/") + "/" in held
    info = held.get(f"{listing.name}/{entry.name}")
    if info is None or info.external_attr >> 16 != entry.mode or info.file_size != entry.size:
        return False
    if stat.S_ISLNK(entry.mode):
        return zlib.crc32(os.fsencode(os.readlink(path))) == info.CRC
    with open(os.open(path, FLAGS | os.O_NOFOLLOW), "rb") as file:
        crc = 0
        while data := file.read(CHUNK):
            crc = zlib.crc32(data, crc)
    return crc == info.CRC


def discard(root: str, run_ids: Collection[int]) -> None:
    """Remove runs from all packs. The caller holds the lock of the packs."""
    for pack in list_packs(root):
        if not any(map(pack.may_hold, run_ids)):
            continue
        with open_pack(root, pack) as archive:
            kept = [info for info in archive.infolist() if not _is_of(info, run_ids)]
            path = Path(root, PACKED, pack.name)
            if not kept:
                path.unlink()
            elif len(kept) < len(archive.infolist()):
                with _new_pack(path) as target:
                    for info in kept:
                        _copy(archive, target, info)


def _copy(archive: zipfile.ZipFile, target: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    own = copy.copy(info)
    if info.is_dir():
        target.writestr(own, b"")
        return
    with archive.open(info) as source, target.open(own, "w") as written:
        shutil.copyfileobj(source, written, CHUNK)


def _is_of(info: zipfile.ZipInfo, run_ids: Container[int]) -> bool:
    return run_id_of(_top(info)) in run_ids


# -- reading -----------------------------------------------------------------------------------


def list_packs(root: str | Path) -> list[Pack]:
    """Return the packs beside the run directories, the latest first."""
    try:
        names = os.listdir(Path(root, PACKED))
    except OSError:
        return []
    return sorted(filter(None, map(Pack.parse, names)), reverse=True)


def find_packs(root: str | Path, first: int, last: int | None = None) -> list[Pack]:
    """Return the packs that may hold directories of a run, or of runs from ``first`` to ``last``.

    The latest is the first.
    """
    last = first if last is None else last
    return [pack for pack in list_packs(root) if pack.first <= last and first <= pack.last]


@contextlib.contextmanager
def open_pack(root: str | Path, pack: Pack) -> Iterator[zipfile.ZipFile]:
    """Open a pack for reading; OSError or BadZipFile if that fails."""
    descriptor = os.open(Path(root, PACKED, pack.name), FLAGS | os.O_NOFOLLOW)
    with open(descriptor, "rb") as file, zipfile.ZipFile(file) as archive:
        yield archive
