"""A launcher prepares short runs before they get slots; those that do not start leave nothing."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from motoko.core.edits import Cancel
from motoko.core.states import Lifecycle
from motoko.launcher.control import resume_runs, stop_launcher, suspend_runs
from motoko.launcher.executors.attempt_shells import MAX_COMMAND
from motoko.launcher.executors.prepared_attempts import MAX_AGE
from motoko.runtime.processes import is_alive
from tests.support.launching import (
    WorkflowHarness,
    one_slot,
    wait_until,
    wait_until_replaceable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from motoko.core.records import RunKey

pytestmark = pytest.mark.integration

LONG = 9
SCRIPT = f"""
cd ../..
echo first $MOTOKO_RUN_ID >>ran
[ $MOTOKO_JOB_X != {LONG} ] || until [ -e go.$MOTOKO_RUN_ID ]; do sleep .02; done
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[WorkflowHarness]:
    yield from one_slot(tmp_path / "w", SCRIPT)


def prepared(place: WorkflowHarness, keys: list[RunKey]) -> list[RunKey]:
    """Return the runs that have directories, but did not start."""
    directories = [key for key in keys if place.directory_of(key).exists()]
    return [k for k in directories if not any(place.directory_of(k).glob(".motoko-*"))]


def go(place: WorkflowHarness, key: RunKey) -> None:
    (place.directory / "a" / f"go.{key.id}").touch()


def is_settled(place: WorkflowHarness, long: RunKey, later: list[RunKey]) -> bool:
    started = place.record(long).lifecycle is Lifecycle.START
    return started and (bool(prepared(place, later)) or not any_claimed(place, later))


def any_claimed(place: WorkflowHarness, keys: list[RunKey]) -> bool:
    return any(record.lifecycle is Lifecycle.SUBMITTED for record in place.records(keys))


def prepare_some(place: WorkflowHarness) -> tuple[RunKey, list[RunKey], list[RunKey]]:
    """Let runs wait that are prepared; return the run that delays them, them, and all runs."""
    everything: list[RunKey] = []
    while True:  # a slow launcher claims nothing ahead
        keys = place.create([{"x": x} for x in (*[1] * 20, LONG, *[1] * 8)])
        everything += keys
        long, later = keys[20], keys[21:]
        wait_until(partial(is_settled, place, long, later))
        found = prepared(place, later)
        if found:
            return long, found, everything
        go(place, long)
        place.wait(keys)


def check_ran_once(place: WorkflowHarness, keys: list[RunKey]) -> None:
    records = place.wait(keys)
    assert {record.state for record in records} == {"FINISHED"}
    ran = (place.directory / "a" / "ran").read_text().split("\n")[:-1]
    assert sorted(int(line.split()[1]) for line in ran) == [key.id for key in keys]


def check(place: WorkflowHarness, keys: list[RunKey]) -> None:
    """Check that each run ran once, and that nothing else is left of attempts."""
    check_ran_once(place, keys)
    assert names(place) == {f"run-{key.id}" for key in keys}


def names(place: WorkflowHarness) -> set[str]:
    return {path.name for path in place.store.runs_root("a").iterdir()}


def test_all_of_them_run_once(place: WorkflowHarness) -> None:
    place.start()
    long, _, keys = prepare_some(place)
    go(place, long)
    check(place, keys)


def test_commands_of_all_lengths_run_once(place: WorkflowHarness) -> None:
    """A thread sends the long ones to a shell."""
    lengths = (1, select.PIPE_BUF // 2, select.PIPE_BUF, MAX_COMMAND, 1) * 8
    keys = [place.run(fields={"text": "a" * length}) for length in lengths]
    place.start()
    check(place, keys)


def test_a_cancelled_one_leaves_no_directory(place: WorkflowHarness) -> None:
    place.start()
    long, (first, *_), keys = prepare_some(place)
    place.edit(first, Cancel(time.time(), "test"))
    assert place.wait([first])[0].state == "CANCELLED"
    assert not place.directory_of(first).exists()
    go(place, long)
    check(place, [key for key in keys if key != first])


def test_those_of_a_suspended_run_name_leave_no_directory(place: WorkflowHarness) -> None:
    place.start()
    _, found, keys = prepare_some(place)
    suspend_runs(place.state)
    for record in place.records(found):
        assert (record.state, record.uncounted) == ("CREATED", 1)
        assert not place.directory_of(record.key).exists()
    (place.directory / "a" / "launch.sh").write_text("echo first $MOTOKO_RUN_ID >>../../ran\n")
    resume_runs(place.state)
    place.wait(keys)
    ran_twice = {f"run-{key.id}" for key in keys} - {f"run-{key.id}" for key in found}
    assert {name.partition(".")[0] for name in names(place) if "." in name} <= ran_twice


def test_a_launcher_that_stops_leaves_no_directory(place: WorkflowHarness) -> None:
    place.start()
    long, found, keys = prepare_some(place)
    stop_launcher(place.state)
    assert {record.state for record in place.records(found)} == {"CREATED"}
    assert prepared(place, keys) == []
    place.start()
    go(place, long)
    check(place, keys)


def test_a_changed_script_is_used(place: WorkflowHarness) -> None:
    place.start()
    long, found, keys = prepare_some(place)
    (place.directory / "a" / "launch.sh").write_text(SCRIPT.replace("first", "second"))
    time.sleep(MAX_AGE)  # on any machine the preparations are older then
    go(place, long)
    check(place, keys)
    ran = (place.directory / "a" / "ran").read_text().split("\n")
    assert {f"second {key.id}" for key in found} <= set(ran)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "suspended"])
def test_a_successor_runs_each_of_them_once(place: WorkflowHarness, number: signal.Signals) -> None:
    first = place.start(lease=1.0)
    long, found, keys = prepare_some(place)
    os.kill(first.process.pid, number)
    wait_until_replaceable(place.store)
    place.start(lease=1.0)
    go(place, long)
    check_ran_once(place, keys)
    with contextlib.suppress(ProcessLookupError):
        os.kill(first.process.pid, signal.SIGCONT)
    wait_until(lambda: not is_alive(first.process))
    check_ran_once(place, keys)
    assert all(place.record(key).attempt == 2 for key in found)


def test_a_launcher_killed_while_it_withdraws_them_loses_none(
    place: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("MOTOKO_FAULT", "launcher.withdrawn:kill")
        first = place.start(lease=1.0)
    long, (waiting, *_), keys = prepare_some(place)
    stop_launcher(place.state)
    assert not is_alive(first.process)
    assert place.record(waiting).state == "SUBMITTED"
    wait_until_replaceable(place.store)
    place.start()
    go(place, long)
    check_ran_once(place, keys)


def test_one_without_a_start_note_leaves_no_directory(place: WorkflowHarness) -> None:
    launcher = place.start()
    keys = place.create([{"x": 1}] * 300)
    wait_until((place.directory / "a" / "ran").exists)
    (notes,) = place.state.path.glob("starts/*/notes")
    (place.directory / "link").symlink_to(place.directory)  # a directory cannot be written
    (place.directory / "link").replace(notes)
    wait_until(lambda: not is_alive(launcher.process))
    assert prepared(place, keys) == []
    place.start()
    check_ran_once(place, keys)
