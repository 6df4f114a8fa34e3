"""Find the runs that ended since the last look, with indexes instead of records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from BTrees.IIBTree import difference, intersection

if TYPE_CHECKING:
    from collections.abc import Iterable

    from motoko.storage.tables import Tables


@dataclass(frozen=True, slots=True)
class NewEnds:
    """The runs of a study that reached a terminal state, and the failed ones among them."""

    ids: list[int]
    failed: list[int]


class EndedRuns:
    """The runs of a run name in a terminal state, as the last look found them."""

    def __init__(self, run_name: str) -> None:
        self._run_name = run_name
        self._seen: dict[str, Any] = {}

    def look(self, tables: Tables, studies: Iterable[str]) -> dict[str, NewEnds]:
        """Return the runs that ended since the last look, by study; none at the first look."""
        found: dict[str, NewEnds] = {}
        for study in studies:
            table = tables.study(study)
            ended = table.ended(self._run_name)
            seen = self._seen.get(study)
            self._seen[study] = ended
            if seen is None:
                continue
            new = difference(ended, seen)
            if new:
                failed = intersection(new, table.ended(self._run_name, failed=True))
                found[study] = NewEnds(list(new), list(failed))
        return found
