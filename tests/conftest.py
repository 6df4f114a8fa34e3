"""Shared fixtures and hooks."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

from motoko.runtime.signals import changeable_signals, reset_all
from tests.support.blocking import LoopGuard
from tests.support.browser import NoBrowserError, chromium, started_browser
from tests.support.slurm_testbed import CannotRunError, Testbed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from playwright.async_api import Browser

# Settings of the caller that change the output of commands and the process count of scripts.
SETTINGS: Final = ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "MOTOKO_TEST_PROCESSES")
LONGEST_FIRST: Final = ("fault", "integration", "docs", "property", "contract", "unit")


def pytest_configure() -> None:
    """Reset the caller's settings: a shell ignores SIGINT for background commands.

    Hypothesis examples have no deadline, because a busy machine may be slow.
    """
    reset_all()
    for name in SETTINGS:
        os.environ.pop(name, None)
    slow = [HealthCheck.too_slow]
    settings.register_profile("unhurried", settings(), deadline=None, suppress_health_check=slow)
    settings.load_profile("unhurried")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start slow tests first: short ones then keep all processes busy until the end."""
    items.sort(key=lambda item: min(map(LONGEST_FIRST.index, suite_marks(item)), default=0))


def suite_marks(item: pytest.Item) -> set[str]:
    """Return the suite markers of a test."""
    return {mark.name for mark in item.iter_markers()} & set(LONGEST_FIRST)


@pytest.fixture(autouse=True)
def _signals_restored() -> Iterator[None]:
    """Fail a test that does not restore signal handlers and the signal mask."""
    before = signal_settings()
    yield
    assert signal_settings() == before


@pytest.fixture(scope="session", autouse=True)
def loop_guard() -> Iterator[LoopGuard]:
    """Fail tests in which Motoko blocks an event loop."""
    guard = LoopGuard()
    guard.activate()
    yield guard
    guard.deactivate()


@pytest.fixture(autouse=True)
def _blocking_allowed(request: pytest.FixtureRequest, loop_guard: LoopGuard) -> Iterator[None]:
    """Suspend the guard for tests that block the loop on purpose."""
    if request.node.get_closest_marker("blocks_loop") is None:
        yield
        return
    with loop_guard.suspended():
        yield


def signal_settings() -> tuple[dict[int, Any], set[int]]:
    """Return the handlers of all signals and the set of blocked signals."""
    handlers = {number: signal.getsignal(number) for number in changeable_signals()}
    return handlers, set(signal.pthread_sigmask(signal.SIG_BLOCK, []))


@pytest.fixture(scope="session")
def shared_slurm() -> Iterator[Testbed]:
    """A real Slurm for all tests that restore its state."""
    # Not in pytest's directory, because socket paths must be short.
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
    """The shared Slurm, configured for processes that this test starts."""
    monkeypatch.setenv("SLURM_CONF", shared_slurm.environment["SLURM_CONF"])
    return shared_slurm


@pytest.fixture(scope="session")
def _chromium() -> None:
    """Skip tests with a browser on machines that have none and cannot install it."""
    try:
        chromium()
    except NoBrowserError as error:
        pytest.skip(str(error))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def _browser(_chromium: None) -> AsyncIterator[Browser]:
    async with started_browser() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def browser(_browser: Browser) -> AsyncIterator[Browser]:
    """A real browser without pages and cookies. Its tests share the module's event loop."""
    yield _browser
    for context in _browser.contexts:
        await context.close()
