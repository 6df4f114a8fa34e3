"""Samples of several parameters: random points, Latin hypercubes, Sobol' sequences.

A sample depends on its description only. All platforms and versions give the same points, because
random bits come from a digest of seed, parameter and index.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from motoko.core.axes import log_scale
from motoko.errors import MotokoError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Method: TypeAlias = Literal["sobol", "lhs", "random"]
METHODS: Final[tuple[Method, ...]] = ("sobol", "lhs", "random")
BITS: Final = 53  # positions within a range are whole numbers below 2**BITS
SOBOL_BITS: Final = 30


@dataclass(frozen=True, slots=True)
class SampledRange:
    """A range of one parameter. ``whole``: of whole numbers, with ``stop``."""

    name: str
    start: float
    stop: float
    log: bool = False
    whole: bool = False

    def values(self, positions: Iterable[int]) -> list[float]:
        """Return the values at positions from 0 to 2**BITS - 1."""
        if self.log:
            scale = log_scale(self.start, self.stop)
            found = [scale(position, 1 << BITS) for position in positions]
            return [round(value) for value in found] if self.whole else found
        if self.whole:
            start, count = int(self.start), int(self.stop) - int(self.start) + 1
            return [start + (position * count >> BITS) for position in positions]
        parts = (position / (1 << BITS) for position in positions)
        return [self.start * (1 - part) + self.stop * part for part in parts]


@dataclass(frozen=True, slots=True)
class Sample:
    """``n`` points of ranges of several parameters."""

    method: Method
    n: int
    seed: int
    ranges: tuple[SampledRange, ...]

    @property
    def names(self) -> Sequence[str]:
        """Return the names of the parameters."""
        return [one.name for one in self.ranges]

    def columns(self) -> Mapping[str, Sequence[float]]:
        """Return the values of each parameter; MotokoError if scipy is missing for ``sobol``."""
        if self.method == "sobol":
            positions = self._sobol()
        elif self.method == "lhs":
            positions = [self._hypercube(one.name) for one in self.ranges]
        else:
            positions = [self._digests("random", one.name) for one in self.ranges]
        return {
            one.name: one.values(column) for one, column in zip(self.ranges, positions, strict=True)
        }

    def _digests(self, purpose: str, name: str) -> list[int]:
        return [_digest(self.seed, purpose, name, index) for index in range(self.n)]

    def _hypercube(self, name: str) -> list[int]:
        """Return one position in each of ``n`` equal intervals, in random order."""
        order = self._digests("order", name)
        ranks = [0] * self.n
        for rank, index in enumerate(sorted(range(self.n), key=order.__getitem__)):
            ranks[index] = rank
        inside = self._digests("inside", name)
        return [((ranks[i] << BITS) + inside[i]) // self.n for i in range(self.n)]

    def _sobol(self) -> list[list[int]]:
        """Return the first points of a Sobol' sequence, with a random digital shift."""
        try:
            from scipy.stats import qmc
        except ImportError as error:
            raise MotokoError(
                "the sampling method sobol needs scipy, which is not installed",
                hint="pip install 'motoko[sample]', or use lhs or random.",
            ) from error
        sequence = qmc.Sobol(len(self.ranges), scramble=False, bits=SOBOL_BITS)
        points = sequence.random_base2((self.n - 1).bit_length())[: self.n]
        found = []
        for one, column in zip(self.ranges, points.T.tolist(), strict=True):
            shift = _digest(self.seed, "shift", one.name, 0) >> (BITS - SOBOL_BITS)
            digits = [int(part * (1 << SOBOL_BITS)) ^ shift for part in column]
            found.append([number << (BITS - SOBOL_BITS) for number in digits])
        return found


def _digest(seed: int, purpose: str, name: str, index: int) -> int:
    """Return a random number below 2**BITS that depends on the arguments only."""
    text = f"{seed} {purpose} {name} {index}"
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> (64 - BITS)
