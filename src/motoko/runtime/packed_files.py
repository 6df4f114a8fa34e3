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
from pathlib import Path
from typing import TYPE_CHECKING, Final

from motoko.runtime import untrusted_files
from motoko.runtime.packs import DAMAGED, PACKED, Pack, find_packs, open_pack
from motoko.runtime.run_listing import run_id_of
from motoko.runtime.untrusted_files import SMALL, FileContent
from motoko.worker import INPUTS
from motoko.worker.regular_files import open_regular

if TYPE_CHECKING:
    import zipfile
    from collections.abc import Iterator
    from typing import BinaryIO

EARLIER_MARKER: Final = f"{INPUTS}/attempt"
MARKER_BYTES: Final = 200
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


def is_packed(path: str | Path) -> bool:
    """Return whether a path is in a pack."""
    return _split(path) is not None


def locate(directory: Path) -> Path:
    """Return a run directory, or its path in the latest pack if it exists only there."""
    if not os.path.lexists(directory) and (run_id := run_id_of(directory.name)) is not None:
        for pack, held in _opened_packs(directory.parent, run_id):
            if f"{directory.name}/" in held.NameToInfo:
                return directory.parent / PACKED / pack.name / directory.name
    return directory


def _opened_packs(root: Path, run_id: int) -> Iterator[tuple[Pack, zipfile.ZipFile]]:
    """Open the readable packs that may hold directories of a run in turn, the latest first.

    A launcher may join packs meanwhile: then the pack that took them over follows.
    """
    seen: set[Pack] = set()
    while new := [pack for pack in find_packs(root, run_id) if pack not in seen]:
        seen.add(new[0])
        with contextlib.suppress(OSError, *DAMAGED), open_pack(root, new[0]) as archive:
            yield new[0], archive


def open_file(directory: Path, name: str) -> BinaryIO:
    """Open a file of a run directory for reading; OSError if it does not exist.

    A file in a pack is read into memory.
    """
    path = locate(directory) / name
    if not is_packed(path):
        return open_regular(path)
    found = read_file(path, limit=stat_file(path).size or 1)
    if found.data is None:
        text = found.fault or os.strerror(errno.ENOENT)
        raise FileNotFoundError(errno.ENOENT, text, str(path))
    return io.BytesIO(found.data)


def packed_directories(root: Path, run_id: int) -> Iterator[tuple[Path, str]]:
    """Yield the directories of a run in packs, each with the content of its marker."""
    for pack, archive in _opened_packs(root, run_id):
        names = archive.NameToInfo
        tops = {name.partition("/")[0] for name in names if name.startswith(f"run-{run_id}")}
        for top in sorted(top for top in tops if run_id_of(top) == run_id):
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


def _read(place: tuple[Path, Pack, str], offset: int, limit: int) -> FileContent:
    root, pack, name = place
    if not os.path.lexists(root / PACKED / pack.name):
        pack = _successor(root, pack, name)
    shown = root / PACKED / pack.name / name
    try:
        with open_pack(root, pack) as archive:
            info = archive.getinfo(name)
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


def _successor(root: Path, gone: Pack, name: str) -> Pack:
    """Return the pack that took over a pack with this file, or ``gone`` if none did."""
    run_id = run_id_of(name.partition("/")[0])
    found = () if run_id is None else _opened_packs(root, run_id)
    return next((pack for pack, archive in found if name in archive.NameToInfo), gone)


def _modified(info: zipfile.ZipInfo) -> float:
    return float(calendar.timegm((*info.date_time, 0, 0, 0)))
