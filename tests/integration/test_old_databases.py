"""Databases of every earlier format are opened, read and continued; newer ones are refused."""

from __future__ import annotations

import contextlib
import functools
import gzip
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from motoko.core.changes import EditRun, RecordFiring, SetVariable
from motoko.core.edits import EndAttempt
from motoko.core.records import RunKey
from motoko.core.states import Lifecycle
from motoko.errors import DatabaseVersionError
from motoko.operations.backup import back_up, restore, salvage
from motoko.operations.doctor.database import examine_database
from motoko.operations.doctor.findings import Finding, Level
from motoko.operations.doctor.leases import examine_leases
from motoko.operations.doctor.patient import Patient
from motoko.operations.usage import known_orchestrators
from motoko.runtime.files import private_directory
from motoko.runtime.processes import current
from motoko.server.lifecycle import stop_server
from motoko.server.safe_file import SafeFileStorage
from motoko.server.state_dir import StateDir
from motoko.storage import compaction, run_store, schema
from motoko.storage.compaction import compact_study
from motoko.storage.consistency import check_database_file, check_firings, check_study
from motoko.storage.database import Database
from motoko.storage.orchestrator_leases import Lease
from motoko.storage.session import Session, run_transaction
from motoko.storage.store import WorkflowStore
from motoko.testing import add_run, empty_database
from tests.support.sample_database import VARIABLES

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

DATA = Path(__file__).parents[1] / "data"
VERSIONS = sorted(DATA.glob("version-*.db.gz"))


@pytest.fixture(params=VERSIONS, ids=lambda path: path.name)
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StateDir]:
    """A workflow whose database was written by an older version."""
    state = StateDir.of(tmp_path)
    private_directory(state.path)
    state.database.write_bytes(gzip.decompress(request.param.read_bytes()))
    yield state
    stop_server(state)


def check_contents(session: Session, *, salvaged: bool = False) -> None:
    """Check everything that tests/support/sample_database.py writes."""
    tables = session.tables
    assert tables.study_names() == ["add", "mult"]
    mult = tables.study("mult")
    assert check_study(mult) == check_study(tables.study("add")) == []
    assert mult.ids("first") == [1, 2, 3, 4, 5]
    assert mult.ids("second") == [6]
    assert len(mult.jobs) == len(mult.jobs.ids())
    assert mult.counts("first") == {
        "FORWARDED": 1, "FAILED": 1, "START": 1, "CANCELLED": 1, "CREATED": 1,
    }  # fmt: skip
    done, failed, going = (mult.run(number) for number in (1, 2, 3))
    assert (done.lifecycle, done.label) == (Lifecycle.FINISHED, "FORWARDED")
    assert done.fields == {"y": 4.5, "path": [1, 2]}
    assert done.job == {"x": 0.0, "mesh": "fine"}
    assert (done.scripts, done.outbox_offset, done.exit_code) == ("digest", 40, 0)
    assert [(move.time, move.state) for move in done.history] == [
        (0.0, "CREATED"), (11.0, "SUBMITTED"), (12.0, "START"), (14.0, "FINISHED"),
        (15.0, "FORWARDED"),
    ]  # fmt: skip
    assert (failed.exit_code, failed.reason, failed.attempt) == (3, "no luck", 1)
    assert going.process == (6, 7, "boot")
    assert mult.quantity(3, "residual") == [(0, [0.0, -1.0]), (1, [0.5, -1.0]), (2, [1.0, -1.0])]
    assert mult.run(5).fields == {"y": 0, "note": "later"}
    assert mult.run(6).job_id == mult.run(1).job_id
    assert tables.study("add").run(1).job == {"values": [1.5, 2.5]}
    assert {name: tables.variable(None, name) for name in VARIABLES} == VARIABLES
    assert tables.variable("first", "rounds") == 2
    assert tables.open_firings("first") == [("first", "main.join", "k2")]
    assert list(tables.once_records("first", "main.join")) == [("add", 1), ("mult", 1)]
    if not salvaged:  # it drops leases
        assert tables.lease("orchestrator:first")["token"] == "t"


