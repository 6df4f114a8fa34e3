"""Quantities: each series is stored in chunks, so that a push rewrites only the last one.

The tree maps (run id, name, chunk number) to ``PersistentMapping {"points": [(step, value)]}``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from persistent.mapping import PersistentMapping

from motoko.storage.bulk_read import stored_data

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CHUNK: Final = 500  # numbers of a series in one object
LAST_CHUNK: Final = 2**62


def append_points(tree: Any, run_id: int, name: str, points: Iterable[tuple[Any, Any]]) -> None:
    """Append (step, value) pairs to a series."""
    keys = tree.keys((run_id, name, 0), (run_id, name, LAST_CHUNK))
    chunk = keys[-1][2] if keys else -1
    points = list(points)
    if chunk >= 0:
        last = tree[run_id, name, chunk]
        room, count = CHUNK - sum(map(_count_numbers, last["points"])), 0
        for point in points:
            room -= _count_numbers(point)
            if room < 0:
                break
            count += 1
        if count:
            last["points"] = [*last["points"], *points[:count]]
            points = points[count:]
    for number, part in enumerate(_split(points), chunk + 1):
        tree[run_id, name, number] = PersistentMapping({"points": part})


def read_points(tree: Any, run_id: int, name: str) -> list[tuple[Any, Any]] | None:
    """Return a series as (step, value) pairs in the order pushed, None if it does not exist."""
    chunks = list(tree.values((run_id, name, 0), (run_id, name, LAST_CHUNK)))
    return [point for chunk in chunks for point in chunk["points"]] if chunks else None


def read_series(
    tree: Any, wanted: Iterable[tuple[int, str]]
) -> dict[tuple[int, str], list[tuple[Any, Any]]]:
    """Return the series of (run id, name) that exist, loaded together."""
    chunks = [
        (key, chunk) for key in wanted for chunk in tree.values((*key, 0), (*key, LAST_CHUNK))
    ]
    found: dict[tuple[int, str], list[tuple[Any, Any]]] = {}
    stored = [chunk for _, chunk in chunks]
    for (key, chunk), data in zip(chunks, stored_data(stored), strict=True):
        found.setdefault(key, []).extend((chunk if data is None else data)["points"])
    return found


def series_names(tree: Any, run_id: int) -> list[str]:
    """Return the names of a run's series, sorted."""
    return sorted({name for _, name, _ in _keys(tree, run_id)})


def series_summaries(tree: Any, run_id: int) -> list[tuple[str, int, Any, Any]]:
    """Return name, number of points, last step and last value of each series of a run."""
    found: dict[str, tuple[int, Any]] = {}
    for (_, name, _), chunk in tree.items((run_id, "", 0), (run_id + 1, "", 0)):
        points = chunk["points"]
        found[name] = (found.get(name, (0, None))[0] + len(points), points[-1])
        chunk._p_deactivate()  # noqa: SLF001 - ZODB's public names begin so
    return [(name, count, *last) for name, (count, last) in sorted(found.items())]


def delete_series(tree: Any, run_id: int) -> None:
    """Delete all series of a run."""
    for key in list(_keys(tree, run_id)):
        del tree[key]


def _keys(tree: Any, run_id: int) -> Any:
    return tree.keys((run_id, "", 0), (run_id + 1, "", 0))


def _count_numbers(point: tuple[Any, Any]) -> int:
    """Return how many numbers the value of a point has; 1 for a scalar."""

    def count(value: Any) -> int:
        return sum(map(count, value)) if isinstance(value, list | tuple) else 1

    return max(1, count(point[1]))


def _split(points: list[tuple[Any, Any]]) -> Iterator[list[tuple[Any, Any]]]:
    """Split points into parts of CHUNK numbers at most, or of one point."""
    part: list[tuple[Any, Any]] = []
    room = CHUNK
    for point in points:
        numbers = _count_numbers(point)
        if part and numbers > room:
            yield part
            part, room = [], CHUNK
        part.append(point)
        room -= numbers
    if part:
        yield part
