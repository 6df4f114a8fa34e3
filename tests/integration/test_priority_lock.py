"""Commits and firings after conflicts have priority, so they cannot starve."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from motoko.core.changes import CreateRun, EditRun
from motoko.core.edits import SetFields
from motoko.core.parameter_space import job_identity, run_identity
from motoko.core.records import RunKey, RunRecord
from motoko.errors import ConflictError
from motoko.runtime.file_lock import is_recently_locked
from motoko.server.lifecycle import stop_server
from motoko.storage import contention
from motoko.storage.commit import MANY_RUNS
from motoko.storage.contention import PriorityLock
from motoko.storage.session import Session
from motoko.storage.store import WorkflowStore
from motoko.testing import study_config
from tests.support.serving import make

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from motoko.server.state_dir import StateDir
    from motoko.storage.database import Database

pytestmark = pytest.mark.integration

MANY = 1500
# A process that edits a few runs per commit until it is terminated.
EDITOR = """
import sys
from pathlib import Path
from motoko.core.changes import EditRun
from motoko.core.edits import SetFields
from motoko.core.records import RunKey
from motoko.server.state_dir import StateDir
from motoko.storage.session import Session
from motoko.storage.store import WorkflowStore
database = WorkflowStore(StateDir.of(Path(sys.argv[1])), {}).database
session = Session(database)
n = 0
while True:
    n += 1
    for i in range(3):
        key = RunKey("mult", 1 + (7 * n + i) % int(sys.argv[2]))
        session.add(EditRun(key, SetFields({"news": n}), blind=True))
    database.submit(session.commit).result()
    if n == 20:
        print("busy", flush=True)
