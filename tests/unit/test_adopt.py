"""Runs of an earlier ``bd.yaml`` adopt the parameters that it declares now."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from motoko.core import parameter_space
from motoko.core.adoption import ParameterChange, creation_fields
from motoko.core.changes import EditRun
from motoko.core.edits import Claim, MarkStarted
from motoko.core.records import RunRecord
from motoko.core.states import Lifecycle
from motoko.errors import ConflictError, LeaseHeld, ParameterError, StateError
from motoko.operations.adopt import adopt, plan_adoption
from motoko.operations.bulk_edit import RunSelection
from motoko.storage.consistency import check_tables
from motoko.storage.orchestrator_leases import Lease
from motoko.storage.session import Session
from motoko.storage.threads import run_in_thread
from motoko.testing.memory import empty_database, finish_run
from motoko.workflow import Workflow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from motoko.core.records import RunKey
    from motoko.storage.database import Database

pytestmark = pytest.mark.unit

NEW = "job: {x: float, gamma: float}\nrun: {scheme: str, y: float}\n"
OLD = "job: {x: float}\nrun: {scheme: str, y: float}\n"


@pytest.fixture
def database() -> Iterator[Database]:
    database = empty_database(["s"])
    yield database
    database.close()


class Study:
    """A workflow of one study, whose ``bd.yaml`` changes."""

    def __init__(self, directory: Path, database: Database) -> None:
        self.directory = directory
        self.database = database
        (directory / "motoko.yaml").write_text("task_managers: {s: }\norchestrator: steps.main\n")
        (directory / "s").mkdir()
        (directory / "s" / "launch.sh").write_text("true\n")

    def declare(self, study: str, run_name: str = "a") -> Workflow:
        (self.directory / "s" / "bd.yaml").write_text(study)
        workflow = Workflow(self.directory, database=self.database)
        workflow.run_name = run_name
        return workflow

    def check(self) -> None:
        with self.database.snapshot() as connection:
            assert check_tables(connection.root()) == []


@pytest.fixture
def study(tmp_path: Path, database: Database) -> Study:
    return Study(tmp_path, database)


def change_of(workflow: Workflow, *given: str, drop: Sequence[str] = ()) -> ParameterChange:
    return ParameterChange.parse("s", workflow.s.bd_config.job, given, drop)


def adopt_all(
    workflow: Workflow, *given: str, drop: Sequence[str] = (), where: str = "", run_name: str = ""
) -> list[RunKey]:
    selected = RunSelection((), [where] if where else (), run_name or None).find(workflow)
    change = change_of(workflow, *given, drop=drop)
    planned = plan_adoption(workflow, "s", selected, change)
    return adopt(workflow, planned.adoptions, f"motoko adopt {change}")


def jobs(workflow: Workflow) -> list[dict[str, Any]]:
    return [dict(job) for _, job in workflow.s.select()]


def test_runs_with_the_new_parameter_are_found_again(study: Study) -> None:
    old = study.declare(OLD).s.create_task(x=[1, 2, 3])
    assert old.ids == [1, 2, 3]
    workflow = study.declare(NEW)
    assert adopt_all(workflow, "gamma=0.1") == [run.key for run in old.runs]
    study.check()
    assert workflow.s.create_task(x=[1, 2, 3], gamma=0.1).ids == [1, 2, 3]
    assert workflow.s.create_task(x=1, gamma=0.2).ids == [4]
    assert jobs(workflow)[0] == {"x": 1.0, "gamma": 0.1}
    assert workflow.s.select("gamma = 0.1").ids == [1, 2, 3]
    last = workflow.s.connect().runs[1].history[-1]
    assert (last.cause, last.state) == ("motoko adopt gamma=0.1", "CREATED")
    study.check()


def test_a_dropped_parameter_is_removed(study: Study) -> None:
    study.declare(NEW).s.create_task(x=[1, 2], gamma=0.5).ids  # noqa: B018 - resolves
    workflow = study.declare("job: {x: float, delta: int}\n")
    assert len(adopt_all(workflow, "delta=3", drop=["gamma"])) == 2
    study.check()
    assert workflow.s.create_task(x=[2, 1], delta=3).ids == [2, 1]
    cause = workflow.s.connect().runs[1].history[-1].cause
    assert cause == "motoko adopt delta=3 --drop gamma"


def test_only_selected_runs_change_and_shared_jobs_stay(study: Study) -> None:
    for run_name in ("a", "b"):
        study.declare(OLD, run_name).s.create_task(x=[1, 2]).ids  # noqa: B018 - resolves
    workflow = study.declare(NEW)
    assert len(adopt_all(workflow, "gamma=1", run_name="a", where="x < 2")) == 1
    study.check()
    assert workflow.s.create_task(x=1, gamma=1).ids == [1]
    base = workflow.s.connect()
    assert [dict(base.runs[n].job) for n in (1, 2, 3, 4)] == [
        {"x": 1.0, "gamma": 1.0}, {"x": 2.0}, {"x": 1.0}, {"x": 2.0},
    ]  # fmt: skip
    assert len(adopt_all(workflow, "gamma=1")) == 3  # the others
    study.check()
    assert base.runs[1].job.id == base.runs[3].job.id


def test_runs_that_have_the_parameter_keep_it(study: Study) -> None:
    study.declare(OLD).s.create_task(x=1).ids  # noqa: B018 - resolves
    workflow = study.declare(NEW)
    workflow.s.create_task(x=1, gamma=7).ids  # noqa: B018 - resolves
    selected = RunSelection().find(workflow)
    planned = plan_adoption(workflow, "s", selected, change_of(workflow, "gamma=8"))
    assert ([key.id for key in planned.preview.keys], planned.preview.unaffected) == (
        [1],
        {"CREATED": 1},
    )
    assert adopt_all(workflow, "gamma=8")
    assert jobs(workflow) == [{"x": 1.0, "gamma": 8.0}, {"x": 1.0, "gamma": 7.0}]
    assert adopt_all(workflow, "gamma=8") == []


def test_an_existing_job_is_used(study: Study) -> None:
    study.declare(OLD, "b").s.create_task(x=1).ids  # noqa: B018 - resolves
    workflow = study.declare(NEW)
    ((_, job),) = workflow.s.create_task(x=1, gamma=2)
    adopt_all(workflow, "gamma=2", run_name="b")
    study.check()
    assert workflow.s.connect().runs[1].job.id == job.id
    assert list(workflow.s.connect().jobs) == [job.id]


def test_values_are_of_the_declared_types(study: Study) -> None:
    study.declare("job: {x: int}\n").s.create_task(x=1).ids  # noqa: B018 - resolves
    workflow = study.declare("job: {x: float, n: int, s: str, m: list, b: bool, d: dict}\n")
    adopt_all(workflow, "n=7", "s=1.10", "m=[4, 4]", "b=true", 'd={"tol": 1}')
    expected: dict[str, Any] = {
        "x": 1.0,
        "n": 7,
        "s": "1.10",
        "m": [4, 4],
        "b": True,
        "d": {"tol": 1},
    }
    assert jobs(workflow) == [expected]
    assert isinstance(jobs(workflow)[0]["x"], float)
    assert workflow.s.create_task(**expected).ids == [1]
    study.check()


def test_runs_of_existing_databases_are_adopted(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their identities predate the normalisation of numbers."""
    with monkeypatch.context() as then:
        then.setattr(parameter_space, "_normal", lambda value: value)
        study.declare("job: {x: float, p: list}\n").s.create_task(x=1, p=[1.0]).ids  # noqa: B018
    workflow = study.declare("job: {x: float, p: list, gamma: float}\n")
    adopt_all(workflow, "gamma=2")
    study.check()
    assert workflow.s.create_task(x=1, p=[1], gamma=2).ids == [1]


