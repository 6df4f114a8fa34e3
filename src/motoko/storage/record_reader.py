"""Read the records of many runs of a snapshot, in batches that leave little in the cache."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from motoko.core.records import RunRecord
    from motoko.storage.run_store import RunStore

T = TypeVar("T")

FIRST_BATCH: Final = 25  # records loaded together at first, because the caller may stop early
GROWTH: Final = 10  # of a batch over the one before
BATCH: Final = 1000  # at most
MOST_KEPT: Final = 5000  # records of one call that stay in the cache of a connection


def read_records(
    runs: RunStore,
    ids: Iterable[int],
    *,
    keep: bool = True,
    where: Callable[[RunRecord], bool] | None = None,
) -> Iterator[RunRecord]:
    """Yield the records of those of ``ids`` that exist and satisfy ``where``.

    Unless ``keep`` is False, the first MOST_KEPT that it yields stay in the cache, which it trims
    after each batch.
    """
    number = 0
    for batch in batches(ids):
        with runs.loaded(batch, release=where is not None or not keep or number > MOST_KEPT) as run:
            for run_id in batch:
                found = run.get(run_id)
                if found is None or (where is not None and not where(found.record)):
                    continue
                if keep and number < MOST_KEPT:
                    found.keep()
                number += 1
                yield found.record


def batches(items: Iterable[T]) -> Iterator[list[T]]:
    """Yield items in lists, the first of FIRST_BATCH, later ones of up to BATCH."""
    remaining, size = iter(items), FIRST_BATCH
    while batch := list(islice(remaining, size)):
        yield batch
        size = min(BATCH, GROWTH * size)
