"""Fixtures that several directories of tests share."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, settings

from motoko.runtime.signals import changeable_signals, reset_all
from tests.support.blocking import LoopGuard
from tests.support.slurm_testbed import CannotRunError, Testbed

if TYPE_CHECKING:
    from collections.abc import Iterator

# Of the caller's: they change what commands print, and how many processes scripts ask for.
SETTINGS: Final = ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "MOTOKO_TEST_PROCESSES")
LONGEST_FIRST: Final = ("fault", "integration", "docs", "property", "contract", "unit")


def pytest_configure() -> None:
    """Undo what the caller set: a shell ignores SIGINT for what it runs with `&`.

    No example of a property has a deadline: a machine at work may take a while over any of them.
    """
    reset_all()
    for name in SETTINGS:
        os.environ.pop(name, None)
    slow = [HealthCheck.too_slow]
    settings.register_profile("unhurried", settings(), deadline=None, suppress_health_check=slow)
    settings.load_profile("unhurried")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that take long, so that short ones are left to fill all processes."""
    items.sort(key=lambda item: min(map(LONGEST_FIRST.index, marks(item)), default=0))


def marks(item: pytest.Item) -> set[str]:
    """Return by what a test needs it is marked."""
    return {mark.name for mark in item.iter_markers()} & set(LONGEST_FIRST)


@pytest.fixture(autouse=True)
def _signals_as_found() -> Iterator[None]:
    """Fail a test that leaves signals handled, ignored or blocked in another way."""
    before = signal_settings()
    yield
    assert signal_settings() == before


@pytest.fixture(scope="session", autouse=True)
def loop_guard() -> Iterator[LoopGuard]:
    """Fail tests in whose process Motoko blocks an event loop."""
    guard = LoopGuard()
    guard.activate()
    yield guard
    guard.deactivate()


@pytest.fixture(autouse=True)
def _blocking_on_purpose(request: pytest.FixtureRequest, loop_guard: LoopGuard) -> Iterator[None]:
    """Leave alone a test whose own code blocks the loop, to see what Motoko does."""
    if request.node.get_closest_marker("blocks_loop") is None:
        yield
        return
    with loop_guard.suspended():
        yield


def signal_settings() -> tuple[dict[int, Any], set[int]]:
    """Return the handlers of all signals, and which are blocked."""
    handlers = {number: signal.getsignal(number) for number in changeable_signals()}
    return handlers, set(signal.pthread_sigmask(signal.SIG_BLOCK, []))


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
