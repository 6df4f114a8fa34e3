"""``motoko run --dry-run``: it shows the plan, starts nothing and stores nothing."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING, Any

import pytest

from motoko.core.changes import EditRun
from motoko.core.edits import Claim
from motoko.core.records import RunKey
from motoko.errors import RunFailed, StateError
from motoko.operations.dry_run import RunPlan, plan_execution
from motoko.operations.signals import SignalHandler
from motoko.server.safe_file import SafeFileStorage
from motoko.storage.database import Database
from motoko.storage.orchestrator_leases import Lease, live_orchestrators
from motoko.storage.schema import write_database
from motoko.testing.fake_launcher import failing
from motoko.workflow import Workflow
from tests.support.command_line import finish, small_workflow, wait_until
from tests.support.orchestrating import execute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration


class Place:
    """A workflow of the studies ``s`` and ``t``, whose database is a file without a server."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / ".wf" / "wf.db"
        (directory / "motoko.yaml").write_text(
            "task_managers: {s: , t: }\norchestrator: steps.main\npoll_interval: 0.1\n"
        )
        for name in ("s", "t"):
            (directory / name).mkdir()
            (directory / name / "bd.yaml").write_text("job: {x: float}\n")
            (directory / name / "launch.sh").write_text("true\n")

    def create(self) -> None:
        self.file.parent.mkdir(mode=0o700)
        write_database(self.file, ["s", "t"])

    @contextlib.contextmanager
    def writing(self) -> Iterator[Workflow]:
        """A workflow that writes to the file."""
        workflow = Workflow(self.directory, database=Database(SafeFileStorage(self.file)))
        workflow.run_name = "a"
        with contextlib.closing(workflow):
            yield workflow

    def execute(self, main: Callable[..., Any], **scripts: Any) -> None:
        with self.writing() as workflow:
            execute(workflow, main, scripts)

    def plan(
        self, main: Callable[..., Any], *, retry_failed: bool = False, **params: Any
    ) -> RunPlan:
        workflow = Workflow(self.directory, read_only=True)
        workflow.run_name = "a"
        workflow.orchestrator_function = main
        return plan_execution(workflow, params, SignalHandler(), retry_failed=retry_failed)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def two_runs(workflow: Any, **_: Any) -> None:
    await workflow.s.create_task(x=[1, 2])


def summary(plan: RunPlan) -> dict[str, tuple[list[float], list[float]]]:
    """The job values of created and reused runs, by study."""
    return {
        study.name: (
            [record.job["x"] for record in study.created],
            [record.job["x"] for record in study.reused],
        )
        for study in plan.studies
    }


def test_without_a_database_all_requested_runs_are_new_and_no_file_appears(place: Place) -> None:
    before = sorted(place.directory.rglob("*"))
    plan = place.plan(two_runs)
    assert summary(plan) == {"s": ([1.0, 2.0], []), "t": ([], [])}
    assert plan.error is None
    assert any("s.1" in wait and "s.2" in wait for wait in plan.waits)
    assert sorted(place.directory.rglob("*")) == before


def test_existing_runs_are_reused_and_the_database_is_unchanged(place: Place) -> None:
    place.create()
    place.execute(two_runs, s=lambda job: {"y": job["x"]})
    content = place.file.read_bytes()

    async def main(workflow: Any, **_: Any) -> None:
        workflow.vars.seen = 1
        first = await workflow.s.create_task(x=[1, 2])
        await workflow.t.create_task(x=[run.y + 10 for run, _ in first])

    plan = place.plan(main)
    assert summary(plan) == {"s": ([], [1.0, 2.0]), "t": ([11.0, 12.0], [])}
    assert [study.outdated for study in plan.studies] == [[], []]
    assert place.file.read_bytes() == content


def test_without_missing_results_it_would_end(place: Place) -> None:
    place.create()
    place.execute(two_runs, s=lambda _: None)
    plan = place.plan(two_runs)
    assert (plan.waits, plan.error) == ((), None)


def test_actions_fire_for_the_results_that_exist(place: Place) -> None:
    place.create()
    place.execute(two_runs, s=lambda _: None)

    async def main(workflow: Any, **_: Any) -> None:
        async def follow(workflow: Any, runs: Any, **_: Any) -> None:
            workflow.t.create_task(x=[job.x * 100 for _, job in runs])
            for run, _ in runs:
                run.state = "FOLLOWED"

        workflow.add_action("follow", task="s", event="state = FINISHED", f=follow)

    plan = place.plan(main)
    assert summary(plan)["t"] == ([100.0, 200.0], [])


