"""``motoko hold`` and ``motoko release`` with a running launcher."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from motoko.core.changes import EditHolds
from motoko.core.holds import AddHolds, RemoveHolds
from motoko.core.states import Lifecycle
from motoko.launcher.control import running_launchers
from tests.support.command_line import Shell
from tests.support.launching import WorkflowHarness, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from motoko.core.records import RunKey

pytestmark = pytest.mark.integration


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[WorkflowHarness]:
    made = WorkflowHarness.make(tmp_path / "wf", {"held": "true", "free": "true"})
    try:
        yield made
        assert made.recount() == []
    finally:
        made.close()


def settle(harness: WorkflowHarness) -> None:
    """Wait until the launcher has claimed and ended a run that is not held."""
    harness.wait_for(harness.run(study="free"), "FINISHED")


def states(harness: WorkflowHarness, keys: list[RunKey]) -> list[Lifecycle]:
    return [record.lifecycle for record in harness.records(keys)]


def test_a_hold_survives_the_launcher_and_its_release_wakes_the_next(
    harness: WorkflowHarness,
) -> None:
    shell = Shell(harness.directory)
    launcher = harness.start()
    settle(harness)
    assert shell.ok("hold", "held") == (
        "0 runs held\nruns of study 'held' that are created later are held, too\n"
    )
    keys = harness.create([{"x": n} for n in range(3)], study="held")
    settle(harness)
    assert states(harness, keys) == [Lifecycle.CREATED] * 3
    os.kill(launcher.process.pid, signal.SIGKILL)
    wait_until(lambda: not running_launchers(harness.state))
    harness.start()
    settle(harness)
    assert states(harness, keys) == [Lifecycle.CREATED] * 3
    info = shell.info()
    assert [(one["study"], one["cause"]) for one in info["holds"]] == [("held", "motoko hold")]
    assert shell.run("release", "held.2").returncode != 0
    assert shell.ok("hold", "held.2-3", "free").startswith("2 runs held: 2 waiting\n")
    assert shell.ok("cancel", "held.3")
    released = shell.ok("release", "held", "free")
    assert released == "2 runs released; `motoko run` or a launcher executes them\n"
    harness.wait(keys)
    assert states(harness, keys) == [
        Lifecycle.FINISHED, Lifecycle.FINISHED, Lifecycle.CANCELLED
    ]  # fmt: skip


def test_no_run_is_claimed_after_the_commit_of_a_hold(harness: WorkflowHarness) -> None:
    """Runs are created and held while the launcher claims them, again and again."""
    harness.start()
    settle(harness)
    rule = [("held", None)]
    for _ in range(12):
        keys = harness.create([{"x": n} for n in range(4)], study="held")
        harness.commit(EditHolds(AddHolds(0.0, "test", rule)))
        waiting = [r.key for r in harness.records(keys) if r.lifecycle is Lifecycle.CREATED]
        settle(harness)
        assert states(harness, waiting) == [Lifecycle.CREATED] * len(waiting)
        harness.commit(EditHolds(RemoveHolds(rule)))
        harness.wait(keys)
        assert set(states(harness, keys)) == {Lifecycle.FINISHED}
    wait_until(lambda: all(r.attempt == 1 for r in harness.records(keys)))
