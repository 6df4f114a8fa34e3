"""Clients continue after the server is killed or stopped; no commit is lost or repeated."""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from ZODB.utils import maxtid, z64

from motoko.core.changes import SetVariable
from motoko.core.values import MISSING
from motoko.errors import ServerError
from motoko.runtime.daemons import PidFile
from motoko.server.client import ReconnectingStorage
from motoko.server.lifecycle import ensure_server, is_responding, stop_server
from motoko.server.watchdog import GRACE, ServerWatchdog
from motoko.storage.consistency import check_study
from motoko.storage.store import WorkflowStore
from motoko.testing.memory import eventually
from tests.support import workflow_processes
from tests.support.serving import increment, kill_server, make, process_of, variable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from motoko.runtime.ports import Clock
    from motoko.server.state_dir import StateDir

pytestmark = pytest.mark.fault


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDir]:
    state = make(tmp_path / "wf")
    yield state
    stop_server(state)


@pytest.fixture
def store(state: StateDir) -> Iterator[WorkflowStore]:
    store = WorkflowStore(state, {})
    yield store
    store.close()


# -- restarts ---------------------------------------------------------------------------------


def test_a_killed_server_is_restarted_by_its_clients(
    state: StateDir, store: WorkflowStore, caplog: pytest.LogCaptureFixture
) -> None:
    increment(store)
    caplog.set_level(logging.WARNING, "motoko")
    killed = kill_server(state)
    increment(store)
    assert variable(store, "n") == 2
    assert process_of(state) != killed
    assert "it was restarted" in caplog.text


def test_an_idle_client_restarts_a_killed_server(state: StateDir, store: WorkflowStore) -> None:
    increment(store)
    kill_server(state)
    eventually(lambda: is_responding(state))
    increment(store)
    assert variable(store, "n") == 2


# Increments the counter; suspended when the server accepted the commit and waits for its
# end.
STOPPED_IN_A_COMMIT = """\
import signal, sys, threading
from pathlib import Path
from motoko.server.state_dir import StateDir
from motoko.server.client import ReconnectingStorage
from motoko.storage.store import WorkflowStore
from tests.support.serving import increment

finish = ReconnectingStorage.tpc_finish

def stop_first(storage, *args):
    ReconnectingStorage.tpc_finish = finish
    # Sent to this thread: sent to the process, another one may stop it, but later.
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
    return finish(storage, *args)

ReconnectingStorage.tpc_finish = stop_first
store = WorkflowStore(StateDir(Path(sys.argv[1])), {})
increment(store)
store.close()
"""


def test_a_client_suspended_in_a_commit_is_disconnected_and_repeats_it(
    state: StateDir, store: WorkflowStore
) -> None:
    increment(store)
    with subprocess.Popen([sys.executable, "-c", STOPPED_IN_A_COMMIT, state.path]) as client:
        try:
            eventually(lambda: workflow_processes.state(client.pid) == "T")
            increment(store)  # waits until the server drops the suspended client
            assert variable(store, "n") == 2
            client.send_signal(signal.SIGCONT)
            assert client.wait(timeout=120) == 0
        finally:
            client.kill()
    assert variable(store, "n") == 3


def test_one_of_many_clients_restarts_the_server(state: StateDir) -> None:
    stores = [WorkflowStore(state, {}) for _ in range(4)]
    increment(stores[0])
    for store in stores:
        variable(store, "n")
    for _ in range(2):
        kill_server(state)
        threads = [threading.Thread(target=increment, args=(store,)) for store in stores]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for store in stores:
        store.close()
    assert variable(stores[0], "n") == 1 + 2 * 4
    stores[0].close()
    assert "LockError" not in (state.logs / "server.log").read_text()


def test_no_object_id_is_used_twice(state: StateDir, store: WorkflowStore) -> None:
    """A client reserves ids for new objects that the next server does not know."""
    other = WorkflowStore(state, {})
    names: list[str] = []
    for turn in range(3):
        for name, writer in (("a", store), ("b", other)):
            new = [f"{name}{turn}.{number}" for number in range(60)]
            writer.autocommit_scope.write(*(SetVariable(None, name, name) for name in new))
            names += new
        kill_server(state)
    # Notices of the last commits may be lost until the client reconnects.
    eventually(lambda: [name for name in names if variable(store, name) != name] == [])
    other.close()


