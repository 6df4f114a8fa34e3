"""The screens of ``motoko watch`` with Textual's pilot, on a workflow in memory."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from textual.widgets import Input

from motoko.core.states import Lifecycle
from motoko.errors import RunFailed
from motoko.testing.fake_launcher import failing
from motoko.tui.app import WatchApp
from motoko.tui.run_table import RunTable
from motoko.tui.signs import UNICODE
from motoko.views.live import LiveViews
from motoko.views.runs import ListedRuns, RunList
from tests.support.orchestrating import execute, memory_workflow
from tests.support.screens import shown, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

    from motoko.workflow import Workflow

pytestmark = pytest.mark.integration
SMALL, LARGE = (80, 24), (200, 50)


async def main(workflow: Workflow) -> None:
    await workflow.solve.create_task(x=[float(n) for n in range(1, 7)]).settled()


def solve(job: Mapping[str, Any]) -> Any:
    return failing("no [bold]convergence", 7) if job["x"] in (3.0, 5.0) else {"y": job["x"] ** 2}


@pytest.fixture
def workflow(tmp_path: Path) -> Iterator[Workflow]:
    """Six runs of ``solve``, of which 3 and 5 failed, and two of ``fit`` that wait."""
    with memory_workflow(tmp_path, ["solve", "fit"]) as found:
        with contextlib.suppress(RunFailed):
            execute(found, main, {"solve": solve})
        found.fit.create_task(x=[1.0, 2.0])
        yield found


@contextlib.asynccontextmanager
async def watching(
    workflow: Workflow, size: tuple[int, int] = SMALL, run_name: str = "a"
) -> AsyncIterator[tuple[WatchApp, Any]]:
    """The application in a terminal of this size."""
    views = LiveViews(lambda: workflow)
    app = WatchApp(views, lambda: contextlib.nullcontext(workflow), run_name, UNICODE)
    async with app.run_test(size=size) as pilot:
        yield app, pilot


def table(app: WatchApp) -> RunTable:
    return app.screen.query_one("#runs", RunTable)


async def find(app: WatchApp, pilot: Any, constraint: str) -> None:
    """Enter a filter."""
    await until(app, "8 shown")
    await pilot.press("slash")
    app.screen.query_one(Input).value = constraint
    await pilot.press("enter")


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "200x50"])
async def test_the_campaign_shows_studies_and_failures_with_their_command(
    workflow: Workflow, size: tuple[int, int]
) -> None:
    async with watching(workflow, size) as (app, pilot):
        text = await until(app, "2x solve", "$ motoko why solve.3,5")
        assert "6 of 8" in text
        assert "2 failed" in text
        assert "exit 7 no [bold]convergence" in text
        await pilot.press("enter")
        await until(app, "stderr of solve.", "$ motoko why solve.3,5")


async def test_every_screen_has_a_key_and_a_command(workflow: Workflow) -> None:
    async with watching(workflow) as (app, pilot):
        for key, command in (
            ("2", "$ motoko info --run_name a"),
            ("3", "$ motoko why --run_name a"),
            ("4", "$ motoko why solve.3,5"),
            ("question_mark", "$ motoko watch --help"),
        ):
            await pilot.press(key)
            await until(app, command, "q Quit")
        await pilot.press("escape")
        await until(app, "$ motoko why solve.3,5")
        await pilot.press("1")
        await until(app, "Needs you", "Events", "Just now")


async def test_a_study_opens_its_runs(workflow: Workflow) -> None:
    async with watching(workflow) as (app, pilot):
        await until(app, "2x solve")
        app.screen.query_one("#studies").focus()
        await until(app, "$ motoko info solve --run_name a")
        await pilot.press("down", "enter")
        await until(app, "fit.2", "2 shown", "$ motoko info fit --run_name a")


async def test_a_filter_shows_matching_runs_and_their_command(workflow: Workflow) -> None:
    async with watching(workflow) as (app, pilot):
        await pilot.press("2")
        await find(app, pilot, "y > 10")
        text = await until(app, "2 shown", "$ motoko info --where 'y > 10' --run_name a")
        assert "solve.4" in text
        assert "solve.2" not in text


async def test_an_invalid_filter_keeps_the_list_and_says_why(workflow: Workflow) -> None:
    async with watching(workflow) as (app, pilot):
        await pilot.press("2")
        await until(app, "8 shown", "solve.6")
        await find(app, pilot, "x >> 1")
        text = await until(app, "^", "column 4")
        assert "solve.6" in text
        await pilot.press("escape")
        await until(app, "$ motoko info --run_name a", gone="column 4")


async def test_sorting_by_a_column(workflow: Workflow) -> None:
    async with watching(workflow) as (app, pilot):
        await pilot.press("2")
        await until(app, "8 shown")
        await app.run_action("sort_by('x')", app.screen)
        await until(app, "x▲")
        assert [key.id for key in table(app).window()][:3] == [1, 1, 2]
        await pilot.press("S")
        await until(app, "x▼")
        assert str(table(app).current_key) == "solve.6"


async def test_new_matches_are_announced_and_not_inserted(workflow: Workflow) -> None:
    async with watching(workflow) as (app, pilot):
        await pilot.press("2")
        await until(app, "8 shown", "solve.6")
        await pilot.press("down")
        before = str(table(app).current_key)
        await asyncio.to_thread(workflow.solve.create_task, x=[70.0, 80.0])
        text = await until(app, "2 new: n shows them")
        assert "solve.8" not in text
        assert str(table(app).current_key) == before
        await pilot.press("n")
        await until(app, "solve.8", "10 shown", gone="new: n")
        assert str(table(app).current_key) == before


async def test_a_verb_shows_its_effect_and_is_in_the_history(workflow: Workflow) -> None:
    async with watching(workflow) as (app, pilot):
        await until(app, "2x solve")
        await pilot.press("r")
        await until(app, "2 runs would go back to CREATED", "$ motoko retry solve.3,5")
        await pilot.press("enter")
        await until(app, "retry: 2 runs to retry")
        [entry] = [run.history[-1] for run, _ in workflow.solve.select("runs.id = 3")]
        assert (entry.state, entry.cause) == (Lifecycle.CREATED, "motoko watch")


async def test_escape_performs_nothing(workflow: Workflow) -> None:
    async with watching(workflow) as (app, pilot):
        await until(app, "2x solve")
        await pilot.press("r")
        await until(app, "2 runs would go back to CREATED")
        await pilot.press("escape")
        await until(app, "2x solve")
        assert len(workflow.solve.select("state = FAILED")) == 2


async def test_cancelling_needs_another_key_than_enter(workflow: Workflow) -> None:
    async with watching(workflow) as (app, pilot):
        await pilot.press("2")
        await find(app, pilot, "state = CREATED")
        await until(app, "2 shown")
        await pilot.press("a", "c")
        await until(app, "2 runs would be cancelled", "y cancel")
        await pilot.press("enter")
        assert "2 runs would be cancelled" in shown(app)
        await pilot.press("y")
        await until(app, "cancel: 2 runs")
        assert len(workflow.fit.select("state = CANCELLED")) == 2


async def test_several_selected_runs_are_one_command(workflow: Workflow) -> None:
    async with watching(workflow) as (app, pilot):
        await pilot.press("2", "right", "right")
        await until(app, "2 shown", "$ motoko info fit --run_name a")
        await pilot.press("space", "space")
        await until(app, "2 selected")
        await pilot.press("h")
        await until(app, "$ motoko hold fit.1-2", "2 runs would be held")


async def test_a_run_shows_values_why_and_history(workflow: Workflow) -> None:
    async with watching(workflow, LARGE) as (app, pilot):
        await pilot.press("2")
        await find(app, pilot, "runs.id = 4")
        await until(app, "1 shown", "solve.4")
        await pilot.press("enter")
        text = await until(app, "$ motoko info solve.4", "Why", "History", "Parameters")
        assert "16" in text  # y
        await pilot.press("escape")
        await until(app, "1 shown")


async def test_a_workflow_without_runs_says_so(tmp_path: Path) -> None:
    with memory_workflow(tmp_path, ["solve"]) as workflow:
        async with watching(workflow, run_name="other") as (app, pilot):
            await until(app, "no runs yet", "no orchestrator")
            await pilot.press("2", "r")
            await until(app, "first select a run")
            await pilot.press("4")
            await until(app, "No run has failed.")


async def test_times_of_day_on_request(workflow: Workflow) -> None:
    async with watching(workflow) as (app, pilot):
        await until(app, " s ago")
        await pilot.press("t")
        await until(app, "2x solve", gone=" ago")


async def test_a_list_of_a_million_reads_only_what_is_visible(workflow: Workflow) -> None:
    async with watching(workflow) as (app, pilot):
        await pilot.press("2")
        await until(app, "8 shown", "solve.6")
        keys = ListedRuns(["solve"])
        keys.add("solve", range(1_000_000, 0, -1))
        found = table(app).found
        assert found is not None
        table(app).replace(RunList(found.query, keys, found.commit))
        await pilot.press("end")
        await until(app, "1,000,000 shown", "solve.1 ", "✓ FINISHED")
        assert len(table(app)._rows) < 100
        await pilot.press("home")
        await until(app, "solve.1000000", "...")
