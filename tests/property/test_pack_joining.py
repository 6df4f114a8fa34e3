"""Few runs at a time leave few packs, and are not written often."""

from __future__ import annotations

from itertools import count, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motoko.runtime import pack_joining
from motoko.runtime.pack_joining import CHAIN, PATH_BYTES, Load, number_taken_over

pytestmark = pytest.mark.property

USUAL = 8 * PATH_BYTES  # seven paths with little in them
MAX_RUNS, MAX_WEIGHT, SMALL = (
    pack_joining.MAX_RUNS,
    pack_joining.MAX_WEIGHT,
    pack_joining.SMALL,
)
weights = st.one_of(
    st.just(USUAL), st.integers(PATH_BYTES, SMALL), st.integers(PATH_BYTES, MAX_WEIGHT)
)
# How many packings follow, of how many runs each, of which weight.
phases = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 5), weights), max_size=8)
large = st.tuples(st.just(1), st.integers(400, MAX_RUNS), st.just(PATH_BYTES))


class Packs:
    """The packs, the latest first, and the total of what was written."""

    def __init__(self) -> None:
        self.loads: list[Load] = []
        self.written = 0
        self._names = map(str, count())

    def pack(self, runs: int, weight: int) -> None:
        new = Load(frozenset(next(self._names) for _ in range(runs)), runs * weight)
        number = number_taken_over(new, self.loads)
        joined = sum(self.loads[:number], new)
        self.loads[:number] = [joined]
        self.written += joined.weight


@settings(deadline=None, max_examples=100)
@given(st.lists(st.one_of(phases, large.map(lambda one: [one])), max_size=4))
def test_packs_are_few_and_written_seldom(parts: list[list[tuple[int, int, int]]]) -> None:
    packs, packings, runs, weight = Packs(), 0, 0, 0
    for times, number, each in (phase for part in parts for phase in part):
        fitting = min(number, max(1, MAX_WEIGHT // each))  # as packing groups them
        for _ in range(times):
            packs.pack(fitting, each)
            packings, runs, weight = packings + 1, runs + fitting, weight + fitting * each
            assert sum(len(load.names) for load in packs.loads) == runs
            most = CHAIN * (1 + 2 * runs / MAX_RUNS + 2 * weight / MAX_WEIGHT)
            assert len(packs.loads) <= most
            assert packs.written <= packings * SMALL + 13 * weight
    for later, load in pairwise(packs.loads):
        assert load.weight > max(SMALL, 2 * later.weight) or not later.fits(load)
    for load in packs.loads:
        assert len(load.names) <= MAX_RUNS
        assert load.weight <= MAX_WEIGHT


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 3), min_size=60, max_size=700))
def test_usual_runs_leave_a_twentieth_of_a_path_each(sizes: list[int]) -> None:
    """Count the directory of the packs and its lock, too."""
    packs, runs = Packs(), 0
    for size in sizes:
        packs.pack(size, USUAL)
        runs += size
        paths = 2 + len(packs.loads)
        assert paths <= max(3, 0.05 * runs)
