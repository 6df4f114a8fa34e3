"""The CREATED runs of a study: by queue, held or not, and in the order in which they are claimed.

A *queue* is the generator and the machine name that a run names, "" for none. Numbers come from the
stored ones, and ids from iterators: no question takes longer the more runs exist.
"""

from __future__ import annotations

import heapq
from collections import Counter
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from motoko.core.states import Lifecycle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from motoko.core.holds import Holds
    from motoko.storage.study_table import StudyTable

Queue: TypeAlias = "tuple[str, str]"
UNNAMED: Final[Queue] = ("", "")


class CreatedRuns:
    """The CREATED runs of a study in one snapshot, and the holds of runs there."""

    def __init__(self, table: StudyTable, holds: Holds) -> None:
        self._table = table
        self._covered = holds.covers(table.name)
        self._held_names = holds.run_names(table.name)
        self._held_ids = holds.ids(table.name)

    # -- numbers ---------------------------------------------------------------------------

    def count_held(self, run_name: str | None = None) -> int:
        """Return the number of held runs of one run name or of all."""
        counts = self._counts(run_name)
        if self._covered:
            return counts.total()
        whole = sum(number for name, number in counts.items() if name in self._held_names)
        return whole + len(self._held_singly(counts))

    def count_unheld(self, run_name: str | None = None) -> dict[Queue, int]:
        """Return the number of the other runs by queue."""
        if self._covered:
            return {}
        counts, found = self._counts(run_name), Counter[Queue]()
        found[UNNAMED] = sum(n for name, n in counts.items() if name not in self._held_names)
        for queue, name, number in self._table.numbers.numbers("queued", None, run_name):
            if name not in self._held_names:
                found[queue] += number
                found[UNNAMED] -= number
        queues = self._table.trees["queues"]
        for run_id in self._held_singly(counts):
            found[next((q for q in found if run_id in queues.get(q, ())), UNNAMED)] -= 1
        return dict(+found)

    def _counts(self, run_name: str | None) -> Counter[str]:
        numbers = self._table.numbers.numbers("lifecycles", [Lifecycle.CREATED], run_name)
        return Counter({name: number for _, name, number in numbers})

    def _held_singly(self, names: Iterable[str]) -> list[int]:
        """Return the held runs of these run names that no rule holds."""
        sets = [self._set(name) for name in names if name not in self._held_names]
        return [run_id for run_id in self._held_ids if _in_any(run_id, sets)]

    # -- ids -------------------------------------------------------------------------------

    def ids(
        self,
        served: Callable[[str, str], bool] = lambda _generator, _machine: True,
        *,
        run_name: str | None = None,
        without: Iterable[str] = (),
    ) -> Iterator[int]:
        """Yield the runs that are not held and whose queue is ``served``, ascending.

        ``run_name``: only of this one; ``without``: of none of these.
        """
        if self._covered:
            return iter(())
        excluded = self._held_names.union(without)
        counts = Counter({n: k for n, k in self._counts(run_name).items() if n not in excluded})
        queued: dict[bool, Counter[Queue]] = {True: Counter(), False: Counter()}
        for queue, name, number in self._table.numbers.numbers("queued", None, run_name):
            queued[served(*queue)][queue] += number * (name in counts)
        created = [self._set(name) for name in counts]
        listed = {kind: self._listed(queues) for kind, queues in queued.items()}
        if served(*UNNAMED):
            # Without a number the search would read all runs of a long queue that is not served.
            found, number = _union(created), counts.total() - queued[False].total()
            others, within = listed[False], []
        else:
            found, number = _union(listed[True]), queued[True].total()
            others, within = [], created
        chosen = (
            run_id
            for run_id in found
            if run_id not in self._held_ids
            and not _in_any(run_id, others)
            and (not within or _in_any(run_id, within))
        )
        return islice(chosen, max(0, number))

    def sample(self, run_name: str, number: int) -> list[int]:
        """Return the first and the last ``number`` runs of a run name that are not held."""
        if sum(self.count_unheld(run_name).values()) <= 2 * number:
            return list(self.ids(run_name=run_name))
        last = (i for i in _descending(self._set(run_name)) if i not in self._held_ids)
        first = islice(self.ids(run_name=run_name), number)
        return [*first, *reversed([*islice(last, number)])]

    def _set(self, run_name: str) -> Any:
        return self._table.trees["lifecycles"][Lifecycle.CREATED, run_name]

    def _listed(self, queues: Counter[Queue]) -> list[Any]:
        return [self._table.trees["queues"][queue] for queue in +queues]


def _union(sets: list[Any]) -> Iterable[int]:
    """Yield the ids in disjoint sets, ascending."""
    return sets[0] if len(sets) == 1 else heapq.merge(*sets)


def _in_any(run_id: int, sets: Iterable[Any]) -> bool:
    return any(run_id in ids for ids in sets)


def _descending(ids: Any) -> Iterator[int]:
    with suppress(ValueError):  # none is left
        found = ids.maxKey()
        while True:
            yield found
            found = ids.maxKey(found - 1)
