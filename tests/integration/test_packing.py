"""The server packs its file when it has doubled, keeps used snapshots and survives a kill."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest
from ZODB.POSException import ReadConflictError

from motoko.core.changes import EditRun, SetVariable
from motoko.core.edits import SetFields
from motoko.errors import ConflictError
from motoko.runtime import processes
from motoko.runtime.daemons import PidFile, spawn_detached
from motoko.server.file_storage import AtomicFileStorage
from motoko.server.lifecycle import stop_server
from motoko.server.packing import Packer, PackPolicy
from motoko.server.state_dir import StateDir
from motoko.storage.consistency import check_study
from motoko.storage.database import Database
from motoko.storage.schema import create_database
from motoko.storage.session import Session
from motoko.storage.store import WorkflowStore
from motoko.testing import add_run
from motoko.testing.memory import commit, eventually
from tests.support import workflow_processes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

MINIMUM = 200_000
PATIENCE = 120.0


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDir]:
    state = StateDir.of(tmp_path / "wf")
    (tmp_path / "wf").mkdir()
    create_database(state, ["mult"])
    stop_server(state)
    yield state
    stop_server(state)


def serve(state: StateDir, *options: str) -> processes.ProcessIdentity:
    """Start a server with a low packing threshold."""
    return spawn_detached(
        [sys.executable, "-m", "motoko.server.main", str(state.path),
         "--pack-minimum", str(MINIMUM), *options],
        log=state.logs / "server.log",
    ).process  # fmt: skip


def log(state: StateDir) -> str:
    return (state.logs / "server.log").read_text()


def grow(store: WorkflowStore, by: int) -> None:
    """Write the same variable until the file has grown by so many bytes."""
    for number in range(by // 10_000):
        store.autocommit_scope.write(SetVariable(None, "n", (number, "x" * 10_000)))


def test_the_server_packs_and_logs_it(state: StateDir) -> None:
    serve(state, "--pack-keep", "0")
    store = WorkflowStore(state, {})
    session = Session(store.database)
    key = add_run(session, "mult", {"x": 1.0}, y=2)
    commit(store.database, session)
    session.close()
    grow(store, MINIMUM + 50_000)
    packed = r"packed the database: 0\.[01] MB, before 0\.[23] MB"
    eventually(lambda: re.search(packed, log(state)))
    size = state.database.stat().st_size
    assert size < MINIMUM / 2
    assert int(state.packed_size_file.read_text()) <= size
    store.autocommit_scope.write(SetVariable(None, "m", 1))
    with store.autocommit_scope.read() as session:
        assert session.run(key).fields == {"y": 2}
        assert check_study(session.tables.study("mult")) == []
    store.close()
    stop_server(state)
    assert not [
        path.name for path in state.path.glob("wf.db.*") if path.suffix in (".pack", ".old")
    ]
    reader = WorkflowStore(state, {}, read_only=True)
    with reader.autocommit_scope.read() as session:
        assert session.tables.variable(None, "m") == 1
    reader.close()


def test_a_restarted_server_serves_the_packed_file(state: StateDir) -> None:
    process = serve(state, "--pack-keep", "0")
    store = WorkflowStore(state, {})
    grow(store, MINIMUM + 50_000)
    eventually(lambda: "packed the database" in log(state))
    store.autocommit_scope.write(SetVariable(None, "m", 1))
    os.kill(process.pid, signal.SIGKILL)
    eventually(lambda: not processes.is_alive(process))
    store.autocommit_scope.write(SetVariable(None, "m", 2))
    with store.autocommit_scope.read() as session:
        assert session.tables.variable(None, "m") == 2
        assert session.tables.variable(None, "n")[1] == "x" * 10_000
    store.close()
    assert PidFile(state.server_record).owner_alive()


@pytest.mark.fault
@pytest.mark.parametrize("point", ["server.before_exchange", "server.after_exchange"])
def test_a_server_killed_while_files_are_replaced_recovers(
    state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("MOTOKO_FAULT", f"{point}:kill")
        patch.setenv("MOTOKO_FAULT_LOG", str(tmp_path / "faults"))
        process = serve(state, "--pack-keep", "0")
    store = WorkflowStore(state, {})
    count = 0
    while processes.is_alive(process):
        count += 1
        store.autocommit_scope.write(SetVariable(None, "n", (count, "x" * 10_000)))
    assert f"{point} 1 {process.pid}" in (tmp_path / "faults").read_text()
    with store.autocommit_scope.read() as session:
        assert session.tables.variable(None, "n") == (count, "x" * 10_000)
        assert check_study(session.tables.study("mult")) == []
    store.close()
    stop_server(state)
    assert not (state.path / "wf.db.pack").exists()


@pytest.mark.fault
def test_the_packing_process_exits_with_its_server(
    state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults, point = tmp_path / "faults", "packing.index_saved"
    with monkeypatch.context() as patch:
        patch.setenv("MOTOKO_FAULT", f"{point}:sleep=1000")
        patch.setenv("MOTOKO_FAULT_LOG", str(faults))
        process = serve(state, "--pack-keep", "0")
    store = WorkflowStore(state, {})
    grow(store, MINIMUM + 50_000)
    eventually(lambda: point in faults.read_text())
    packer = int(faults.read_text().partition(f"{point} 1 ")[2].split()[0])
    os.kill(process.pid, signal.SIGKILL)
    eventually(lambda: workflow_processes.state(packer) in ("", "Z"))
    store.autocommit_scope.write(SetVariable(None, "m", 1))
    with store.autocommit_scope.read() as session:
        assert session.tables.variable(None, "n")[1] == "x" * 10_000
    store.close()
    assert list(state.path.glob("wf.db.pack*")) == []


# -- in this process --------------------------------------------------------------------------


class Served:
    """An open database file without a server process."""

    def __init__(self, state: StateDir, policy: PackPolicy) -> None:
        self.packer = Packer(state.packed_size_file, policy)
        self.storage = self.packer.storage = AtomicFileStorage(
            state.database, committed=self.packer.pack_if_grown
        )
        self.database = Database(self.storage)

    def write(self, bulk: int = 10_000) -> None:
        session = Session(self.database)
        session.add(SetVariable(None, "n", os.urandom(bulk)))
        commit(self.database, session)
        session.close()

    def grow_to(self, size: int) -> None:
        while self.storage.getSize() < size:
            self.write()
        self.packer.wait()


@pytest.fixture
def served(state: StateDir) -> Iterator[Served]:
    served = Served(state, PackPolicy(minimum=MINIMUM, keep=0, pause=0))
    yield served
    served.database.close()


def test_a_file_is_packed_only_after_it_doubled(state: StateDir, served: Served) -> None:
    session = Session(served.database)
    session.add(SetVariable(None, "large", os.urandom(150_000)))
    commit(served.database, session)
    session.close()
    served.grow_to(MINIMUM)
    packed = served.storage.getSize()
    assert 150_000 < packed < 180_000
    served.grow_to(2 * packed - 12_000)
    assert served.storage.getSize() >= 2 * packed - 12_000  # beyond the minimum, but not doubled
    served.write(20_000)
    served.packer.wait()
    assert served.storage.getSize() < 190_000
    served.database.close()
    again = Served(state, PackPolicy(minimum=1, keep=0, pause=0))  # knows the size after the pack
    again.write(10)
    again.packer.wait()
    assert again.storage.getSize() > packed
    again.database.close()


@pytest.mark.parametrize("keep", [600.0, 0.0])
def test_a_snapshot_in_use_stays_readable(state: StateDir, keep: float) -> None:
    served = Served(state, PackPolicy(minimum=MINIMUM, keep=keep, pause=0))
    served.write()
    reader = Session(served.database)
    seen = reader.tables.variable(None, "n")
    served.grow_to(MINIMUM)
    assert state.packed_size_file.exists()
    reader._connection.cacheMinimize()
    if keep:
        assert reader.tables.variable(None, "n") == seen
    else:
        with pytest.raises(ReadConflictError):
            reader.tables.variable(None, "n")
    reader.refresh()
    assert reader.tables.variable(None, "n") != seen
    reader.close()
    served.database.close()


def test_commits_continue_during_a_pack(state: StateDir, served: Served) -> None:
    session = Session(served.database)
    keys = [add_run(session, "mult", {"x": float(n)}) for n in range(300)]
    commit(served.database, session)
    counted = packs = 0
    deadline = time.monotonic() + PATIENCE
    while (counted < 300 or packs <= 3) and time.monotonic() < deadline:
        packs += served.packer._threshold > 0
        served.packer._threshold = 0  # one pack after the other
        n = counted % 300  # several packs may need more commits
        session.add(EditRun(keys[n], SetFields({"y": n})))
        session.add(SetVariable(None, "n", os.urandom(3_000)))
        try:
            commit(served.database, session)
        except ConflictError:  # the pack removed the revision it read
            session.refresh()
            continue
        counted += 1
    served.packer.wait()
    session.refresh()
    assert packs > 3
    assert [session.run(key).fields for key in keys] == [{"y": n} for n in range(300)]
    assert check_study(session.tables.study("mult")) == []
    session.close()


def test_a_pack_without_disk_space_is_abandoned(
    state: StateDir, served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    in_the_way = state.path / "wf.db.pack"
    in_the_way.mkdir()
    served.grow_to(MINIMUM)
    size = served.storage.getSize()
    assert "the database could not be packed: " in caplog.text
    in_the_way.rmdir()
    served.write()
    served.packer.wait()
    assert served.storage.getSize() > size  # not retried at every commit
    served.grow_to(2 * size)
    assert served.storage.getSize() < size


@pytest.mark.fault
@pytest.mark.parametrize(
    "point", ["packing.old_copied", "packing.new_copied", "packing.index_saved"]
)
def test_a_killed_packing_process_costs_only_this_pack(
    state: StateDir,
    served: Served,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    point: str,
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("MOTOKO_FAULT", f"{point}:kill")
        served.grow_to(MINIMUM)
    size = served.storage.getSize()
    assert size >= MINIMUM
    assert "the database could not be packed: a helper ended early with status -9" in caplog.text
    assert list(state.path.glob("wf.db.pack*")) == []
    served.grow_to(2 * size)
    assert served.storage.getSize() < MINIMUM


def test_a_closed_file_ends_its_pack(
    state: StateDir,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    faults, point = tmp_path / "faults", "packing.old_copied"
    faults.touch()
    monkeypatch.setenv("MOTOKO_FAULT", f"{point}:sleep=1000")
    monkeypatch.setenv("MOTOKO_FAULT_LOG", str(faults))
    served = Served(state, PackPolicy(minimum=MINIMUM, keep=0, pause=0))
    while served.storage.getSize() < MINIMUM:
        served.write()
    eventually(lambda: point in faults.read_text())
    served.database.close()
    served.packer.wait()
    assert "packed" not in caplog.text
    assert list(state.path.glob("wf.db.pack*")) == []
