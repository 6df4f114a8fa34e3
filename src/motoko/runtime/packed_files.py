"""Read files of run directories, whether they are in packs or not.

A path in a pack is that of the pack, continued: ``.../packed/1-1-1000.zip/run-7/stdout``. The
functions accept such paths and others, and return what ``untrusted_files`` returns.
"""

from __future__ import annotations

import calendar
import contextlib
import errno
import io
import os
import re
import stat
import zipfile
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

from motoko.runtime import untrusted_files
from motoko.runtime.packs import DAMAGED, PACKED, Pack, find_packs
from motoko.runtime.run_listing import run_id_of
from motoko.runtime.untrusted_files import SMALL, FileContent
from motoko.worker import INPUTS
from motoko.worker.regular_files import FLAGS, open_regular

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

EARLIER_MARKER: Final = f"{INPUTS}/attempt"
MARKER_BYTES: Final = 200
WHOLE: Final = 2**63 - 1  # bytes
MAX_LINKS: Final = 40  # in one path
TABLES: Final = 8  # of contents in the cache, of up to 4 MB each
# A zip file without members: ZipFile reads the contents of its file, here it gets cached ones.
EMPTY: Final = b"PK\5\6" + bytes(18)
_IN_PACK: Final = re.compile(rf"(.*?)/{PACKED}/([0-9-]+\.zip)/(.+)", re.DOTALL)


def read_file(path: str | Path, *, offset: int = 0, limit: int = SMALL) -> FileContent:
    """Read up to ``limit`` bytes of the regular file ``path`` from ``offset``."""
    place = _split(path)
    if place is None:
        return untrusted_files.read_file(path, offset=offset, limit=limit)
    return _read(place, offset, limit)


def read_end(path: str | Path, limit: int) -> FileContent:
    """Read the last ``limit`` bytes of the regular file ``path``."""
    seen = stat_file(path)
    return read_file(path, offset=max(0, seen.size - limit), limit=limit)


def stat_file(path: str | Path) -> FileContent:
    """Return size and time of the regular file ``path``, with empty data."""
    place = _split(path)
    return untrusted_files.stat_file(path) if place is None else _read(place, 0, 0)


def locate(directory: Path) -> Path:
    """Return a run directory, or its path in the latest pack if it exists only there."""
    if not os.path.lexists(directory) and (run_id := run_id_of(directory.name)) is not None:
        for pack, held in _opened_packs(directory.parent, run_id):
            if f"{directory.name}/" in held.NameToInfo:
                return directory.parent / PACKED / pack.name / directory.name
    return directory


def _opened_packs(root: Path, run_id: int) -> Iterator[tuple[Pack, _Archive]]:
    """Open the readable packs that may hold directories of a run in turn, the latest first.

    A launcher may join packs meanwhile: then the pack that took them over follows.
    """
    seen: set[Pack] = set()
    while new := [pack for pack in find_packs(root, run_id) if pack not in seen]:
        seen.add(new[0])
        with contextlib.suppress(OSError, *DAMAGED), _open_pack(root, new[0]) as archive:
            yield new[0], archive


@dataclass(frozen=True, slots=True)
class _OpenPack:
    """An open pack. Two of the same version have the same table of contents."""

    version: tuple[int, ...]
    file: BinaryIO = field(compare=False)


class _Contents(NamedTuple):
    """The table of contents of a pack, and the directories of each run."""

    members: dict[str, zipfile.ZipInfo]
    directories: Mapping[int, Sequence[str]]


class _Archive(zipfile.ZipFile):
    directories: Mapping[int, Sequence[str]]


@contextlib.contextmanager
def _open_pack(root: Path, pack: Pack) -> Iterator[_Archive]:
    """Open a pack like ``open_pack``; read its table of contents only if it is not cached."""
    descriptor = os.open(root / PACKED / pack.name, FLAGS | os.O_NOFOLLOW)
    with open(descriptor, "rb") as file, _Archive(io.BytesIO(EMPTY)) as archive:
        found = os.fstat(descriptor)
        version = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        archive.NameToInfo, archive.directories = _contents(_OpenPack(version, file))
        archive.fp = file
        yield archive


@lru_cache(TABLES)
def _contents(pack: _OpenPack) -> _Contents:
    """Read the contents of a pack, which takes 20 ms for 1,000 runs."""
    directories: dict[int, list[str]] = {}
    with zipfile.ZipFile(pack.file) as archive:
        for top in sorted({name.partition("/")[0] for name in archive.NameToInfo}):
            if (run_id := run_id_of(top)) is not None:
                directories.setdefault(run_id, []).append(top)
        return _Contents(archive.NameToInfo, directories)


