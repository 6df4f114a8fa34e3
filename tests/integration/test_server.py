"""The database server: start, discovery, stop, kill, and inspections without a server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from zc.lockfile import LockError  # type: ignore[import-untyped]

from motoko.core.changes import EditRun, SetVariable
from motoko.core.edits import SetFields
from motoko.core.values import MISSING
from motoko.errors import (
    DatabaseExistsError,
    DatabaseVersionError,
    NoDatabaseError,
    ServerError,
    StorageError,
)
from motoko.handles.run import Run
from motoko.runtime import processes
from motoko.runtime.daemons import PidFile
from motoko.runtime.file_lock import FileLock
from motoko.runtime.ports import SystemClock
from motoko.server import recent_commits
from motoko.server.file_storage import AtomicFileStorage
from motoko.server.lifecycle import ensure_server, is_responding, stop_server
from motoko.server.state_dir import MAX_SOCKET_PATH, StateDir
from motoko.storage import scope
from motoko.storage.database import Database
from motoko.storage.schema import SCHEMA_VERSION, create_database
from motoko.storage.session import Session, run_transaction
from motoko.storage.store import WorkflowStore
from motoko.testing import add_run, study_config
from motoko.testing.memory import commit, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from motoko.storage.feed import CommitNotice

pytestmark = pytest.mark.integration

STUDIES = ("mult", "add")

SETTER = """
import sys
from pathlib import Path
from motoko.core.changes import SetVariable
from motoko.server.state_dir import StateDir
from motoko.storage.store import WorkflowStore
store = WorkflowStore(StateDir.of(Path(sys.argv[1])), {})
store.autocommit_scope.write(SetVariable(None, sys.argv[2], int(sys.argv[3])))
store.close()
"""
RESERVER = """
import sys
from pathlib import Path
from motoko.server.state_dir import StateDir
from motoko.storage.store import WorkflowStore
store = WorkflowStore(StateDir.of(Path(sys.argv[1])), {})
with store.autocommit_scope.read() as session:
    for _ in range(20):
        print(session.reserve("mult", 2, 0)[0])
store.close()
"""
STARTER = """
import sys
from pathlib import Path
from motoko.server.state_dir import StateDir
from motoko.server.lifecycle import ensure_server
print(ensure_server(StateDir.of(Path(sys.argv[1]))))
"""


def python(code: str, *arguments: object, env: dict[str, str] | None = None) -> str:
    """Run code in another process; return its output."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=env,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def workflow(tmp_path: Path) -> Iterator[Path]:
    """A workflow directory with a database and its server."""
    directory = tmp_path / "a workflow"
    directory.mkdir()
    state = StateDir.of(directory)
    create_database(state, STUDIES)
    yield directory
    stop_server(state)


@pytest.fixture
def state(workflow: Path) -> StateDir:
    return StateDir.of(workflow)


@pytest.fixture
def stopped(state: StateDir) -> StateDir:
    stop_server(state)
    return state


@pytest.fixture
def store(state: StateDir) -> Iterator[WorkflowStore]:
    store = WorkflowStore(state, {})
    yield store
    store.close()


def server_process(state: StateDir) -> processes.ProcessIdentity:
    record = PidFile(state.server_record).read()
    assert record is not None
    return record.process


def kill_server(state: StateDir) -> None:
    process = server_process(state)
    os.kill(process.pid, signal.SIGKILL)
    eventually(lambda: not processes.is_alive(process))


def variable(store: WorkflowStore, name: str) -> Any:
    with store.autocommit_scope.read() as session:
        return session.tables.variable(None, name)


# -- starting, finding, stopping --------------------------------------------------------------


def test_a_server_is_started_when_needed_and_found_by_other_processes(
    workflow: Path, stopped: StateDir, store: WorkflowStore
) -> None:
    state = stopped
    assert not is_responding(state)
    store.autocommit_scope.write(SetVariable(None, "n", 1))
    first = server_process(state)
    python(SETTER, workflow, "m", 2)
    eventually(lambda: variable(store, "m") == 2)
    assert variable(store, "n") == 1
    assert server_process(state) == first
    assert ensure_server(state) is False


