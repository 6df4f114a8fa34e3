"""Fixtures that several directories of tests share."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.slurm_testbed import CannotRunError, Testbed

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def shared_slurm() -> Iterator[Testbed]:
    """A real Slurm for all tests that leave it as they found it."""
    # Not in pytest's directory: the sockets' paths must be short.
    with tempfile.TemporaryDirectory(prefix="motoko-") as place:
        slurm = Testbed(Path(place) / "slurm")
        try:
            slurm.start()
        except CannotRunError as error:
            pytest.skip(str(error))
        try:
            yield slurm
        finally:
            slurm.stop()


@pytest.fixture
def slurm(shared_slurm: Testbed, monkeypatch: pytest.MonkeyPatch) -> Testbed:
    """The shared Slurm, for processes that this test starts."""
    monkeypatch.setenv("SLURM_CONF", shared_slurm.environment["SLURM_CONF"])
    return shared_slurm
