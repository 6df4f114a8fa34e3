"""A plain script that awaits runs without a launcher warns and keeps waiting."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from motoko.errors import RunFailed
from motoko.graph import Graph
from motoko.launcher.control import start_launcher
from motoko.orchestrator import unserved_runs
from motoko.workflow import Workflow
from tests.support.command_line import PATIENCE, Shell, wait_until
from tests.support.run_nodes import directory_with_study

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.integration

WARNING = "runs of s are awaited, and no launcher serves them: start one with `motoko launcher`"


@pytest.fixture
def workflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workflow]:
    """A workflow without a launcher, opened as a script does."""
    monkeypatch.setattr(unserved_runs, "POLL_SECONDS", 0.1)
    shell = Shell(directory_with_study(tmp_path / "wf"))
    try:
        shell.ok("create")
        workflow = Workflow(shell.directory)
        workflow.run_name = "a"
        yield workflow
        workflow.close()
    finally:
        shell.close()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


async def until(true: Callable[[], object]) -> None:
    """Wait until the condition is true."""
    await asyncio.to_thread(wait_until, true, "what is waited for")


@pytest.fixture
def checked_studies(monkeypatch: pytest.MonkeyPatch) -> list[frozenset[str]]:
    """Return the checked studies, one entry per check."""
    found: list[frozenset[str]] = []
    poll = unserved_runs.UnservedRunMonitor._poll

    async def counted(
        self: unserved_runs.UnservedRunMonitor,
        before: frozenset[unserved_runs.Obstacle],
        studies: frozenset[str],
    ) -> frozenset[unserved_runs.Obstacle]:
        result = await poll(self, before, studies)
        found.append(studies)
        return result

    monkeypatch.setattr(unserved_runs.UnservedRunMonitor, "_poll", counted)
    return found


async def test_a_node_warns_once_and_completes_when_a_launcher_starts(
    workflow: Workflow, checked_studies: list[frozenset[str]], caplog: pytest.LogCaptureFixture
) -> None:
    # Like a plain script: a separate event loop in a thread.
    building = asyncio.create_task(asyncio.to_thread(Graph([workflow.s.node("one", x=3)]).run))
    await until(lambda: warnings(caplog))
    seen = len(checked_studies)
    await until(lambda: len(checked_studies) > seen + 3)
    assert warnings(caplog) == [WARNING]
    assert not building.done()
    await asyncio.to_thread(workflow.start_launcher_daemons)
    assert (await building).complete
    assert warnings(caplog) == [WARNING]


async def test_a_killed_launcher_is_reported_for_every_kind_of_await(
    workflow: Workflow, checked_studies: list[frozenset[str]], caplog: pytest.LogCaptureFixture
) -> None:
    launcher = await asyncio.to_thread(start_launcher, workflow.store.state)
    tasks = workflow.s.create_task(x=1000)
    ended = asyncio.ensure_future(tasks)
    await asyncio.wait_for(workflow.s.select("state = START"), PATIENCE)
    await until(lambda: len(checked_studies) > 3)
    assert warnings(caplog) == []
    waits = [ended, asyncio.ensure_future(workflow.s.select("state = FINISHED"))]
    os.kill(launcher.process.pid, signal.SIGKILL)
    await until(lambda: warnings(caplog))
    assert warnings(caplog) == [WARNING]
    # Its run is still running; the next launcher adopts it.
    (Path(workflow.directory) / "s" / "go").touch()
    await asyncio.to_thread(workflow.start_launcher_daemons)
    await asyncio.wait_for(asyncio.gather(*waits), PATIENCE)
    assert tasks.runs[0].state == "FINISHED"
    assert warnings(caplog) == [WARNING]


async def test_without_open_runs_no_missing_launcher_is_reported(
    workflow: Workflow, checked_studies: list[frozenset[str]], caplog: pytest.LogCaptureFixture
) -> None:
    waiting = asyncio.ensure_future(workflow.s.select("state = FINISHED"))
    await until(lambda: len(checked_studies) > 3)
    assert warnings(caplog) == []
    waiting.cancel()


async def test_a_failure_hints_at_a_retry(workflow: Workflow) -> None:
    await asyncio.to_thread(workflow.start_launcher_daemons)
    with pytest.raises(RunFailed, match=r"with run\.retry\(\), or with `motoko retry`"):
        await workflow.s.create_task(x=-1)
    report = await Graph([workflow.s.node("one", x=-1)]).build()
    with pytest.raises(RunFailed, match="Build 'one' again to retry them"):
        report.raise_failure()