def test_stopping_a_server(state: StateDir) -> None:
    process, socket = server_process(state), state.socket()
    assert stop_server(state) is True
    assert not processes.is_alive(process)
    assert not socket.exists()
    assert not state.server_record.exists()
    assert stop_server(state) is False


def test_missing_server_or_database(tmp_path: Path) -> None:
    state = StateDir.of(tmp_path)
    assert stop_server(state) is False
    with pytest.raises(NoDatabaseError, match="has no database yet"):
        ensure_server(state)
    assert not state.path.exists()


def test_concurrent_clients_start_one_server(workflow: Path, stopped: StateDir) -> None:
    with ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(lambda _: python(STARTER, workflow).strip(), range(4)))
    assert sorted(outputs) == ["False", "False", "False", "True"]
    assert is_responding(stopped)


@pytest.mark.fault
def test_files_of_a_killed_server_are_no_obstacle(state: StateDir, store: WorkflowStore) -> None:
    store.autocommit_scope.write(SetVariable(None, "n", 1))
    store.close()
    kill_server(state)
    assert state.socket().exists()
    assert state.server_record.exists()
    assert not is_responding(state)
    assert stop_server(state) is False
    assert ensure_server(state) is True
    assert variable(store, "n") == 1


def test_a_server_that_does_not_start_reports_the_reason(stopped: StateDir) -> None:
    state = stopped
    state.database.write_bytes(b"not a database, but a letter to the editor")
    with pytest.raises(ServerError) as caught:
        ensure_server(state)
    assert "server.log" in str(caught.value)
    assert not is_responding(state)


def test_results_are_not_deleted_without_request(
    workflow: Path, state: StateDir, store: WorkflowStore
) -> None:
    store.autocommit_scope.write(SetVariable(None, "n", 1))
    with pytest.raises(DatabaseExistsError, match="already has results"):
        create_database(state, STUDIES)
    assert variable(store, "n") == 1
    store.close()
    create_database(state, STUDIES, replace=True)
    assert variable(store, "n") is MISSING


def test_locks_outlive_deleted_files(state: StateDir) -> None:
    """A starting command holds a lock in a directory that another command empties."""
    with FileLock(state.path / "services.lock"):
        create_database(state, STUDIES, replace=True)
        with pytest.raises(StorageError, match="is held by"):
            FileLock(state.path / "services.lock", timeout=0).acquire()
    assert list(state.path.parent.glob(".wf.*")) == []


def test_a_newer_database_is_refused(state: StateDir, store: WorkflowStore) -> None:
    database = store.database

    def newer(root: Any) -> None:
        root["motoko"].update({"version": 99, "written_by": "7.1"})

    database.submit(lambda: run_transaction(database, newer, initialising=True)).result()
    reads = f"which reads format {SCHEMA_VERSION}"
    message = rf"format 99, written by Motoko 7\.1; this is Motoko .*, {reads}\n"
    with pytest.raises(DatabaseVersionError, match=message):
        variable(store, "n")
    store.close()
    with pytest.raises(DatabaseVersionError, match=message):  # before any process is started
        _ = store.database
    assert not store.connected


# -- location and permissions -----------------------------------------------------------------


def test_only_the_owner_has_access(state: StateDir, store: WorkflowStore) -> None:
    store.autocommit_scope.write(SetVariable(None, "n", 1))
    modes = {
        path: stat.S_IMODE(path.lstat().st_mode)
        for path in [state.path, state.socket(), *state.path.rglob("*")]
    }
    directories = {path for path in modes if path.is_dir()}
    assert {modes[path] for path in directories} == {0o700}
    assert {modes[path] for path in modes.keys() - directories} == {0o600}
    assert state.logs in directories
    assert {state.database, state.socket(), state.server_record} <= modes.keys()


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[StateDir]:
    directory = tmp_path / ("deep directory" * 5) / ("deeper" * 5)
    directory.mkdir(parents=True)
    state = StateDir.of(directory)
    assert len(os.fsencode(state.path / "zeo.sock")) > 107
    create_database(state, STUDIES)
    yield state
    stop_server(state)


