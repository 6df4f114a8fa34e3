"""``motoko restore --salvage`` recovers the intact part of a file, wherever the damage is."""

from __future__ import annotations

import contextlib
import shutil
from functools import partial
from typing import TYPE_CHECKING

import pytest

from motoko.cli.entry_point import run as run_command
from motoko.core.changes import (
    DeleteRun,
    EditHolds,
    EditRun,
    RecordFiring,
    RecordProvenance,
    SetVariable,
)
from motoko.core.edits import Claim, SetFields, SetLabel
from motoko.core.holds import AddHolds
from motoko.core.provenance import Provenance
from motoko.core.records import RunKey
from motoko.core.states import Lifecycle
from motoko.errors import DatabaseDamagedError
from motoko.operations.backup import salvage as salvage_workflow
from motoko.server.create import create_database_file
from motoko.server.file_storage import AtomicFileStorage
from motoko.server.state_dir import StateDir
from motoko.server.transaction_file import HEADER, LENGTH, MAGIC
from motoko.storage.consistency import check_database_file, check_tables
from motoko.storage.database import Database
from motoko.storage.salvage import SalvageReport, salvage
from motoko.storage.schema import write_database
from motoko.storage.session import Session, run_transaction
from motoko.testing import add_run
from motoko.testing.memory import commit, finish_run
from tests.support.gadgets import RECORDS, SHAPES, plant_record

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.fault

