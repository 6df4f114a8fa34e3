"""Kill or suspend the launcher at each of its fault points; the next one continues."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from motoko.errors import LauncherError
from motoko.launcher.control import running_launchers
from motoko.runtime import fault_points
from motoko.runtime.processes import is_alive
from tests.support.launching import WorkflowHarness, wait_until, wait_until_replaceable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from motoko.core.records import RunKey

pytestmark = pytest.mark.fault

# Passed in every attempt before its script is executed.
BEFORE_A_START = ("launcher.claimed", "launcher.prepared", "launcher.start_recorded")
POINTS = (
    *BEFORE_A_START,
    "launcher.started",
    "launcher.before_commit",
    "launcher.after_commit",
)
# Passed by a launcher that adopts attempts, before it is ready.
TAKING_OVER = ("launcher.adopting", "launcher.reclaimed")
# Passed only where a scheduler starts the runs: tests/fault/test_slurm_faults.py; and by what was
# prepared for nothing: tests/integration/test_prepared_attempts.py.
ELSEWHERE = {
    "launcher.submission_written", "launcher.submitted", "launcher.job_recorded",
    "launcher.withdrawn",
}  # fmt: skip
REMOVALS = (
    'cd /; rm -rf "$MOTOKO_RUN_DIR"',
    "rm -rf .motoko*",
    'mv "$MOTOKO_RUN_DIR" "$MOTOKO_RUN_DIR.x"',
)
SCRIPT = "echo start-$MOTOKO_RUN_ID >>{0}; sleep .05; echo end-$MOTOKO_RUN_ID >>{0}\n"


@pytest.fixture
def executed(tmp_path: Path) -> Path:
    return tmp_path / "executed"


@pytest.fixture
def place(tmp_path: Path, executed: Path) -> Iterator[WorkflowHarness]:
    # Fewer slots than runs, so a launcher passes every point several times.
    made = WorkflowHarness.make(
        tmp_path / "wf", {"a": SCRIPT.format(executed)}, options={"max_concurrent": 2}
    )
    yield made
    made.close()


def start_with(
    place: WorkflowHarness, monkeypatch: pytest.MonkeyPatch, fault: str, log: Path
) -> int:
    with monkeypatch.context() as patch:
        patch.setenv("MOTOKO_FAULT", fault)
        patch.setenv("MOTOKO_FAULT_LOG", str(log))
        return place.start(lease=1.0).process.pid


def check(place: WorkflowHarness, keys: list[RunKey], executed: Path) -> None:
    """Check that every run finished, was executed once, and is indexed correctly."""
    for record in place.wait(keys):
        assert record.state == "FINISHED"
        assert record.attempt - record.uncounted == 1
    lines = executed.read_text().split()
    assert sorted(lines) == sorted(f"{what}-{k.id}" for k in keys for what in ("start", "end"))
    assert place.recount() == []


def test_every_fault_point_of_the_launcher_is_tested() -> None:
    points = {name for name in fault_points.POINTS if name.startswith("launcher.")}
    assert points == {*POINTS, *ELSEWHERE, *TAKING_OVER}


@pytest.mark.parametrize("passage", [1, 2, 5])
@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_any_point_neither_loses_nor_repeats_runs(
    place: WorkflowHarness,
    executed: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    point: str,
    passage: int,
) -> None:
    pid = start_with(place, monkeypatch, f"{point}:kill:{passage}", tmp_path / "log")
    keys = place.create([{"x": n} for n in range(16)])
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"))
    assert f"{point} {passage} {pid}" in (tmp_path / "log").read_text()
    place.start()
    check(place, keys, executed)


@pytest.mark.parametrize("removal", REMOVALS)
def test_a_script_that_removes_its_directory_at_once_runs_once(
    place: WorkflowHarness,
    executed: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    removal: str,
) -> None:
    script = f"{removal}\necho once >>{executed}\n"
    (place.directory / "a" / "launch.sh").write_text(script, encoding="utf-8")
    pid = start_with(place, monkeypatch, "launcher.started:kill:1", tmp_path / "log")
    key = place.run()
    wait_until(lambda: executed.exists() and not os.path.exists(f"/proc/{pid}"))
    assert place.record(key).state == "SUBMITTED"
    place.start()
    (record,) = place.wait([key])
    # Where the directory remains, its wrapper records the exit status.
    state, words = ("FAILED", "was removed") if "*" in removal else ("LOST", "does not exist")
    assert (record.state, record.attempt) == (state, 1)
    assert words in (record.reason or "")
    assert executed.read_text() == "once\n"


@pytest.mark.parametrize("point", TAKING_OVER)
def test_a_launcher_killed_during_adoption(
    place: WorkflowHarness,
    executed: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    point: str,
) -> None:
    keys = place.create([{"x": n} for n in range(3)])
    log = tmp_path / "log"
    pid = start_with(place, monkeypatch, "launcher.claimed:kill:2", log)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"))
    with pytest.raises(LauncherError, match=r"killed by signal 9 before it was ready"):
        start_with(place, monkeypatch, f"{point}:kill", log)
    assert f"{point} 1 " in log.read_text()
    place.start()
    check(place, keys, executed)


@pytest.mark.parametrize("point", ["storage.before_commit", "storage.after_commit"])
def test_a_launcher_killed_during_lease_acquisition(
    place: WorkflowHarness,
    executed: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    point: str,
) -> None:
    keys = place.create([{"x": n} for n in range(3)])
    log = tmp_path / "log"
    with pytest.raises(LauncherError, match=r"killed by signal 9 before it was ready"):
        start_with(place, monkeypatch, f"{point}:kill", log)
    assert f"{point} 1 " in log.read_text()
    assert place.start().started_here
    check(place, keys, executed)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("point", POINTS)
def test_a_launcher_resumed_after_its_lease_starts_and_records_nothing(
    place: WorkflowHarness,
    executed: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    point: str,
    late: bool,
) -> None:
    pid = start_with(place, monkeypatch, f"{point}:stop:2", tmp_path / "log")
    keys = place.create([{"x": n} for n in range(8)])
    old = running_launchers(place.state)[0].process
    assert old.pid == pid
    wait_until(lambda: f"{point} 2 {pid}" in (tmp_path / "log").read_text())
    try:
        wait_until_replaceable(place.store)
        heir = place.start(lease=1.0)
        assert heir.started_here
        if late:
            place.wait(keys)
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: not is_alive(old))
    wait_until(lambda: [one.process for one in running_launchers(place.state)] == [heir.process])
    check(place, keys, executed)


def test_the_successor_of_a_launcher_suspended_in_a_heartbeat_is_found(
    place: WorkflowHarness, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The resumed one overwrites the file of its successor, and removes it when it exits."""
    place.records([])  # starts the server
    log = tmp_path / "log"
    pid = start_with(place, monkeypatch, "files.before_rename:stop:2", log)
    old = running_launchers(place.state)[0].process
    wait_until(lambda: f"files.before_rename 2 {pid}" in log.read_text())
    try:
        wait_until_replaceable(place.store)
        heir = place.start(lease=1.0)
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: not is_alive(old))
    wait_until(lambda: [one.process for one in running_launchers(place.state)] == [heir.process])
    assert place.wait([place.run()])[0].state == "FINISHED"


@pytest.mark.parametrize("removal", REMOVALS)
@pytest.mark.parametrize("point", BEFORE_A_START)
def test_a_launcher_resumed_after_a_removed_directory_starts_nothing(
    place: WorkflowHarness,
    executed: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    point: str,
    removal: str,
) -> None:
    script = f"{removal}\necho $MOTOKO_RUN_ID >>{executed}\n"
    (place.directory / "a" / "launch.sh").write_text(script, encoding="utf-8")
    log = tmp_path / "log"
    pid = start_with(place, monkeypatch, f"{point}:stop:1", log)
    keys = place.create([{"x": n} for n in range(4)])
    old = running_launchers(place.state)[0].process
    wait_until(lambda: log.exists() and f"{point} 1 {pid}" in log.read_text())
    try:
        wait_until_replaceable(place.store)
        assert place.start(lease=1.0).started_here
        place.wait(keys)
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: not is_alive(old))
    assert sorted(executed.read_text().split()) == sorted(str(key.id) for key in keys)
    assert not any("before-" in found.name for found in place.store.runs_root("a").iterdir())