# -- run fields are part of the identity -----------------------------------------------------------


def test_run_fields_given_at_creation_stay_part_of_the_identity(study: Study) -> None:
    old = study.declare(OLD)
    first = old.s.create_task({"scheme": "p"}, x=1).runs[0]
    second = old.s.create_task({"scheme": "q"}, x=1).runs[0]
    third = old.s.create_task(x=1, replicate=2).runs[0]
    for run in (first, second, third):
        run.y = 4.5  # a declared field that a script sets later
    workflow = study.declare(NEW)
    adopt_all(workflow, "gamma=1")
    study.check()
    assert workflow.s.create_task({"scheme": "p"}, x=1, gamma=1).ids == [first.id]
    assert workflow.s.create_task({"scheme": "q"}, x=1, gamma=1).ids == [second.id]
    assert workflow.s.create_task(x=1, gamma=1, replicate=2).ids == [third.id]


def test_a_field_that_is_no_longer_declared_leaves_the_identity(study: Study) -> None:
    study.declare(OLD).s.create_task({"scheme": "p"}, x=1).ids  # noqa: B018 - resolves
    workflow = study.declare("job: {x: float, gamma: float}\n")
    adopt_all(workflow, "gamma=1")
    assert workflow.s.create_task(x=1, gamma=1).ids == [1]


def test_an_overwritten_creation_field_is_refused(study: Study) -> None:
    run = study.declare(OLD).s.create_task({"scheme": "p"}, x=1).runs[0]
    run.scheme = "changed"
    workflow = study.declare(NEW)
    with pytest.raises(ParameterError, match="run fields that have changed since") as e:
        adopt_all(workflow, "gamma=1")
    assert "--where" in (e.value.hint or "")
    study.check()


