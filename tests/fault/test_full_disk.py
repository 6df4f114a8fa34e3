"""A full or read-only disk is reported, and work resumes afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from motoko.core.changes import SetVariable
from motoko.core.values import MISSING
from motoko.errors import ServerError, StorageError
from motoko.launcher.executors.process_spawner import WRAPPER
from motoko.runtime.processes import is_alive
from motoko.server.lifecycle import ensure_server, stop_server
from motoko.server.state_dir import StateDir
from motoko.storage.schema import create_database
from motoko.storage.session import Session
from motoko.storage.store import WorkflowStore
from motoko.testing.memory import commit
from motoko.workflow import Workflow
from tests.support import invariants
from tests.support.command_line import finish, small_workflow, wait_until
from tests.support.launching import WorkflowHarness
from tests.support.serving import STUDIES, add_one, increment, make, process_of, variable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

pytestmark = pytest.mark.fault

PAGE = os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    place = tmp_path / "small"
    place.mkdir()
    mount(place, "-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs")
    yield place
    stop_server(StateDir.of(place / "wf"))
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def mount(place: Path, *arguments: str) -> None:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small file system")
    done = subprocess.run(
        ["mount", *arguments, str(place)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")


def fill(place: Path) -> Path:
    """Fill the disk to the last page."""
    stuff = place / "stuff"
    with stuff.open("ab", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"\1" * size)
            except OSError:
                continue
    return stuff


def write_until_refused(store: WorkflowStore) -> tuple[StorageError, int]:
    for number in range(1000):
        session = Session(store.database)
        try:
            session.add(SetVariable(None, f"v{number}", "x" * 50_000))
            add_one(session)
            commit(store.database, session)
        except StorageError as error:
            return error, number
        finally:
            session.close()
    raise AssertionError("the disk was not full")


def test_a_full_disk_is_an_error_and_work_resumes_with_room(small: Path) -> None:
    state = make(small / "wf")
    store = WorkflowStore(state, {})
    stuff = small / "stuff"
    stuff.write_bytes(b"\1" * 1_000_000)
    error, done = write_until_refused(store)
    assert error.message.startswith("the disk is full")
    assert done > 2
    for _ in range(3):  # the server continues to serve the existing data
        with pytest.raises(StorageError, match="the disk is full"):
            store.autocommit_scope.write(SetVariable(None, "big", "x" * 500_000))
    assert variable(store, "n") == done
    assert variable(store, f"v{done}") is MISSING
    process = process_of(state)
    stuff.unlink()
    increment(store)
    increment(store)
    assert process_of(state) == process
    assert variable(store, "n") == done + 2
    store.close()
    stop_server(state)
    reader = WorkflowStore(state, {}, read_only=True)
    assert variable(reader, "n") == done + 2
    assert variable(reader, f"v{done - 1}") == "x" * 50_000
    reader.close()
    ensure_server(state)
    assert "truncated" not in (state.logs / "server.log").read_text()


def test_a_start_on_a_full_disk(small: Path) -> None:
    state = make(small / "wf")
    store = WorkflowStore(state, {})
    increment(store)
    store.close()
    stop_server(state)
    (state.path / "wf.db.tmp").unlink()  # it would be truncated, which frees space
    stuff = fill(small)
    with pytest.raises(ServerError, match="No space left on device") as caught:
        ensure_server(state)
    assert "\n" not in caught.value.message
    reader = WorkflowStore(state, {}, read_only=True)
    assert variable(reader, "n") == 1
    reader.close()
    stuff.unlink()
    increment(store)
    assert variable(store, "n") == 2
    store.close()


def test_a_read_only_directory(tmp_path: Path) -> None:
    state = make(tmp_path / "wf")
    store = WorkflowStore(state, {})
    increment(store)
    store.close()
    stop_server(state)
    mount(tmp_path / "wf", "--bind", str(tmp_path / "wf"))
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(tmp_path / "wf")], check=True)
        with pytest.raises(ServerError, match="cannot be used: Read-only file system") as caught:
            increment(store)
        assert "motoko info" in str(caught.value)
        with pytest.raises(ServerError, match="Read-only file system"):
            create_database(state, STUDIES, replace=True)
        with pytest.raises(ServerError, match="Read-only file system"):
            stop_server(state)
        reader = WorkflowStore(state, {}, read_only=True)
        assert variable(reader, "n") == 1
        reader.close()
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path / "wf")], check=True)
    increment(store)
    assert variable(store, "n") == 2
    store.close()
    stop_server(state)


# -- attempts ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attempt:
    """An attempt and its wrapper."""

    outbox: Path

    @classmethod
    def make(cls, place: Path) -> Attempt:
        run = place / "run-1"
        run.mkdir()
        (run / ".motoko").write_text("1 5.0 token\n{}\n")
        return cls(run / ".motoko-token")

    def start(self, script: str, shell: Sequence[str] = ("/bin/sh",)) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*shell, WRAPPER, str(self.outbox), "sh", "-c", script], start_new_session=True
        )

    @property
    def record(self) -> str:
        text = self.outbox.read_text() if self.outbox.exists() else ""
        return "".join(text.splitlines(keepends=True)[1:]).strip("\n")

    def fill_page(self) -> None:
        """Make the outbox end with a disk page, so that any further record needs space."""
        with self.outbox.open("ab") as file:
            file.write(b"\n" * (-file.tell() % PAGE))

    @property
    def waits(self) -> bool:
        return self.outbox.with_name(".motoko-token.full").exists()


def test_an_attempt_does_not_start_on_a_full_disk(small: Path, tmp_path: Path) -> None:
    attempt = Attempt.make(small)
    stuff = fill(small)
    assert attempt.start(f"touch {tmp_path / 'ran'}").wait(60) == 111
    assert not attempt.outbox.exists()
    assert not (tmp_path / "ran").exists()
    stuff.unlink()
    assert attempt.start(f"touch {tmp_path / 'ran'}; exit 3").wait(60) == 3
    assert attempt.record == "exit 3"
    assert attempt.outbox.read_text().startswith("process ")


def test_an_exit_record_waits_for_disk_space(small: Path, tmp_path: Path) -> None:
    attempt = Attempt.make(small)
    go = tmp_path / "go"
    process = attempt.start(f"while test ! -e {go}; do sleep 0.02; done; exit 3")
    wait_until((small / "run-1" / "stderr").exists, "it has begun")
    attempt.fill_page()
    stuff = fill(small)
    go.touch()
    wait_until(lambda: attempt.waits, "it has ended")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    assert attempt.record == ""
    stuff.unlink()
    assert process.wait(60) == 3
    assert attempt.record == "exit 3"
    assert not attempt.waits


def test_a_terminated_wrapper_does_not_wait_for_disk_space(small: Path) -> None:
    attempt = Attempt.make(small)
    go = small / "go"
    script = f"until [ -e {go} ]; do sleep .02; done; cat /dev/zero >{go} 2>/dev/null; exit 3"
    process = attempt.start(script)
    wait_until((small / "run-1" / "stderr").exists, "it has begun")
    attempt.fill_page()
    go.touch()
    wait_until(lambda: attempt.waits, "it has ended")
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(60) == 3
    assert attempt.record == ""


@pytest.mark.parametrize("shell", [["/bin/sh"], ["/bin/bash", "--posix"]], ids=["bash", "slurm"])
@pytest.mark.parametrize("target", ["/proc/self/fd", "/dev/full", "nowhere"])
def test_an_exit_record_that_can_never_be_written_is_abandoned(
    tmp_path: Path, target: str, shell: list[str]
) -> None:
    attempt = Attempt.make(tmp_path)
    run = attempt.outbox.parent
    script = f"cd /; rm -rf {run}; ln -s {target} {run}; exit 3"
    assert attempt.start(script, shell).wait(60) == 3


def test_a_launcher_reports_a_waiting_exit_record(small: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"
    place = WorkflowHarness.make(tmp_path / "wf", {"a": f"until [ -e {go} ]; do sleep .02; done\n"})
    (small / "runs").mkdir(0o700)
    (place.directory / "a" / "BD-a-runs").symlink_to(small / "runs")
    try:
        launcher = place.start().process
        record = place.wait_for(place.run(), "START")
        Attempt(place.directory_of(record.key) / f".motoko-{record.token}").fill_page()
        fill(small)
        go.touch()
        wait_until(lambda: not is_alive(launcher), "it has ended")
        assert "ERROR run a.1 has ended, but its exit record cannot be written" in place.log()
    finally:
        place.close()


# -- whole workflows --------------------------------------------------------------------------

# Each run sets its result, records its execution, and waits for a file ``go``.
SCRIPT = """\
motoko-worker set y $((MOTOKO_JOB_X * MOTOKO_JOB_X)) || exit 1
echo $MOTOKO_RUN_ID >>"$MOTOKO_TEST_PLACE/executed"
while test ! -e "$MOTOKO_TEST_PLACE/go"; do sleep 0.05; done
"""
MAIN = """\
async def main(workflow, **params):
    await workflow.s.create_task(x=[1, 2, 3, 4])
    workflow.run_vars.total = sum(run.y for run, _job in workflow.s.select())