def test_a_stopped_server_stays_stopped_until_it_is_needed(
    state: StateDir, store: WorkflowStore
) -> None:
    increment(store)
    assert stop_server(state)
    time.sleep(10 * GRACE)
    assert not is_responding(state)
    assert state.stop_marker.exists()
    increment(store)  # a waiting client needs it
    assert variable(store, "n") == 2
    assert not state.stop_marker.exists()
    kill_server(state)  # from then on the watchdog is active again
    eventually(lambda: is_responding(state))


@pytest.mark.parametrize("reading", [True, False])
def test_a_server_stopped_during_a_call_is_restarted(
    state: StateDir, monkeypatch: pytest.MonkeyPatch, reading: bool
) -> None:
    """Such a call needs the server like one that detected its exit."""
    storage = ReconnectingStorage(
        str(state.socket()), timeout=30.0, retry_timeout=30.0, watchdog=ServerWatchdog(state)
    )
    request_server = storage.request_server
    connected: list[bool] = []

    def query_and_stop_server() -> None:
        request_server()
        connected.append(storage.is_connected())
        if len(connected) == 1:
            stop_server(state)
            eventually(lambda: not storage.is_connected())

    monkeypatch.setattr(storage, "request_server", query_and_stop_server)
    if reading:
        data, _, _ = storage.loadBefore(z64, maxtid)
        assert b"PersistentMapping" in data
    else:
        storage.catch_up()
    assert connected[0] is True
    storage.close()


