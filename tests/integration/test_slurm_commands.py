"""Scheduler commands as processes: output, time limits, environment, remaining processes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from motoko.core.run_options import RunOptions
from motoko.errors import LauncherError
from motoko.launcher.executors.batch.queue_client import QueueClient, SubmitResult
from motoko.launcher.executors.batch.submission_files import Submission
from motoko.launcher.schedulers.base import SubmitFailure
from motoko.launcher.schedulers.slurm.scheduler import SlurmScheduler
from motoko.launcher.schedulers.slurm.submit import environment
from motoko.runtime.commands import SystemCommandRunner
from motoko.runtime.ports import COMMAND_SECONDS, SYSTEM, CommandResult

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

pytestmark = pytest.mark.integration


class Programs:
    """A directory of small programs that is first on PATH."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.environment = {"PATH": f"{place}:{os.environ['PATH']}"}
        self.runner = SystemCommandRunner()

    def add(self, name: str, body: str) -> None:
        path = self.place / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    async def run(self, argv: Sequence[str], seconds: float = COMMAND_SECONDS) -> CommandResult:
        return await self.runner.run(argv, environment=self.environment, seconds=seconds)

    @property
    def client(self) -> QueueClient:
        return QueueClient(SlurmScheduler(), self.runner, "mark", SYSTEM.clock, self.environment)

    async def submit(self) -> SubmitResult:
        return await self.client.submit(Submission("token", self.place, 1), RunOptions(), "name")


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path)


async def test_the_output_of_a_command(programs: Programs) -> None:
    programs.add("squeue", 'printf "%s\\n" "$@"; echo "caf\\303\\251" >&2')

    result = await programs.run(["squeue", "a b", "*"])

    assert result == CommandResult(0, "a b\n*\n", "café\n")
    assert result.succeeded


async def test_a_query_that_fails_reports_nothing(
    programs: Programs, caplog: pytest.LogCaptureFixture
) -> None:
    programs.add("squeue", "echo 1; echo 'slurm_load_jobs error: Invalid job id' >&2; exit 1")

    result = await programs.run(["squeue"])

    assert (result.status, result.stdout, result.succeeded) == (1, "1\n", False)
    assert await programs.client.poll() is None
    assert "squeue: slurm_load_jobs error: Invalid job id" in caplog.text


async def test_a_refused_request_counts_as_answered(programs: Programs) -> None:
    programs.add("sbatch", "echo 'sbatch: error: invalid partition specified: x' >&2; exit 1")

    result = await programs.submit()

    assert result == SubmitResult(
        failure=SubmitFailure.REFUSED, error="invalid partition specified: x"
    )


@pytest.mark.parametrize(
    "body",
    ["echo 'sbatch: error: Unable to contact slurm controller' >&2; exit 1", "exit 1",
     "echo refused >&2; kill -9 $$"],
)  # fmt: skip
async def test_a_failed_request_may_have_been_accepted(programs: Programs, body: str) -> None:
    programs.add("sbatch", body)

    result = await programs.submit()

    assert result.failure is SubmitFailure.UNCONFIRMED
    assert result.error.startswith("sbatch: ")


async def test_a_hanging_command_is_killed_with_its_children(programs: Programs) -> None:
    pid_file = programs.place / "pid"
    programs.add("squeue", f"trap '' TERM; echo started; sleep 600 & echo $! > {pid_file}; wait")

    result = await programs.run(["squeue"], seconds=3)

    assert result == CommandResult(None, "started\n", "", "squeue did not answer within 3 s")
    await _dies(int(pid_file.read_text()))


async def test_open_output_does_not_delay_the_result(programs: Programs) -> None:
    programs.add("sbatch", "setsid sleep 150 & echo 17; exit 0")

    with anyio.fail_after(120):
        result = await programs.run(["sbatch"])

    assert result.stdout == "17\n"


