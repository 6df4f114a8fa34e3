"""The screens of ``motoko watch`` with Textual's pilot, on a workflow in memory."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from motoko.core.states import Lifecycle
from motoko.testing.fake_launcher import failing
from motoko.tui.app import WatchApp
from motoko.tui.run_table import RunTable
from motoko.tui.signs import UNICODE
from motoko.views.live import LiveViews
from tests.support.orchestrating import execute, memory_workflow
from tests.support.screens import shown, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from motoko.workflow import Workflow

pytestmark = pytest.mark.integration
SMALL, LARGE = (80, 24), (200, 50)


async def main(workflow: Workflow) -> None:
    workflow.solve.create_task(x=[float(n) for n in range(6)])
    workflow.fit.create_task(x=[1.0, 2.0])
    await workflow.solve.select().settled()


@pytest.fixture
def workflow(tmp_path: Path) -> Iterator[Workflow]:
    """Six runs of ``solve``, two of which failed, and two of ``fit``."""
    with memory_workflow(tmp_path, ["solve", "fit"]) as found:

        def solve(run: Any, job: Any) -> Any:
            del run
            return failing(7) if job.x in (2.0, 4.0) else {"y": job.x}

        with contextlib.suppress(Exception):
            execute(found, main, {"solve": solve, "fit": lambda *_: {}})
        yield found


@contextlib.asynccontextmanager
async def watching(
    workflow: Workflow, size: tuple[int, int]
) -> AsyncIterator[tuple[WatchApp, Any]]:
    views = LiveViews(lambda: workflow)
    app = WatchApp(views, lambda: contextlib.nullcontext(workflow), "a", UNICODE)
    async with app.run_test(size=size) as pilot:
        yield app, pilot


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "200x50"])
async def test_the_campaign_shows_studies_failures_and_their_command(
    workflow: Workflow, size: tuple[int, int]
) -> None:
    async with watching(workflow, size) as (app, pilot):
        text = await until(app, "2x solve", "motoko why solve.3,5")
        assert "8 of 8" in text
        assert "2 failed" in text
        await pilot.press("enter")
        await until(app, "stderr of solve.", "motoko why solve.3,5")