def test_deep_directories_have_a_socket_elsewhere(deep: StateDir) -> None:
    assert len(os.fsencode(deep.socket())) <= MAX_SOCKET_PATH
    assert stat.S_IMODE(deep.socket().lstat().st_mode) == 0o600
    assert stat.S_IMODE(deep.socket().parent.lstat().st_mode) == 0o700
    python(SETTER, deep.path.parent, "n", 3)
    store = WorkflowStore(deep, {})
    assert variable(store, "n") == 3
    store.close()


def test_a_socket_elsewhere_is_found_from_another_environment(
    deep: StateDir, tmp_path: Path
) -> None:
    """A batch job and the shell that started the server may have different TMPDIRs."""
    process = server_process(deep)
    other = tmp_path / "tmp"
    other.mkdir()
    env = {name: value for name, value in os.environ.items() if name != "XDG_RUNTIME_DIR"}
    python(SETTER, deep.path.parent, "n", 3, env=env | {"TMPDIR": str(other)})
    assert server_process(deep) == process
    assert list(other.iterdir()) == []


def test_a_directory_that_others_can_enter_holds_no_socket(
    deep: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_server(deep)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/tmp")
    base = Path(f"/tmp/m{os.getpid()}")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(base))
    (base / f"motoko-{os.getuid()}").mkdir(parents=True)
    (base / f"motoko-{os.getuid()}").chmod(0o755)
    try:
        with pytest.raises(ServerError, match="only you can enter"):
            deep.socket()
    finally:
        (base / f"motoko-{os.getuid()}").rmdir()
        base.rmdir()


# -- a running server that is unreachable -----------------------------------------------------


def has_exited(process: processes.ProcessIdentity) -> bool:
    return not processes.is_alive(process)


def remove_the_socket(state: StateDir) -> None:
    state.socket().unlink()


def remove_socket_and_record(state: StateDir) -> None:
    state.socket().unlink()
    state.server_record.unlink()


def remove_socket_and_locks(state: StateDir) -> None:
    state.socket().unlink()
    for path in state.path.glob("*.lock"):
        path.unlink()


def replace_socket_by_another(state: StateDir) -> None:
    path = str(state.socket())
    os.unlink(path)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)


def replace_socket_by_empty_directory(state: StateDir) -> None:
    path = state.socket()
    path.unlink()
    path.mkdir()


def replace_socket_by_directory(state: StateDir) -> None:
    replace_socket_by_empty_directory(state)
    (state.socket() / "file").write_text("kept")


def replace_socket_by_link_to_itself(state: StateDir) -> None:
    path = state.socket()
    path.unlink()
    path.symlink_to(path.name)


def replace_socket_by_invalid_link(state: StateDir) -> None:
    path = state.socket()
    path.unlink()
    path.symlink_to("n" * 300)


def replace_socket_by_fifo(state: StateDir) -> None:
    path = state.socket()
    path.unlink()
    os.mkfifo(path)


def replace_directory_of_socket(state: StateDir) -> None:
    """Replace the directory of a socket outside ``.wf``."""
    directory = state.socket().parent
    assert directory != state.path
    directory.rename(directory.with_name("elsewhere"))
    directory.symlink_to(directory.name)


SPOILT = [
    remove_the_socket,
    remove_socket_and_record,
    remove_socket_and_locks,
    replace_socket_by_another,
    replace_socket_by_empty_directory,
    replace_socket_by_directory,
    replace_socket_by_link_to_itself,
    replace_socket_by_invalid_link,
    replace_socket_by_fifo,
]


@pytest.mark.parametrize("spoil", SPOILT)
def test_an_unreachable_server_is_replaced(
    state: StateDir, store: WorkflowStore, spoil: Callable[[StateDir], None]
) -> None:
    store.autocommit_scope.write(SetVariable(None, "n", 1))
    process = server_process(state)
    spoil(state)
    other = WorkflowStore(state, {})
    try:
        assert variable(other, "n") == 1
        eventually(lambda: has_exited(process))
        other.autocommit_scope.write(SetVariable(None, "n", 2))
        eventually(lambda: variable(store, "n") == 2)  # the store reconnects
        assert server_process(state) != process
    finally:
        other.close()


