"""Pack or remove the directories of ended runs, as the database describes the runs.

The marker of a directory decides whose it is. A directory that changes meanwhile, or that a pack
cannot hold, stays as it is.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final, NamedTuple

from motoko.launcher.attempt_paths import attempts_among, parse_marker, read_marker
from motoko.launcher.attempt_processes import find_wrapper
from motoko.runtime.pack_joining import MAX_RUNS, MAX_WEIGHT
from motoko.runtime.packed_files import MARKER_BYTES
from motoko.runtime.packs import FormerPacks, remove_directory, write_pack
from motoko.runtime.run_listing import Listing, UnpackableError, list_directory, list_paths
from motoko.worker import INPUTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

CHANGE: Final = os.R_OK | os.W_OK | os.X_OK  # access to a directory whose content is removed


class EndedRun(NamedTuple):
    """An ended run: its last attempt, its stamp, and the names of its directories.

    ``exited``: the database knows the exit status of that attempt, so no process executes it.
    """

    id: int
    attempt: int
    stamp: str
    names: Sequence[str]
    exited: bool = False


def pack_directories(root: str, runs: Iterable[EndedRun]) -> dict[int, str]:
    """Pack the directories of these runs; return why others stay, by run.

    The caller holds the lock of the packs.
    """
    left, former = dict[int, str](), FormerPacks(root)
    for group in _groups(_listings(root, runs, left, former, read=True)):
        _pack(root, group, left, former)
    return left


def remove_directories(root: str, runs: Iterable[EndedRun]) -> dict[int, str]:
    """Remove the directories of these runs; return why others stay, by run."""
    left: dict[int, str] = {}
    for listing in _listings(root, runs, left, FormerPacks(root), read=False):
        _remove(root, listing, left, packed=False)
    return left


def find_obstacles(root: str, runs: Iterable[EndedRun], *, packing: bool) -> dict[int, str]:
    """Return why directories of these runs would stay, by run, and change nothing."""
    left: dict[int, str] = {}
    for _ in _listings(root, runs, left, FormerPacks(root), read=packing):
        pass
    return left


def _listings(
    root: str, runs: Iterable[EndedRun], left: dict[int, str], former: FormerPacks, *, read: bool
) -> Iterator[Listing]:
    """Yield the directories that belong to the runs, and note why others stay.

    ``read``: this process needs access to the content of their files.
    """
    for run in runs:
        for name in run.names:
            path = f"{root}/{name}"
            try:
                listing = (list_directory if read else list_paths)(root, name)
            except (OSError, UnpackableError) as problem:
                left[run.id] = str(problem)
                continue
            marker = _marker(path, listing)
            if not _is_own(run, marker) and not _is_rest(former, listing):
                left[run.id] = f"{path} does not belong to an attempt of the run"
            elif not _has_exited(run, marker) and find_wrapper(
                attempts_among(path, (one.name for one in listing.entries))
            ):
                left[run.id] = f"a process is running in {path}"
            elif (denied := _denied(root, listing, read=read)) is not None:
                left[run.id] = f"this user has no access to {denied}"
            else:
                yield listing


def _denied(root: str, listing: Listing, *, read: bool) -> str | None:
    """Return a path of a directory that cannot be read or removed, None if there is none."""
    for entry in listing.entries:
        is_directory = stat.S_ISDIR(entry.mode)
        is_unread = read and stat.S_ISREG(entry.mode) and entry.name not in listing.contents
        if not is_directory and not is_unread:
            continue
        path = f"{root}/{listing.name}/{entry.name}".rstrip("/")
        if not os.access(path, CHANGE if is_directory else os.R_OK):
            return path
    return None


def _marker(path: str, listing: Listing) -> tuple[int, str] | None:
    content = listing.contents.get(INPUTS)
    if content is None:
        return read_marker(path)
    return parse_marker(content[:MARKER_BYTES].decode("utf-8", "replace"))


def _is_rest(former: FormerPacks, listing: Listing) -> bool:
    """Return whether a directory without a marker may be what an interrupted removal left."""
    return len(listing.entries) == 1 or former.hold(listing)


def _is_own(run: EndedRun, marker: tuple[int, str] | None) -> bool:
    return marker is not None and marker[1] == run.stamp and marker[0] <= run.attempt


def _has_exited(run: EndedRun, marker: tuple[int, str] | None) -> bool:
    return run.exited and marker == (run.attempt, run.stamp)


def _groups(listings: Iterable[Listing]) -> Iterator[list[Listing]]:
    """Yield the directories in groups for one pack each."""
    group: list[Listing] = []
    weight = 0
    for listing in listings:
        if group and (weight + listing.weight > MAX_WEIGHT or len(group) >= MAX_RUNS):
            yield group
            group, weight = [], 0
        group.append(listing)
        weight += listing.weight
    if group:
        yield group


def _pack(root: str, group: list[Listing], left: dict[int, str], former: FormerPacks) -> None:
    """Write a pack and remove its directories; only remove what a pack holds already."""
    new = [listing for listing in group if not former.hold(listing)]
    packed = {listing.name for listing in write_pack(root, new)}
    former.update()
    written = {listing.name for listing in new}
    for listing in group:
        if listing.name in written and listing.name not in packed:
            left[listing.run_id] = f"{root}/{listing.name} has just changed"
        else:
            _remove(root, listing, left, packed=True)


def _remove(root: str, listing: Listing, left: dict[int, str], *, packed: bool) -> None:
    try:
        if not remove_directory(root, listing, packed=packed):
            left[listing.run_id] = f"{root}/{listing.name} has just changed"
    except OSError as error:
        left[listing.run_id] = str(error)
