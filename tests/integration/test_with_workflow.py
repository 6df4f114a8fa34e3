"""``with Workflow(...)``: what it creates, starts and stops."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

from motoko.errors import NoDatabaseError, StorageError
from motoko.launcher.control import running_launchers
from motoko.server.lifecycle import ensure_server, is_responding, stop_server
from motoko.workflow import Workflow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

MAIN = """
async def main(workflow):
    await workflow.solve.create_task(x=[1, 2])
"""
FILES = {
    "motoko.yaml": "task_managers: {solve: }\norchestrator: orchestrator.main\n",
    "solve/bd.yaml": "job: {x: float}\n",
    "solve/launch.sh": 'motoko-worker set y "$MOTOKO_JOB_X"\n',
    "orchestrator.py": MAIN,
}


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    yield tmp_path
    stop_server(Workflow(tmp_path).store.state)


def is_running(workflow: Workflow) -> tuple[bool, bool]:
    """Return whether a server and whether a launcher is running."""
    state = workflow.store.state
    return is_responding(state), bool(running_launchers(state))


async def test_a_notebook_starts_with_nothing_and_leaves_no_process(directory: Path) -> None:
    """In a notebook an event loop is running."""
    with Workflow(directory) as workflow:
        assert await asyncio.to_thread(is_running, workflow) == (True, False)
        workflow.run_name = "first"
        workflow.start_launcher_daemons()
        await workflow.execute_async()
        assert await asyncio.to_thread(is_running, workflow) == (True, True)
        assert [run.y for run in workflow.solve.select().runs] == [1.0, 2.0]
    assert await asyncio.to_thread(is_running, workflow) == (False, False)
    assert workflow.solve.select("y = 2").ids == [2]  # it can still be read
    assert await asyncio.to_thread(is_running, workflow) == (False, False)
    with pytest.raises(StorageError, match="read-only"):
        workflow.solve.create_task(x=3)
    async with workflow:
        assert await asyncio.to_thread(lambda: workflow.solve.create_task(x=3).ids) == [3]
    assert await asyncio.to_thread(is_running, workflow) == (False, False)


def test_nested_and_other_blocks_share_the_server(directory: Path) -> None:
    with Workflow(directory) as workflow:
        workflow.run_name = "a"
        with workflow:
            pass
        assert workflow.solve.create_task(x=1).ids == [1]
        with Workflow(directory) as other:
            other.run_name = "a"
            assert other.solve.create_task(x=2).ids == [2]
        assert workflow.solve.create_task(x=3).ids == [3]
        assert is_running(workflow)[0]
        with pytest.raises(ZeroDivisionError), Workflow(directory):
            1 / 0  # noqa: B018 - raises
        assert workflow.solve.select().ids == [1, 2, 3]
    assert is_running(workflow) == (False, False)


def test_a_server_that_was_running_stays(directory: Path) -> None:
    workflow = Workflow(directory)
    workflow.create()
    ensure_server(workflow.store.state)
    with pytest.raises(ZeroDivisionError), workflow:
        1 / 0  # noqa: B018 - raises
    assert is_running(workflow)[0]


def test_active_runs_are_reported_and_continue(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    go = directory / "go"
    (directory / "solve" / "launch.sh").write_text(f"until [ -e {go} ]; do sleep .05; done\n")
    try:
        with caplog.at_level(logging.WARNING), Workflow(directory) as workflow:
            workflow.run_name = "a"
            tasks = workflow.solve.create_task(x=1)
            workflow.start_launcher_daemons()
            while tasks.runs[0].lifecycle != "START":
                pass
        assert "1 run is still running; the next launcher adopts it" in caplog.text
        assert is_running(workflow) == (False, False)
        assert tasks.runs[0].lifecycle == "START"
        workflow.close()
    finally:
        go.touch()


def test_reading_starts_and_creates_nothing(directory: Path) -> None:
    with Workflow(directory, read_only=True) as workflow:
        assert "no database exists yet" in workflow._repr_html_()
        workflow.run_name = "a"
        with pytest.raises(NoDatabaseError):
            workflow.solve.select().ids  # noqa: B018 - queries
        assert "NoDatabase" not in workflow.solve.select()._repr_html_()
    assert not (directory / ".wf").exists()