def open_file(directory: Path, name: str | Path) -> BinaryIO:
    """Open a file of a run directory for reading; OSError if it does not exist.

    ``name`` is relative to the directory, or absolute; OSError if it leads out of the directory. A
    file in a pack is read into memory. Links are followed there inside of the run directory.
    """
    inner = os.path.relpath(directory / name, directory)
    if inner.partition("/")[0] == ".." and os.path.isabs(name):  # another path of the workflow?
        inner = os.path.relpath(os.path.realpath(name), os.path.realpath(directory))
    if inner.partition("/")[0] == "..":
        problem = f"it is not in {directory}"
        raise OSError(errno.EINVAL, problem, str(directory / name))
    path = locate(directory) / inner
    place = _split(path)
    if place is None:
        return open_regular(path)
    found = _read(place, 0, WHOLE, follow=True)
    if found.data is None:
        text = found.fault or os.strerror(errno.ENOENT)
        raise FileNotFoundError(errno.ENOENT, text, str(path))
    return io.BytesIO(found.data)


def packed_directories(root: Path, run_id: int) -> Iterator[tuple[Path, str]]:
    """Yield the directories of a run in packs, each with the content of its marker."""
    for pack, archive in _opened_packs(root, run_id):
        for top in archive.directories.get(run_id, ()):
            yield root / PACKED / pack.name / top, _marker(archive, top)


def _marker(archive: zipfile.ZipFile, top: str) -> str:
    for name in (f"{top}/{INPUTS}", f"{top}/{EARLIER_MARKER}"):
        if name in archive.NameToInfo:
            with archive.open(name) as file:
                return file.read(MARKER_BYTES).decode("utf-8", "replace")
    return ""


def _split(path: str | Path) -> tuple[Path, Pack, str] | None:
    """Return root, pack and name of a path in a pack, None for another path."""
    text = os.fspath(path)
    found = _IN_PACK.fullmatch(text) if ".zip/" in text else None
    pack = None if found is None else Pack.parse(found[2])
    return None if found is None or pack is None else (Path(found[1]), pack, found[3])


def _read(
    place: tuple[Path, Pack, str], offset: int, limit: int, *, follow: bool = False
) -> FileContent:
    root, pack, name = place
    if not os.path.lexists(root / PACKED / pack.name):
        pack = _successor(root, pack, name)
    shown = root / PACKED / pack.name / name
    try:
        with _open_pack(root, pack) as archive:
            info = archive.getinfo(_resolved(archive, name) if follow else name)
            if stat.S_ISLNK(info.external_attr >> 16):
                return FileContent(None, f"{shown} is a symbolic link")
            if limit == 0:
                return FileContent(b"", None, info.file_size, _modified(info))
            with archive.open(info) as file:
                file.seek(offset)
                return FileContent(file.read(limit), None, info.file_size, _modified(info))
    except (KeyError, FileNotFoundError):
        return FileContent()
    except (OSError, *DAMAGED) as error:
        return FileContent(None, f"{shown} cannot be read: {error}")


def _resolved(archive: _Archive, path: str) -> str:
    """Return the member at a path, behind links inside of the run directory.

    A link that leads out of the directory stays as it is. KeyError if the path leads out itself.
    """
    top, *names = path.split("/")
    found, pending, links = [top], names[::-1], 0
    while pending:
        name = pending.pop()
        if name == "..":
            if len(found) == 1:
                raise KeyError(path)
            found.pop()
        elif name not in ("", "."):
            found.append(name)
            info = archive.NameToInfo.get("/".join(found))
            if info is None or not stat.S_ISLNK(info.external_attr >> 16):
                continue
            target = os.fsdecode(archive.read(info))
            links += 1
            if target.startswith("/") or links > MAX_LINKS:
                break
            found.pop()
            pending += target.split("/")[::-1]
    return "/".join((*found, *pending[::-1]))


def _successor(root: Path, gone: Pack, name: str) -> Pack:
    """Return the pack that took over a pack with this file, or ``gone`` if none did."""
    run_id = run_id_of(name.partition("/")[0])
    found = () if run_id is None else _opened_packs(root, run_id)
    return next((pack for pack, archive in found if name in archive.NameToInfo), gone)


def _modified(info: zipfile.ZipInfo) -> float:
    return float(calendar.timegm((*info.date_time, 0, 0, 0)))
