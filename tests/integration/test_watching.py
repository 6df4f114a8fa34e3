"""A launcher that has ended is started again, unless that is of no use."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from motoko.errors import LauncherError
from motoko.operations.launcher_supervisor import (
    MOST,
    PAUSE,
    QUICK,
    LauncherSupervisor,
    report_restarts,
)
from motoko.runtime import processes

if TYPE_CHECKING:
    from pathlib import Path

    from motoko.runtime.processes import ProcessIdentity

pytestmark = pytest.mark.integration

STARTED = "2024-05-01 12:00:00,123 INFO launcher l serves s\n"
FULL = "2024-05-01 12:00:01,123 ERROR no space left on device\n  Make some.\n"
CHEESE = "2024-05-01 12:00:01,123 ERROR out of cheese\n"
CRASH = STARTED + "Traceback (most recent call last):\n  File\nValueError: out of cheese\n"


class Daemons:
    """Launchers that are dead as soon as they are started, or live as this process does."""

    def __init__(self, log: Path) -> None:
        done = subprocess.Popen([sys.executable, "-c", ""])
        found = processes.identify(done.pid)
        done.wait()
        assert found is not None
        self.dead: ProcessIdentity = found
        self.alive = processes.current()
        self.lives = False
        self.says = STARTED
        self.fails = False
        self.log = log
        self.starts = 0
        self.now = 0.0

    def start(self) -> ProcessIdentity:
        self.starts += 1
        with self.log.open("a") as file:
            file.write(self.says)
        if self.fails:
            raise LauncherError("out of cheese", hint="Buy some.")
        return self.alive if self.lives else self.dead

    def watch(self) -> LauncherSupervisor:
        return LauncherSupervisor(self.start(), self.start, self.log, clock=lambda: self.now)

    def pass_by(self, watch: LauncherSupervisor, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.now += 1.0
            watch.look()


@pytest.fixture
def daemons(tmp_path: Path) -> Daemons:
    return Daemons(tmp_path / "launcher.log")


def test_one_that_lives_is_left_alone(daemons: Daemons) -> None:
    daemons.lives = True
    daemons.pass_by(daemons.watch(), 100)
    assert daemons.starts == 1


def test_one_that_was_killed_is_started_again(
    daemons: Daemons, caplog: pytest.LogCaptureFixture
) -> None:
    watch = daemons.watch()
    daemons.lives = True
    with caplog.at_level(logging.WARNING, "motoko"):
        daemons.pass_by(watch, 100)
    assert daemons.starts == 2
    assert [record.getMessage() for record in caplog.records] == [
        f"the launcher has ended (log: {daemons.log}); it was started again"
    ]


def test_the_error_with_which_it_ended_is_told(
    daemons: Daemons, caplog: pytest.LogCaptureFixture
) -> None:
    daemons.says = STARTED + FULL
    watch = daemons.watch()
    daemons.lives, daemons.says = True, STARTED
    with caplog.at_level(logging.WARNING, "motoko"):
        daemons.pass_by(watch, 100)
    (record,) = caplog.records
    assert record.getMessage().startswith("the launcher has ended: no space left on device (log: ")


def test_in_vain_it_is_started_some_times_only(daemons: Daemons) -> None:
    watch = daemons.watch()
    daemons.says = STARTED + FULL
    expected = "^the launcher ended again and again: no space left on device\n"
    with pytest.raises(LauncherError, match=expected) as caught:
        daemons.pass_by(watch, 1000)
    assert daemons.starts == 1 + MOST
    assert daemons.now == PAUSE * (MOST + 1)
    assert str(daemons.log) in (caught.value.hint or "")


@pytest.mark.parametrize(("says", "starts"), [(STARTED, 2), (STARTED + CHEESE, 1)])
def test_one_that_cannot_be_started_for_the_same_reason_again_is_not(
    daemons: Daemons, says: str, starts: int
) -> None:
    daemons.says = says
    watch = daemons.watch()
    daemons.fails = True
    with pytest.raises(
        LauncherError, match=r"^the launcher cannot go on: out of cheese\n  Buy some"
    ):
        daemons.pass_by(watch, 1000)
    assert daemons.starts == 1 + starts


def test_deaths_far_apart_are_not_in_a_row(daemons: Daemons) -> None:
    watch = daemons.watch()
    for _ in range(3 * MOST):
        daemons.now += QUICK
        watch.look()
    assert daemons.starts == 1 + 3 * MOST


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
def test_what_a_log_announces(text: str, expected: str | None) -> None:
    assert report_restarts(text.splitlines()) == expected
