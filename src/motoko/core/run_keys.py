"""Many runs of one study as ids, four bytes each."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress, islice
from operator import lt
from typing import Final, NamedTuple, overload

from motoko.core.records import RunKey

NAMED: Final = 6  # runs in a list of names


class FirstIds(NamedTuple):
    """The first of some ids, and the number of all."""

    first: list[int]
    number: int


class RunKeys(Sequence[RunKey]):
    """The keys of runs of one study, in any order."""

    __slots__ = ("ids", "study")

    def __init__(self, study: str, ids: Iterable[int] = ()) -> None:
        self.study = study
        self.ids = array("i", ids)

    @classmethod
    def of(cls, study: str, keys: Iterable[RunKey]) -> RunKeys:
        """Return keys of runs of one study."""
        return keys if isinstance(keys, RunKeys) else cls(study, (key.id for key in keys))

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> RunKey: ...

    @overload
    def __getitem__(self, index: slice) -> RunKeys: ...

    def __getitem__(self, index: int | slice) -> RunKey | RunKeys:
        if isinstance(index, slice):
            return RunKeys(self.study, self.ids[index])
        return RunKey(self.study, self.ids[index])

    def __iter__(self) -> Iterator[RunKey]:
        study = self.study
        return (RunKey(study, run_id) for run_id in self.ids)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, RunKeys):
            return self.study == other.study and self.ids == other.ids
        return isinstance(other, list | tuple) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self)} keys of {self.study}>"


class AwaitedRuns:
    """A set of runs of one study from which runs are taken; it takes five bytes for each.

    It iterates over the remaining runs, ascending.
    """

    def __init__(self, keys: Sequence[RunKey]) -> None:
        self.study = keys[0].study if keys else ""
        ids = RunKeys.of(self.study, keys).ids
        self.ids = ids if is_ascending(ids) else array("i", sorted(set(ids)))
        self._remaining = bytearray(b"\1") * len(self.ids)
        self._number = len(self.ids)

    def __len__(self) -> int:
        return self._number

    def __iter__(self) -> Iterator[RunKey]:
        position = self._remaining.find(1)
        while position >= 0:
            yield RunKey(self.study, self.ids[position])
            position = self._remaining.find(1, position + 1)

    def had(self, run_id: int) -> bool:
        """Return whether the run remains or was taken."""
        position = bisect_left(self.ids, run_id)
        return position < len(self.ids) and self.ids[position] == run_id

    def take(self, run_id: int) -> bool:
        """Remove a run; return whether it remained."""
        position = bisect_left(self.ids, run_id)
        if not self.had(run_id) or not self._remaining[position]:
            return False
        self._remaining[position] = 0
        self._number -= 1
        return True

    def remaining_ids(self) -> array[int]:
        """Return the ids of the remaining runs, ascending."""
        if self._number == len(self.ids):
            return self.ids
        return array("i", compress(self.ids, self._remaining))


def is_ascending(ids: array[int]) -> bool:
    """Return whether each id is larger than the one before."""
    return all(map(lt, ids, islice(ids, 1, None)))
