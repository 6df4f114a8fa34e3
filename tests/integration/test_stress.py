"""Concurrent processes change the same variables and runs without losing updates."""

from __future__ import annotations

import asyncio
import shutil
import time
from typing import TYPE_CHECKING

import pytest

from motoko.operations.usage import running_orchestrators
from motoko.storage.database import Database
from motoko.storage.schema import create_tables
from motoko.storage.session import run_transaction
from motoko.workflow import Workflow, event
from tests.support import counting_workflow
from tests.support.command_line import PATIENCE, Shell, finish, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

NAMES = ("w-0", "w-1", "w-2", "w-3")
TIMES = 15
CONFIG = """\
task_managers: {left: , right: }
orchestrator: steps.main
poll_interval: 0.05
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A workflow of two studies with one run each and all counters at zero."""
    made = Shell(tmp_path / "w")
    for study in ("left", "right"):
        made.write({f"{study}/bd.yaml": "job: {x: int}\n", f"{study}/launch.sh": "true\n"})
    made.write({"motoko.yaml": CONFIG})
    shutil.copy(counting_workflow.__file__, made.directory / "steps.py")
    yield made
    made.close()


@pytest.fixture
def workflow(shell: Shell) -> Iterator[Workflow]:
    workflow = Workflow(shell.directory)
    workflow.create()
    workflow.run_name = "shared"
    workflow.vars.total = 0
    workflow.vars.nested = {"by": {name: [0] for name in NAMES}}
    for study in (workflow.left, workflow.right):
        ((run, _),) = study.create_task(x=1)
        run.total, run.nested = 0, {"log": []}
    yield workflow
    workflow.close()


def read_counters(workflow: Workflow) -> dict[str, int]:
    """Return all counters in one snapshot, as another process reads them."""
    with workflow.transaction():
        left, right = workflow.left.base.runs[1], workflow.right.base.runs[1]
        return {
            "vars": workflow.vars.total,
            "nested": sum(number for (number,) in workflow.vars.nested["by"].values()),
            "left": left.total,
            "right": right.total,
            "log": len(right.nested["log"]),
        }


def done_firings(workflow: Workflow) -> int:
    with workflow.store.autocommit_scope.read() as session:
        return sum(stored["status"] == "done" for _, stored in session.tables.firings())


def test_four_processes_count_and_a_fifth_reads(shell: Shell, workflow: Workflow) -> None:
    processes = [
        shell.start("orchestrator", "start", "-n", name, "--times", str(TIMES)) for name in NAMES
    ]
    wait_until(lambda: len(running_orchestrators(workflow.store)) == 4, "four orchestrators")
    workflow.vars.go = True
    seen: list[dict[str, int]] = []
    deadline = time.monotonic() + PATIENCE
    while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
        seen.append(read_counters(workflow))
        time.sleep(0.002)
    half = [snapshot for snapshot in seen if len(set(snapshot.values())) > 1]
    assert not half
    for process in processes:
        ended = finish(process)
        assert ended.returncode == 0, ended.stderr
    assert len({snapshot["vars"] for snapshot in seen}) > TIMES  # it read during the execution
    total = len(NAMES) * TIMES
    assert set(read_counters(workflow).values()) == {total}
    assert done_firings(workflow) == total
    log = workflow.right.base.runs[1].nested["log"]
    assert sorted(log) == sorted(f"{n} {k}" for n in NAMES for k in range(1, TIMES + 1))
    calls = (shell.directory / "calls").stat().st_size
    assert calls > total  # without conflicts the test would prove nothing


def test_a_slow_action_succeeds_among_quick_ones(shell: Shell) -> None:
    """Other actions change its inputs before it ends."""
    shell.directory.joinpath(".wf").mkdir()
    database = Database.in_memory()
    run_transaction(
        database, lambda root: create_tables(root, ["left", "right"]), initialising=True
    )
    workflow = Workflow(shell.directory, database=database)
    workflow.run_name = "a"
    workflow.vars.total = 0
    calls = {"slow": 0, "quick": 0}

    @event
    async def slow(workflow: Workflow) -> None:
        calls["slow"] += 1
        total = workflow.vars.total
        await asyncio.sleep(1.0 if calls["slow"] == 1 else 0.05)
        workflow.vars.total = total + 1
        workflow.finished = True

    @event
    async def quick(workflow: Workflow) -> None:
        calls["quick"] += 1
        workflow.vars.total += 1

    async def main(workflow: Workflow) -> None:
        def always(workflow: Workflow, task_manager: object) -> bool:
            return True

        workflow.add_action("slow", "left", always, f=slow)
        for number in range(2):  # each process is triggered by commits of the other
            workflow.add_action(f"quick-{number}", "left", always, f=quick)

    workflow.orchestrator_function = main
    try:
        workflow.execute()
    finally:
        workflow.close()
        database.close()
    assert calls["quick"] > 5 * calls["slow"] > 5  # there were conflicts
