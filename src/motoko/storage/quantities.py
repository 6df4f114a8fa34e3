"""Quantities: each series is stored in chunks, so that a push rewrites only the last one.

The tree maps (run id, name, chunk number) to ``PersistentMapping {"points": [(step, value)]}``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from persistent.mapping import PersistentMapping

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


def series_names(tree: Any, run_id: int) -> list[str]:
    """Return the names of a run's series, sorted."""
    return sorted({name for _, name, _ in _keys(tree, run_id)})


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
