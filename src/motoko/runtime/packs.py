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
import errno
import os
import re
import shutil
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from motoko.runtime import fault_points
from motoko.runtime.file_lock import FileLock, is_locked, is_recently_locked
from motoko.runtime.pack_joining import PATH_BYTES, Load, number_taken_over
from motoko.runtime.pack_writing import CHUNK, ChangedError, add_directory, copy_member, new_pack
from motoko.runtime.run_listing import (
    Entry,
    Listing,
    UnpackableError,
    list_opened,
    open_directory,
    run_id_of,
)
from motoko.worker import INPUTS
from motoko.worker.regular_files import FLAGS

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence

PACKED: Final = "packed"  # the directory of the packs
LOCK: Final = ".lock"
LOCK_SECONDS: Final = 60.0  # another process writes a pack
DAMAGED: Final = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
# The end of a zip file without a comment: at last the size and the place of its table of contents.
END: Final = struct.Struct("<4s4H2LH")
_TOP: Final = re.compile(rb"(run-[0-9]{1,10}(?:\.[^/\0]*)?)/")
_PACK: Final = re.compile(r"([0-9]{1,9})-([0-9]{1,10})-([0-9]{1,10})\.zip")


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
    return FileLock(root / PACKED / LOCK, timeout=LOCK_SECONDS, purpose="packing runs")


def long_lock_holder(root: Path) -> str | None:
    """Describe the process that has kept others from packing for LOCK_SECONDS; None: no one."""
    path = root / PACKED / LOCK
    if is_locked(path) and not is_recently_locked(path, at_most=LOCK_SECONDS):
        return FileLock(path).holder()
    return None


def check_access(*directories: Path) -> None:
    """Raise OSError if this user cannot change existing ones of these directories."""
    for directory in directories:
        if directory.is_dir() and not os.access(directory, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(directory))


# -- writing -----------------------------------------------------------------------------------


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
        except ChangedError as problem:
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
        with new_pack(directory / Pack(number, min(ids), max(ids)).name) as archive:
            for listing in listings:
                add_directory(archive, root, listing)
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
            copy_member(former, archive, info)


def _identity(info: zipfile.ZipInfo) -> tuple[str, int, int]:
    return info.filename, info.file_size, info.CRC


def _top(info: zipfile.ZipInfo) -> str:
    return info.filename.partition("/")[0]


# -- removal -----------------------------------------------------------------------------------


def remove_directory(root: str, listing: Listing, *, packed: bool) -> bool:
    """Remove a directory; return False if it has changed since it was listed.

    It is removed through its descriptor: a later attempt may replace it at any time. If it is
    ``packed``, its marker goes first, so that readers use the pack from then on; otherwise last, so
    that an interrupted removal can be completed. Raise OSError if it cannot be removed.
    """
    path = f"{root}/{listing.name}"
    try:
        with open_directory(path) as descriptor:
            if list_opened(descriptor, listing.name) != listing:
                return False
            _remove_content(descriptor, listing, marker_first=packed)
    except (UnpackableError, FileNotFoundError, NotADirectoryError):
        return False
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(path)
    return True


def _remove_content(directory: int, listing: Listing, *, marker_first: bool) -> None:
    """Remove the listed paths: one that is new since then makes the removal fail."""
    children = [entry for entry in listing.entries[1:] if "/" not in entry.name]
    for entry in sorted(children, key=lambda entry: (entry.name == INPUTS) != marker_first):
        if stat.S_ISDIR(entry.mode):
            shutil.rmtree(entry.name, dir_fd=directory)
        else:
            os.unlink(entry.name, dir_fd=directory)
        fault_points.point("packs.removing")


class FormerPacks:
    """The packs so far, the latest first. Their tables of contents are read once."""

    def __init__(self, root: str) -> None:
        self._root = root
        self.update()
        self._names: dict[Pack, frozenset[bytes]] = {}
        self._members: dict[Pack, Mapping[str, zipfile.ZipInfo]] = {}

    def update(self) -> None:
        """List the packs again, after one was written."""
        self._packs = list_packs(self._root)

    def hold(self, listing: Listing) -> bool:
        """Return whether one holds everything in a directory: its removal was interrupted."""
        for pack in self._packs:
            may_hold = pack.may_hold(listing.run_id) and listing.name.encode() in self._names_in(
                pack
            )
            held = self._members_of(pack) if may_hold else {}
            if f"{listing.name}/" in held:  # the latest version
                return all(_is_held(self._root, listing, entry, held) for entry in listing.entries)
        return False

    def _names_in(self, pack: Pack) -> frozenset[bytes]:
        """Return the names of all directories in a pack, and maybe others.

        ``ZipFile`` takes ten times as long to read them.
        """
        if pack not in self._names:
            self._names[pack] = frozenset()
            with contextlib.suppress(OSError, struct.error), _open_file(self._root, pack) as file:
                file.seek(-END.size, os.SEEK_END)
                *_, size, start, _ = END.unpack(file.read())
                file.seek(start)
                self._names[pack] = frozenset(_TOP.findall(file.read(size)))
        return self._names[pack]

    def _members_of(self, pack: Pack) -> Mapping[str, zipfile.ZipInfo]:
        if pack not in self._members:
            self._members[pack] = {}
            with contextlib.suppress(OSError, *DAMAGED), open_pack(self._root, pack) as archive:
                self._members[pack] = {info.filename: info for info in archive.infolist()}
        return self._members[pack]


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
                with new_pack(path) as target:
                    for info in kept:
                        copy_member(archive, target, info)


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
    with _open_file(root, pack) as file, zipfile.ZipFile(file) as archive:
        yield archive


def _open_file(root: str | Path, pack: Pack) -> BinaryIO:
    return open(os.open(Path(root, PACKED, pack.name), FLAGS | os.O_NOFOLLOW), "rb")
