"""Damaged database files: torn ends are cut off, other damage is reported and kept."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import logging
import os
import shutil
import signal
import time
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Final

import pytest
from zc.lockfile import LockError  # type: ignore[import-untyped]
from ZEO.Exceptions import ServerException
from ZODB.FileStorage import FileStorage
from ZODB.fsIndex import fsIndex
from ZODB.utils import p64, z64

from motoko.cli.json_output import overview_to_json
from motoko.cli.tables import print_overview
from motoko.core.changes import SetVariable
from motoko.core.edits import Retry
from motoko.errors import DatabaseDamagedError, ServerError, StorageError
from motoko.launcher.control import running_launchers
from motoko.operations.backup import back_up, restore
from motoko.operations.overview import Overview
from motoko.operations.shutdown import kill
from motoko.runtime.processes import ProcessIdentity, is_alive
from motoko.server import file_integrity
from motoko.server.file_integrity import check_file, cut_torn_tail, last_torn_tail, translate_errors
from motoko.server.file_storage import AtomicFileStorage
from motoko.server.lifecycle import stop_server
from motoko.server.state_dir import StateDir
from motoko.server.transaction_file import HEADER, LENGTH, MAGIC
from motoko.storage.commit import run_transaction
from motoko.storage.database import Database
from motoko.storage.store import WorkflowStore
from tests.support.command_line import Shell, finish, small_workflow
from tests.support.command_line import wait_until as eventually
from tests.support.launching import WorkflowHarness, wait_until
from tests.support.serving import kill_server, make, variable
from tests.support.workflow_processes import left

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.fault

COMMITS: Final = 5
DATA: Final = Path(__file__).parent.parent / "data"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with commits that set one variable each, and its index."""
    state = make(tmp_path_factory.mktemp("made") / "wf")
    store = WorkflowStore(state, {})
    for number in range(COMMITS):
        store.autocommit_scope.write(SetVariable(None, f"v{number}", f"value {number}"))
    store.close()
    stop_server(state)
    return state.database


@pytest.fixture
def state(made: Path, tmp_path: Path) -> StateDir:
    """A workflow with a copy of that file, without index."""
    state = StateDir.of(tmp_path / "wf")
    state.logs.mkdir(parents=True)
    shutil.copy(made, state.database)
    return state


def transactions(content: bytes) -> list[tuple[int, int]]:
    """Return where each transaction begins and ends."""
    found, position = [], len(MAGIC)
    while position < len(content):
        length = HEADER.unpack_from(content, position)[1]
        found.append((position, position + length + LENGTH.size))
        position = found[-1][1]
    return found


def values(path: Path) -> list[str]:
    """Return the variables in a file."""
    database = Database.read_file(path)
    store = WorkflowStore(StateDir(path.parent), {}, database=database)
    try:
        with store.autocommit_scope.read() as session:
            names = session.tables.variable_names(None)
            return [session.tables.variable(None, name) for name in names]
    finally:
        store.close()


# -- after a crash ----------------------------------------------------------------------------


