"""Files of stored products: their names, and whether they are what was saved."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from motoko.products.manifest import Entry

LONGEST: Final = 150
FILE: Final = "file"


def stem_of(name: str) -> str:
    """Return how the file of product ``name`` is called without suffix; no two have one name."""
    stem = quote(name, safe="", errors="surrogatepass")
    if stem.startswith(".") or stem == "manifest":
        stem = f"%{ord(stem[0]):02X}{stem[1:]}"
    if len(stem) > LONGEST or not stem:
        stem = f"{stem[:100]}%{hashlib.sha256(stem.encode()).hexdigest()}"
    return stem


def record_of(path: Path) -> Entry:
    """Return what tells later whether the file at ``path`` is still the same.

    Nothing for a directory. OSError if it cannot be read.
    """
    found = path.stat()
    if path.is_dir():
        return {}
    return {"size": found.st_size, "mtime_ns": found.st_mtime_ns, "sha256": digest_of(path)}


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def paths_of(entry: Entry, directory: Path) -> list[Path]:
    """Return where the files of an entry are."""
    return [directory / name for name in entry["files"]]


def own_paths(entry: Entry, directory: Path) -> list[Path]:
    """Return those files of an entry that the store wrote; a file product is the user's."""
    if entry.get("type") == FILE or strays(entry) is not None:
        return []
    return paths_of(entry, directory)


def strays(entry: Entry) -> str | None:
    """Return what an entry names that is not a file the store could have written, None if nothing.

    A manifest may be anybody's. Of a file product only the place is recorded: it is the user's.
    """
    for name in entry["files"]:
        path = Path(name)
        outside = ".." in path.parts or "\0" in name
        if outside or (
            entry.get("type") != FILE and (not name or path.name != name or name.startswith("."))
        ):
            return f"the manifest names {name!r}, which is not a file of the store"
    return None


def damage(entry: Entry, directory: str) -> str | None:
    """Return what is wrong with the files of an entry, as far as looking at them tells."""
    stray = strays(entry)
    if stray is not None:
        return stray
    own = entry.get("type") != FILE
    for name in entry["files"]:
        path = os.path.join(directory, name)
        try:
            # A link in the store leads elsewhere; the user's own file may be one.
            found = os.stat(path, follow_symlinks=not own)
        except OSError as error:
            gone = isinstance(error, FileNotFoundError)
            return f"its file {path} {'is gone' if gone else f'cannot be read: {error.strerror}'}"
        if not (stat.S_ISREG(found.st_mode) or (stat.S_ISDIR(found.st_mode) and not own)):
            return f"its file {path} is not a regular file"
        if entry.get("size") not in (None, found.st_size):
            size = entry["size"]
            return f"its file {path} has {found.st_size} bytes, not the {size} that were saved"
    return None


def damage_within(entry: Entry, directory: Path) -> str | None:
    """Return what is wrong with the files of an entry, reading them; OSError if that fails.

    The user's own files may be large: one that has not been touched is not read.
    """
    looked = damage(entry, str(directory))
    if looked or entry.get("sha256") is None:
        return looked
    for path in paths_of(entry, directory):
        if entry.get("type") == FILE and path.stat().st_mtime_ns == entry.get("mtime_ns"):
            continue
        if digest_of(path) != entry["sha256"]:
            return f"its file {path} is not what was saved"
    return None
