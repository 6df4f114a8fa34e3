"""Damaged input raises only expected exceptions.

``scripts/fuzz`` does the same with many more inputs.
"""

from __future__ import annotations

import contextlib
import logging
import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.fuzz import SHARES, Faults, Readers, damaged, fuzz

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.property


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Readers]:
    # Log messages about damaged input contain text that a report of pytest-xdist cannot hold.
    logging.disable()
    try:
        with contextlib.closing(Readers(tmp_path_factory.mktemp("fuzz") / "wf")) as made:
            yield made
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize("kind", SHARES)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_damaged_input_raises_only_expected_errors(readers: Readers, kind: str, seed: int) -> None:
    readers.read(kind, random.Random(seed))


def test_a_reader_that_fails_is_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def failing(_: Readers, rng: random.Random) -> None:
        if damaged("x", rng):
            raise ZeroDivisionError(tmp_path)

    monkeypatch.setattr(Readers, "sbatch", failing)
    done, faults = fuzz(30, "seed", only="sbatch")
    assert isinstance(faults, Faults)
    assert done == {"sbatch": 30}
    assert 0 < faults.counts.total() <= 30
    assert all(kind.startswith("sbatch: ZeroDivisionError at ") for kind in faults.counts)
