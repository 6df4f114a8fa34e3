"""Workflows on the fake scheduler, including rare behaviour of Slurm."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from motoko.core.edits import Cancel
from motoko.core.states import Lifecycle
from motoko.testing.fake_scheduler import FailureMode, FakeScheduler
from motoko.workflow import Workflow
from tests.support.command_line import Shell
from tests.support.launching import WorkflowHarness, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from motoko.testing.fake_scheduler import FakeTask

pytestmark = pytest.mark.integration

EXAMPLES = Path(__file__).parents[2] / "examples"
QUEUE = ("squeue", "--me", "--noheader", "--states=all", "--format=%F|%K|%T|%r|%k|%j")


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeScheduler]:
    with FakeScheduler(max_array_size=1000) as fake:
        monkeypatch.setenv("PATH", fake.path)
        yield fake


@pytest.fixture
def make(slurm: FakeScheduler, tmp_path: Path) -> Iterator[Callable[..., WorkflowHarness]]:
    places: list[WorkflowHarness] = []

    def maker(script: str, **options: Any) -> WorkflowHarness:
        given = {"generator": "slurm", "queue_poll": "0.5s", **options}
        place = WorkflowHarness.make(
            tmp_path / f"wf{len(places)}", {"study": script}, options=given
        )
        places.append(place)
        return place

    yield maker
    for place in places:
        place.close()
    left = [task for task in slurm.cluster.tasks() if not task.has_ended]
    assert not left


def jobs(count: int) -> list[dict[str, Any]]:
    return [{"x": number} for number in range(count)]


def running(slurm: FakeScheduler) -> list[FakeTask]:
    with slurm.lock:
        return [task for task in slurm.cluster.tasks() if task.is_running]


def test_the_scheduler_commands_print_their_output(slurm: FakeScheduler, tmp_path: Path) -> None:
    script = tmp_path / "script.sh"
    script.write_text("#!/bin/sh\npwd\nexit $SLURM_ARRAY_TASK_ID\n")
    output = tmp_path / "output"
    submitted = _ran("sbatch", "--parsable", "--array=0-1", f"--output={output}",
                     f"--chdir={tmp_path}", "--comment=a b", str(script))  # fmt: skip
    assert (submitted.returncode, submitted.stdout) == (0, "1\n")

    wait_until(lambda: not _ran(*QUEUE).stdout.count("RUNNING"))

    lines = sorted(_ran(*QUEUE).stdout.splitlines())
    assert lines == ["1|0|COMPLETED|None|a b|script.sh",
                     "1|1|FAILED|NonZeroExitCode|a b|script.sh"]  # fmt: skip
    assert output.read_text() == f"{tmp_path}\n" * 2
    refused = _ran("scancel", "nonsense")
    assert (refused.returncode, refused.stderr) == (
        1,
        "scancel: error: Invalid job id nonsense\n",
    )


def _ran(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)


def test_the_example_runs_with_one_additional_line(slurm: FakeScheduler, tmp_path: Path) -> None:
    directory = tmp_path / "a directory with spaces" / "arithmetic"
    shutil.copytree(EXAMPLES / "arithmetic", directory)
    with (directory / "motoko.yaml").open("a") as file:
        file.write("\ngenerator: slurm\n")
    command = Shell(directory)
    try:
        printed = command.ok("run", "--run_name", "one")
        workflow = Workflow(directory / "motoko.yaml", read_only=True)
        workflow.run_name = "one"
        names = ("mult", "add", "norm")
        ends = [run.state for name in names for run, _ in workflow.task_manager(name).select()]
        workflow.close()
    finally:
        command.close()
    assert "50.3270772" in printed
    assert set(ends) <= {"FINISHED", "FORWARDED"}
    assert len(slurm.processes.started) == len(ends) == 8


@pytest.mark.parametrize(
    "failure",
    [
        FailureMode.PRINTS_NOTHING,
        FailureMode.TIMED_OUT,
        FailureMode.TRUNCATED,
        FailureMode.DUPLICATES,
    ],
)
def test_a_missing_answer_of_sbatch_does_not_repeat_a_submission(
    slurm: FakeScheduler, make: Callable[..., WorkflowHarness], failure: FailureMode
) -> None:
    slurm.commands.plan("sbatch", failure)
    place = make("echo once >> ../../../seen; sleep 0.2")
    keys = place.create(jobs(3))
    place.start()

    records = place.wait(keys)

    assert {record.lifecycle for record in records} == {Lifecycle.FINISHED}
    if failure is not FailureMode.DUPLICATES:  # both jobs may execute
        assert slurm.commands.calls["sbatch"] == 1
        assert (place.directory / "seen").read_text() == "once\n" * 3


def test_an_unresponsive_queue_changes_nothing(
    slurm: FakeScheduler, make: Callable[..., WorkflowHarness]
) -> None:
    place = make("exit 3")
    keys = place.create(jobs(2))
    failures = [
        FailureMode.UNREACHABLE,
        FailureMode.FAILS_SILENTLY,
        FailureMode.TRUNCATED,
        FailureMode.UNKNOWN_STATES,
        FailureMode.TIMED_OUT,
    ]
    slurm.commands.plan("squeue", *failures)
    place.start()

    records = place.wait(keys)

    assert [(r.lifecycle, r.exit_code) for r in records] == [(Lifecycle.FAILED, 3)] * 2
    assert slurm.commands.calls["squeue"] > len(failures)


def test_a_refused_run_fails_with_the_error(
    slurm: FakeScheduler, make: Callable[..., WorkflowHarness]
) -> None:
    slurm.commands.plan("sbatch", FailureMode.REFUSED_BUT_LISTED)
    place = make("true")
    key = place.run()
    place.start()

    (record,) = place.wait([key])

    assert record.lifecycle is Lifecycle.FAILED
    assert "Requested node configuration is not available" in (record.reason or "")
    assert slurm.processes.started == []


def test_motokos_own_refusals_do_not_name_sbatch(
    slurm: FakeScheduler, make: Callable[..., WorkflowHarness]
) -> None:
    place = make("true")  # of runs created by versions that did not check options
    keys = [place.run(slurm_options=[option]) for option in ("array=1-3", "partitoin=debug")]
    place.start()

    records = place.wait(keys)

    reasons = [record.reason or "" for record in records]
    assert [record.lifecycle for record in records] == [Lifecycle.FAILED] * 2
    assert "'array=1-3' cannot be given: Motoko makes the arrays" in reasons[0]
    assert "sbatch has no option 'partitoin'. Did you mean 'partition'?" in reasons[1]
    assert not [reason for reason in reasons if "refused" in reason]
    assert slurm.commands.calls["sbatch"] == 0


def test_a_preempted_run_is_retried_and_a_cancelled_one_is_not(
    slurm: FakeScheduler, make: Callable[..., WorkflowHarness]
) -> None:
    place = make('[ "$MOTOKO_JOB_x" = 1 ] || [ -d ../run-$MOTOKO_RUN_ID.attempt-1 ] || sleep 60')
    preempted, cancelled = place.create([{"x": 0}, {"x": 2}])
    place.start()
    wait_until(lambda: len(running(slurm)) == 2)
    for key in (preempted, cancelled):
        place.wait_for(key, "START")
    with slurm.lock:
        first, second = sorted(slurm.cluster.tasks(), key=lambda task: task.index or 0)
        slurm.cluster.finish(first, "PREEMPTED", signal=15)
        slurm.cluster.cancel(f"{second.job.id}_{second.index}")

    again, ended = place.wait([preempted, cancelled])

    assert (again.lifecycle, again.attempt, again.tries) == (Lifecycle.FINISHED, 2, 1)
    assert ended.lifecycle is Lifecycle.CANCELLED
    assert "cancelled outside Motoko" in (ended.reason or "")


def test_a_cancelled_run_leaves_the_queue(
    slurm: FakeScheduler, make: Callable[..., WorkflowHarness]
) -> None:
    slurm.cluster.slots = 0
    place = make("true")
    key = place.run()
    place.start()
    wait_until(lambda: any(True for _ in slurm.cluster.tasks()))

    place.edit(key, Cancel(time.time(), "user"))

    assert place.wait_for(key, "CANCELLED").reason == "cancelled by user"
    assert all(task.has_ended for task in slurm.cluster.tasks())