"""
HOLDER = """
import sys, time
from pathlib import Path
from motoko.storage.contention import COMMIT_CONFLICTS, PriorityLock
turn = PriorityLock(Path(sys.argv[1]))
turn.wait(COMMIT_CONFLICTS)
print("taken", flush=True)
time.sleep(60)
"""


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDir]:
    state = make(tmp_path / "w")
    yield state
    stop_server(state)


@pytest.fixture
def store(state: StateDir) -> Iterator[WorkflowStore]:
    store = WorkflowStore(state, {"mult": study_config("mult", {"x": "int"})})
    yield store
    store.close()


def create(store: WorkflowStore, count: int) -> list[RunKey]:
    session = Session(store.database)
    first, first_job = session.reserve("mult", count, count)
    for n in range(count):
        job = {"x": n}
        record = RunRecord(
            study="mult",
            id=first + n,
            job_id=first_job + n,
            run_name="a",
            identity=run_identity("mult", "a", job, {}, 0),
            job=job,
        )
        session.add(CreateRun(record, job_identity(job)))
    store.database.submit(session.commit).result()
    session.close()
    return [RunKey("mult", first + n) for n in range(count)]


def edit(session: Session, keys: list[RunKey], **fields: int) -> None:
    for key in keys:
        session.add(EditRun(key, SetFields(fields), blind=True))


class Intruder:
    """Commits to the same runs before each large commit, if the lock permits it."""

    def __init__(self, database: Database, key: RunKey, turn: Path | None) -> None:
        self._database = database
        self._key = key
        self._turn = turn  # whose holder has priority
        self._threads: list[threading.Thread] = []
        self._numbers = itertools.count(1)

    def intrude(self) -> None:
        thread = threading.Thread(target=self._commit, args=(next(self._numbers),))
        self._threads.append(thread)
        gives_way = self._turn is not None and is_recently_locked(
            self._turn, at_most=contention.MAX_HOLD_SECONDS
        )
        thread.start()
        thread.join(0.3 if gives_way else 60.0)

    def _commit(self, number: int) -> None:
        session = Session(self._database)
        edit(session, [self._key], intruder=number)
        session.commit()
        session.close()

    def finish(self) -> int:
        """Wait for all commits; return their number."""
        for thread in self._threads:
            thread.join()
        return len(self._threads)


@pytest.mark.parametrize(
    ("runs", "conflicts"),
    [(3, contention.COMMIT_CONFLICTS), (MANY_RUNS, contention.LARGE_CONFLICTS)],
    ids=["small", "large"],
)
def test_a_commit_after_conflicts_has_priority(
    store: WorkflowStore,
    state: StateDir,
    monkeypatch: pytest.MonkeyPatch,
    runs: int,
    conflicts: int,
) -> None:
    keys = create(store, runs)
    store.database.retry_timeout = 60.0
    intruder = Intruder(store.database, keys[0], state.commit_lock)
    session = Session(store.database)
    edit(session, keys, mark=1)
    with monkeypatch.context() as patch:
        # At the lease check, the session has its snapshot and has not committed yet.
        patch.setattr(session, "_check_guard", intruder.intrude)
        session.commit()
    commits = intruder.finish()
    assert commits == conflicts + 1
    session.refresh()
    assert session.run(keys[0]).fields == {"mark": 1, "intruder": commits}
    session.close()


def test_a_large_commit_succeeds_beside_a_busy_process(
    store: WorkflowStore, state: StateDir
) -> None:
    keys = create(store, MANY)
    store.database.retry_timeout = 100.0
    with editing(state) as editor:
        session = Session(store.database)
        for value in (1, 2):
            edit(session, keys, mark=value)
            store.database.submit(session.commit).result()
        assert editor.poll() is None
        assert any("news" in session.run(key).fields for key in keys)
    assert {session.run(key).fields["mark"] for key in keys} == {2}
    session.close()


@contextlib.contextmanager
def editing(state: StateDir) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", EDITOR, str(state.path.parent), str(MANY)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as editor:
        try:
            assert editor.stdout is not None
            assert editor.stdout.readline() == "busy\n"
            yield editor
        finally:
            editor.kill()


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "turn")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        yield process
        process.kill()


def waiting(path: Path, conflicts: int) -> threading.Thread:
    """Wait for the lock in a thread."""

    def work() -> None:
        with PriorityLock(path) as turn:
            turn.wait(conflicts)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.parametrize("conflicts", [0, contention.COMMIT_CONFLICTS])
def test_the_lock_is_released_when_its_process_exits(
    holder: subprocess.Popen[str], tmp_path: Path, conflicts: int
) -> None:
    thread = waiting(tmp_path / "turn", conflicts)
    thread.join(0.2)
    assert thread.is_alive()
    holder.kill()
    thread.join(contention.MAX_HOLD_SECONDS / 2)
    assert not thread.is_alive()


@pytest.mark.parametrize("conflicts", [0, contention.COMMIT_CONFLICTS])
@pytest.mark.usefixtures("holder")
def test_a_wait_for_the_lock_times_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, conflicts: int
) -> None:
    monkeypatch.setattr(contention, "MAX_HOLD_SECONDS", 0.3)
    thread = waiting(tmp_path / "turn", conflicts)
    thread.join(5)
    assert not thread.is_alive()


def test_an_unavailable_lock_is_skipped(tmp_path: Path) -> None:
    for path in (tmp_path / "missing" / "turn", tmp_path):
        with PriorityLock(path) as turn:
            turn.wait(0)
            turn.wait(contention.COMMIT_CONFLICTS)


def test_other_processes_wait_for_each_attempt(tmp_path: Path) -> None:
    path = tmp_path / "turn"
    long_ago = time.time() - 2 * contention.MAX_HOLD_SECONDS
    with PriorityLock(path) as turn:
        for conflicts in range(contention.COMMIT_CONFLICTS, contention.COMMIT_CONFLICTS + 3):
            turn.wait(conflicts)
            assert is_recently_locked(path, at_most=contention.MAX_HOLD_SECONDS)
            os.utime(path, (long_ago, long_ago))
            assert not is_recently_locked(path, at_most=contention.MAX_HOLD_SECONDS)


def test_conflicts_without_a_lock_are_an_error(
    store: WorkflowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = create(store, 1)
    store.database.retry_timeout = 0.5
    monkeypatch.setattr(contention, "is_recently_locked", lambda path, at_most: False)
    intruder = Intruder(store.database, keys[0], None)
    session = Session(store.database)
    edit(session, keys, mark=1)
    with monkeypatch.context() as patch:
        patch.setattr(session, "_check_guard", intruder.intrude)
        with pytest.raises(ConflictError, match=r"conflicts for 0\.5 s"):
            session.commit()
    intruder.finish()
    session.close()
