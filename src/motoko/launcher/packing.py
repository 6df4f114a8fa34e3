"""Move the directories of ended runs into packs, or remove those of finished runs. All of it
blocks.

The database decides which runs have ended, and the marker of a directory whose it is. A directory
that changes meanwhile, or that a pack cannot hold, stays as it is.
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from motoko.core.states import Lifecycle
from motoko.launcher.attempt_files import find_wrapper
from motoko.launcher.attempt_paths import attempts_among, read_marker, run_stamp
from motoko.runtime.pack_joining import MAX_RUNS, MAX_WEIGHT
from motoko.runtime.packs import (
    find_packs,
    is_packed,
    packs_lock,
    remove_directory,
    write_pack,
)
from motoko.runtime.run_listing import Listing, UnpackableError, list_directory, run_id_of
from motoko.storage.session import Session

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from motoko.core.records import RunRecord
    from motoko.storage.store import WorkflowStore


@dataclass(slots=True)
class PackResult:
    """The outcome of packing: the runs packed, and for the others why not, by run."""

    packed: list[int] = field(default_factory=list)
    left: dict[int, str] = field(default_factory=dict)

    def add(self, other: PackResult) -> None:
        """Add the outcome for further runs."""
        self.packed += other.packed
        self.left.update(other.left)


def loose_runs(root: Path, ids: Collection[int] | None = None) -> dict[int, list[str]]:
    """Return the names of the directories of runs outside of packs, by run in the order of ids."""
    found: dict[int, list[str]] = defaultdict(list)
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(root):
            run_id = run_id_of(name)
            if run_id is not None and (ids is None or run_id in ids):
                found[run_id].append(name)
    return dict(sorted(found.items()))


def pack_runs(store: WorkflowStore, study: str, ids: Collection[int]) -> PackResult:
    """Pack the directories of those of these runs that have ended."""
    root, result = store.runs_root(study), PackResult()
    loose = loose_runs(root, ids)
    if not loose:
        return result
    with packs_lock(root):
        ended = _ended(store, study, loose)
        for run_id in loose.keys() - ended.keys():
            result.left[run_id] = "it has not ended"
        listings = list(_listings(root, ended.values(), loose, result))
        for group in _groups(listings):
            _pack(str(root), group, result)
    result.packed = [i for i in loose if i in ended and i not in result.left]
    return result


def remove_finished(store: WorkflowStore, study: str, ids: Collection[int]) -> PackResult:
    """Remove the directories of those of these runs that are FINISHED."""
    root, result = store.runs_root(study), PackResult()
    loose = loose_runs(root, ids)
    for run_id, record in _ended(store, study, loose).items():
        if record.lifecycle is Lifecycle.FINISHED:
            for listing in _listings(root, [record], loose, result):
                _remove(str(root), listing, result, packed=False)
            if run_id not in result.left:
                result.packed.append(run_id)
    return result


def _ended(store: WorkflowStore, study: str, ids: Iterable[int]) -> dict[int, RunRecord]:
    """Return the records of the runs in a terminal state."""
    with contextlib.closing(Session(store.database)) as session:
        records = session.tables.study(study).records(ids, keep=False)
        return {record.id: record for record in records if record.lifecycle.is_terminal}


def _listings(
    root: Path, records: Iterable[RunRecord], loose: dict[int, list[str]], result: PackResult
) -> Iterator[Listing]:
    """Yield the directories that belong to the runs, and note why others stay."""
    for record in records:
        for name in sorted(loose[record.id]):
            path = f"{root}/{name}"
            try:
                listing = list_directory(str(root), name)
            except (OSError, UnpackableError) as problem:
                result.left[record.id] = str(problem)
                continue
            if not _is_own(record, path) and not _is_rest(str(root), listing):
                result.left[record.id] = f"{path} does not belong to an attempt of the run"
            elif find_wrapper(attempts_among(path, (one.name for one in listing.entries))):
                result.left[record.id] = f"a process is running in {path}"
            else:
                yield listing


def _is_rest(root: str, listing: Listing) -> bool:
    """Return whether a directory without a marker may be what an interrupted removal left."""
    return len(listing.entries) == 1 or is_packed(root, listing)


def _is_own(record: RunRecord, path: str) -> bool:
    marker = read_marker(path)
    return marker is not None and marker[1] == run_stamp(record) and marker[0] <= record.attempt


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


def _pack(root: str, group: list[Listing], result: PackResult) -> None:
    """Write a pack and remove its directories; only remove what a pack holds already."""
    ids = [listing.run_id for listing in group]
    packs = find_packs(root, min(ids), max(ids))
    new = [
        listing
        for listing in group
        if not (any(p.may_hold(listing.run_id) for p in packs) and is_packed(root, listing))
    ]
    packed = {listing.name for listing in write_pack(root, new)}
    written = {listing.name for listing in new}
    for listing in group:
        if listing.name in written and listing.name not in packed:
            result.left[listing.run_id] = f"{root}/{listing.name} has just changed"
        else:
            _remove(root, listing, result, packed=True)


def _remove(root: str, listing: Listing, result: PackResult, *, packed: bool) -> None:
    try:
        if not remove_directory(root, listing, packed=packed):
            result.left[listing.run_id] = f"{root}/{listing.name} has just changed"
    except OSError as error:
        result.left[listing.run_id] = str(error)