def test_creation_fields_are_found_among_many() -> None:
    fields = {f"f{n}": float(n) for n in range(40)}
    given = {"f3": 3.0, "f7": 7.0}
    identity = parameter_space.run_identity("s", "a", {"x": 1}, given, 0)
    run = RunRecord("s", 1, 1, "a", identity, {"x": 1}, fields=fields)
    assert creation_fields(run, ["f1", "f3", "f7", "f9"]) == ("f3", "f7")


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "drop", "words", "hint"),
    [
        (["gama=1"], [], "declares no job parameter 'gama'", "'gamma'"),
        (["gamma"], [], "'gamma' is not NAME=VALUE", "--set gamma=0.1"),
        (["=1"], [], "'=1' is not NAME=VALUE", None),
        (["gamma=red"], [], "job parameter 'gamma' = 'red' is not of type float", None),
        (["gamma=nan"], [], "job parameter 'gamma' is nan", None),
        (["gamma=null"], [], "job parameter 'gamma' is None", None),
        (["gamma=1", "gamma=2"], [], "gives 'gamma' twice", None),
        (["gamma=1"], ["x"], "declares the job parameter 'x'", "Remove it there first"),
        (["gamma=1"], ["beta"], "no run to change has a job parameter 'beta'", "'betta'"),
        ([], ["betta"], "run s.1 would still be without 'gamma' (declared now)", "--set gamma=VAL"),
        (["gamma=1"], [], "run s.1 would still be with 'betta' (no longer decl", "--drop betta"),
    ],
)
def test_changes_that_leave_runs_different_are_refused(
    study: Study, given: list[str], drop: list[str], words: str, hint: str | None
) -> None:
    study.declare("job: {x: float, betta: float}").s.create_task(x=[1, 2], betta=1).ids  # noqa: B018
    workflow = study.declare(NEW)
    with pytest.raises(ParameterError) as caught:
        adopt_all(workflow, *given, drop=drop)
    assert words in caught.value.message
    assert hint is None or hint in (caught.value.hint or "")
    assert jobs(workflow) == [{"x": float(x), "betta": 1.0} for x in (1, 2)]


def test_runs_that_would_become_one_are_named(study: Study) -> None:
    study.declare(NEW).s.create_task(x=[1, 2], gamma=[1, 2]).ids  # noqa: B018 - resolves
    workflow = study.declare("job: {x: float}\n")
    with pytest.raises(ParameterError) as caught:
        adopt_all(workflow, drop=["gamma"])
    words = "runs would have the same parameters: s.2 and s.1, s.4 and s.3"
    assert caught.value.message == words
    assert "--where" in (caught.value.hint or "")
    assert len(jobs(workflow)[0]) == 2
    study.check()


def test_a_run_with_these_parameters_is_named(study: Study) -> None:
    study.declare(OLD).s.create_task(x=[1, 2]).ids  # noqa: B018 - resolves
    workflow = study.declare(NEW)
    workflow.s.create_task(x=2, gamma=1).ids  # noqa: B018 - resolves
    with pytest.raises(ParameterError, match=r"runs would .*: s\.2 and s\.3"):
        adopt_all(workflow, "gamma=1")
    assert adopt_all(workflow, "gamma=1", where="x = 1")


@pytest.mark.parametrize("lifecycle", [Lifecycle.SUBMITTED, Lifecycle.START])
def test_active_runs_are_refused(study: Study, database: Database, lifecycle: Lifecycle) -> None:
    runs = study.declare(OLD).s.create_task(x=[1, 2]).runs
    with contextlib.closing(Session(database)) as session:
        session.add(EditRun(runs[1].key, Claim("l", "t", 0.0)))
        if lifecycle is Lifecycle.START:
            session.add(EditRun(runs[1].key, MarkStarted("t", 0.0, "l")))
        database.submit(session.commit).result()
    workflow = study.declare(NEW)
    with pytest.raises(StateError, match=r"s\.2 cannot adopt parameters while active") as caught:
        adopt_all(workflow, "gamma=1")
    where = (caught.value.hint or "").partition("--where '")[2].partition("'")[0]
    assert [key.id for key in adopt_all(workflow, "gamma=1", where=where)] == [1]


def test_finished_runs_keep_their_state_and_results(study: Study, database: Database) -> None:
    (run,) = study.declare(OLD).s.create_task(x=1).runs
    with contextlib.closing(Session(database)) as session:
        finish_run(session, run.key, "t", Lifecycle.FINISHED)
        database.submit(session.commit).result()
    run.y = 3.0
    workflow = study.declare(NEW)
    adopt_all(workflow, "gamma=1")
    assert workflow.s.select("state = FINISHED, gamma = 1, y = 3").ids == [1]
    study.check()