def test_failures_that_an_older_version_recorded_as_handled_stay_so() -> None:
    """Version 3 lists them in an index, which the upgrade does not fill."""
    database = empty_database(["mult"])
    session = Session(database)
    failed = RunKey("mult", 1)
    firing = ("first", "e", "k")
    session.add(RecordFiring(firing, "done", "", (failed,), 1.0, handled=((failed, 2),)))
    database.submit(session.commit).result()

    def make_older(root: Any) -> None:
        del root["motoko"]["handled"]
        schema.STEPS[2](root["motoko"])

    database.submit(lambda: run_transaction(database, make_older, initialising=True)).result()
    session.refresh()
    asked = [("mult", 1, 1), ("mult", 1, 2)]
    assert session.tables.handled_failures("first", asked) == {("mult", 1, 2)}
    assert session.tables.handled_failures("second", asked) == set()
    assert check_firings(session.tables) == []
    session.close()
    database.close()


def test_every_format_has_a_sample_database() -> None:
    expected = [f"version-{n}.db.gz" for n in range(1, schema.SCHEMA_VERSION + 1)]
    assert sorted(expected) == [path.name for path in VERSIONS]


def test_an_old_database_is_the_same_after_each_step_of_its_conversion(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill leaves it between two steps, because each is a commit."""
    monkeypatch.setattr(run_store, "BLOCK", 2)
    monkeypatch.setattr(run_store, "LEAST", 1)
    monkeypatch.setattr(compaction, "EDITED", 0.0)
    monkeypatch.setattr(compaction, "LOOKED", 1)
    store = WorkflowStore(state, {})
    steps, blocks = 0, set()
    for study in ("add", "mult"):
        position: int | None = 0
        while position is not None:
            position = compact_study(store.database, study, position)
            steps += 1
            with store.autocommit_scope.read() as session:
                check_contents(session)
                blocks |= {(study, first) for first in session.tables.study(study).trees["blocks"]}
    assert steps > 2
    assert ("mult", 1) in blocks
    store.database.pack()
    store.close()
    stop_server(state)
    reader = WorkflowStore(state, {}, read_only=True)
    with reader.autocommit_scope.read() as session:
        check_contents(session)
    reader.close()


def test_an_old_database_can_be_inspected_and_continued(state: StateDir) -> None:
    store = WorkflowStore(state, {})
    with store.autocommit_scope.read() as session:
        check_contents(session)
        new = add_run(session, "mult", {"x": 7.0, "mesh": "fine"}, run_name="first")
        session.add(
            EditRun(RunKey("mult", 3), EndAttempt("t3", Lifecycle.FINISHED, 20.0, "launcher", 0))
        )
        session.add(SetVariable("first", "rounds", 3))
        store.database.submit(session.commit).result()
    assert new == RunKey("mult", 7)
    store.close()
    stop_server(state)
    reader = WorkflowStore(state, {}, read_only=True)
    with reader.autocommit_scope.read() as session:
        assert session.tables.study("mult").run(3).lifecycle is Lifecycle.FINISHED
        assert session.tables.study("mult").ids("first") == [1, 2, 3, 4, 5, 7]
        assert session.tables.variable("first", "rounds") == 3
        assert check_study(session.tables.study("mult")) == []
    reader.close()


# -- without a conversion ---------------------------------------------------------------------


def examine(state: StateDir, *, every_record: bool = False) -> Finding:
    """Return the finding about the database, which has no other problem."""
    patient = Patient(
        state.path.parent / "motoko.yaml", progress=(lambda *_: None) if every_record else None
    )
    found = [one for one in examine_database(patient) if one.subject != "backup"]
    assert len(found) == 1
    assert {one.level for one in examine_leases(patient)} == {Level.OK}
    return found[0]


def stored_format(state: StateDir) -> int:
    with (
        contextlib.closing(Database.read_file(state.database)) as database,
        database.snapshot() as connection,
    ):
        return schema.check_readable(connection.root())


@pytest.mark.parametrize("every_record", [False, True])
def test_the_doctor_finds_an_old_database_healthy(state: StateDir, every_record: bool) -> None:
    content, version = state.database.read_bytes(), stored_format(state)
    found = examine(state, every_record=every_record)
    agreement = "every record agrees" if every_record else "a sample of records agree"
    assert "7 runs" in found.message
    assert agreement in found.message
    if version < schema.SCHEMA_VERSION:
        assert (found.code, found.level) == ("database-version", Level.WARNING)
        assert f"earlier format {version}" in found.message
        assert "`motoko run` upgrades it" in found.next_step
    else:
        assert (found.code, found.level) == ("database", Level.OK)
    assert state.database.read_bytes() == content


def test_a_newer_database_is_not_called_damaged(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "STEPS", {})
    monkeypatch.setattr(schema, "SCHEMA_VERSION", 0)
    for every_record in (False, True):
        found = examine(state, every_record=every_record)
        assert (found.code, found.level) == ("database-version", Level.WARNING)
        assert found.next_step == "Use the Motoko that wrote it, or a newer one."
    with pytest.raises(DatabaseVersionError):
        salvage(state, None)


def test_the_runs_of_an_old_database_are_counted_in_its_copies(
    state: StateDir, tmp_path: Path
) -> None:
    version, copy = stored_format(state), tmp_path / "copy"
    made = back_up(state, copy)
    assert made.runs == {"add": 1, "mult": 6}
    assert restore(state, copy, replace=True) == made
    assert stored_format(state) == version


@pytest.mark.parametrize("table", ["", "states", "runs_of_job", "by_identity"])
def test_an_old_database_can_be_salvaged(state: StateDir, table: str) -> None:
    """Also one whose index ``table`` is damaged."""
    if table:
        database = Database(SafeFileStorage(state.database))
        damage = functools.partial(damage_index, table=table)
        database.submit(lambda: run_transaction(database, damage, initialising=True)).result()
        database.close()
        assert examine_database(Patient(state.path.parent / "motoko.yaml"))[0].code == (
            "database-inconsistent"
        )
    found = salvage(state, None)
    assert (found.runs, found.rebuilt, found.notes) == ({"add": 1, "mult": 6}, bool(table), [])
    assert check_database_file(state.database) == []
    with contextlib.closing(Database.scratch_copy(state.database)) as copy:
        copy.submit(lambda: run_transaction(copy, schema.upgrade, initialising=True)).result()
        with contextlib.closing(Session(copy)) as session:
            check_contents(session, salvaged=bool(table))


def damage_index(root: Any, table: str) -> None:
    index = root["motoko"]["studies"]["mult"][table]
    del index[index.minKey()]


# -- a future format --------------------------------------------------------------------------


def next_format(monkeypatch: pytest.MonkeyPatch) -> int:
    """Simulate a version whose format is two upgrade steps newer."""
    now = schema.SCHEMA_VERSION

    def first(tables: Any) -> None:
        tables["variables"]["", "number"]["value"] += 100

    def second(tables: Any) -> None:
        tables["variables"]["", "number"]["value"] *= 2

    monkeypatch.setattr(schema, "SCHEMA_VERSION", now + 2)
    monkeypatch.setattr(schema, "STEPS", {**schema.STEPS, now: first, now + 1: second})
    return now


def test_an_older_database_is_upgraded_when_opened_for_writing(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = next_format(monkeypatch)
    reader = WorkflowStore(state, {}, read_only=True)
    with (
        pytest.raises(DatabaseVersionError, match="has format") as caught,
        reader.autocommit_scope.read(),
    ):
        pass
    assert "`motoko run` upgrades it" in str(caught.value)
    reader.close()
    for _ in range(2):  # only once
        store = WorkflowStore(state, {})
        with store.autocommit_scope.read() as session:
            assert session.tables.variable(None, "number") == (3 + 100) * 2
        store.close()
    monkeypatch.undo()
    store = WorkflowStore(state, {})
    message = f"has format {now + 2}, written by Motoko .*; this is Motoko .* format {now}"
    with pytest.raises(DatabaseVersionError, match=message), store.autocommit_scope.read():
        pass
    assert not store.connected
    stop_server(state)


def test_orchestrators_of_an_earlier_version_are_found(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without them `motoko kill` would leave them running."""
    store = WorkflowStore(state, {})
    database, lease = store.database, Lease(store, "new")
    database.submit(lambda: run_transaction(database, lease.acquire_in)).result()
    next_format(monkeypatch)
    assert known_orchestrators(state)["new"].process == current()
    store.close()


def test_a_failed_upgrade_step_changes_nothing(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = next_format(monkeypatch)

    def failing(tables: Any) -> None:
        tables["variables"].clear()
        raise LookupError("no such table")

    monkeypatch.setattr(schema, "STEPS", {**schema.STEPS, now + 1: failing})
    with pytest.raises(LookupError):
        _ = WorkflowStore(state, {}).database
    monkeypatch.undo()
    store = WorkflowStore(state, {})
    with store.autocommit_scope.read() as session:
        check_contents(session)
    store.close()


def test_the_message_names_both_formats(state: StateDir) -> None:
    with pytest.raises(DatabaseVersionError) as caught:
        schema.check_version({"motoko": {"version": 7, "written_by": "3.2"}})
    assert re.fullmatch(
        r"the workflow's database has format 7, written by Motoko 3\.2; this is Motoko \S+, "
        r"which reads format \d+",
        caught.value.message,
    )