RUNS = 70  # more than one bucket of an index holds
DELETED = 5
EDITED = 7


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file: one commit per run, a deletion, an edit and a variable."""
    state = StateDir.of(tmp_path_factory.mktemp("made"))
    state.path.mkdir(mode=0o700)
    create_database_file(state, partial(write_database, studies=["s"]))
    database = Database(AtomicFileStorage(state.database))
    session = Session(database)
    for number in range(1, RUNS + 1):
        add_run(session, "s", {"x": float(number)})  # reserves ids in a separate commit
        commit(database, session)
    session.add(DeleteRun(RunKey("s", DELETED)))
    commit(database, session)
    session.add(EditRun(RunKey("s", EDITED), SetFields({"y": 1})))
    commit(database, session)
    session.add(SetVariable(None, "v", "value"))
    commit(database, session)
    session.close()
    database.close()
    return state.database


def transactions(content: bytes) -> list[tuple[int, int]]:
    """Return start and end of each transaction."""
    found, position = [], len(MAGIC)
    while position < len(content):
        length = HEADER.unpack_from(content, position)[1]
        found.append((position, position + length + LENGTH.size))
        position = found[-1][1]
    return found


def salvaged(content: bytes, directory: Path) -> tuple[SalvageReport, dict[int, dict[str, object]]]:
    """Salvage; return the report and the existing runs with their fields."""
    directory.mkdir()
    (directory / "source").write_bytes(content)
    report = salvage(directory / "source", directory / "wf.db")
    assert check_database_file(directory / "wf.db") == []
    database = Database.read_file(directory / "wf.db")
    session = Session(database)
    try:
        table = session.tables.study("s")
        return report, {
            record.id: dict(record.fields)
            for record in table.records(table.ids(None))
            if table.jobs.values(record.job_id) == {"x": float(record.id)}
        }
    finally:
        session.close()
        database.close()


def creations(content: bytes) -> list[tuple[int, int]]:
    """Return the positions of the commits that created the runs, in order."""
    return transactions(content)[-3 - 2 * RUNS : -3][1::2]


def everything() -> set[int]:
    return set(range(1, RUNS + 1)) - {DELETED}


def test_an_intact_file_is_copied_unchanged(made: Path, tmp_path: Path) -> None:
    content = made.read_bytes()
    report, runs = salvaged(content, tmp_path / "x")
    assert set(runs) == everything()
    assert runs[EDITED] == {"y": 1}
    assert (report.gaps, report.rebuilt) == ([], False)
    assert report.transactions == len(transactions(content))
    assert report.runs == {"s": RUNS - 1}


def test_lost_facts_of_attempts_are_unknown_and_holds_are_kept(tmp_path: Path) -> None:
    """The commit of the facts is lost, that of the claim is whole."""
    state = StateDir.of(tmp_path)
    state.path.mkdir(mode=0o700)
    create_database_file(state, partial(write_database, studies=["s"]))
    database = Database(AtomicFileStorage(state.database))
    session = Session(database)
    key = add_run(session, "s", {"x": 1.0})
    session.add(EditHolds(AddHolds(1.0, "test", [("s", None)], [key])))
    commit(database, session)
    facts = Provenance("scripts", "commit")
    session.add(RecordProvenance(facts))
    commit(database, session)
    session.add(EditRun(key, Claim("launcher", "t", 1.0, "scripts", facts.reference)))
    commit(database, session)
    holds = session.tables.holds
    session.close()
    database.close()
    content = bytearray(state.database.read_bytes())
    begin, end = transactions(bytes(content))[-2]
    content[(begin + end) // 2] ^= 1
    report, runs = salvaged(bytes(content), tmp_path / "x")
    assert (report.rebuilt, set(runs)) == (True, {1})
    found = Database.read_file(tmp_path / "x" / "wf.db")
    session = Session(found)
    assert session.run(key).provenance == (b"",)
    assert session.tables.holds == holds
    session.close()
    found.close()


def test_long_histories_are_kept_as_far_as_they_are_readable(tmp_path: Path) -> None:
    """One of the commits that archived entries is lost. The tables are rebuilt."""
    state = StateDir.of(tmp_path)
    state.path.mkdir(mode=0o700)
    create_database_file(state, partial(write_database, studies=["s"]))
    database = Database(AtomicFileStorage(state.database))
    session = Session(database)
    key = add_run(session, "s", {"x": 1.0})
    finish_run(session, key, "t", Lifecycle.FINISHED)
    commit(database, session)
    for number in range(12):
        for label in range(50):
            session.add(EditRun(key, SetLabel(f"L{number}.{label}", 1.0, "user")))
        commit(database, session)
    whole = session.complete_record(key).history
    session.close()
    database.close()
    content = bytearray(state.database.read_bytes())
    for begin, _ in (transactions(bytes(content))[-11], transactions(bytes(content))[-1]):
        content[begin : begin + 8] = bytes(8)
    report, runs = salvaged(bytes(content), tmp_path / "x")
    assert (report.rebuilt, set(runs)) == (True, {1})
    found = Database.read_file(tmp_path / "x" / "wf.db")
    session = Session(found)
    assert session.complete_record(key).history == whole[:-50]
    session.close()
    found.close()


@pytest.mark.parametrize("damage", ["zeros", "noise", "header", "length", "missing", "one bit"])
def test_a_damaged_transaction_affects_no_other(made: Path, tmp_path: Path, damage: str) -> None:
    """Only data of that transaction is lost, whichever it is."""
    content = made.read_bytes()
    places = transactions(content)
    created = creations(content)
    for index in (0, 15, 29, 30, RUNS - 1):
        begin, end = created[index]
        changed = bytearray(content)
        if damage == "zeros":
            changed[begin:end] = bytes(end - begin)
        elif damage == "noise":
            changed[begin:end] = b"\xa5" * (end - begin)
        elif damage == "header":
            changed[begin : begin + 8] = bytes(8)
        elif damage == "length":
            changed[begin + 12] ^= 0x20
        elif damage == "missing":
            del changed[begin + 10 : begin + 60]
        else:
            changed[content.index(b"record", begin, end)] ^= 1
        report, runs = salvaged(bytes(changed), tmp_path / str(index))
        lost = {index + 1} - {EDITED}
        assert set(runs) == everything() - lost, (damage, index)
        assert report.transactions == len(places) - 1
        assert len(report.gaps) == 1
        assert report.gaps[0][0] == begin


def test_a_truncated_file_is_salvaged_up_to_its_end(made: Path, tmp_path: Path) -> None:
    content = made.read_bytes()
    begin, end = creations(content)[20]
    _, runs = salvaged(content[: (begin + end) // 2], tmp_path / "x")
    assert set(runs) == set(range(1, 21))


def test_a_file_without_its_beginning_is_salvaged(made: Path, tmp_path: Path) -> None:
    """The root of all tables is lost, but the runs are found."""
    content = made.read_bytes()
    begin, _ = creations(content)[30]
    report, runs = salvaged(b"\xff" * begin + content[begin:], tmp_path / "x")
    assert report.rebuilt
    assert set(runs) == {*range(31, RUNS + 1), EDITED}


def test_a_file_without_whole_transactions_is_refused(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"\xff" * 10_000)
    with pytest.raises(DatabaseDamagedError, match="holds no whole transaction"):
        salvage(tmp_path / "source", tmp_path / "wf.db")


@pytest.mark.parametrize("kind", RECORDS)
def test_no_foreign_pickle_is_executed(made: Path, tmp_path: Path, kind: str) -> None:
    source = tmp_path / "source"
    for shape in list(SHAPES)[::4]:
        shutil.copy(made, source)
        trap = tmp_path / "ran"
        plant_record(source, bytes(7) + b"\x01", RECORDS[kind](SHAPES[shape](str(trap))))
        (tmp_path / shape).mkdir()
        with contextlib.suppress(DatabaseDamagedError):
            salvage(source, tmp_path / shape / "wf.db")
        assert not trap.exists(), shape


def test_a_workflow_resumes_with_salvaged_data(made: Path, tmp_path: Path) -> None:
    state = StateDir.of(tmp_path)
    state.path.mkdir(mode=0o700)
    content = bytearray(made.read_bytes())
    begin, end = transactions(bytes(content))[-20]
    content[begin:end] = bytes(end - begin)
    state.database.write_bytes(content)
    report = salvage_workflow(state, None)
    assert report.runs == {"s": RUNS - 2}
    assert (state.path / "wf.db.damaged-1").read_bytes() == content
    assert check_database_file(state.database) == []


def test_a_firing_with_a_lost_end_does_not_fire_again(made: Path, tmp_path: Path) -> None:
    """A later commit wrote the index of open firings, so it is correct."""
    state = StateDir.of(tmp_path)
    state.path.mkdir(mode=0o700)
    shutil.copy(made, state.database)
    database = Database(AtomicFileStorage(state.database))
    session = Session(database)
    runs = (RunKey("s", 1),)
    for record in (
        RecordFiring(("r", "event", "first"), "open", "s", runs, at=1.0),
        RecordFiring(("r", "event", "first"), "done", "s", runs, at=1.0),
        RecordFiring(("r", "event", "second"), "open", "s", runs, at=1.0),
    ):
        session.add(record)
        commit(database, session)
    session.close()
    database.close()
    content = bytearray(state.database.read_bytes())
    begin, end = transactions(bytes(content))[-2]
    content[begin:end] = bytes(end - begin)
    salvaged(bytes(content), tmp_path / "x")
    database = Database.read_file(tmp_path / "x" / "wf.db")
    session = Session(database)
    try:
        assert session.tables.open_firings("r") == [("r", "event", "second")]
        firing = session.tables.firing(("r", "event", "first"))
        assert firing is not None
        assert firing["status"] == "done"
    finally:
        session.close()
        database.close()


def test_the_command_lists_the_losses(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = StateDir.of(tmp_path)
    state.path.mkdir(mode=0o700)
    (tmp_path / "motoko.yaml").write_text("task_managers: {s: }\norchestrator: steps.main\n")
    content = bytearray(made.read_bytes())
    begin, end = creations(bytes(content))[20]
    content[begin:end] = bytes(end - begin)
    (tmp_path / "copy").write_bytes(content)
    directory = ["--workflow", str(tmp_path)]
    assert run_command(["restore", *directory]) == 2
    assert "name the FILE" in capsys.readouterr().err
    assert run_command(["restore", *directory, str(tmp_path / "copy")]) == 1
    assert "is damaged at byte" in capsys.readouterr().err
    assert run_command(["restore", *directory, "--salvage", str(tmp_path / "copy")]) == 0
    output = capsys.readouterr().out
    assert f"salvaged {len(transactions(made.read_bytes())) - 1} commits: {RUNS - 2} runs" in output
    assert f"lost: {end - begin} bytes at byte {begin}" in output
    # Results exist now, so replacing them requires confirmation.
    assert run_command(["restore", *directory, "--salvage", str(tmp_path / "copy")]) == 1
    assert "already has results" in capsys.readouterr().err


def test_a_check_reports_disagreements(made: Path, tmp_path: Path) -> None:
    state = StateDir.of(tmp_path)
    state.path.mkdir(mode=0o700)
    shutil.copy(made, state.database)
    assert check_database_file(state.database) == []
    database = Database(AtomicFileStorage(state.database))

    def spoil(root: object) -> list[str]:
        table = root["motoko"]["studies"]["s"]  # type: ignore[index]
        next(iter(table["states"].values())).remove(EDITED)
        del table["by_job"][table["by_job"].minKey()]
        return check_tables(root)

    found = run_transaction(database, spoil, initialising=True)
    database.close()
    assert any("index states" in line for line in found)
    assert any("index by_job" in line for line in found)
    assert check_database_file(state.database) == found