@pytest.mark.parametrize("spoil", [*SPOILT, replace_directory_of_socket])
def test_an_unreachable_server_with_a_socket_elsewhere_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[StateDir], None]
) -> None:
    directory = tmp_path / ("deep directory" * 5) / ("deeper" * 5)
    directory.mkdir(parents=True)
    state = StateDir.of(directory)
    with tempfile.TemporaryDirectory(prefix="m", dir="/tmp") as base:
        monkeypatch.setenv("XDG_RUNTIME_DIR", base)
        create_database(state, STUDIES)
        try:
            process = server_process(state)
            assert state.socket().parent.parent == Path(base)
            spoil(state)
            python(SETTER, directory, "n", 3)
            assert server_process(state) != process
        finally:
            stop_server(state)


def test_a_directory_in_place_of_the_socket_is_kept(state: StateDir) -> None:
    replace_socket_by_directory(state)
    python(SETTER, state.path.parent, "n", 3)
    (kept,) = state.path.glob("zeo.sock.*/file")
    assert kept.read_text() == "kept"


def test_a_removed_record_is_rewritten(state: StateDir) -> None:
    process = server_process(state)
    state.server_record.unlink()
    eventually(state.server_record.exists)
    assert server_process(state) == process


def test_two_servers_never_serve_one_file(state: StateDir) -> None:
    """This holds even without socket, record and lock files."""
    state.database_lock.unlink()
    with pytest.raises(LockError):
        AtomicFileStorage(state.database)
    assert is_responding(state)