async def test_a_cancelled_command_leaves_no_process(programs: Programs) -> None:
    pid_file = programs.place / "pid"
    programs.add("squeue", f"echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; sleep 600")
    programs.runner = SystemCommandRunner(concurrent=1)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(programs.run, ["squeue"])
        await _until(pid_file.exists)
        tasks.cancel_scope.cancel()

    assert not _alive(int(pid_file.read_text()))
    programs.add("squeue", "echo free")
    with anyio.fail_after(120):
        assert (await programs.run(["squeue"])).stdout == "free\n"


async def test_the_number_of_concurrent_commands_is_limited(programs: Programs) -> None:
    # Each command records how many are running.
    programs.add(
        "squeue", f"cd {programs.place}; : > on.$$; ls | grep -c '^on'; sleep 0.2; rm on.$$"
    )
    programs.runner = SystemCommandRunner(concurrent=2)

    results = await asyncio.gather(*(programs.run(["squeue"]) for _ in range(6)))

    assert max(int(result.stdout) for result in results) <= 2


async def test_missing_programs(programs: Programs) -> None:
    programs.environment = {"PATH": str(programs.place)}

    result = await programs.run(["squeue"])
    assert result.problem == "squeue cannot be run: No such file or directory"
    with pytest.raises(LauncherError, match="sbatch cannot be run: No such file") as caught:
        await programs.submit()
    assert "generator: bash" in str(caught.value)


async def test_a_removed_directory_is_not_reported_as_a_missing_program(programs: Programs) -> None:
    programs.add("sbatch", "pwd")
    variables = programs.environment
    gone = str(programs.place / "gone")

    result = await programs.runner.run(["sbatch"], environment=variables, directory=gone)
    assert result.problem is not None
    assert gone in result.problem
    assert not result.not_found
    here = str(programs.place)
    result = await programs.runner.run(["sbatch"], environment=variables, directory=here)
    assert result.stdout == f"{programs.place}\n"


async def test_too_many_arguments(programs: Programs) -> None:
    programs.add("scancel", "true")

    result = await programs.run(["scancel", "x" * 3_000_000])

    assert result.problem == "scancel cannot be run: Argument list too long"


async def test_queries_run_in_a_neutral_environment(programs: Programs) -> None:
    given = {"LC_ALL": "fr_FR.UTF-8", "SQUEUE_FORMAT": "%i", "SLURM_CONF": "/c", "HOME": "/h"}
    programs.environment |= given
    for program in ("squeue", "sbatch"):
        programs.add(program, f"env >{programs.place}/{program}.out; echo 1")
    await programs.client.poll()
    assert (await programs.submit()).job == "1"

    query, submission = (
        dict(line.split("=", 1) for line in (programs.place / name).read_text().splitlines())
        for name in ("squeue.out", "sbatch.out")
    )

    assert (query["LC_ALL"], query["SLURM_BITSTR_LEN"], query["HOME"]) == ("C", "0", "/h")
    assert query["SLURM_CONF"] == "/c"
    assert "SQUEUE_FORMAT" not in query
    # Jobs inherit the environment of sbatch.
    assert submission["LC_ALL"] == "fr_FR.UTF-8"
    assert "SLURM_BITSTR_LEN" not in submission


def test_variables_that_would_change_a_command_are_removed() -> None:
    kept = {"SLURM_CONF": "c", "SBATCH_ACCOUNT": "a", "SLURMCTLD": "x", "PATH": "p", "S": "s"}
    removed = {
        "SLURM_JOB_ID": "1", "SLURM_CPUS_PER_TASK": "8", "SBATCH_ARRAY_INX": "0-9",
        "SQUEUE_STATES": "R", "SACCT_FORMAT": "x", "SCANCEL_VERBOSE": "1", "SBATCH_WAIT": "1",
        "SLURM_CLUSTERS": "other", "SBATCH_JOB_NAME": "j", "SRUN_DEBUG": "3",
    }  # fmt: skip
    assert environment(kept | removed, submitting=True) == kept


async def _until(holds: Callable[[], bool]) -> None:
    with anyio.fail_after(120):
        while True:
            if holds():
                return
            await anyio.sleep(0.02)


async def _dies(pid: int) -> None:
    await _until(lambda: not _alive(pid))


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
