"""Sets of many runs, as bits: one for each run, those of CHUNK neighbouring ids in one number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableSet
from typing import Final, TypeAlias

from motoko.core.records import RunKey

CHUNK: Final = 64  # ids

Place: TypeAlias = tuple[str, int]  # of a chunk: study and number


def _place(key: RunKey) -> tuple[Place, int]:
    """Return the place of a run's chunk, and its bit there."""
    return (key.study, key.id // CHUNK), 1 << key.id % CHUNK


class RunSet(MutableSet[RunKey]):
    """A set of runs. It takes some three bytes for each if their ids are close together."""

    __slots__ = ("_bits", "_number")

    def __init__(self, keys: Iterable[RunKey] = ()) -> None:
        self._bits: dict[Place, int] = {}
        self._number = 0
        self.update(keys)

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, RunKey):
            return False
        place, bit = _place(key)
        return bool(self._bits.get(place, 0) & bit)

    def __iter__(self) -> Iterator[RunKey]:
        for (study, number), bits in sorted(self._bits.items()):
            first = number * CHUNK
            yield from (RunKey(study, first + at) for at in range(CHUNK) if bits >> at & 1)

    def __len__(self) -> int:
        return self._number

    def add(self, key: RunKey) -> None:
        """Add a run, unless the set has it."""
        self._add(*_place(key))

    def discard(self, key: RunKey) -> None:
        """Remove a run if the set has it."""
        place, bit = _place(key)
        bits = self._bits.get(place, 0)
        if bits & bit:
            self._number -= 1
            if bits == bit:
                del self._bits[place]
            else:
                self._bits[place] = bits - bit

    def update(self, keys: Iterable[RunKey]) -> None:
        """Add runs."""
        for place, bits in _chunks(keys):
            self._add(place, bits)

    def difference_update(self, keys: Iterable[RunKey]) -> None:
        """Remove runs."""
        for key in keys:
            self.discard(key)

    def chunks(self) -> Iterable[tuple[Place, int]]:
        """Return the places of its chunks and their bits."""
        return self._bits.items()

    def _add(self, place: Place, bits: int) -> None:
        before = self._bits.get(place, 0)
        self._bits[place] = before | bits
        self._number += (bits & ~before).bit_count()


class Holders:
    """The names of the events that hold each run."""

    def __init__(self) -> None:
        self._chunks: dict[Place, dict[str, int]] = {}

    def add(self, name: str, keys: Iterable[RunKey]) -> None:
        """Record that an event holds these runs."""
        for place, bits in _chunks(keys):
            chunk = self._chunks.setdefault(place, {})
            chunk[name] = chunk.get(name, 0) | bits

    def discard(self, name: str, key: RunKey) -> None:
        """Record that an event does not hold a run."""
        place, bit = _place(key)
        chunk = self._chunks.get(place, {})
        bits = chunk.get(name, 0) & ~bit
        if bits:
            chunk[name] = bits
        elif chunk.pop(name, None) and not chunk:
            del self._chunks[place]

    def names(self, key: RunKey) -> list[str]:
        """Return the events that hold a run."""
        place, bit = _place(key)
        return [name for name, bits in self._chunks.get(place, {}).items() if bits & bit]


def _chunks(keys: Iterable[RunKey]) -> Iterable[tuple[Place, int]]:
    """Return places and bits of runs."""
    return keys.chunks() if isinstance(keys, RunSet) else map(_place, keys)