def crashed() -> dict[str, Callable[[bytes, int, int], bytes]]:
    """Return possible remains of the last transaction, given the file, its start and end."""

    def status(content: bytes, begin: int) -> bytes:
        return content[: begin + 16] + b"c" + content[begin + 17 :]

    return {
        "its first byte": lambda content, begin, _: content[: begin + 1],
        "its header": lambda content, begin, _: content[: begin + HEADER.size],
        "half of it": lambda content, begin, end: content[: (begin + end) // 2],
        "all but a byte": lambda content, _, end: content[: end - 1],
        "no length at its end": lambda content, _, end: content[: end - 8] + bytes(8),
        "not finished": lambda content, begin, _: status(content, begin),
        "half, not finished": lambda content, begin, end: status(content, begin)[
            : (begin + end) // 2
        ],
        "zeros": lambda content, begin, end: content[:begin] + bytes(end - begin),
        "many zeros": lambda content, begin, _: content[:begin] + bytes(100_000),
    }


@pytest.mark.parametrize("what", crashed())
@pytest.mark.parametrize("indexed", [False, True], ids=["no index", "index"])
def test_a_torn_end_is_cut_off(
    state: StateDir, made: Path, caplog: pytest.LogCaptureFixture, what: str, indexed: bool
) -> None:
    content = made.read_bytes()
    begin, end = transactions(bytes(content))[-1]
    index = made.with_name("wf.db.index")
    if indexed:  # the index covers all but the last commit
        state.database.write_bytes(content[:begin])
        served = WorkflowStore(state, {})
        assert variable(served, "v0") == "value 0"
        served.close()
        stop_server(state)
        assert index.exists()
        assert state.database.stat().st_size == begin
    state.database.write_bytes(crashed()[what](content, begin, end))
    left = state.database.read_bytes()
    expected = [f"value {number}" for number in range(COMMITS - 1)]

    assert values(state.database) == expected  # an inspection changes nothing
    assert state.database.read_bytes() == left
    with caplog.at_level(logging.WARNING, "motoko"):
        cut_torn_tail(state.database)
    assert state.database.read_bytes() == content[:begin]
    assert f"cut off the end of {state.database}: {len(left) - begin} bytes" in caplog.text
    cut = last_torn_tail(state.database)
    assert cut is not None
    assert cut.size == len(left) - begin
    assert values(state.database) == expected
    cut_torn_tail(state.database)


def test_a_server_continues_after_a_crash(state: StateDir, made: Path) -> None:
    state.database.write_bytes(made.read_bytes() + bytes(1000))
    store = WorkflowStore(state, {})
    assert variable(store, f"v{COMMITS - 1}") == f"value {COMMITS - 1}"
    store.autocommit_scope.write(SetVariable(None, "w", 1))
    store.close()
    assert "wf.db: 1000 bytes of an unfinished commit" in (state.logs / "server.log").read_text()
    stop_server(state)
    reader = WorkflowStore(state, {}, read_only=True)
    assert variable(reader, "w") == 1
    reader.close()


def test_an_intact_file_is_not_changed(state: StateDir, made: Path) -> None:
    cut_torn_tail(state.database)
    assert state.database.read_bytes() == made.read_bytes()
    size = made.stat().st_size
    found = check_file(state.database)
    assert (found.size, found.committed) == (size, size)


# -- a commit whose one fsync was interrupted -------------------------------------------------


SECTOR: Final = 512
LARGE: Final = "text " * 4000


@pytest.fixture(scope="module")
def large(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same file with a large commit at its end."""
    state = StateDir.of(tmp_path_factory.mktemp("large"))
    state.logs.mkdir(parents=True)
    shutil.copy(made, state.database)
    database = Database(AtomicFileStorage(state.database))
    run_transaction(database, lambda tables: tables.set_variable(None, "large", [LARGE, 1]))
    database.close()
    return state.database


def sectors(begin: int, end: int) -> list[tuple[int, int]]:
    """Return the parts of a transaction that a disk writes separately."""
    edges = [begin, *range((begin // SECTOR + 1) * SECTOR, end, SECTOR), end]
    return list(itertools.pairwise(edges))


def test_a_torn_commit_is_cut_off_with_any_part_missing(state: StateDir, large: Path) -> None:
    content = large.read_bytes()
    begin, end = transactions(content)[-1]
    parts = sectors(begin, end)
    assert len(parts) > 30
    chosen = [parts[:1], parts[1:2], parts[7:9], parts[-2:-1], parts[-1:], parts[::2], parts[1::2]]
    for missing in chosen:
        torn = bytearray(content)
        for first, last in missing:
            torn[first:last] = bytes(last - first)
        state.database.write_bytes(torn)
        assert check_file(state.database).committed == begin, missing
    served = AtomicFileStorage(state.database)
    served.close()
    assert state.database.read_bytes() == content[:begin]
    cut = last_torn_tail(state.database)
    assert cut is not None
    assert cut.size == end - begin
    assert values(state.database) == [f"value {number}" for number in range(COMMITS)]


def test_a_changed_commit_is_damage(state: StateDir, large: Path) -> None:
    """The commit may have been acknowledged, so it is not cut off."""
    content = large.read_bytes()
    begin, end = transactions(content)[-1]
    for place in (begin + 3, begin + 12, begin + 30, begin + 200, (begin + end) // 2, end - 1):
        changed = bytearray(content)
        changed[place] ^= 4
        state.database.write_bytes(changed)
        with pytest.raises(DatabaseDamagedError, match=r"is damaged at byte") as told_so:
            check_file(state.database)
        assert "motoko restore --salvage" in (told_so.value.hint or "")


def test_a_torn_commit_in_the_middle_is_damage(state: StateDir, large: Path) -> None:
    content = large.read_bytes()
    begin, end = transactions(content)[-1]
    state.database.write_bytes(content)
    database = Database(AtomicFileStorage(state.database))
    run_transaction(database, lambda tables: tables.set_variable(None, "after", 1))
    database.close()
    (state.path / "wf.db.index").unlink()
    torn = bytearray(state.database.read_bytes())
    torn[begin + 1000 : end - 1000] = bytes(end - begin - 2000)
    state.database.write_bytes(torn)
    with pytest.raises(DatabaseDamagedError, match=f"is damaged at byte {begin}"):
        AtomicFileStorage(state.database)
    assert state.database.read_bytes() == torn


def test_a_file_of_an_older_version_without_digests_is_intact(tmp_path: Path) -> None:
    state = StateDir.of(tmp_path)
    state.path.mkdir()
    state.database.write_bytes(gzip.decompress((DATA / "version-2.db.gz").read_bytes()))
    size = state.database.stat().st_size
    assert check_file(state.database).committed == size


@pytest.mark.parametrize("version", [1, 2, 3])
def test_the_opening_saves_a_missing_index(tmp_path: Path, version: int) -> None:
    """It holds what ZODB reads from the file, also from one without digests."""
    state = StateDir.of(tmp_path)
    state.path.mkdir()
    content = gzip.decompress((DATA / f"version-{version}.db.gz").read_bytes())
    state.database.write_bytes(content)
    other = tmp_path / "other.db"
    other.write_bytes(content)
    index = state.path / "wf.db.index"
    with contextlib.closing(AtomicFileStorage(state.database)) as storage:
        assert index.exists()
        with contextlib.closing(FileStorage(str(other))) as expected:
            assert dict(storage._index) == dict(expected._index)
            assert storage.lastTransaction() == expected.lastTransaction()
            assert storage.new_oid() == expected.new_oid()
    assert fsIndex.load(str(index))["pos"] == len(content)


def test_digests_survive_a_pack(state: StateDir, large: Path) -> None:
    shutil.copy(large, state.database)
    served = AtomicFileStorage(state.database)
    before = served.getSize()
    served.pack(time.time() - 0.001, None)
    served.close()
    size = state.database.stat().st_size
    assert size < before
    (state.path / "wf.db.index").unlink()
    assert check_file(state.database).committed == size


def test_info_reports_a_cut_off_commit(
    state: StateDir, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state.database.write_bytes(made.read_bytes() + bytes(1000))
    AtomicFileStorage(state.database).close()
    cut = last_torn_tail(state.database)
    assert cut is not None
    overview = Overview(str(state.path.parent), database=True, server=None, cut=cut)
    print_overview(overview, runs=False)
    assert "cut off       " in capsys.readouterr().out
    assert overview_to_json(overview, runs=False)["cut"]["bytes"] == 1000


# -- damage -----------------------------------------------------------------------------------


def test_damage_before_the_end_loses_no_later_transaction(
    state: StateDir, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FileStorage alone would cut off everything after a wrong length."""
    monkeypatch.setattr(file_integrity, "PAUSE", 0.0)
    content = made.read_bytes()
    *others, (last, _) = transactions(content)
    places = [
        (*range(begin, begin + HEADER.size), *range(e - LENGTH.size, e)) for begin, e in others
    ]
    # In the last transaction, only the id distinguishes damage from a crash.
    for header in (*places, range(last, last + 8)):
        for place in header:
            for value in (0x00, 0x63, 0xFF):
                if content[place] == value:
                    continue
                changed = content[:place] + bytes([value]) + content[place + 1 :]
                state.database.write_bytes(changed)
                with contextlib.suppress(DatabaseDamagedError):
                    cut_torn_tail(state.database)
                assert state.database.read_bytes() == changed


def test_a_transaction_missing_from_the_file_but_indexed_is_damage(
    state: StateDir, made: Path
) -> None:
    content = made.read_bytes()
    shutil.copy(made.with_name("wf.db.index"), state.path)
    cut_torn_tail(state.database)
    begin, _ = transactions(content)[-1]
    for size in (len(content) - 1, begin, begin - 1, 100):
        state.database.write_bytes(content[:size])
        expected = f"of {len(content)} bytes that were committed {size} are left"
        with pytest.raises(DatabaseDamagedError, match=expected):
            cut_torn_tail(state.database)
        assert state.database.read_bytes() == content[:size]


def test_a_wrong_id_hides_no_later_transaction(state: StateDir, made: Path) -> None:
    content = made.read_bytes()
    begin, _ = transactions(content)[-3]
    state.database.write_bytes(content[:begin] + b"\xff" + content[begin + 1 :])
    with pytest.raises(DatabaseDamagedError, match="is damaged at byte"):
        Database.read_file(state.database)


def test_a_missing_root_is_not_recreated(state: StateDir, made: Path) -> None:
    content = made.read_bytes()
    for begin, _ in transactions(content):
        number = content[begin : begin + 8]
        content = content.replace(z64 + number, p64(99) + number)
    state.database.write_bytes(content)
    with pytest.raises(DatabaseDamagedError):
        Database.read_file(state.database)
    store = WorkflowStore(state, {})
    with pytest.raises(ServerError, match="is damaged"):
        variable(store, "v0")
    store.close()
    assert state.database.read_bytes() == content


def test_a_served_file_is_not_repaired(state: StateDir) -> None:
    served = AtomicFileStorage(state.database)
    content = state.database.read_bytes() + bytes(30)  # as during a commit
    state.database.write_bytes(content)
    with pytest.raises(LockError):
        AtomicFileStorage(state.database)
    assert state.database.read_bytes() == content
    served.close()


def test_a_replaced_file_is_not_reported_as_damaged(
    state: StateDir, made: Path, tmp_path: Path
) -> None:
    store = WorkflowStore(state, {}, read_only=True)
    assert variable(store, "v0") == "value 0"
    (tmp_path / "other").write_bytes(made.read_bytes()[:1000] + bytes(10000))
    (tmp_path / "other").replace(state.database)
    assert variable(store, "v1") == "value 1"  # it keeps the file open
    storage = store.database._storage
    storage._files.empty()  # FileStorage opens it by name, for earlier states
    last = max(storage._index, key=storage._index.get)
    with pytest.raises(StorageError, match="was replaced while it was read"):
        storage.loadBefore(last, p64(1))
    store.close()


@pytest.mark.parametrize(
    "error", [MemoryError(), KeyError("x"), TypeError(), ValueError("read of closed file")]
)
def test_unrelated_errors_are_not_reported_as_damage(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(type(error)), translate_errors(Path("a"), opening=True):
        raise error
    name = f"builtins.{type(error).__name__}"

    def load(self: object, oid: bytes) -> None:
        raise ServerException(name, error.args)

    database = Database.in_memory()
    connection = database.open(None)
    monkeypatch.setattr(connection, "_storage", SimpleNamespace(load=load.__get__(connection)))
    with pytest.raises(ServerException):
        connection.setstate(connection.root())
    monkeypatch.undo()
    connection.close()
    database.close()


@pytest.mark.parametrize("served", [False, True], ids=["looked at", "served"])
def test_an_unreadable_object_is_damage(state: StateDir, made: Path, served: bool) -> None:
    shutil.copy(made.with_name("wf.db.index"), state.path)
    content = bytearray(made.read_bytes())
    begin, end = transactions(bytes(content))[-1]
    place = content.index(b"value 4", begin)
    content[place - 12 : place] = b"\xff" * 12  # makes its pickle invalid
    assert place < end
    state.database.write_bytes(content)
    store = WorkflowStore(state, {}, read_only=not served)
    try:
        assert variable(store, "v0") == "value 0"
        with pytest.raises(DatabaseDamagedError) as caught:
            variable(store, "v4")
    finally:
        store.close()
        stop_server(state)
    assert caught.value.message.startswith(f"{state.database} is damaged: an object cannot be read")
    assert "motoko restore" in (caught.value.hint or "")


# -- messages for users -----------------------------------------------------------------------


def noise(content: bytes, begin: int, end: int) -> bytes:
    """Return the content with random bytes in this range."""
    return content[:begin] + Random(1).randbytes(end - begin) + content[end:]


# The changed content, whether the index is removed, and the message.
DAMAGE: Final[dict[str, tuple[Callable[[bytes], bytes], bool, str]]] = {
    "empty": (lambda _: b"", False, "is empty: it is not a database"),
    "random": (lambda found: noise(found, 0, len(found)), False, "is not a Motoko database"),
    "text": (lambda _: b"hello " * 1000, False, "is not a Motoko database"),
    "cut off": (lambda found: found[: len(found) // 2], False, "is cut off: of "),
    "end": (lambda found: noise(found, len(found) // 2, len(found)), False, "is damaged"),
    "middle": (lambda found: noise(found, 1000, len(found) // 2), False, "is damaged"),
    "middle, no index": (lambda found: noise(found, 1000, 1100), True, "is damaged"),
}  # fmt: skip
REFUSED: Final = (
    ["info"],
    ["orchestrator", "status"],
    ["history"],
    ["history", "s.1"],
    ["run", "-n", "a"],
    ["launcher"],
    ["retry"],
    ["cancel", "--all", "--yes"],
    ["clean", "--delete", "--yes"],
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished workflow ``wf`` and its backup ``copy``."""
    place = tmp_path_factory.mktemp("finished")
    shell = small_workflow(place / "wf")
    shell.ok("run", "-n", "a")
    shell.ok("backup", str(place / "copy"))
    shell.close()
    return place


@pytest.mark.parametrize("what", DAMAGE)
def test_commands_name_the_file_and_a_remedy(tmp_path: Path, finished: Path, what: str) -> None:
    change, unindexed, expected = DAMAGE[what]
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    shell = Shell(tmp_path / "wf")
    state = StateDir.of(shell.directory)
    copy = tmp_path / "copy"
    if unindexed:
        state.path.joinpath("wf.db.index").unlink()
    content = change(state.database.read_bytes())
    state.database.write_bytes(content)
    for command in (*REFUSED, ["backup", str(tmp_path / "new")]):
        done = shell.run(*command)
        if what == "middle" and command != ["info"] and done.returncode == 0:
            continue  # with the index, only reads of damaged objects detect it
        assert done.returncode == 1, (command, done)
        first, second, *_ = [*done.stderr.splitlines(), ""]
        assert first.startswith(f"error: {state.database} {expected}"), (command, done.stderr)
        assert "`motoko restore FILE --validated`" in second, (command, done.stderr)
        assert "Traceback" not in done.stderr
    assert what == "middle" or not (tmp_path / "new").exists()
    asked = shell.run("create")
    assert asked.returncode == 1
    assert "already has results" in asked.stderr.splitlines()[0]
    assert "Traceback" not in shell.run("kill", "--stop-runs", "--yes").stderr
    assert state.database.read_bytes().startswith(content)
    assert what == "middle" or state.database.stat().st_size == len(content)
    shell.ok("restore", str(copy), "--validated")
    assert shell.counts("s", "a") == {"FINISHED": 2}
    state.database.write_bytes(content)
    shell.ok("create", "--validated")
    shell.ok("run", "-n", "a")
    assert shell.counts("s", "a") == {"FINISHED": 2}
    shell.close()


def test_processes_of_a_damaged_workflow_can_be_killed(tmp_path: Path) -> None:
    place = WorkflowHarness.make(tmp_path / "wf", {"a": "true\n"})
    good = place.state.database.read_bytes()
    try:
        launcher = place.start().process
        place.store.close()
        place.state.database.write_bytes(b"")
        kill_server(place.state)
        assert kill(place.state) == ["the launcher"]
        assert running_launchers(place.state) == []
        assert not os.path.exists(f"/proc/{launcher.pid}")
    finally:
        # A server just started by the launcher may outlive it briefly.
        wait_until(lambda: not left(place.state.path))
        place.state.database.write_bytes(good)
        place.close()


# -- an old copy ------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path) -> Iterator[WorkflowHarness]:
    """A workflow whose runs wait for a file ``go``."""
    script = (
        f"until [ -e {tmp_path / 'go'} ]; do sleep .02; done\nmotoko-worker set y $MOTOKO_ATTEMPT\n"
    )
    made = WorkflowHarness.make(
        tmp_path / "wf", {"a": script}, options={"max_concurrent": 2, "retries": 5}
    )
    yield made
    made.close()


def stopped(place: WorkflowHarness) -> None:
    place.store.close()
    kill(place.state)


@pytest.mark.parametrize("started", [False, True], ids=["created", "started"])
def test_runs_continue_from_a_copy_older_than_their_directories(
    place: WorkflowHarness, tmp_path: Path, started: bool
) -> None:
    copy = tmp_path / "copy"
    keys = place.create([{"x": 1}, {"x": 2}])
    if not started:
        back_up(place.state, copy)
    place.start()
    for key in keys:
        process = place.wait_for(key, "START").process
        assert process is not None
        if started and not copy.exists():
            wait_until(lambda: all(r.state == "START" for r in place.records(keys)))
            back_up(place.state, copy)
        os.killpg(process[0], signal.SIGKILL)  # for a second attempt
    wait_until(lambda: all(r.state == "START" and r.attempt == 2 for r in place.records(keys)))
    (tmp_path / "go").touch()
    place.wait(keys)
    stopped(place)
    restore(place.state, copy, replace=True)
    assert {r.lifecycle for r in place.records(keys)} == {"START" if started else "CREATED"}

    place.start()

    for record in place.wait(keys):
        assert record.state == "FINISHED"
        # Two attempts had their directories already. The copy knows of the first only where that
        # had started: it ended without an exit record, so it counts.
        uncounted = 1 if started else 2
        assert (record.attempt, record.uncounted) == (3, uncounted)
        assert record.fields == {"y": 3 - uncounted}
        directory = place.directory_of(record.key)
        assert directory.with_name(f"{directory.name}.attempt-2").is_dir()  # and still have them


def test_a_running_run_that_is_not_in_the_copy_continues(
    place: WorkflowHarness, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    key = place.run()
    back_up(place.state, copy)
    place.start()
    process = place.wait_for(key, "START").process
    assert process is not None
    stopped(place)
    restore(place.state, copy, replace=True)

    place.start()

    record = place.wait([key])[0]
    assert record.state == "FAILED"
    assert f"process {process[0]} is still running in" in (record.reason or "")
    assert is_alive(ProcessIdentity(*process))
    (tmp_path / "go").touch()
    wait_until(lambda: not is_alive(ProcessIdentity(*process)))
    place.edit(key, Retry(place.store.now(), "the test"))

    wait_until(lambda: place.record(key).state == "FINISHED")
    assert place.directory_of(key).with_name("run-1.attempt-1").is_dir()


MAIN: Final = """\
async def main(workflow, **params):
    first = await workflow.s.create_task(x=[1, 2])
    await workflow.s.create_task(x=[10 * run.y for run, _ in first])
    workflow.finished = True
"""


@pytest.mark.parametrize("started", [True, False], ids=["started", "not yet created"])
def test_a_workflow_resumes_from_an_old_copy(tmp_path: Path, started: bool) -> None:
    log, go, copy = tmp_path / "log", tmp_path / "go", tmp_path / "copy"
    script = (
        f"echo $MOTOKO_JOB_X >>{log}\n"
        f"[ $MOTOKO_JOB_X -lt 10 ] || until [ -e {go} ]; do sleep .02; done\n"
        "motoko-worker set y $((MOTOKO_JOB_X + 1))\n"
    )
    shell = small_workflow(tmp_path / "wf", script=script)
    shell.ok("run", "-n", "a")
    if not started:
        shell.ok("backup", str(copy))
    shell.write({"steps.py": MAIN})
    process = shell.start("run", "-n", "a")
    eventually(lambda: len(log.read_text().split()) == 4, "both pairs")
    if started:
        shell.ok("backup", str(copy))
    go.touch()
    assert finish(process).returncode == 0
    shell.ok("restore", str(copy), "--validated")
    log.write_text("")

    shell.ok("run", "-n", "a")

    assert shell.counts("s", "a") == {"FINISHED": 4}
    # For runs started in the copy, the directories show that they ended.
    assert sorted(log.read_text().split()) == ([] if started else ["20", "30"])
    shell.close()
