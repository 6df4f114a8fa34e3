"""``motoko backup`` and ``motoko restore`` on running, stopped and damaged workflows."""

from __future__ import annotations

import os
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from motoko.core.changes import SetVariable
from motoko.errors import (
    DatabaseDamagedError,
    DatabaseExistsError,
    DatabaseVersionError,
    NoDatabaseError,
    ServerError,
    StorageError,
)
from motoko.operations.backup import back_up, restore
from motoko.runtime.daemons import PidFile
from motoko.server.lifecycle import is_responding, stop_server
from motoko.server.state_dir import StateDir
from motoko.storage.consistency import check_study
from motoko.storage.database import Database
from motoko.storage.schema import create_database
from motoko.storage.session import Session, run_transaction
from motoko.storage.store import WorkflowStore
from motoko.testing import add_run
from tests.support.command_line import Shell, small_workflow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

pytestmark = pytest.mark.integration


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDir]:
    (tmp_path / "wf").mkdir()
    state = StateDir.of(tmp_path / "wf")
    create_database(state, ["mult"])
    yield state
    stop_server(state)


@pytest.fixture
def store(state: StateDir) -> Iterator[WorkflowStore]:
    store = WorkflowStore(state, {})
    yield store
    store.close()


def stop(store: WorkflowStore) -> None:
    store.close()
    stop_server(store.state)


def number(store: WorkflowStore) -> Any:
    with store.autocommit_scope.read() as session:
        return session.tables.variable(None, "n")


# -- the copy ---------------------------------------------------------------------------------


@pytest.mark.parametrize("served", [True, False])
def test_a_copy_can_be_restored(
    state: StateDir, store: WorkflowStore, tmp_path: Path, served: bool
) -> None:
    with store.autocommit_scope.read() as session:
        add_run(session, "mult", {"x": 1.0})
        session.add(SetVariable(None, "n", 1))
        store.database.submit(session.commit).result()
    if not served:
        stop(store)
    copy = tmp_path / "copy.db"
    made = back_up(state, copy)
    assert made.runs == {"mult": 1}
    assert made.size == copy.stat().st_size
    assert is_responding(state) is served
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    store.autocommit_scope.write(SetVariable(None, "n", 2))
    stop(store)
    assert restore(state, copy, replace=True) == made
    assert not is_responding(state)
    assert number(store) == 1
    store.autocommit_scope.write(SetVariable(None, "n", 3))
    assert number(store) == 3


def test_concurrent_commits_are_copied_atomically(
    state: StateDir, store: WorkflowStore, tmp_path: Path
) -> None:
    """Two variables are equal in every commit, so they are equal in every copy."""
    done = threading.Event()

    def write() -> None:
        value = 0
        while not done.is_set():
            value += 1
            pad = "x" * 2000
            store.autocommit_scope.write(
                *(SetVariable(None, name, (value, pad), blind=True) for name in ("a", "b"))
            )

    thread = threading.Thread(target=write)
    thread.start()
    seen = [0]
    try:
        for turn in range(15):
            copy = tmp_path / f"copy-{turn}.db"
            back_up(state, copy)
            found = inspect_copy(copy)
            assert found["a"] == found["b"]
            seen.append(found["a"])
            if turn == 7:
                store.database.pack()
    finally:
        done.set()
        thread.join()
    assert seen == sorted(seen)
    assert seen[-1] > seen[1]


def inspect_copy(copy: Path) -> dict[str, int]:
    database = Database.read_file(copy)
    session = Session(database)
    try:
        assert check_study(session.tables.study("mult")) == []
        values = {name: session.tables.variable(None, name) for name in ("a", "b")}
        return {name: value[0] if value else 0 for name, value in values.items()}
    finally:
        session.close()
        database.close()


def test_no_file_is_overwritten_without_force(
    state: StateDir, store: WorkflowStore, tmp_path: Path
) -> None:
    store.autocommit_scope.write(SetVariable(None, "n", 1))
    target = tmp_path / "letter"
    target.write_text("dear reader")
    with pytest.raises(DatabaseExistsError, match="already exists"):
        back_up(state, target)
    assert target.read_text() == "dear reader"
    back_up(state, target, replace=True)
    assert target.read_bytes().startswith(b"FS")
    for itself in (state.database, tmp_path / "wf" / ".." / "wf" / ".wf" / "wf.db"):
        with pytest.raises(StorageError, match="the workflow's database itself"):
            back_up(state, itself, replace=True)
    with pytest.raises(StorageError, match="is not a directory"):
        back_up(state, tmp_path / "nowhere" / "copy")
    with pytest.raises(StorageError, match="is a directory"):
        back_up(state, tmp_path, replace=True)
    with pytest.raises(ServerError, match=r"cannot be written: File name too long"):
        back_up(state, tmp_path / ("x" * 250))
    assert number(store) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["letter", "wf"]


