"""Scheduler commands as processes: what they answer, hang, leave behind and are given."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from motoko.errors import LauncherError
from motoko.launcher.schedulers.slurm.commands import (
    CommandResult,
    CommandRunner,
    submission_environment,
)

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.integration


class Programs:
    """A directory of small programs that stand first on PATH."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.environment = {"PATH": f"{place}:{os.environ['PATH']}"}

    def add(self, name: str, body: str) -> None:
        path = self.place / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def scheduler(self, **options: int) -> CommandRunner:
        return CommandRunner(self.environment, **options)


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path)


async def test_what_a_command_answers(programs: Programs) -> None:
    programs.add("squeue", 'printf "%s\\n" "$@"; echo "caf\\303\\251" >&2')

    answer = await programs.scheduler().run(["squeue", "a b", "*"])

    assert answer == CommandResult(0, "a b\n*\n", "café\n")
    assert answer.good
    assert answer.error == ""


async def test_a_query_that_fails_has_said_nothing(programs: Programs) -> None:
    programs.add("squeue", "echo 1; echo 'slurm_load_jobs error: Invalid job id' >&2; exit 1")

    answer = await programs.scheduler().run(["squeue"])

    assert (answer.status, answer.stdout, answer.good) == (1, "1\n", False)
    assert answer.unknown == "squeue: slurm_load_jobs error: Invalid job id"


async def test_a_request_that_is_refused_was_answered(programs: Programs) -> None:
    programs.add("sbatch", "echo 'sbatch: error: invalid partition specified: x' >&2; exit 1")

    answer = await programs.scheduler().run(["sbatch"])

    assert (answer.status, answer.unknown, answer.good) == (1, None, False)
    assert answer.error == "invalid partition specified: x"


@pytest.mark.parametrize(
    "body",
    ["echo 'sbatch: error: Unable to contact slurm controller' >&2; exit 1", "exit 1",
     "echo refused >&2; kill -9 $$"],
)  # fmt: skip
async def test_a_request_whose_fate_nobody_knows(programs: Programs, body: str) -> None:
    programs.add("sbatch", body)

    answer = await programs.scheduler().run(["sbatch"])

    assert answer.unknown is not None
    assert answer.unknown.startswith("sbatch: ")


async def test_one_that_hangs_is_killed_with_what_it_started(programs: Programs) -> None:
    pid_file = programs.place / "pid"
    programs.add("squeue", f"trap '' TERM; echo started; sleep 600 & echo $! > {pid_file}; wait")

    answer = await programs.scheduler().run(["squeue"], seconds=3)

    assert answer == CommandResult(None, "started\n", "", "squeue gave no answer within 3 s")
    await _dies(int(pid_file.read_text()))


async def test_one_is_not_waited_for_that_keeps_the_output_open(programs: Programs) -> None:
    programs.add("sbatch", "setsid sleep 150 & echo 17; exit 0")

    with anyio.fail_after(120):
        answer = await programs.scheduler().run(["sbatch"])

    assert answer.stdout == "17\n"


async def test_a_cancelled_one_leaves_no_process(programs: Programs) -> None:
    pid_file = programs.place / "pid"
    programs.add("squeue", f"echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; sleep 600")
    scheduler = programs.scheduler(at_a_time=1)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scheduler.run, ["squeue"])
        await _until(pid_file.exists)
        tasks.cancel_scope.cancel()

    assert not _alive(int(pid_file.read_text()))
    programs.add("squeue", "echo free")
    with anyio.fail_after(120):
        assert (await scheduler.run(["squeue"])).stdout == "free\n"


async def test_only_so_many_at_a_time(programs: Programs) -> None:
    # Each notes how many of them there are.
    programs.add(
        "squeue", f"cd {programs.place}; : > on.$$; ls | grep -c '^on'; sleep 0.2; rm on.$$"
    )
    scheduler = programs.scheduler(at_a_time=2)

    answers = await asyncio.gather(*(scheduler.run(["squeue"]) for _ in range(6)))

    assert max(int(answer.stdout) for answer in answers) <= 2


async def test_missing_programs(programs: Programs) -> None:
    scheduler = CommandRunner({"PATH": str(programs.place)})

    answer = await scheduler.run(["squeue"])
    assert answer.unknown == "squeue cannot be run: No such file or directory"
    with pytest.raises(LauncherError, match="sbatch cannot be run: No such file") as caught:
        await scheduler.run(["sbatch", "x"])
    assert "generator: bash" in str(caught.value)


async def test_a_directory_that_is_gone_is_no_missing_program(programs: Programs) -> None:
    programs.add("sbatch", "pwd")
    scheduler = programs.scheduler()

    answer = await scheduler.run(["sbatch"], directory=str(programs.place / "gone"))
    assert answer.unknown is not None
    assert str(programs.place / "gone") in answer.unknown
    here = await scheduler.run(["sbatch"], directory=str(programs.place))
    assert here.stdout == f"{programs.place}\n"


async def test_arguments_that_are_too_many(programs: Programs) -> None:
    programs.add("scancel", "true")

    answer = await programs.scheduler().run(["scancel", "x" * 3_000_000])

    assert answer.unknown == "scancel cannot be run: Argument list too long"


async def test_queries_are_given_a_plain_environment(programs: Programs) -> None:
    given = {"LC_ALL": "fr_FR.UTF-8", "SQUEUE_FORMAT": "%i", "SLURM_CONF": "/c", "HOME": "/h"}
    for program in ("squeue", "sbatch"):
        programs.add(program, "env")
    scheduler = CommandRunner({**programs.environment, **given})

    query = dict(line.split("=", 1) for line in (await scheduler.run(["squeue"])).stdout.split())
    submission = dict(
        line.split("=", 1) for line in (await scheduler.run(["sbatch"])).stdout.split()
    )

    assert (query["LC_ALL"], query["SLURM_BITSTR_LEN"], query["HOME"]) == ("C", "0", "/h")
    assert query["SLURM_CONF"] == "/c"
    assert "SQUEUE_FORMAT" not in query
    # Jobs are given what sbatch is given.
    assert submission["LC_ALL"] == "fr_FR.UTF-8"
    assert "SLURM_BITSTR_LEN" not in submission


def test_variables_that_would_change_a_command_are_removed() -> None:
    kept = {"SLURM_CONF": "c", "SBATCH_ACCOUNT": "a", "SLURMCTLD": "x", "PATH": "p", "S": "s"}
    removed = {
        "SLURM_JOB_ID": "1", "SLURM_CPUS_PER_TASK": "8", "SBATCH_ARRAY_INX": "0-9",
        "SQUEUE_STATES": "R", "SACCT_FORMAT": "x", "SCANCEL_VERBOSE": "1", "SBATCH_WAIT": "1",
        "SLURM_CLUSTERS": "other", "SBATCH_JOB_NAME": "j", "SRUN_DEBUG": "3",
    }  # fmt: skip
    assert submission_environment(kept | removed) == kept


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
