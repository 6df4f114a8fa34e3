"""An exited launcher is restarted until restarts fail repeatedly."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from motoko.errors import LauncherError
from motoko.operations.launcher_supervisor import (
    MAX_RESTARTS,
    RESTART_INTERVAL,
    SHORT_LIFE,
    LauncherSupervisor,
    last_error,
)
from motoko.runtime import processes
from motoko.runtime.ports import SystemClock

if TYPE_CHECKING:
    from pathlib import Path

    from motoko.runtime.processes import ProcessIdentity

pytestmark = pytest.mark.integration

STARTED = "2024-05-01 12:00:00,123 INFO launcher l serves s\n"
FULL = "2024-05-01 12:00:01,123 ERROR no space left on device\n  Make some.\n"
CHEESE = "2024-05-01 12:00:01,123 ERROR out of cheese\n"
CRASH = STARTED + "Traceback (most recent call last):\n  File\nValueError: out of cheese\n"


class Launchers(SystemClock):
    """Starts launchers that exit at once or live like this process, with its own clock."""

    def __init__(self, log: Path) -> None:
        done = subprocess.Popen([sys.executable, "-c", ""])
        found = processes.identify(done.pid)
        done.wait()
        assert found is not None
        self.dead: ProcessIdentity = found
        self.alive = processes.current()
        self.live = False
        self.text = STARTED
        self.fails = False
        self.log = log
        self.starts = 0
        self.elapsed = 0.0  # seconds

    def start(self) -> ProcessIdentity:
        self.starts += 1
        with self.log.open("a") as file:
            file.write(self.text)
        if self.fails:
            raise LauncherError("out of cheese", hint="Buy some.")
        return self.alive if self.live else self.dead

    def monotonic(self) -> float:
        return self.elapsed

    def supervisor(self) -> LauncherSupervisor:
        return LauncherSupervisor(self.start(), self.start, self.log, clock=self)

    def run_for(self, supervisor: LauncherSupervisor, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.elapsed += 1.0
            supervisor.check()


@pytest.fixture
def launchers(tmp_path: Path) -> Launchers:
    return Launchers(tmp_path / "launcher.log")


def test_a_running_launcher_is_not_restarted(launchers: Launchers) -> None:
    launchers.live = True
    launchers.run_for(launchers.supervisor(), 100)
    assert launchers.starts == 1


def test_a_killed_launcher_is_restarted(
    launchers: Launchers, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor = launchers.supervisor()
    launchers.live = True
    with caplog.at_level(logging.WARNING, "motoko"):
        launchers.run_for(supervisor, 100)
    assert launchers.starts == 2
    assert [record.getMessage() for record in caplog.records] == [
        f"the launcher exited (log: {launchers.log}); it was restarted"
    ]


def test_the_last_error_in_the_log_is_reported(
    launchers: Launchers, caplog: pytest.LogCaptureFixture
) -> None:
    launchers.text = STARTED + FULL
    supervisor = launchers.supervisor()
    launchers.live, launchers.text = True, STARTED
    with caplog.at_level(logging.WARNING, "motoko"):
        launchers.run_for(supervisor, 100)
    (record,) = caplog.records
    assert record.getMessage().startswith("the launcher exited: no space left on device (log: ")


def test_repeated_exits_end_the_restarts(launchers: Launchers) -> None:
    supervisor = launchers.supervisor()
    launchers.text = STARTED + FULL
    expected = rf"^the launcher exited {MAX_RESTARTS + 1} times in a row: no space left on device\n"
    with pytest.raises(LauncherError, match=expected) as caught:
        launchers.run_for(supervisor, 1000)
    assert launchers.starts == 1 + MAX_RESTARTS
    assert launchers.elapsed == RESTART_INTERVAL * (MAX_RESTARTS + 1)
    assert str(launchers.log) in (caught.value.hint or "")


@pytest.mark.parametrize(("says", "starts"), [(STARTED, 2), (STARTED + CHEESE, 1)])
def test_a_start_that_fails_for_the_same_reason_ends_the_restarts(
    launchers: Launchers, says: str, starts: int
) -> None:
    launchers.text = says
    supervisor = launchers.supervisor()
    launchers.fails = True
    with pytest.raises(
        LauncherError, match=r"^the launcher cannot continue: out of cheese\n  Buy some"
    ):
        launchers.run_for(supervisor, 1000)
    assert launchers.starts == 1 + starts


def test_exits_far_apart_are_not_counted_as_repeated(launchers: Launchers) -> None:
    supervisor = launchers.supervisor()
    for _ in range(3 * MAX_RESTARTS):
        launchers.elapsed += SHORT_LIFE
        supervisor.check()
    assert launchers.starts == 1 + 3 * MAX_RESTARTS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        (STARTED, None),
        (FULL, "no space left on device"),
        (STARTED + FULL, "no space left on device"),
        (FULL + STARTED, None),
        (CRASH, "ValueError: out of cheese"),
        ("No module named motoko\n", "No module named motoko"),
    ],
)
def test_the_last_error_of_a_log(text: str, expected: str | None) -> None:
    assert last_error(text.splitlines()) == expected