def test_nothing_to_copy(tmp_path: Path) -> None:
    with pytest.raises(NoDatabaseError, match="has no database yet"):
        back_up(StateDir.of(tmp_path), tmp_path / "copy")
    assert list(tmp_path.iterdir()) == []


# -- restoring --------------------------------------------------------------------------------


def test_restore_is_refused_while_a_process_is_running(
    state: StateDir, store: WorkflowStore, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    back_up(state, copy)
    store.autocommit_scope.write(SetVariable(None, "n", 1))
    with pytest.raises(StorageError, match=r"is in use by its database server \(process \d+\)"):
        restore(state, copy, replace=True)
    stop(store)
    user = PidFile(state.path / "launcher.json")
    user.write(studies=[], machines=[], lease=60)
    with pytest.raises(StorageError, match="is in use by a launcher"):
        restore(state, copy, replace=True)
    user.remove()
    with pytest.raises(DatabaseExistsError, match="already has results"):
        restore(state, copy)
    assert number(store) == 1


def test_unreadable_files_are_refused(
    state: StateDir, store: WorkflowStore, tmp_path: Path
) -> None:
    store.autocommit_scope.write(SetVariable(None, "n", 1))

    def newer(root: Any) -> None:
        root["motoko"].update({"version": 99, "written_by": "7.1"})

    def foreign(root: Any) -> None:
        del root["motoko"]

    copy = tmp_path / "copy"
    back_up(state, copy)
    stop(store)
    for change, error, message in (
        (newer, DatabaseVersionError, r"format 99, written by Motoko 7\.1"),
        (foreign, NoDatabaseError, "is empty"),
    ):
        (tmp_path / message[:9]).mkdir()
        other = StateDir.of(tmp_path / message[:9])
        restore(other, copy)
        changed = WorkflowStore(other, {})
        run_transaction(changed.database, change, initialising=True)
        stop(changed)
        with pytest.raises(error, match=message):
            restore(state, other.database, replace=True)
    for content in (b"", b"FS30" + b"\7" * 100, b"a letter"):
        bad = tmp_path / "bad"
        bad.write_bytes(content)
        with pytest.raises(StorageError) as caught:
            restore(state, bad, replace=True)
        assert "\n" not in caught.value.message
    with pytest.raises(StorageError, match="is not a file"):
        restore(state, tmp_path / "nothing", replace=True)
    with pytest.raises(StorageError, match="the workflow's database itself"):
        restore(state, state.database, replace=True)
    assert number(store) == 1


def test_a_damaged_database_is_replaced_by_a_copy(
    state: StateDir, store: WorkflowStore, tmp_path: Path
) -> None:
    store.autocommit_scope.write(SetVariable(None, "n", 1))
    copy = tmp_path / "copy"
    back_up(state, copy)
    stop(store)
    state.database.write_bytes(b"damaged " * 100)
    restore(state, copy, replace=True)
    assert number(store) == 1


def test_a_truncated_copy_is_refused(state: StateDir, store: WorkflowStore, tmp_path: Path) -> None:
    for value in range(1, 4):
        store.autocommit_scope.write(SetVariable(None, "n", value))
    copy = tmp_path / "copy"
    whole = back_up(state, copy).size
    store.autocommit_scope.write(SetVariable(None, "n", 9))
    stop(store)
    before = state.database.read_bytes()
    for size in (whole - 1, whole - 30):  # within the last transaction
        os.truncate(copy, size)
        with pytest.raises(DatabaseDamagedError, match="copy is cut off") as caught:
            restore(state, copy, replace=True)
        assert "motoko backup" in (caught.value.hint or "")
    assert state.database.read_bytes() == before
    assert number(store) == 9


# -- the command line -------------------------------------------------------------------------


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = small_workflow(tmp_path / "a workflow")
    yield shell
    shell.close()


def test_backup_and_restore_on_the_command_line(shell: Shell, tmp_path: Path) -> None:
    missing = shell.run("backup", "../copy.db")
    assert missing.returncode == 1
    assert "has no database yet" in missing.stderr.splitlines()[0]
    shell.ok("run", "--run_name", "a")
    assert shell.ok("backup", "../copy.db").startswith("copied 2 runs (0.0 MB) to ../copy.db")
    refused = shell.run("backup", "../copy.db")
    assert refused.stderr.splitlines()[0] == "error: ../copy.db already exists"
    shell.ok("backup", "--validated", "../copy.db")
    shell.ok("run", "--run_name", "b")
    assert shell.counts("s", "b") == {"FINISHED": 2}
    refused = shell.run("restore", "../copy.db")
    assert refused.returncode == 1
    assert "already has results" in refused.stderr.splitlines()[0]
    assert "restored 2 runs" in shell.ok("restore", "../copy.db", "--validated")
    assert shell.counts("s", "a") == {"FINISHED": 2}
    assert shell.counts("s", "b") == {}
    shell.ok("run", "--run_name", "b")
    assert shell.counts("s", "b") == {"FINISHED": 2}
