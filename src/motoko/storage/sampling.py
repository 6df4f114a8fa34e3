"""Read a part of a study's indexes: counts of states, and the newest runs.

A command that starts without a cache would take long to read all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from BTrees.IIBTree import IITreeSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from motoko.storage.study_table import StudyTable

WINDOW: Final = 256  # ids that a search for the newest reads first


def sampled_counts(
    table: StudyTable, run_name: str | None, max_leaves: int
) -> tuple[dict[str, int], bool]:
    """Return the number of runs in each state as shown, and whether it is exact.

    It reads at most ``max_leaves`` leaves of the index, caches none, and extrapolates.
    """
    leaves: dict[str, list[Any]] = {}
    for (state, name), ids in table.trees["states"].items():
        if run_name in (None, name):
            leaves.setdefault(state, []).extend(_leaves(ids))
    total = sum(map(len, leaves.values()))
    exact = total <= max_leaves
    counts: dict[str, int] = {}
    for state, found in leaves.items():
        share = len(found) if exact else max(1, len(found) * max_leaves // total)
        if number := sum(_sizes(found[-share:])) * len(found) // max(1, share):
            counts[state] = number
    return counts, exact


def newest(
    table: StudyTable,
    run_name: str | None,
    *,
    states: Iterable[str] | None = None,
    id_min: int | None = None,
    id_max: int | None = None,
) -> Iterator[int]:
    """Yield the same ids as ``table.ids``, the largest first, without reading all of them."""
    if run_name is None and states is None:
        sets = [table.trees["runs"]]
    else:
        sets = [ids for ids in table.id_sets("states", states, run_name) if ids]
    low = max(min((ids.minKey() for ids in sets), default=1), id_min or 0)
    high = max((ids.maxKey() for ids in sets), default=0)
    high, width = high if id_max is None else min(high, id_max), WINDOW
    while high >= low:
        first = max(low, high - width + 1)
        found = {run_id for ids in sets for run_id in ids.keys(first, high)}
        yield from sorted(found, reverse=True)
        high, width = first - 1, 2 * width


def _leaves(ids: Any) -> list[Any]:
    """Return the leaves of a set of ids, without reading them."""
    children = (ids.__getstate__() or [()])[0][::2]
    if not children or not hasattr(children[0], "_p_jar"):
        return [ids]  # a small set has no other leaf
    if not isinstance(children[0], IITreeSet):
        return list(children)
    return [leaf for child in children for leaf in _leaves(child)]


def _sizes(leaves: Sequence[Any]) -> Iterator[int]:
    """Yield the number of ids in each leaf, without keeping the leaves in the cache."""
    loaded = [leaf._p_jar is None or leaf._p_changed is not None for leaf in leaves]
    ghosts = [leaf for leaf, is_loaded in zip(leaves, loaded, strict=True) if not is_loaded]
    states = ghosts[0]._p_jar.stored_states(ghosts) if ghosts else iter(())
    for leaf, is_loaded in zip(leaves, loaded, strict=True):
        yield len(leaf) if is_loaded else len(next(states)[0])