"""


def wrong_with(directory: Path, run_name: str, total: int) -> list[str]:
    workflow = Workflow(directory, read_only=True)
    workflow.run_name = run_name
    try:
        return invariants.check(workflow, run_name, expected={"total": total})
    finally:
        workflow.close()


def test_a_workflow_stops_on_a_full_disk_and_resumes_with_room(small: Path, tmp_path: Path) -> None:
    shell = small_workflow(small / "wf", script=SCRIPT, main=MAIN)
    shell.write(
        {"motoko.yaml": "task_managers: {s: }\norchestrator: steps.main\nmax_concurrent: 2"}
    )
    shell.environment["MOTOKO_TEST_PLACE"] = str(tmp_path)
    executed = tmp_path / "executed"
    try:
        process = shell.start("run", "-n", "a")
        wait_until(
            lambda: executed.exists() and len(executed.read_text().split()) == 2, "two runs run"
        )
        stuff = fill(small)
        (tmp_path / "go").touch()
        done = finish(process)
        assert done.returncode == 1, done.stderr
        first = next(line for line in done.stderr.splitlines() if line.startswith("error: "))
        assert first.startswith("error: the launcher cannot continue: the disk is full")
        assert "Free disk space, and restart the stopped processes" in done.stderr
        assert "Traceback" not in done.stderr
        found = shell.info()
        assert found["server"] is None
        assert found["launchers"] == []
        stuff.unlink()
        shell.ok("run", "-n", "a")
        assert shell.counts("s", "a") == {"FINISHED": 4}
        assert sorted(executed.read_text().split()) == ["1", "2", "3", "4"]
        assert wrong_with(small / "wf", "a", 1 + 4 + 9 + 16) == []
    finally:
        shell.close()


def test_a_workflow_reports_a_read_only_directory(tmp_path: Path) -> None:
    shell = small_workflow(tmp_path / "wf")
    shell.ok("create")
    mount(shell.directory, "--bind", str(shell.directory))
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(shell.directory)], check=True)
        for command in (["run", "-n", "a"], ["launcher"]):
            done = shell.run(*command)
            assert done.returncode == 1
            first, second = done.stderr.splitlines()
            assert first.startswith(f"error: {shell.directory / '.wf'}")
            assert "Read-only file system" in first
            assert second == "  This command needs a writable directory; `motoko info` only reads."
        assert shell.info()["studies"][0]["name"] == "s"
    finally:
        subprocess.run(["umount", "--lazy", str(shell.directory)], check=True)
