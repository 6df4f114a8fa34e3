"""Thousands of random faults between launcher and scheduler cause no wrong outcome."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.slurm_simulation import FAILURES, Simulation

pytestmark = pytest.mark.property

EXAMPLES = 75
RUNS = 12
STEPS = 40
FAULTS = 2000
WITHOUT_DISK = Path("/dev/shm")


async def survived(seed: int, fault_rate: float, directory: Path) -> Simulation:
    """Simulate random faults, then continue without faults until all runs end."""
    with Simulation(Random(seed), directory, fault_rate) as world:
        world.create(RUNS)
        for _ in range(STEPS):
            await world.step()
        await world.finish()
        world.check()
        return world


def test_random_faults_cause_no_wrong_outcome() -> None:
    faults: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()

    # Hypothesis derives the examples from the source of this function.
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, 2**32), st.sampled_from((0.1, 0.25, 0.5)))
    def storms(seed: int, storm: float) -> None:
        place = WITHOUT_DISK if WITHOUT_DISK.is_dir() else None
        with tempfile.TemporaryDirectory(dir=place, prefix="motoko-") as directory:
            world = asyncio.run(survived(seed, storm, Path(directory) / "wf"))
        assert world.problems == []
        faults.update(world.faults)
        outcomes.update(world.outcomes)

    storms()

    print(faults.total(), "faults,", dict(outcomes))
    assert faults.total() >= FAULTS, faults
    # All kinds of faults and outcomes occurred.
    kinds = {
        f"{program} {failure.name}" for program, found in FAILURES.items() for failure in found
    }
    assert kinds <= set(faults)
    assert {"killed", "launcher: asleep", "files late"} <= set(faults)
    assert {"FINISHED", "FAILED", "CANCELLED", "TIMEOUT", "LOST"} <= set(outcomes)
    assert outcomes["FINISHED"] > outcomes.total() / 4


def test_without_faults_every_run_ends_as_its_script_does() -> None:
    with tempfile.TemporaryDirectory(prefix="motoko-") as directory:
        world = asyncio.run(survived(1, 0.0, Path(directory) / "wf"))

    assert world.problems == []
    assert len(world.wrapper.executions) == RUNS
    assert set(world.outcomes) <= {"FINISHED", "FAILED", "TIMEOUT"}
    assert world.faults.keys() <= {"files late"}
