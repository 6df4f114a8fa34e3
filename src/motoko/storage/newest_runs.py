"""Find the newest runs of a study without reading all ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from motoko.storage.study_table import StudyTable

WINDOW: Final = 256  # ids that a search for the newest reads first


def newest(
    table: StudyTable,
    run_name: str | None,
    *,
    states: Iterable[str] | None = None,
    lifecycles: Iterable[str] | None = None,
    id_min: int | None = None,
    id_max: int | None = None,
) -> Iterator[int]:
    """Yield the same ids as ``table.ids``, the largest first, without reading all of them."""
    index, names = ("lifecycles", lifecycles) if states is None else ("states", states)
    sets = [ids for ids in table.id_sets(index, names, run_name) if ids]
    low = max(min((ids.minKey() for ids in sets), default=1), id_min or 0)
    high = max((ids.maxKey() for ids in sets), default=0)
    high, width = high if id_max is None else min(high, id_max), WINDOW
    while high >= low:
        first = max(low, high - width + 1)
        found = {run_id for ids in sets for run_id in ids.keys(first, high)}
        yield from sorted(found, reverse=True)
        high, width = first - 1, 2 * width
