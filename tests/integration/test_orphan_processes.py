"""Processes that leave their run's process group end with their attempt."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio import to_thread

from motoko.core.states import Lifecycle
from motoko.launcher import orphan_processes
from motoko.launcher.composition import build_launcher
from motoko.launcher.control import suspend_runs
from motoko.launcher.executors import local, local_process
from motoko.runtime.processes import is_alive, process_state
from tests.support.launching import WorkflowHarness, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from motoko.core.records import RunKey

pytestmark = pytest.mark.integration

# Starts a process in a new session through one that exits, and a child of that process.
# The first ignores TERM. A file in the workflow's directory lists their pids per attempt.
SCRIPT = """
pids=../../../pids-$MOTOKO_JOB_X-$MOTOKO_ATTEMPT
case $MOTOKO_JOB_X in 1) ignored=TERM ;; *) ignored= ;; esac
# Of the fourth nothing tells its attempt but where it prints to.
case $MOTOKO_JOB_X in 4) bare="env -i" ;; *) bare= ;; esac
($bare setsid sh -c "trap '' $ignored; sleep 1000 & echo \\$\\$ \\$! >$pids; wait; sleep 1000" &)
until [ -s $pids ]; do sleep 0.02; done
for pid in $(cat ../../../pids-$MOTOKO_JOB_X-1); do
    [ $MOTOKO_ATTEMPT = 1 ] || ! kill -0 $pid || echo $pid >>../../../overlap
done
case $MOTOKO_JOB_X in
1) exit 0 ;;
2) exit 1 ;;
5) until [ -e ../../../go ]; do sleep 0.02; done ;;
*) sleep 1000 ;;
esac
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[WorkflowHarness]:
    place = WorkflowHarness.make(tmp_path / "w", {"mult": SCRIPT}, options={"max_concurrent": 4})
    yield place
    place.close()


def pids(place: WorkflowHarness, x: int, attempt: int = 1) -> list[int]:
    path = place.directory / f"pids-{x}-{attempt}"
    wait_until(lambda: path.exists() and path.read_text().endswith("\n"))
    return [int(word) for word in path.read_text().split()]


def living(found: list[int]) -> list[int]:
    return [pid for pid in found if process_state(pid) not in ("", "Z", "X")]


def test_processes_that_left_the_group_end_with_their_attempt(place: WorkflowHarness) -> None:
    place.start()
    (good,) = place.create([{"x": 1}])
    (bad,) = place.create([{"x": 2}], retries=1)
    (late,) = place.create([{"x": 3}], timeout=5.0)
    (suspended,) = place.create([{"x": 4}])
    assert len(living(pids(place, 4))) == 2
    states = [record.lifecycle for record in place.wait([good, bad, late])]
    assert states == [Lifecycle.FINISHED, Lifecycle.FAILED, Lifecycle.TIMEOUT]
    for x, attempt in ((1, 1), (2, 1), (2, 2), (3, 1)):
        assert living(pids(place, x, attempt)) == []
    assert not (place.directory / "overlap").exists()
    assert len(living(pids(place, 4))) == 2
    suspend_runs(place.state)
    assert place.record(suspended).lifecycle is Lifecycle.CREATED
    assert living(pids(place, 4)) == []
    assert "run mult.1: ending the processes that it left: process" in place.log()


def test_processes_of_an_adopted_attempt_end_with_it(place: WorkflowHarness) -> None:
    first = place.start()
    (key,) = place.create([{"x": 5}])
    left = pids(place, 5)
    place.wait_for(key, Lifecycle.START)
    os.kill(first.process.pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(first.process))
    place.start()
    assert len(living(left)) == 2
    (place.directory / "go").touch()
    assert place.wait([key])[0].lifecycle is Lifecycle.FINISHED
    assert living(left) == []


def test_a_launcher_reaps_orphans(tmp_path: Path) -> None:
    script = "(setsid sh -c 'exec sleep 0.3' & echo $! >../../../pid); sleep 1000\n"
    place = WorkflowHarness.make(tmp_path / "w", {"mult": script})
    try:
        launcher = place.start()
        place.run()
        path = place.directory / "pid"
        wait_until(lambda: path.exists() and path.read_text().endswith("\n"))
        wait_until(lambda: process_state(int(path.read_text())) == "")
        assert is_alive(launcher.process)
    finally:
        place.close()


def test_the_reason_names_processes_that_cannot_be_terminated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signals do not reach them, as for processes of another user."""
    script = (
        "sleep 1000 & echo $! >../../../member\nsetsid sleep 1000 & echo $! >../../../left\n"
        'for f in member left; do until [ "$(cat /proc/$(cat ../../../$f)/comm)" = sleep ]; do '
        "sleep .02; done; done\n"
    )
    place = WorkflowHarness.make(tmp_path / "w", {"mult": script})
    monkeypatch.setattr(orphan_processes, "KILL_SECONDS", 0.1)
    monkeypatch.setattr(local, "OrphanProcesses", lambda _: orphan_processes.OrphanProcesses(0.1))
    monkeypatch.setattr(orphan_processes, "_signal", lambda *_: None)
    monkeypatch.setattr(local_process, "_signal_group", lambda *_: False)
    found: list[int] = []
    try:
        key = place.run()
        serve_until_ended(place, key)
        found = [int((place.directory / name).read_text()) for name in ("member", "left")]
        record = place.record(key)
        names = ", ".join(f"process {pid} (sleep)" for pid in sorted(found))
        assert record.lifecycle is Lifecycle.FINISHED
        assert record.reason == f"it left processes that cannot be ended: {names}"
    finally:
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        place.close()


def serve_until_ended(place: WorkflowHarness, key: RunKey) -> None:
    """Run a launcher in this process until a run ends."""
    launcher, store = build_launcher(place.directory, lease=30.0)

    async def serve() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(launcher.serve)
            await to_thread.run_sync(place.wait, [key])
            launcher.close()

    try:
        anyio.run(serve)
    finally:
        store.close()
