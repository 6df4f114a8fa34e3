"""Wall-clock jumps affect no run, no retry and no lease."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from glob import glob
from typing import TYPE_CHECKING

import pytest

from motoko.core.states import Lifecycle
from motoko.launcher.control import stop_launcher
from motoko.runtime.ports import Runtime, SystemClock, process_age, uptime
from motoko.runtime.processes import current
from motoko.storage.store import WorkflowStore
from tests.support.chaos_clock import Clock
from tests.support.launching import WorkflowHarness, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

FAKETIME = glob("/usr/lib*/faketime/libfaketime.so.1") + glob(
    "/usr/lib/*/faketime/libfaketime.so.1"
)
# The first run waits for a file, the second fails, all others finish immediately.
SCRIPT = """
case $MOTOKO_JOB_X in
1) while [ ! -e ../../../go ]; do sleep 0.1; done ;;
2) exit 1 ;;
esac
"""

TWO = {"max_concurrent": 2}


@dataclass
class Jumping(SystemClock):
    """A clock whose time of day can be set."""

    day: float
    up: float = 100.0

    def now(self) -> float:
        return self.day

    def uptime(self) -> float:
        return self.up


@pytest.fixture
def place(tmp_path: Path) -> Iterator[WorkflowHarness]:
    place = WorkflowHarness.make(tmp_path / "w", {"mult": SCRIPT}, options=TWO)
    yield place
    place.close()


@contextlib.contextmanager
def jumped(monkeypatch: pytest.MonkeyPatch, offset: str) -> Iterator[None]:
    """Give started processes another time of day, and measure with it."""
    with monkeypatch.context() as patched:
        patched.setenv("LD_PRELOAD", FAKETIME[0])
        patched.setenv("FAKETIME", offset)
        patched.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")  # jumps do not change the uptime
        patched.setenv("DONT_FAKE_MONOTONIC", "1")  # the name in older versions
        yield


def test_uptime_agrees_with_process_start_times() -> None:
    before = uptime()
    assert 0 <= process_age(current().started) < before
    assert abs(before - time.clock_gettime(time.CLOCK_BOOTTIME)) < 60
    assert uptime() >= before


def test_the_steady_clock_is_shared_by_all_processes_of_a_boot(place: WorkflowHarness) -> None:
    clock = Jumping(day=2e9)
    store = WorkflowStore(place.state, place.store.studies, runtime=Runtime(clock=clock))
    try:
        # The record of the first process counts, independent of the current time of day.
        before, steady, after = uptime(), place.store.steady(), uptime()
        offset = store.steady() - clock.up
        assert before - 1e-3 <= steady - offset <= after + 1e-3
        before = store.steady()
        clock.day, clock.up = 0.0, 105.0
        assert store.steady() == pytest.approx(before + 5.0)
    finally:
        store.close()


@pytest.mark.parametrize("restarting", [False, True])
def test_clock_jumps_do_not_affect_a_workflow(
    restarting: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(tmp_path / "clock", jumping=True)
    for name, value in clock.environment.items():
        monkeypatch.setenv(name, value)
    place = WorkflowHarness.make(tmp_path / "w", {"mult": SCRIPT}, options=TWO)

    def jump(hours: int) -> None:
        clock.set(hours)
        if restarting:
            stop_launcher(place.state)
            place.start()

    with contextlib.closing(place):
        check_uninterrupted_execution(place, jump)


@pytest.mark.skipif(not FAKETIME, reason="libfaketime is not installed")
def test_a_launcher_with_another_time_of_day_does_not_affect_a_workflow(
    place: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def jump(hours: int) -> None:
        stop_launcher(place.state)
        with jumped(monkeypatch, f"{hours:+}h"):
            place.start()

    check_uninterrupted_execution(place, jump)


def check_uninterrupted_execution(place: WorkflowHarness, jump: Callable[[int], None]) -> None:
    place.start()
    (long,) = place.create([{"x": 1}], timeout=3600.0)
    (failing,) = place.create([{"x": 2}], retries=1, retry_delay=3.0)
    place.wait_for(long, Lifecycle.START)
    wait_until(lambda: place.record(failing).tries == 1)
    place.wait_for(failing, Lifecycle.CREATED)
    jump(-5)
    (failed,) = place.wait([failing])
    assert failed.lifecycle is Lifecycle.FAILED
    assert failed.tries == 2
    jump(5)
    (quick,) = place.create([{"x": 3}])
    place.wait([quick])
    assert place.record(long).lifecycle is Lifecycle.START
    (place.directory / "go").touch()
    (ended,) = place.wait([long])
    assert (ended.lifecycle, ended.tries) == (Lifecycle.FINISHED, 1)