@pytest.mark.parametrize("times", [1, 3])
def test_a_server_killed_before_the_connection_is_restarted(
    state: StateDir, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    started: list[int] = []

    def start_and_kill(state: StateDir, *, clock: Clock) -> None:
        ensure_server(state, clock=clock)
        started.append(process_of(state).pid)
        if len(started) <= times:
            kill_server(state)

    monkeypatch.setattr("motoko.storage.store.ensure_server", start_and_kill)
    store = WorkflowStore(state, {})
    increment(store)
    assert variable(store, "n") == 1
    assert len(set(started)) == times + 1
    store.close()


def test_an_inspection_reads_the_file_if_the_server_exits_before_the_connection(
    state: StateDir, store: WorkflowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    increment(store)
    store.close()
    asked: list[bool] = []

    def respond_and_exit(state: StateDir) -> bool:
        asked.append(is_responding(state))
        stop_server(state)
        return asked[-1]

    monkeypatch.setattr("motoko.storage.store.is_responding", respond_and_exit)
    reader = WorkflowStore(state, {}, read_only=True)
    assert variable(reader, "n") == 1
    assert asked == [True]
    reader.close()
    assert not is_responding(state)


class Disconnected:
    """A client that is never connected."""

    def is_connected(self) -> bool:
        return False

    def reconnect(self, address: str) -> None:
        assert address

    def close(self) -> None:
        pass


@pytest.mark.parametrize("found", [True, False])
def test_a_request_before_a_stop_is_ignored(state: StateDir, found: bool) -> None:
    stop_server(state)
    supervisor = ServerWatchdog(state)
    supervisor.request(Disconnected())
    if found:
        supervisor.on_connected()
        time.sleep(10 * GRACE)
        assert not is_responding(state)
    else:
        eventually(lambda: is_responding(state))
    supervisor.close()


def test_a_closed_store_starts_nothing(state: StateDir, store: WorkflowStore) -> None:
    increment(store)
    store.close()
    kill_server(state)
    time.sleep(10 * GRACE)
    assert not is_responding(state)


def test_an_inspection_restarts_no_server(state: StateDir, store: WorkflowStore) -> None:
    increment(store)
    store.close()
    reader = WorkflowStore(state, {}, read_only=True)
    assert variable(reader, "n") == 1
    kill_server(state)
    time.sleep(10 * GRACE)
    assert not is_responding(state)
    reader.close()


def test_a_server_that_cannot_be_restarted_reports_the_reason(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Long enough for a failing server start on a busy machine.
    monkeypatch.setattr("motoko.storage.database.RETRY_TIMEOUT", 20.0)
    store = WorkflowStore(state, {})
    store.database.retry_timeout = store.database._storage._retry_timeout = 20.0
    store.database._storage._server.timeout = 20.0
    increment(store)
    kept = state.database.read_bytes()
    kill_server(state)
    state.database.write_bytes(b"not a database any more, " * 10)
    reason = r"did not come back within 20 s: .* is not a Motoko database"
    with pytest.raises(ServerError, match=reason):
        increment(store)
    store.close()
    state.database.write_bytes(kept)
    assert variable(store, "n") == 1
    store.close()


# -- unconfirmed commits ----------------------------------------------------------------------


@pytest.mark.parametrize("point", ["server.before_finish", "server.after_finish"])
@pytest.mark.parametrize("passage", [1, 3])
def test_a_commit_during_which_the_server_is_killed_is_applied_once(
    state: StateDir,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    point: str,
    passage: int,
) -> None:
    stop_server(state)
    log = tmp_path / "log"
    with monkeypatch.context() as patch:
        patch.setenv("MOTOKO_FAULT", f"{point}:kill:{passage}")
        patch.setenv("MOTOKO_FAULT_LOG", str(log))
        ensure_server(state)
    pid = process_of(state).pid
    store = WorkflowStore(state, {})
    for _ in range(4):
        increment(store)
        with store.autocommit_scope.read() as session:
            session.reserve("mult", 1, 1)
    assert f"{point} {passage} {pid}" in log.read_text()
    assert process_of(state).pid != pid
    assert variable(store, "n") == 4
    with store.autocommit_scope.read() as session:
        assert session.reserve("mult", 1, 1) == (5, 5)
        assert check_study(session.tables.study("mult")) == []
    store.close()


def test_a_server_killed_repeatedly_loses_no_increment(state: StateDir) -> None:
    chance, enough = random.Random(3), threading.Event()
    stores = [WorkflowStore(state, {}) for _ in range(2)]
    increment(stores[0])

    def work(store: WorkflowStore) -> int:
        done = 0
        while not enough.is_set():
            increment(store)
            done += 1
        return done

    def killed() -> bool:
        time.sleep(chance.uniform(0.05, 0.3))
        if is_responding(state) and PidFile(state.server_record).owner_alive():
            kill_server(state)
            return True
        return False

    with ThreadPoolExecutor(2) as pool:
        working = [pool.submit(work, store) for store in stores]
        try:
            for _ in range(5):
                eventually(killed)
        finally:
            enough.set()
        done = [future.result() for future in working]
    for store in stores:
        store.close()
    assert min(done) > 0
    assert variable(stores[0], "n") == 1 + sum(done)
    stores[0].close()


def test_an_unfinished_commit_is_dropped(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """No client repeats it, because the client is killed with the server."""
    stop_server(state)
    with monkeypatch.context() as patch:
        patch.setenv("MOTOKO_FAULT", "server.before_finish:kill")
        ensure_server(state)
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from motoko.server.state_dir import StateDir\n"
        "from motoko.storage.database import Database\n"
        "from motoko.storage.session import Session\n"
        "from motoko.core.changes import SetVariable\n"
        "database = Database.connect(sys.argv[1], retry_timeout=0.1)\n"
        "session = Session(database)\n"
        "session.add(SetVariable(None, 'n', 'x' * 100_000))\n"
        "session.commit()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(state.socket())],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "did not come back" in done.stderr
    assert state.database.stat().st_size > 100_000
    store = WorkflowStore(state, {})
    assert variable(store, "n") is MISSING
    increment(store)
    assert variable(store, "n") == 1
    store.close()
    assert not list(state.path.glob("wf.db.tr*"))


# -- files of killed processes ----------------------------------------------------------------


def test_temporary_files_are_removed_when_a_server_starts(state: StateDir) -> None:
    stop_server(state)
    hexadecimal = "0123456789ab"
    old = [
        state.path / "wf.db.pack",
        state.path / "wf.db.pack.index",
        state.path / "wf.db.index.index_tmp",
        state.path / "wf.db.tr0",
        state.path / f".server.json.{hexadecimal}",
        state.path / f".wf.db.{hexadecimal}",
        state.logs / f".something.{hexadecimal}",
    ]
    kept = [state.path / ".hidden", state.path / f".young.{hexadecimal}", state.path / "wf.db"]
    for path in [*old, *kept]:
        path.touch()
    for path in [*old, kept[0]]:
        os.utime(path, (time.time() - 3600,) * 2)
    ensure_server(state)
    assert [path for path in old if path.exists()] == []
    assert all(path.exists() for path in kept)
