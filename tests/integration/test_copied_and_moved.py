"""Workflow directories that are copied, moved or removed while their processes run."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from motoko.errors import ServerError, StorageError
from motoko.launcher.control import running_launchers
from motoko.runtime.daemons import PidFile
from motoko.runtime.file_lock import FileLock
from motoko.runtime.processes import ProcessIdentity, is_alive
from motoko.server.lifecycle import is_responding
from motoko.server.state_dir import StateDir
from motoko.server.state_dir_guard import StateDirGuard
from motoko.storage.database import Database
from motoko.storage.orchestrator_leases import Lease
from motoko.storage.schema import create_tables
from motoko.storage.session import run_transaction
from motoko.storage.store import WorkflowStore
from tests.support.command_line import PATIENCE, Shell, finish, small_workflow, wait_until
from tests.support.launching import count_exits
from tests.support.serving import increment, make, process_of, variable

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

# Runs until the file exists; copies of the workflow wait for the same file.
HOLD = 'while test ! -e "$MOTOKO_TEST_GO"; do sleep 0.05; done\n'


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = small_workflow(tmp_path / "a", script=HOLD)
    shell.environment["MOTOKO_TEST_GO"] = str(tmp_path / "go")
    yield shell
    (tmp_path / "go").touch()
    shell.close()


def copied(shell: Shell, target: Path) -> Shell:
    """Return a full copy of a workflow."""
    subprocess.run(["cp", "-a", str(shell.directory), str(target)], check=True)
    return Shell(target, dict(shell.environment))


def remove(directory: Path) -> None:
    """Remove a directory to which a server may be writing."""
    shutil.rmtree(directory.rename(directory.with_name("removed")))


def processes(shell: Shell) -> list[ProcessIdentity]:
    """Return the server and the launchers of a workflow."""
    state = StateDir.of(shell.directory)
    return [process_of(state), *(launcher.process for launcher in running_launchers(state))]


def both_started(shell: Shell) -> bool:
    return [found["counts"] for found in shell.info()["studies"]] == [{"a": {"START": 2}}]


def log_of(shell: Shell, name: str) -> str:
    return (shell.directory / ".wf" / "logs" / f"{name}.log").read_text()


# -- copies -----------------------------------------------------------------------------------


def test_commands_in_a_copy_do_not_affect_the_original(shell: Shell, tmp_path: Path) -> None:
    run = shell.start("run", "--run_name", "a")
    wait_until(lambda: both_started(shell), "both runs started")
    before = processes(shell)
    copy = copied(shell, tmp_path / "b")
    info = copy.info()
    assert info["server"] is None
    assert info["launchers"] == []
    assert info["orchestrators"] == []
    assert "no orchestrator is running" in copy.ok("orchestrator", "stop")
    copy.ok("kill", "--stop-runs", "--yes")
    # According to the copy they ended before the request.
    assert copy.counts("s", "a") == {"LOST": 2}
    assert processes(shell) == before
    assert shell.counts("s", "a") == {"START": 2}
    (tmp_path / "go").touch()
    done = finish(run)
    assert done.returncode == 0, done.stderr
    assert shell.counts("s", "a") == {"FINISHED": 2}


def test_a_restored_copy_runs_beside_the_original(shell: Shell, tmp_path: Path) -> None:
    run = shell.start("run", "--run_name", "a")
    wait_until(lambda: both_started(shell), "both runs started")
    shell.ok("backup", str(tmp_path / "copy.db"))
    other = small_workflow(tmp_path / "b")
    try:
        other.ok("restore", str(tmp_path / "copy.db"))
        other.ok("run", "--run_name", "b")
        assert other.counts("s", "b") == {"FINISHED": 2}
    finally:
        other.close()
    (tmp_path / "go").touch()
    assert finish(run).returncode == 0


def test_a_lease_records_its_database(tmp_path: Path) -> None:
    state = make(tmp_path / "a")
    store = WorkflowStore(state, {})
    try:
        run_transaction(store.database, lambda tables: tables.write_lease("old", "t", {}))
        run_transaction(store.database, lambda tables: tables.write_lease("new", "t", {}))

        def forget(tables: Any) -> None:
            del tables.lease("old")["place"]  # as written by older versions

        run_transaction(store.database, forget)
        with store.autocommit_scope.read() as session:
            assert session.tables.lease_belongs_here("new")
        shutil.copytree(state.path, tmp_path / "b", ignore=lambda *_: ["zeo.sock"])
        copy = WorkflowStore(StateDir(tmp_path / "b"), {}, read_only=True)
        with copy.autocommit_scope.read() as session:
            assert not session.tables.lease_belongs_here("new")
            assert session.tables.lease_belongs_here("old")
        copy.close()
    finally:
        store.close()
        os.kill(process_of(state).pid, signal.SIGTERM)


def test_a_copied_process_record_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    PidFile(tmp_path / "a" / "it.json").write()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert not PidFile(tmp_path / "b" / "it.json").owner_alive()
    (tmp_path / "a").rename(tmp_path / "c")
    record = PidFile(tmp_path / "c" / "it.json").read()
    assert record is not None
    assert record.directory == tmp_path / "a"


# -- moved ------------------------------------------------------------------------------------


def test_a_moved_workflow_continues_at_its_new_path(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    shell.ok("create")
    shell.ok("launcher")
    former = processes(shell)
    os.kill(former[1].pid, signal.SIGSTOP)  # otherwise it might end before the wait starts
    shell.directory.rename(tmp_path / "b")
    shell.directory = tmp_path / "b"
    process = shell.start("run", "--run_name", "a")
    words = f"waiting for the exit of process {former[1].pid}"
    wait_until(lambda: words in process.errors(), words)
    os.kill(former[1].pid, signal.SIGCONT)
    done = finish(process)
    assert done.returncode == 0, done.stderr
    assert shell.counts("s", "a") == {"FINISHED": 2}
    assert not any(map(is_alive, former))
    for name in ("server", "launcher"):
        assert f"{tmp_path / 'a' / '.wf'} no longer exists" in log_of(shell, name)
    assert not (tmp_path / "a").exists()


def test_the_orchestrator_of_a_moved_workflow_fails(shell: Shell, tmp_path: Path) -> None:
    run = shell.start("run", "--run_name", "a")
    wait_until(lambda: both_started(shell), "both runs started")
    shell.directory.rename(tmp_path / "b")
    done = finish(run)
    assert done.returncode == 1
    assert f"{tmp_path / 'a' / '.wf'} no longer exists: it was moved" in done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    shell.directory = tmp_path / "b"
    (tmp_path / "go").touch()
    # Their wrappers work in the directory, whatever its path.
    shell.ok("run", "--run_name", "a")
    assert shell.counts("s", "a") == {"FINISHED": 2}


def test_short_runs_of_a_moved_workflow_are_executed_once(tmp_path: Path) -> None:
    ran, runs = tmp_path / "ran", 200
    ran.touch()
    shell = small_workflow(
        tmp_path / "a",
        script='echo "$MOTOKO_RUN_ID" >>"$MOTOKO_TEST_RAN"\n',
        main=f"async def main(workflow, **params):\n    await workflow.s.create_task("
        f"x=list(range({runs})))\n",
    )
    shell.environment["MOTOKO_TEST_RAN"] = str(ran)
    try:
        first = shell.start("run", "--run_name", "a")
        wait_until(lambda: ran.read_text().count("\n") > 20, "some runs")
        shell.directory.rename(tmp_path / "b")
        shell.directory = tmp_path / "b"
        assert finish(first).returncode == 1
        wait_until(lambda: "no longer exists" in log_of(shell, "launcher"), "the launcher's end")
        assert ran.read_text().count("\n") < runs
        assert "FAILED" not in shell.counts("s", "a")
        shell.ok("run", "--run_name", "a")
        assert shell.counts("s", "a") == {"FINISHED": runs}
        assert sorted(map(int, ran.read_text().split())) == list(range(1, runs + 1))
    finally:
        shell.close()


def test_an_idle_orchestrator_notices_the_move(tmp_path: Path) -> None:
    database = Database.in_memory()
    run_transaction(database, lambda root: create_tables(root, ["s"]), initialising=True)
    (tmp_path / "x").mkdir()
    lease = Lease(WorkflowStore(StateDir(tmp_path / "x"), {}, database=database), "a")

    async def renew() -> None:
        await lease.acquire()
        (tmp_path / "x").rename(tmp_path / "y")
        with anyio.fail_after(PATIENCE):
            await lease.renew_forever()

    with pytest.raises(ServerError, match="it was moved or removed"):
        anyio.run(renew)
    database.close()


# -- removed ----------------------------------------------------------------------------------


@pytest.mark.parametrize("working", [False, True])
def test_no_process_outlives_its_state_directory(
    shell: Shell, tmp_path: Path, working: bool
) -> None:
    run = shell.start("run", "--run_name", "a") if working else None
    if working:
        wait_until(lambda: both_started(shell), "both runs started")
    else:
        shell.ok("create")
        shell.ok("launcher")
    left = processes(shell)
    assert len(left) == 2
    remove(shell.directory / ".wf")
    if run is not None:
        done = finish(run)
        assert done.returncode == 1
        assert f"{shell.directory / '.wf'} no longer exists" in done.stderr
        assert "Traceback" not in done.stderr, done.stderr
    wait_until(lambda: not any(map(is_alive, left)), "server and launcher have ended")
    assert not (shell.directory / ".wf").exists()


def test_a_replaced_database_is_no_longer_served(tmp_path: Path) -> None:
    state = make(tmp_path / "a")
    store = WorkflowStore(state, {})
    increment(store)
    store.close()
    shutil.copy(state.database, tmp_path / "copy")
    server = process_of(state)
    (state.path / "wf.db.index").unlink()
    (tmp_path / "copy").replace(state.database)
    wait_until(lambda: not is_alive(server), "the server has ended")
    assert "wf.db was removed or replaced" in (state.logs / "server.log").read_text()
    assert not (state.path / "wf.db.index").exists()
    try:
        assert variable(store, "n") == 1
        assert is_responding(state)
    finally:
        store.close()
        os.kill(process_of(state).pid, signal.SIGTERM)


def test_a_client_of_a_removed_directory_gets_an_error(tmp_path: Path) -> None:
    state = make(tmp_path / "a")
    store = WorkflowStore(state, {})
    increment(store)
    server = process_of(state)
    remove(state.path)
    wait_until(lambda: not is_alive(server), "the server has ended")
    with pytest.raises(ServerError, match="no longer exists: it was moved or removed"):
        increment(store)
    store.close()


def test_a_state_directory_that_never_existed_is_no_error(tmp_path: Path) -> None:
    home = StateDirGuard.of(StateDir(tmp_path / "x"))
    assert home.missing_error() is None
    (tmp_path / "x").mkdir()
    assert home.missing_error() is None
    home = StateDirGuard.of(StateDir(tmp_path / "x"))
    (tmp_path / "x").rename(tmp_path / "y")
    (tmp_path / "x").mkdir()
    with pytest.raises(ServerError, match="it was moved or removed"):
        home.check()


def test_a_lock_in_a_removed_directory(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nowhere no longer exists"):
        FileLock(tmp_path / "nowhere" / "a.lock").acquire()


# -- a new database ---------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["there", "removed"])
def test_a_directory_in_use_by_a_run_is_not_moved_aside(shell: Shell, state: str) -> None:
    first = shell.start("run", "--run_name", "a")
    wait_until(lambda: both_started(shell), "two runs")
    shell.ok("kill")
    finish(first)
    if state == "removed":
        shutil.rmtree(shell.directory / ".wf")
    runs = shell.directory / "s" / "BD-s-runs"
    done = shell.run("create", "--validated")
    assert done.returncode == 1
    found = re.search(rf"process ([0-9]+) is still running in {runs}/run-[12]", done.stderr)
    assert found is not None, done.stderr
    assert (shell.directory / ".wf" / "wf.db").exists() == (state == "there")
    if state == "there":
        assert shell.counts("s", "a") == {"START": 2}
        assert "stopped 2 runs" in shell.ok("kill", "--stop-runs", "--yes")
    else:
        Path(shell.environment["MOTOKO_TEST_GO"]).touch()
        wait_until(lambda: count_exits(runs) == 2, "both end")
    wait_until(lambda: shell.run("create", "--validated").returncode == 0, "a new database")
    assert [path.name for path in runs.parent.glob("BD-*")] == ["BD-s-runs.old-1"]


# -- two workflows that share a study ---------------------------------------------------------


def test_the_second_workflow_of_a_study_is_refused(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    shell.ok("run", "--run_name", "a")
    other = small_workflow(tmp_path / "second")
    shutil.rmtree(other.directory / "s")
    (other.directory / "s").symlink_to(os.path.relpath(shell.directory / "s", other.directory))
    for command in (["create"], ["run", "--run_name", "b"]):
        done = other.run(*command)
        assert done.returncode == 1
        assert f"of another workflow, {shell.directory}" in done.stderr.splitlines()[0]
        assert "Traceback" not in done.stderr, done.stderr
    assert not (other.directory / ".wf" / "wf.db").exists()
    assert (shell.directory / "s" / "BD-s-runs" / "run-1").is_dir()
    # If its database is older than the record of the owner of the run directories:
    note = shell.directory / "s" / ".BD-s-runs.workflow"
    content = note.read_bytes()
    note.unlink()
    (other.directory / "s").unlink()
    (other.directory / "s").mkdir()
    for name in ("bd.yaml", "launch.sh"):
        shutil.copy(shell.directory / "s" / name, other.directory / "s")
    other.ok("create")
    shutil.rmtree(other.directory / "s")
    (other.directory / "s").symlink_to(shell.directory / "s")
    note.write_bytes(content)
    done = other.run("run", "--run_name", "b")
    assert done.returncode == 1
    assert f"of another workflow, {shell.directory}" in done.stderr
    assert not list(shell.directory.glob("s/BD-s-runs/*before*"))
    other.close()


def test_a_workflow_at_the_path_of_a_renamed_one_is_refused(shell: Shell, tmp_path: Path) -> None:
    study = tmp_path / "study"
    (shell.directory / "s").rename(study)
    (shell.directory / "s").symlink_to(study)
    first = shell.start("run", "--run_name", "a")
    wait_until(lambda: both_started(shell), "two runs")
    shell.ok("kill")
    finish(first)
    former = Shell(tmp_path / "a.old", dict(shell.environment))
    shell.directory.rename(former.directory)
    shell.directory.mkdir()
    for name in ("motoko.yaml", "steps.py"):
        shutil.copy(former.directory / name, shell.directory)
    (shell.directory / "s").symlink_to(study)
    for command in (["create"], ["run", "--run_name", "b"]):
        done = shell.run(*command)
        assert done.returncode == 1
        assert f"of another workflow, {former.directory}" in done.stderr
    assert sorted(p.name for p in study.glob("BD*")) == ["BD-s-runs"]
    assert not (shell.directory / ".wf" / "wf.db").exists()
    (tmp_path / "go").touch()
    former.ok("run", "--run_name", "a")
    assert former.counts("s", "a") == {"FINISHED": 2}
    former.close()
