"""The batch executor under single scheduler faults, on a virtual clock."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from motoko.core.changes import EditRun
from motoko.core.edits import Cancel
from motoko.core.provenance import attempts_of
from motoko.core.states import Lifecycle
from motoko.errors import Fenced
from motoko.launcher import attempt_files
from motoko.launcher.attempt_paths import AttemptPaths, read_marker
from motoko.launcher.executors.batch.queue_client import QueueClient, QueueSnapshot
from motoko.launcher.executors.batch.submission_files import block_start
from motoko.launcher.run_directory import create_run_directory
from motoko.launcher.schedulers.base import NOT_SEEN
from motoko.launcher.schedulers.slurm.scheduler import SlurmScheduler
from motoko.launcher.schedulers.slurm.states import job_status
from motoko.runtime.ports import SYSTEM, CommandResult
from motoko.testing.fake_scheduler.cluster import RUNNING
from motoko.testing.fake_scheduler.failure_modes import FailureMode
from tests.support.slurm_simulation import LAG, LEASE, STUDY, Simulation
from tests.support.slurm_wrapper import Execution

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from motoko.core.records import RunRecord
    from motoko.testing.fake_scheduler.cluster import FakeTask

pytestmark = pytest.mark.integration


class Stage(Simulation):
    """A deterministic simulation: scripts run for ``lasts`` seconds and end with ``status``."""

    lasts = 50.0
    status: int | None = 0

    def begun(self, task: FakeTask) -> None:
        done = self.wrapper._of[task]
        if isinstance(done, Execution):
            done.lasts, done.status, done.late = self.lasts, self.status, 0.0

    async def until(self, true: Callable[[], bool], steps: int = 200) -> None:
        for _ in range(steps):
            await self.step()
            if true():
                return
        raise AssertionError("the condition does not become true")

    def states(self) -> list[tuple[int, str]]:
        return [(move.attempt, move.state) for move in self.record(self.keys[0]).history]

    def paths(self, record: RunRecord) -> AttemptPaths:
        return AttemptPaths.for_record(self.store.runs_root(record.study), record)

    @property
    def lifecycle(self) -> Lifecycle:
        return self.record(self.keys[0]).lifecycle

    @property
    def task(self) -> FakeTask:
        return next(task for task in self.cluster.tasks() if not task.has_ended)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    world = Stage(Random(1), tmp_path / "wf", 0.0)
    start = world.wrapper.start

    def start_as_planned(task: FakeTask) -> None:
        start(task)
        world.begun(task)

    with world:
        world.wrapper.last_words = (143,)
        world.wrapper.start = start_as_planned  # type: ignore[method-assign]
        world.cluster.slots, world.cluster.retention = 30, 300.0
        world.cluster.accounting = False
        world.create(1)
        yield world
        assert world.check() == []


async def test_a_duplicated_submission_is_executed_once(stage: Stage) -> None:
    stage.planned["sbatch"].append(FailureMode.DUPLICATES)
    stage.lasts = 2 * LAG

    await stage.until(lambda: stage.lifecycle.is_terminal)

    assert stage.lifecycle is Lifecycle.FINISHED
    assert not [task for task in stage.cluster.tasks() if not task.has_ended]


@pytest.mark.parametrize(
    ("start", "host"),
    [
        (f"process 1 boot 5 node-4.site 7 S{' 1' * 20}\n", "node-4.site"),
        (f"process 1 boot 5 \x1b[2J 7 S{' 1' * 20}\n", None),
        (f"process 1 boot 5 {'x' * 290} 7 S{' 1' * 20}\n", None),
        (f"process 1 boot - - 7 S{' 1' * 20}\n", None),
    ],
)
async def test_the_host_of_an_attempt_is_that_of_its_start_file(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, start: str, host: str | None
) -> None:
    later = stage.wrapper._later

    def write(done: Any, path: str, text: str) -> None:
        later(done, path, start if text.startswith("process ") else text)

    monkeypatch.setattr(stage.wrapper, "_later", write)
    await stage.until(lambda: stage.lifecycle.is_terminal)
    with stage.store.autocommit_scope.read() as session:
        record = session.run(stage.keys[0])
        (attempt,) = attempts_of(record, session.tables.provenance)
    assert (attempt.host, attempt.outcome) == (host, record.lifecycle)
    assert attempt.motoko_version is not None


async def test_an_unconfirmed_submission_is_found_by_its_token(stage: Stage) -> None:
    stage.planned["sbatch"].append(FailureMode.HANGS)
    stage.planned["squeue"].extend([FailureMode.LISTS_NOTHING] * 12)
    stage.pace = (0.5,)
    stage.cluster.slots = 0
    for _ in range(12):
        await stage.step()
    stage.cluster.slots = 30

    await stage.until(lambda: stage.lifecycle.is_terminal)

    assert stage.lifecycle is Lifecycle.FINISHED
    assert stage.commands.calls["sbatch"] == 1


async def test_a_submission_that_arrives_too_late_is_cancelled(stage: Stage) -> None:
    stage.cluster.slots = 0
    stage.commands.delay = 100.0
    stage.planned["sbatch"].append(FailureMode.SUBMITTED_LATE)
    await stage.until(lambda: len(stage.cluster.jobs) == 2)

    await stage.until(
        lambda: [job.tasks[0].has_ended for job in stage.cluster.jobs] == [False, True]
    )
    stage.cluster.slots = 30
    await stage.until(lambda: stage.lifecycle.is_terminal)

    assert stage.lifecycle is Lifecycle.FINISHED
    assert len(stage.wrapper.executions) == 1


async def test_an_orphan_job_is_reported_once_until_it_ends(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.cluster.slots = 0
    stage.commands.delay = 100.0
    stage.planned["sbatch"].append(FailureMode.SUBMITTED_LATE)
    stage.planned["scancel"].extend([FailureMode.HANGS_IGNORED] * 3)
    logging.disable(logging.NOTSET)
    await stage.until(lambda: len(stage.cluster.jobs) == 2)

    await stage.until(
        lambda: [job.tasks[0].has_ended for job in stage.cluster.jobs] == [False, True]
    )
    stage.cluster.slots = 30
    await stage.until(lambda: stage.lifecycle.is_terminal)

    assert stage.commands.calls["scancel"] > 3
    assert caplog.text.count("no attempt needs its job") == 1


async def test_a_job_that_ended_before_it_was_found_is_lost(
    stage: Stage,
) -> None:
    stage.planned["sbatch"].append(FailureMode.HANGS)
    stage.planned["squeue"].extend([FailureMode.LISTS_NOTHING] * 3)
    stage.lasts, stage.status = 0.0, None
    await stage.until(lambda: bool(stage.wrapper.executions))
    for task in stage.cluster.tasks():
        stage.hit(task, "drop")

    await stage.until(lambda: stage.lifecycle.is_terminal)

    assert stage.lifecycle is Lifecycle.LOST


async def test_a_reported_end_is_kept(stage: Stage) -> None:
    stage.lasts, stage.status = 0.0, None
    await stage.until(lambda: any(task.has_ended for task in stage.cluster.tasks()))
    await stage.step()
    stage.cluster.retention = 0.0

    await stage.until(lambda: stage.lifecycle.is_terminal)

    assert stage.lifecycle is Lifecycle.FAILED
    assert "JobLaunchFailure" in (stage.record(stage.keys[0]).reason or "")


async def test_a_requeued_job_cancelled_by_a_killed_launcher_is_retried(
    stage: Stage,
) -> None:
    await stage.until(lambda: stage.lifecycle is Lifecycle.START)
    stage.lasts = 0.0
    stage.hit(stage.task, "requeue, hold")
    first = stage.cluster.jobs[0].tasks[0]
    poll = stage.executor(stage.launcher).poll_once  # type: ignore[arg-type]
    await poll()
    await poll()
    stage.to_kill = "launcher.before_commit"

    await stage.until(lambda: stage.lifecycle.is_terminal)

    assert first.state == "CANCELLED"
    assert (1, "CREATED") in stage.states()
    assert stage.lifecycle is Lifecycle.FINISHED


async def test_a_launcher_killed_during_a_reclaim_leaves_it_to_the_next(
    stage: Stage,
) -> None:
    stage.to_kill = "launcher.submission_written"
    stage.cluster.slots = 0
    await stage.until(lambda: stage.launcher is None)
    for path in stage.directory.glob(".wf/slurm/*/tasks/*"):
        path.unlink()  # as if the launcher had been killed a moment earlier
    stage.to_kill = "launcher.reclaimed"
    await stage.until(lambda: stage.to_kill is None)
    stage.cluster.slots = 30

    await stage.until(lambda: stage.lifecycle.is_terminal)

    assert stage.lifecycle is Lifecycle.FINISHED


@pytest.mark.parametrize("gone", ["outbox", "directory", "workflow's note of it"])
async def test_files_removed_during_execution_cause_no_second_execution(
    stage: Stage, gone: str
) -> None:
    await stage.until(lambda: stage.lifecycle is Lifecycle.START)
    assert stage.launcher is not None
    await stage._discard_launcher(stage.launcher)
    run = stage.store.run_directory(STUDY, stage.keys[0].id)
    if gone == "directory":
        shutil.rmtree(run)
        stage.truths[stage.keys[0].id, 1].results_gone = True
    else:
        paths = {"outbox": run.glob(".motoko-*")}
        stage.truths[stage.keys[0].id, 1].results_gone = gone == "outbox"
        found = paths.get(gone, stage.directory.glob(".wf/slurm/*/[oj]*"))
        for path in found:
            path.unlink()

    await stage.until(lambda: stage.lifecycle.is_terminal)

    assert len(stage.wrapper.executions) == 1
    assert [attempt for attempt, state in stage.states() if state == "START"] == [1]
    expected = Lifecycle.FINISHED if "note" in gone else Lifecycle.FAILED
    assert stage.lifecycle is expected


async def test_a_cancelled_attempt_of_an_unconfirmed_submission_ends_at_once(
    stage: Stage,
) -> None:
    stage.planned["sbatch"].append(FailureMode.HANGS)
    stage.planned["squeue"].extend([FailureMode.LISTS_NOTHING] * 12)
    stage.pace = (0.5,)
    stage.cluster.slots = 0
    for _ in range(4):
        await stage.step()
    assert stage.launcher is not None
    executor = stage.executor(stage.launcher)
    (active,) = executor.pool.attempts()
    executor.cancel(active, Lifecycle.CANCELLED)
    stage.truths[active.key.id, 1].asked_to_end = True

    await stage.until(lambda: stage.lifecycle.is_terminal, steps=3)

    assert stage.lifecycle is Lifecycle.CANCELLED
    await stage.until(lambda: all(task.has_ended for task in stage.cluster.tasks()))


async def test_an_attempt_cancelled_during_its_preparation_is_not_submitted(stage: Stage) -> None:
    await stage.open()
    assert stage.launcher is not None
    executor = stage.executor(stage.launcher)
    await stage.launcher._sync_once()
    (active,) = executor.pool.attempts()
    prepare = executor._submitter.prepare

    async def prepare_slowly(*given: object) -> object:
        groups = await prepare(*given)  # type: ignore[arg-type]
        executor.cancel(active, Lifecycle.CANCELLED)
        return groups

    executor._submitter.prepare = prepare_slowly  # type: ignore[method-assign, assignment]
    stage.truths[active.key.id, 1].asked_to_end = True
    await executor.submit_fitting()
    await stage.launcher._sync_once()

    assert stage.lifecycle is Lifecycle.CANCELLED
    assert stage.commands.calls["sbatch"] == 0


async def test_a_replaced_launcher_leaves_later_attempts_alone(stage: Stage) -> None:
    await stage.until(lambda: stage.lifecycle is Lifecycle.START)
    stage.hit(stage.task, "machine")
    await stage.until(lambda: (2, "START") in stage.states())
    record = stage.record(stage.keys[0])
    place = stage.paths(record)
    former = replace(place, number=1, token="0123456789abcdef")

    assert block_start(former)
    assert not block_start(place)
    await stage.until(lambda: stage.lifecycle.is_terminal)


@pytest.mark.parametrize("when", ["claimed", "prepared", "written"])
async def test_a_replaced_launcher_submits_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    await stage.open()
    old = stage.launcher
    assert old is not None
    executor = stage.executor(old)
    await old._sync_once()

    async def replaced() -> None:
        stage.time.seconds += LEASE + 1
        await stage.open()
        # A later attempt's script may have removed its directory, including all evidence.
        for path in stage.store.runs_root(STUDY).iterdir():
            shutil.rmtree(path)

    async def prepare(*given: Any) -> Any:
        groups = await prepare_now(*given)
        await replaced()
        return groups

    async def write(*given: Any) -> Any:
        batch = await write_now(*given)
        await replaced()
        return batch

    submission = executor._submitter
    prepare_now, write_now = submission.prepare, submission.write
    with monkeypatch.context() as patch:
        match when:
            case "claimed":
                await replaced()
            case "prepared":
                patch.setattr(submission, "prepare", prepare)
            case _:
                patch.setattr(submission, "write", write)
        with pytest.raises(Fenced):
            await executor.submit_fitting()
    assert stage.commands.calls["sbatch"] == 0
    stage.asleep.append(old)
    await stage.until(lambda: stage.lifecycle.is_terminal)
    assert stage.lifecycle is Lifecycle.FINISHED
    assert len(stage.wrapper.executions) == 1


async def test_the_executor_waits_for_late_files(stage: Stage) -> None:
    await stage.until(lambda: stage.task.state == RUNNING)
    done = stage.wrapper.executions[0]
    done.late = LAG - 10.0

    await stage.until(lambda: stage.lifecycle.is_terminal)

    assert stage.lifecycle is Lifecycle.FINISHED


async def test_an_ended_attempt_leaves_no_records(stage: Stage) -> None:
    await stage.until(lambda: stage.lifecycle.is_terminal)
    await stage.step()
    assert stage.launcher is not None
    executor = stage.executor(stage.launcher)
    assert (executor._submissions, executor._tasks) == ({}, {})


async def test_a_stop_reason_of_another_launcher_is_used(stage: Stage) -> None:
    await stage.until(lambda: stage.lifecycle is Lifecycle.START)
    place = stage.paths(stage.record(stage.keys[0]))
    attempt_files.write_stop_reason(place, Lifecycle.CREATED)
    stage.cluster.cancel(stage.task.job.id)

    await stage.until(lambda: stage.lifecycle.is_terminal)

    assert (1, "CREATED") in stage.states()
    assert stage.lifecycle is Lifecycle.FINISHED


async def test_an_unconfirmed_cancellation_is_repeated(stage: Stage) -> None:
    stage.lasts = 1e6
    await stage.until(lambda: stage.lifecycle is Lifecycle.START)
    stage.planned["scancel"].extend([FailureMode.UNREACHABLE, FailureMode.HANGS_IGNORED])
    stage.truths[stage.keys[0].id, 1].asked_to_end = True
    cancel = EditRun(stage.keys[0], Cancel(stage.time.now(), "cancelled"), blind=True)
    stage.store.autocommit_scope.write(cancel)

    await stage.until(lambda: stage.lifecycle.is_terminal)

    assert stage.lifecycle is Lifecycle.CANCELLED
    assert stage.commands.calls["scancel"] == 3


def test_a_reused_job_id_of_another_submission_is_ignored() -> None:
    running = job_status("RUNNING")
    snapshot = QueueSnapshot(0.0, {("7", None): running}, {"later": frozenset({"7"})})

    assert snapshot.status_of("later", ("7", None)) == running
    assert snapshot.status_of("former", ("7", None)) is NOT_SEEN


async def test_the_directory_of_a_later_unknown_attempt_is_moved_aside(stage: Stage) -> None:
    """The database may be a restored backup."""
    record = stage.record(stage.keys[0])
    later = replace(stage.paths(record), token="old", number=2)
    create_run_directory(later, b"{}\n", [])

    await stage.until(lambda: stage.lifecycle.is_terminal)

    assert stage.lifecycle is Lifecycle.FINISHED
    assert stage.record(record.key).attempt == 3
    assert read_marker(f"{later.run_directory}.attempt-2") == (2, later.stamp)
    assert len(stage.wrapper.executions) == 1


@pytest.mark.parametrize(
    ("comment", "known"), [("motoko:mark:token", True), ("", True), ("motoko:mark:x", False)]
)
async def test_a_lookup_ignores_another_job_with_the_same_id(comment: str, known: bool) -> None:
    class Answers:
        async def run(self, argv: Sequence[str], **_: object) -> CommandResult:
            shown = (
                "JobId=1 JobName=n UserId=u(1) Account=a QOS=q JobState=FAILED Reason=None "
                f"Dependency=(null) Restarts=0 ExitCode=3:0 NodeList=n1 Comment={comment} Power= "
            )
            printed = {"scontrol": shown, "sacct": "1|FAILED|3:0|None|0\n"}
            return CommandResult(0, "" if argv[1:] == ("show", "config") else printed[argv[0]])

    client = QueueClient(SlurmScheduler(), Answers(), "mark", SYSTEM.clock)
    found, answered = await client.lookup({"1": "token"})
    assert answered == {"1"}
    assert found == ({("1", None): job_status("FAILED", "", 3)} if known else {})