# -- other processes -----------------------------------------------------------------------------


def planned(study: Study) -> tuple[Workflow, list[Any]]:
    study.declare(OLD).s.create_task(x=[1, 2]).ids  # noqa: B018 - resolves
    workflow = study.declare(NEW)
    selected = RunSelection().find(workflow)
    return workflow, list(
        plan_adoption(workflow, "s", selected, change_of(workflow, "gamma=1")).adoptions
    )


def test_a_run_that_changed_since_the_plan_stops_the_adoption(
    study: Study, database: Database
) -> None:
    workflow, adoptions = planned(study)
    workflow.s.connect().runs[2].cancel()
    with pytest.raises(ConflictError, match=r"nothing was changed: run s\.2 was changed"):
        adopt(workflow, adoptions, "test")
    assert jobs(workflow) == [{"x": 1.0}, {"x": 2.0}]
    study.check()


@pytest.mark.parametrize("how", ["claim", "creation", "other creation"])
def test_a_commit_during_the_adoption_is_safe(
    study: Study, database: Database, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The other process commits first."""
    workflow, adoptions = planned(study)
    commit = Session.commit

    def interrupted(session: Session) -> None:
        monkeypatch.setattr(Session, "commit", commit)
        if how == "claim":
            with contextlib.closing(Session(database)) as other:
                other.add(EditRun(adoptions[1].run.key, Claim("l", "t", 0.0)))
                other.commit()
        else:
            x = 2 if how == "creation" else 9
            study.declare(NEW).s.create_task(x=x, gamma=1).ids  # noqa: B018 - resolves
        commit(session)

    monkeypatch.setattr(Session, "commit", interrupted)
    if how == "other creation":
        adopt(workflow, adoptions, "test")
        assert workflow.s.create_task(x=[1, 2, 9], gamma=1).ids == [1, 2, 3]
    else:
        with pytest.raises(ConflictError, match="nothing was changed: run s"):
            adopt(workflow, adoptions, "test")
        assert jobs(workflow)[:2] == [{"x": 1.0}, {"x": 2.0}]
    study.check()


def test_a_creation_during_the_adoption_finds_the_adopted_run(study: Study) -> None:
    """The adoption commits first."""
    workflow, adoptions = planned(study)
    other = study.declare(NEW)
    with other.transaction():
        tasks = other.s.create_task(x=2, gamma=1)
        assert len(other.s.select()) == 3  # its snapshot has a new run
        adopt(workflow, adoptions, "test")
    assert tasks.ids == [2]
    assert workflow.s.select().ids == [1, 2]
    study.check()


def test_a_claim_of_a_run_that_was_adopted_meanwhile_conflicts(
    study: Study, database: Database
) -> None:
    """The launcher would write the former parameters to the run's directory."""
    workflow, adoptions = planned(study)
    with contextlib.closing(Session(database)) as launcher:
        launcher.add(EditRun(adoptions[0].run.key, Claim("l", "t", 0.0)))
        adopt(workflow, adoptions, "test")
        with pytest.raises(ConflictError):
            database.submit(launcher.commit).result()
        launcher.add(EditRun(adoptions[0].run.key, Claim("l", "t", 0.0)))
        database.submit(launcher.commit).result()
    study.check()


@pytest.mark.parametrize(("run_name", "refused"), [("a", True), ("b", False)])
async def test_runs_with_a_running_orchestrator_are_refused(
    study: Study, run_name: str, refused: bool
) -> None:
    await run_in_thread(lambda: study.declare(OLD).s.create_task(x=1).ids)
    workflow = study.declare(NEW)
    lease = Lease(workflow.store, run_name)
    await lease.acquire()
    try:
        with pytest.raises(LeaseHeld) if refused else contextlib.nullcontext():
            await run_in_thread(lambda: adopt_all(workflow, "gamma=1"))
    finally:
        await lease.release()
    assert (len(jobs(workflow)[0]) == 1) is refused


def test_a_long_value_is_shortened_in_the_history(study: Study) -> None:
    study.declare(OLD).s.create_task(x=1).ids  # noqa: B018 - resolves
    workflow = study.declare("job: {x: float, m: list}\n")
    adopt_all(workflow, f"m={list(range(1000))}")
    assert len(workflow.s.connect().runs[1].history[-1].cause) < 300
    assert len(workflow.s.connect().runs[1].job.m) == 1000


def test_nothing_is_changed_without_runs(study: Study) -> None:
    assert adopt_all(study.declare(NEW), "gamma=1") == []