def test_an_unreachable_server_is_reported_in_one_line(
    stopped: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("motoko.server.lifecycle.UNREACHABLE_SECONDS", 0.2)
    record = PidFile(stopped.server_record)
    record.write()  # this process has the file open, without a socket
    file = AtomicFileStorage(stopped.database)
    try:
        with pytest.raises(ServerError) as caught:
            ensure_server(stopped)
        assert caught.value.message.endswith(
            f"wf.db is served by process {os.getpid()}, which cannot be reached"
        )
        assert "motoko kill" in (caught.value.hint or "")
    finally:
        file.close()
        record.remove()
    assert ensure_server(stopped)


@pytest.mark.parametrize("socket_too", [False, True])
def test_a_suspended_server_is_replaced(
    state: StateDir, store: WorkflowStore, socket_too: bool
) -> None:
    store.autocommit_scope.write(SetVariable(None, "n", 1))
    process = server_process(state)
    os.kill(process.pid, signal.SIGSTOP)
    if socket_too:
        state.socket().unlink()
    python(SETTER, state.path.parent, "n", 2)
    assert has_exited(process)
    assert server_process(state) != process
    eventually(lambda: variable(store, "n") == 2)  # its clients reconnect


def test_clients_wait_for_a_slow_server(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("motoko.server.lifecycle._greeting", lambda _: b"")
    process = server_process(state)
    assert not ensure_server(state)
    assert processes.is_alive(process)


@pytest.mark.parametrize("served", [False, True])
def test_the_socket_of_another_listener_is_moved_aside(state: StateDir, served: bool) -> None:
    """A listener that accepts connections and never answers is not a server."""
    if not served:
        stop_server(state)
    path = state.socket()
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind(str(path))
        stranger.listen()
        python(SETTER, state.path.parent, "n", 3)
        inspector = WorkflowStore(state, {}, read_only=True)
        assert variable(inspector, "n") == 3
        inspector.close()


def test_another_listener_is_not_terminated(stopped: StateDir) -> None:
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind(str(stopped.socket()))
        stranger.listen()
        assert not is_responding(stopped)
        assert not stop_server(stopped)


@pytest.mark.parametrize("when", ["missing", "removed"])
def test_a_missing_runtime_directory(
    deep: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    stop_server(deep)
    with tempfile.TemporaryDirectory(prefix="m", dir="/tmp") as base:
        runtime = Path(base) / "run"
        if when == "removed":
            runtime.mkdir()
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
        ensure_server(deep)
        assert deep.socket().is_relative_to(runtime) is (when == "removed")
        process = server_process(deep)
        if when == "removed":
            shutil.rmtree(runtime)
        store = WorkflowStore(deep, {})
        store.autocommit_scope.write(SetVariable(None, "n", 1))
        assert variable(store, "n") == 1
        store.close()
        assert is_responding(deep)
        assert has_exited(process) is (when == "removed")


def test_a_record_with_a_socket_in_an_unsafe_directory_is_ignored(
    deep: StateDir, tmp_path: Path
) -> None:
    right, server = deep.socket(), server_process(deep)
    stop_server(deep)
    (tmp_path / "open").mkdir(mode=0o777)
    PidFile(deep.server_record).write(server, socket=str(tmp_path / "open" / "s.sock"))
    assert deep.socket() == right


# -- inspections without a server -------------------------------------------------------------


def test_an_inspection_starts_no_server(state: StateDir, store: WorkflowStore) -> None:
    store.autocommit_scope.write(SetVariable(None, "n", 1))
    for served in (True, False):
        if not served:
            store.close()
            stop_server(state)
        inspector = WorkflowStore(state, {}, read_only=True)
        assert variable(inspector, "n") == 1
        for change in (SetVariable(None, "n", 2), SetVariable(None, "other", 2)):
            with pytest.raises(StorageError, match="opened read-only"):
                inspector.autocommit_scope.write(change)
        with (
            inspector.autocommit_scope.read() as session,
            pytest.raises(StorageError, match="opened read-only"),
        ):
            session.reserve("mult", 1, 1)
        assert variable(inspector, "n") == 1
        assert is_responding(state) is served
        inspector.close()


@pytest.mark.parametrize("how", ["stopped", "killed", "hangs"])
def test_an_inspection_reads_the_file_once_the_server_exited(
    state: StateDir, store: WorkflowStore, how: str
) -> None:
    store.autocommit_scope.write(SetVariable(None, "n", 1))
    inspector = WorkflowStore(state, {}, read_only=True)
    server = PidFile(state.server_record).read()
    assert server is not None
    with inspector.autocommit_scope.read() as session:  # only the root is loaded
        store.autocommit_scope.write(SetVariable(None, "n", 2))
        if how == "stopped":
            stop_server(state)
        else:
            signals = {"killed": signal.SIGKILL, "hangs": signal.SIGSTOP}
            os.kill(server.process.pid, signals[how])
        try:
            assert session.tables.variable(None, "n") == 1
            again = WorkflowStore(state, {}, read_only=True)
            assert variable(again, "n") == 2
            again.close()
        finally:
            if how == "hangs":
                os.kill(server.process.pid, signal.SIGCONT)
    inspector.close()


def test_a_read_of_a_closed_database_is_a_server_error(store: WorkflowStore) -> None:
    """A removed directory closes the database while a thread reads."""
    storage = store.database._storage
    root, now = b"\0" * 8, storage.lastTransaction()
    storage.loadBefore(root, now)
    storage.close()
    with pytest.raises(ServerError, match="is disconnected"):
        storage.loadBefore(root, now)


def test_an_inspection_without_a_database(tmp_path: Path) -> None:
    inspector = WorkflowStore(StateDir.of(tmp_path), {}, read_only=True)
    with pytest.raises(NoDatabaseError):
        variable(inspector, "n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"FS", b"not a database at all, " * 10])
def test_an_inspection_of_another_file(tmp_path: Path, content: bytes) -> None:
    state = StateDir.of(tmp_path)
    state.path.mkdir()
    state.database.write_bytes(content)
    inspector = WorkflowStore(state, {}, read_only=True)
    with pytest.raises(StorageError) as caught:
        variable(inspector, "n")
    assert "\n" not in caught.value.message
    assert state.database.read_bytes() == content


# -- several processes ------------------------------------------------------------------------


def test_no_id_is_given_to_two_processes(workflow: Path, state: StateDir) -> None:
    with ThreadPoolExecutor(2) as pool:
        outputs = list(pool.map(lambda _: python(RESERVER, workflow), range(2)))
    ids = [int(line) for output in outputs for line in output.split()]
    assert sorted(ids) == list(range(1, 81, 2))


def test_a_commit_of_another_process_wakes_a_subscriber(
    workflow: Path, store: WorkflowStore
) -> None:
    heard: list[CommitNotice] = []
    woken = threading.Event()

    def hear(commit: CommitNotice) -> None:
        heard.append(commit)
        woken.set()

    store.autocommit_scope.write(SetVariable(None, "n", 1))
    heard_before = len(heard)
    end = store.database.feed.subscribe(hear)
    python(SETTER, workflow, "n", 2)
    assert woken.wait(10)
    with store.autocommit_scope.read() as session:
        # A woken subscriber sees the commit: its snapshot is not older than the notice.
        assert session.tables.variable(None, "n") == 2
        found = [session.classify(commit.oids) for commit in heard]
    end()
    assert heard_before == 0
    assert found == [(set(), True)]


# -- a server that exits ----------------------------------------------------------------------


def restart_after(state: StateDir, seconds: float) -> threading.Thread:
    def work() -> None:
        time.sleep(seconds)
        ensure_server(state)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.fault
def test_clients_wait_for_a_server_and_continue(state: StateDir, store: WorkflowStore) -> None:
    database = store.database
    session, reader = Session(database), Session(database)
    key = add_run(session, "mult", {"x": 1.0})
    commit(database, session)
    session.add(EditRun(key, SetFields({"y": 1})))
    everything: list[CommitNotice] = []
    end = database.feed.subscribe(everything.append)
    kill_server(state)
    thread = restart_after(state, 0.5)
    assert reader.tables.study("mult").ids(None) == []
    commit(database, session)
    thread.join()
    assert session.run(key).fields == {"y": 1}
    reader.refresh()
    assert reader.run(key).fields == {"y": 1}
    assert any(found.everything for found in everything)
    end()
    reader.close()
    session.close()


@pytest.mark.fault
@pytest.mark.parametrize("size", [1, recent_commits.BYTES * 3 // 4])
def test_a_client_learns_what_changed_while_it_was_away(
    state: StateDir, store: WorkflowStore, size: int
) -> None:
    """Even if the server that it reconnects to remembers no commit of that time but the last."""
    store.autocommit_scope.write(SetVariable(None, "n", 1))
    assert variable(store, "n") == 1
    kill_server(state)
    with contextlib.closing(Database(AtomicFileStorage(state.database))) as database:
        for name, value in (("n", 2), ("large", "x" * size), ("large", "y" * size), ("small", 3)):
            with contextlib.closing(Session(database)) as session:
                session.add(SetVariable(None, name, value))
                commit(database, session)
    ensure_server(state)
    eventually(lambda: variable(store, "n") == 2)


@pytest.mark.fault
@pytest.mark.parametrize("arrived", [True, False])
def test_the_outcome_of_an_unconfirmed_commit_is_looked_up(
    state: StateDir,
    store: WorkflowStore,
    monkeypatch: pytest.MonkeyPatch,
    arrived: bool,
) -> None:
    """The connection breaks during the commit, before or after the server wrote it."""
    from ZEO.Exceptions import ClientDisconnected

    database = store.database
    client = database._storage._server
    finish = client.tpc_finish
    calls: list[bool] = []

    def cut(*arguments: Any, **options: Any) -> Any:
        calls.append(True)
        if len(calls) > 1:
            return finish(*arguments, **options)
        if arrived:
            finish(*arguments, **options)
        client.loop.call_soon_threadsafe(client.client.protocol.close)
        client.loop.call_soon_threadsafe(client.client.disconnected, client.client.protocol)
        raise ClientDisconnected("the connection was lost")

    session = Session(database)
    key = add_run(session, "mult", {"x": 1.0})
    session.record_read_id(key)
    session.add(SetVariable(None, "n", 5))
    monkeypatch.setattr(client, "tpc_finish", cut)
    commit(database, session)
    assert len(calls) == (1 if arrived else 2)
    assert session.tables.study("mult").ids(None) == [key.id]
    assert session.replaced_keys == {}
    assert session.tables.variable(None, "n") == 5
    session.close()


class FastForward(SystemClock):
    """A clock that a test can set forward."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


@pytest.mark.fault
def test_a_slow_commit_is_repeated_after_a_disconnection(
    store: WorkflowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server drops a client that takes too long; the time until then does not count."""
    from ZEO.Exceptions import ClientDisconnected

    database, clock = store.database, FastForward()
    monkeypatch.setattr(database, "runtime", replace(database.runtime, clock=clock))
    client = database._storage._server
    finish = client.tpc_finish

    def cut(*arguments: Any, **options: Any) -> Any:
        if clock.ahead:
            return finish(*arguments, **options)
        clock.ahead = 2 * database.retry_timeout
        raise ClientDisconnected("the connection was lost")

    monkeypatch.setattr(client, "tpc_finish", cut)
    session = Session(database)
    session.add(SetVariable(None, "n", 5))
    commit(database, session)
    assert session.tables.variable(None, "n") == 5
    session.close()


@pytest.mark.fault
def test_a_server_that_is_not_restarted(state: StateDir) -> None:
    database = Database.connect(str(state.socket()), retry_timeout=0.5)
    session, reader = Session(database), Session(database)
    session.add(SetVariable(None, "n", 1))
    kill_server(state)
    with pytest.raises(ServerError, match=r"did not come back within 0\.5 s"):
        commit(database, session)
    with pytest.raises(ServerError, match="did not come back"):
        reader.tables.study("mult").ids(None)
    assert not session.pending
    session.close()
    reader.close()
    database.close()


def test_no_server_at_the_address(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="no database server responds at"):
        Database.connect(str(tmp_path / "nothing.sock"), timeout=0.2)


# -- closing ----------------------------------------------------------------------------------


def test_closing_with_sessions_that_are_still_open(state: StateDir) -> None:
    database = Database.connect(str(state.socket()))
    session, other = Session(database), Session(database)
    session.add(SetVariable(None, "n", 1))
    assert session.tables.variable(None, "n") == 1
    database.close()
    session.close()
    other.close()
    database.close()


def test_a_closed_store_can_reconnect(store: WorkflowStore) -> None:
    store.autocommit_scope.write(SetVariable(None, "n", 1))
    store.close()
    assert not store.connected
    assert variable(store, "n") == 1


def test_a_script_from_several_threads(state: StateDir) -> None:
    """Every call is a separate transaction, atomic for other threads."""
    config = study_config("mult", {"x": "float"})
    store = WorkflowStore(state, {"mult": config})
    with store.autocommit_scope.read() as session:
        keys = [add_run(session, "mult", {"x": float(n)}) for n in range(4)]
        store.database.submit(session.commit).result()

    def work(number: int) -> None:
        run = Run(store, keys[number])
        for step in range(10):
            run.y = step
            assert run.y == step

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert [Run(store, key).y for key in keys] == [9] * 4
    store.close()


@pytest.mark.blocks_loop
@pytest.mark.parametrize(
    ("debug", "limit", "reported"), [(True, 0.01, True), (True, 60.0, False), (False, 0.01, False)]
)
async def test_a_read_that_blocks_the_loop_is_reported_in_debug_mode(
    state: StateDir,
    store: WorkflowStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    debug: bool,
    limit: float,
    reported: bool,
) -> None:
    monkeypatch.setattr(scope, "BLOCK_SECONDS", limit)
    with store.autocommit_scope.read() as session:
        key = add_run(session, "mult", {"x": 1.0})
        commit(store.database, session)
    reader = WorkflowStore(state, {})
    assert variable(reader, "n") is MISSING  # it is connected
    process = server_process(state)
    os.kill(process.pid, signal.SIGSTOP)
    resuming = threading.Timer(0.3, os.kill, (process.pid, signal.SIGCONT))
    resuming.start()
    try:
        asyncio.get_running_loop().set_debug(debug)
        with caplog.at_level(logging.WARNING, logger="motoko.storage.scope"):
            assert Run(reader, key).record.job == {"x": 1.0}
    finally:
        asyncio.get_running_loop().set_debug(False)
        resuming.join()
        reader.close()
    warnings = [text for text in caplog.messages if "The event loop was blocked for " in text]
    assert [f"{__file__}:" in text for text in warnings] == [True] * reported


def test_the_server_record_names_process_and_socket(state: StateDir) -> None:
    record = json.loads(state.server_record.read_text())
    assert record["info"]["socket"] == str(state.socket())
    assert processes.is_alive(server_process(state))