def test_runs_in_progress_and_the_lease_of_an_orchestrator_do_not_matter(place: Place) -> None:
    place.create()

    async def request(workflow: Any, **_: Any) -> None:
        workflow.s.create_task(x=[1, 2])
        workflow.finished = True

    place.execute(request)
    with place.writing() as workflow:
        workflow.store.autocommit_scope.write(
            EditRun(RunKey("s", 1), Claim("somewhere", "token", 0.0))
        )
        asyncio.run(Lease(workflow.store, "a").acquire())
        with workflow.store.autocommit_scope.read() as session:
            assert "a" in live_orchestrators(session.tables, workflow.store.steady())
        plan = place.plan(two_runs)
    assert summary(plan)["s"] == ([], [1.0, 2.0])
    assert plan.error is None
    assert any("s.1" in wait for wait in plan.waits)


def test_the_exception_that_would_end_it_is_reported(place: Place) -> None:
    async def main(workflow: Any, **_: Any) -> None:
        workflow.s.create_task(x=3)
        raise ValueError("out of luck")

    plan = place.plan(main)
    assert isinstance(plan.error, ValueError)


def test_failed_runs_raise_unless_they_would_be_retried(place: Place) -> None:
    place.create()
    with pytest.raises(RunFailed):
        place.execute(two_runs, s=lambda _: failing())
    assert isinstance(place.plan(two_runs).error, RunFailed)
    plan = place.plan(two_runs, retry_failed=True)
    assert plan.retried == [RunKey("s", 1), RunKey("s", 2)]
    assert plan.error is None
    assert plan.waits


def test_runs_made_with_other_scripts_are_named(place: Place) -> None:
    place.create()
    place.execute(two_runs, s=lambda _: None)
    (place.directory / "s" / "launch.sh").write_text("false\n")
    plan = place.plan(two_runs)
    assert plan.studies[0].outdated == [RunKey("s", 1), RunKey("s", 2)]


def test_runs_made_with_other_parameters_are_counted(place: Place) -> None:
    place.create()
    place.execute(two_runs, s=lambda _: None)
    (place.directory / "s" / "bd.yaml").write_text("job: {x: float, y: float}\njob_space: {y: 0}\n")
    plan = place.plan(two_runs)
    assert summary(plan)["s"] == ([1.0, 2.0], [])
    assert sum(plan.studies[0].changed.values()) == 2


def test_main_cannot_replace_the_database(place: Place) -> None:
    place.create()

    async def main(workflow: Any, **_: Any) -> None:
        workflow.create(validated=True)

    content = place.file.read_bytes()
    assert isinstance(place.plan(main).error, StateError)
    assert place.file.read_bytes() == content


@pytest.mark.parametrize("action", ["create", "close", "__enter__"])
def test_main_cannot_leave_the_copy(place: Place, action: str) -> None:
    async def main(workflow: Any, **_: Any) -> None:
        with pytest.raises(StateError):
            getattr(workflow, action)()
        workflow.s.create_task(x=1)

    plan = place.plan(main)
    assert plan.error is None
    assert summary(plan)["s"] == ([1.0], [])
    assert not place.file.parent.exists()


def test_main_starts_no_launcher(place: Place) -> None:
    place.create()
    content = place.file.read_bytes()

    async def main(workflow: Any, **_: Any) -> None:
        workflow.start_launcher_daemons()
        await workflow.s.create_task(x=1)

    plan = place.plan(main)
    assert plan.error is None
    assert summary(plan)["s"] == ([1.0], [])
    assert not list(place.file.parent.glob("*.json"))  # records of processes
    assert place.file.read_bytes() == content


def test_polled_conditions_do_not_keep_it_waiting(place: Place) -> None:
    async def main(workflow: Any, **_: Any) -> None:
        async def never(**_: Any) -> None:
            raise AssertionError

        workflow.add_action("never", event=lambda: False, f=never)
        workflow.s.create_task(x=1)

    plan = place.plan(main)
    assert plan.error is None
    assert any("never" in wait for wait in plan.waits)


def test_the_command_prints_the_plan_and_starts_nothing(tmp_path: Path) -> None:
    shell = small_workflow(tmp_path)
    with contextlib.closing(shell):
        out = shell.ok("run", "--run_name", "a", "--dry-run")
        assert "s.1" in out
        assert "s.2" in out
        assert "main waits for" in out
        assert not (tmp_path / ".wf").exists()


def test_an_interrupted_dry_run_prints_the_plan_so_far(tmp_path: Path) -> None:
    main = (
        "import asyncio, pathlib\n"
        "def committed(store):\n"
        "    with store.autocommit_scope.read() as session:\n"
        "        return len(session.tables.study('s')) == 2\n"
        "async def main(workflow, **params):\n"
        "    workflow.s.create_task(x=[1, 2])\n"
        "    while not committed(workflow.store):\n"
        "        await asyncio.sleep(0)\n"
        "    pathlib.Path('sleeps').touch()\n"
        "    await asyncio.sleep(1e6)\n"
    )
    shell = small_workflow(tmp_path, main=main)
    with contextlib.closing(shell):
        command = shell.start("run", "--run_name", "a", "--dry-run")
        wait_until((tmp_path / "sleeps").exists, "main sleeps")
        command.send_signal(signal.SIGINT)
        done = finish(command)
        assert done.returncode == 130
        assert "s.2" in done.stdout
