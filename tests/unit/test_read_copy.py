"""The copy for reading: it equals the database, or it is not used."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sys
from typing import TYPE_CHECKING, Any

import pytest
from BTrees.IOBTree import IOBTree
from ZODB.FileStorage import FileStorage

from motoko.core.changes import CreateRun, DeleteRun, EditRun
from motoko.core.constraints import Columns, parse
from motoko.core.edits import SetFields, SetJob, SetLabel
from motoko.core.records import RunKey, RunRecord
from motoko.core.states import Lifecycle
from motoko.server.file_storage import AtomicFileStorage
from motoko.server.state_dir import StateDir
from motoko.storage import query, read_copy, run_store
from motoko.storage.columns import read_columns
from motoko.storage.commit import run_transaction
from motoko.storage.compaction import compact_step
from motoko.storage.consistency import check_study
from motoko.storage.database import Database
from motoko.storage.query import count_runs, select_records, select_runs, stream_ids
from motoko.storage.read_copy import copied_runs
from motoko.storage.session import Session
from motoko.testing import add_run, empty_database
from motoko.testing.memory import commit, finish_run
from tests.support.orchestrating import memory_workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from motoko.core.run_columns import ColumnTable

pytestmark = pytest.mark.unit

STUDY, OTHER = "mult", "other"
DECLARED = Columns(STUDY, {"x": "float"}, {"y": "float"})
QUERIES = ("", "y > 3", "state = FINISHED", "state != FINISHED and id > 5")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small studies have blocks and a copy."""
    for module, name, value in (
        (run_store, "BLOCK", 6), (run_store, "LEAST", 3), (query, "MANY", 10**9),
        (query, "BULK", 0), (read_copy, "BLOCK", 6), (read_copy, "LEAST", 1),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(sys.modules[FileStorage.__module__], "fsync", None)


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    state = StateDir.of(tmp_path)
    state.path.mkdir(mode=0o700)
    return state


@pytest.fixture
def database(state: StateDir) -> Iterator[Database]:
    """A database file with a study, served by this process."""
    served = AtomicFileStorage(state.database)
    database = empty_database([STUDY, OTHER], Database(served, file=state.database))
    create(database, 8)
    yield database
    database.close()


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    with contextlib.closing(Session(database)) as session:
        yield session


def change(database: Database, *changes: Any) -> None:
    with contextlib.closing(Session(database)) as session:
        for one in changes:
            session.add(one)
        commit(database, session)


def create(database: Database, number: int) -> None:
    with contextlib.closing(Session(database)) as session:
        first = session.tables.study(STUDY).last_id + 1
        for x in range(first, first + number):
            add_run(session, STUDY, {"x": float(x)}, y=0.5 * x)
        commit(database, session)


def finish(database: Database, *ids: int) -> None:
    with contextlib.closing(Session(database)) as session:
        for run_id in ids:
            finish_run(session, RunKey(STUDY, run_id), f"t{run_id}", Lifecycle.FINISHED)
        commit(database, session)


def compact(database: Database) -> None:
    low: int | None = 0
    while low is not None:
        start = low
        step = run_transaction(database, lambda t, s=start: compact_step(t.study(STUDY), s))  # type: ignore[misc]
        low = step.following


def read(session: Session, constraint: str = "", *, copied: bool = False) -> ColumnTable:
    return read_columns(session, DECLARED, None, parse(constraint, DECLARED), copied=copied)


def copy_of(session: Session) -> list[int] | None:
    """Return the ids in the copy, None if it cannot be used."""
    runs = copied_runs(session, session.tables.study(STUDY))
    return None if runs is None else runs.stored_ids()


def edit(run_id: int, **fields: Any) -> EditRun:
    return EditRun(RunKey(STUDY, run_id), SetFields(fields))


# -- equal to the database ---------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_copy_has_what_the_database_has_after_any_changes(
    database: Database, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(read_copy, "REWRITE", chance.choice((1, 12, 1000)))
    monkeypatch.setattr(read_copy, "FOLLOWED", chance.choice((30, 1000)))
    for number in range(0, 48, 4):
        for change_number in range(number, number + chance.choice((0, 1, 1, 4))):
            _change(database, chance, change_number)
        with contextlib.closing(Session(database)) as session:
            table = session.tables.study(STUDY)
            assert check_study(table) == []
            assert copy_of(session) == (table.runs.stored_ids() if len(table) else None)
            for constraint in QUERIES:
                assert read(session, constraint, copied=True) == read(session, constraint)


def _change(database: Database, chance: random.Random, number: int) -> None:
    with contextlib.closing(Session(database)) as session:
        table = session.tables.study(STUDY)
        records = {run.id: run for run in table.records(table.ids(None))}
    waiting = [i for i, run in records.items() if run.lifecycle is Lifecycle.CREATED]
    some = chance.sample(sorted(records), min(len(records), 2))
    kind = chance.choice(("create", "end", "end", "edit", "move", "delete", "compact", "pack"))
    if kind == "create":
        create(database, chance.choice((1, 4, 9)))
    elif kind == "end":
        finish(database, *waiting[: chance.choice((2, 20))])
    elif kind == "edit":
        change(database, *(edit(run_id, y=float(number), note=[number]) for run_id in some))
    elif kind == "move":
        moved = {"x": 1000.0 + number}
        for run_id in some[:1]:
            move = SetJob(moved, 5000 + number, b"%16d" % number, 1.0, "test")
            change(database, EditRun(RunKey(STUDY, run_id), move))
    elif kind == "delete":
        change(database, *(DeleteRun(RunKey(STUDY, run_id)) for run_id in some))
    elif kind == "compact":
        compact(database)
    else:
        database.pack()


def test_a_change_after_compaction_and_one_before_it_reach_the_copy(database: Database) -> None:
    """An edited run that is compacted before the copy follows is in columns then."""
    with contextlib.closing(Session(database)) as session:
        assert copy_of(session) == list(range(1, 9))
    finish(database, *range(1, 9))
    change(database, edit(2, y=77.0), DeleteRun(RunKey(STUDY, 6)), DeleteRun(RunKey(STUDY, 1)))
    compact(database)
    change(database, EditRun(RunKey(STUDY, 3), SetLabel("SEEN", 1.0, "test")))
    with contextlib.closing(Session(database)) as session:
        assert copy_of(session) == [2, 3, 4, 5, 7, 8]
        table = read(session, copied=True)
        assert table == read(session)
        assert (table.values["y"][0], table.values["state"][1]) == (77.0, "SEEN")


def test_runs_that_were_created_in_a_terminal_state_reach_the_copy(database: Database) -> None:
    """``motoko adopt`` creates such runs. No edit of them precedes their compaction."""
    with contextlib.closing(Session(database)) as session:
        copy_of(session)
        first, first_job = session.reserve(STUDY, 6, 6)
        for number in range(6):
            record = RunRecord(
                STUDY, first + number, first_job + number, "test", b"%16d" % number,
                {"x": 50.0 + number}, Lifecycle.FINISHED,
            )  # fmt: skip
            session.add(CreateRun(record, b"job %12d" % number))
        commit(database, session)
    compact(database)
    with contextlib.closing(Session(database)) as session:
        assert copy_of(session) == session.tables.study(STUDY).runs.stored_ids()
        assert len(read(session, copied=True)) == 14


def test_a_scan_of_parameters_finds_runs_that_moved(database: Database, session: Session) -> None:
    copy_of(session)
    change(database, EditRun(RunKey(STUDY, 2), SetJob({"x": 1000.0}, 99, b"new", 1.0, "test")))
    session.refresh()
    runs = copied_runs(session, session.tables.study(STUDY))
    scan = parse("x = 1000", DECLARED).scan
    assert runs is not None
    assert scan is not None
    assert 2 in runs.candidates(scan, None, None)


def test_other_studies_do_not_appear_in_a_copy(database: Database) -> None:
    with contextlib.closing(Session(database)) as session:
        copy_of(session)
        add_run(session, OTHER, {"x": 1.0})
        commit(database, session)
        assert read(session, copied=True) == read(session)


# -- its place ---------------------------------------------------------------------------------


def test_a_copy_follows_without_being_written_again(
    database: Database, state: StateDir, session: Session
) -> None:
    copy_of(session)
    path = state.path / "copies" / STUDY
    before = path.stat().st_ino
    change(database, edit(1, y=9.0))
    session.refresh()
    assert read(session, copied=True).values["y"][0] == 9.0
    assert path.stat().st_ino == before


def test_an_earlier_snapshot_is_not_read_from_a_later_copy(
    database: Database, session: Session
) -> None:
    change(database, edit(1, y=9.0))
    with contextlib.closing(Session(database)) as later:
        copy_of(later)
    assert copy_of(session) is None
    assert read(session, copied=True).values["y"][0] == 0.5


def test_pending_changes_are_read_from_the_session(session: Session) -> None:
    copy_of(session)
    session.add(edit(1, y=9.0))
    assert copy_of(session) is None
    assert read(session, copied=True).values["y"][0] == 9.0


@pytest.mark.usefixtures("database")
def test_the_copy_of_another_database_is_not_followed(state: StateDir, tmp_path: Path) -> None:
    """Even if its last transaction ends at the same position in both files."""
    sizes = []
    for name in ("one", "other"):
        directory = tmp_path / name / ".wf"
        directory.mkdir(parents=True, mode=0o700)
        file = directory / "wf.db"
        shutil.copy(state.database, file)
        found = Database(AtomicFileStorage(file), file=file)
        change(found, edit(1, y=8.0 if name == "one" else 9.0))
        sizes.append(file.stat().st_size)
        if name == "other":
            shutil.copytree(tmp_path / "one" / ".wf" / "copies", directory / "copies")
            change(found, edit(2, y=9.0))
        with contextlib.closing(Session(found)) as session:
            assert copy_of(session) is not None
            assert read(session, copied=True) == read(session)
        found.close()
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("torn", [b"", b"\0" * 5, b"\x04" * 300])
def test_an_unfinished_commit_at_the_end_is_not_read(
    database: Database, state: StateDir, session: Session, torn: bytes
) -> None:
    copy_of(session)
    change(database, edit(1, y=9.0))
    session.refresh()
    size = state.database.stat().st_size
    with state.database.open("ab") as file:
        file.write(torn)
    assert read(session, copied=True).values["y"][0] == 9.0
    assert copy_of(session) is not None
    os.truncate(state.database, size)


def test_a_file_that_lacks_the_last_transaction_is_not_followed(
    database: Database, state: StateDir, session: Session
) -> None:
    """As after a power cut, or on a file system that another machine wrote to."""
    copy_of(session)
    size = state.database.stat().st_size
    change(database, edit(1, y=9.0))
    session.refresh()
    content = state.database.read_bytes()
    os.truncate(state.database, size)
    assert copy_of(session) is None
    state.database.write_bytes(content)


# -- everything else ---------------------------------------------------------------------------


def _flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def _replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def _link(path: Path) -> None:
    path.rename(path.parent / "a")
    path.symlink_to(path.parent / "a")


def _make(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def _lose_directory(path: Path) -> None:
    path.unlink()
    path.parent.rmdir()
    path.parent.touch()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "magic": lambda path: _flip(path, 0),
    "section": lambda path: _flip(path, 40),
    "index": lambda path: _flip(path, -30),
    "end": lambda path: _flip(path, -1),
    "empty": lambda path: _replace(path, b""),
    "cut": lambda path: _replace(path, path.read_bytes()[:-7]),
    "text": lambda path: _replace(path, b"no copy " * 100),
    "missing": lambda path: path.unlink(),
    "open": lambda path: path.chmod(0o666),
    "link": _link,
    "directory": lambda path: _make(path, lambda same: same.mkdir()),
    "pipe": lambda path: _make(path, os.mkfifo),
    "no directory": _lose_directory,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_without_a_valid_copy_the_database_is_read(
    state: StateDir, session: Session, damage: str
) -> None:
    copy_of(session)
    path = state.path / "copies" / STUDY
    assert path.is_file()
    DAMAGES[damage](path)
    for _ in range(2):
        assert read(session, copied=True) == read(session)


@pytest.mark.parametrize("version", range(3))
def test_a_copy_of_another_version_is_made_again(
    state: StateDir, session: Session, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    foreign = [*read_copy.VERSIONS]
    foreign[version] += 1
    with monkeypatch.context() as patch:
        patch.setattr(read_copy, "VERSIONS", tuple(foreign))
        copy_of(session)
    path = state.path / "copies" / STUDY
    before = path.read_bytes()
    assert read(session, copied=True) == read(session)
    assert path.read_bytes() != before


def test_a_copy_that_cannot_be_written_serves_once(
    state: StateDir, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(read_copy, "write_atomic", full)
    assert read(session, copied=True) == read(session)
    assert not (state.path / "copies" / STUDY).exists()


def test_what_a_killed_process_left_is_removed(state: StateDir, session: Session) -> None:
    abandoned = state.path / "copies" / f".{STUDY}.0123"
    abandoned.parent.mkdir(mode=0o700)
    abandoned.touch()
    copy_of(session)
    assert [path.name for path in abandoned.parent.iterdir()] == [STUDY]


def test_a_small_study_has_no_copy(
    state: StateDir, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_copy, "LEAST", 9)
    assert copy_of(session) is None
    assert not (state.path / "copies").exists()


# -- nothing that decides reads it ---------------------------------------------------------------


@pytest.fixture
def stale(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every use of a copy return one without any run."""
    empty = run_store.RunStore(STUDY, {"runs": IOBTree(), "blocks": IOBTree()})
    monkeypatch.setattr(query, "copied_runs", lambda *_: empty)


@pytest.mark.usefixtures("stale")
@pytest.mark.parametrize("constraint", QUERIES)
def test_selections_and_counts_never_read_a_copy(session: Session, constraint: str) -> None:
    parsed = parse(constraint, DECLARED)
    expected = [run.id for run in map(session.run, _keys()) if parsed.matches(run)]
    assert [run.id for run in select_records(session, STUDY, None, parsed)] == expected
    assert [key.id for key in select_runs(session, STUDY, None, parsed)] == expected
    assert list(stream_ids(session, STUDY, None, parsed)) == expected
    assert count_runs(session, STUDY, None, parsed) == len(expected)
    assert read_columns(session, DECLARED, None, parsed).values["id"] == expected
    assert len(read(session, constraint, copied=True)) == 0  # the fixture works


def _keys() -> Iterator[RunKey]:
    return (RunKey(STUDY, run_id) for run_id in range(1, 9))


@pytest.mark.usefixtures("stale")
def test_frames_read_a_copy_but_not_in_a_transaction(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    directory = tmp_path / "workflow"
    directory.mkdir()
    with memory_workflow(directory, [STUDY]) as workflow:
        tasks = workflow.task_managers[STUDY]
        tasks.create_task(x=[1.0, 2.0])
        assert len(tasks.frame(columns=["id"])) == 0
        with workflow.transaction():
            assert len(tasks.frame(columns=["id"])) == 2
        assert len(tasks.select("id > 0").to_frame(["id"])) == 2
