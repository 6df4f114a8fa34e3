"""Creating runs in batches, and the size of the file."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from ZEO.Exceptions import ServerException

from motoko.server.state_dir import StateDir
from motoko.storage.compaction import compact_study
from motoko.storage.store import WorkflowStore
from scale.figures import Figure, Missing, at_most, in_all
from scale.place import CREATED, ENDED, say
from support import timed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scale.place import Place

TEN = 10
LABELS = 2_500


def create(place: Place) -> Iterator[Figure | Missing]:
    """Measure creating the runs in batches of 10,000."""
    with place.copy(CREATED, serve=False):
        seconds: list[float] = place.facts[CREATED]["batches"]
    total = sum(seconds)
    yield Figure("create, batches of 10,000: total", total, "s", in_all(100, "100 s"))
    share = min(TEN, len(seconds) // 2)
    if not share:
        return
    first, last = statistics.mean(seconds[:share]), statistics.mean(seconds[-share:])
    middle = statistics.median(seconds)
    yield Figure("  first ten batches, each (or half of them)", first, "s")
    yield Figure("  last ten batches, each (or half of them)", last, "s")
    yield Figure("  last ten / first ten", last / first, "times", at_most(1.5, "1.5 times"))
    yield Figure("  worst / median", max(seconds) / middle, "times", at_most(5, "5 times"))


def size(place: Place) -> Iterator[Figure | Missing]:
    """Measure the bytes of the file for each run: while written, compacted and packed."""
    yield Figure("file a run, CREATED, packed", _packed(place, CREATED), "kB")
    packed = _packed(place, ENDED)
    ending = place.facts[ENDED]["seconds"] / place.ended
    yield Figure("ending a run, 1,000 in three commits", ending * 1000, "ms")
    yield Figure("file a run, ended, packed", packed, "kB")
    with place.copy(ENDED) as directory:
        seconds = timed(lambda: compact(directory))
        compacting = _size(directory)
        pack(directory)
        compacted = _size(directory)
    say(f"compacted in {seconds:.1f} s")
    written = max(place.facts[kind]["largest"] for kind in (CREATED, ENDED))
    largest = max(compacting, written) / place.runs / 1000
    what = "file a run, ended: largest between packs"
    yield Figure(what, largest, "kB", at_most(2.5, "2.5 kB"))
    what = "file a run, ended, compacted and packed"
    yield Figure(what, compacted / place.runs / 1000, "kB", at_most(0.3, "0.3 kB"))


def _packed(place: Place, kind: str) -> float:
    """Return the kilobytes for each run after packing, with all old states dropped."""
    with place.copy(kind) as directory:
        say(f"packing {place.runs:,} runs, {kind}")
        seconds = timed(lambda: pack(directory))
        say(f"packed in {seconds:.1f} s")
        return _size(directory) / place.runs / 1000


def _size(directory: Path) -> int:
    return StateDir.of(directory).database.stat().st_size


def compact(directory: Path) -> None:
    """Make all steps of the compaction of the study ``mult``."""
    store = WorkflowStore(StateDir.of(directory), {})
    position: int | None = 0
    try:
        while position is not None:
            position = compact_study(store.database, "mult", position)
    finally:
        store.close()


def pack(directory: Path) -> None:
    """Pack the database through its server."""
    store = WorkflowStore(StateDir.of(directory), {})
    try:
        while not _packs(store):
            time.sleep(0.2)
    finally:
        store.close()


def _packs(store: WorkflowStore) -> bool:
    """Pack a database; return False while its server does so because the file has grown."""
    try:
        store.database.pack(keep=0.0)
    except ServerException as error:
        if "Already packing" not in str(error):
            raise
        return False
    return True


def labels(place: Place) -> Iterator[Figure | Missing]:
    """Measure many labels on one run."""
    if not place.smallest:
        return
    with place.copy(ENDED) as directory:
        seconds, written = place.client("label", directory, 1, LABELS)
    yield Figure("2,500 labels on one run: written", written / 1e6, "MB", at_most(5, "5 MB"))
    yield Figure("2,500 labels on one run: each", seconds / LABELS * 1000, "ms")
