"""The reports of an orchestrator: its events, and its stalls."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest

from motoko.operations.history import unregistered_firings
from motoko.storage.database import Database
from motoko.storage.orchestrator_leases import (
    Lease,
    OrchestratorReport,
    StallReport,
    live_orchestrator,
    orchestrator_report,
    stall_reports,
)
from motoko.storage.schema import create_tables
from motoko.storage.session import run_transaction
from motoko.testing.fake_launcher import FakeLauncher
from motoko.workflow import Workflow, event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from motoko.operations.history import FiringEntry
    from motoko.storage.tables import Tables

pytestmark = pytest.mark.integration

SECONDS = 120.0


@pytest.fixture
def workflow(tmp_path: Path) -> Iterator[Workflow]:
    (tmp_path / "motoko.yaml").write_text(
        "task_managers: {s: }\norchestrator: steps.main\npoll_interval: 0.1\n"
    )
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "bd.yaml").write_text("job: {x: int}\n")
    (tmp_path / "s" / "launch.sh").write_text("true\n")
    database = Database.in_memory()
    run_transaction(database, lambda root: create_tables(root, ["s"]), initialising=True)
    workflow = Workflow(tmp_path, database=database)
    workflow.run_name = "a"
    yield workflow
    workflow.close()
    database.close()


def script(job: Mapping[str, Any]) -> None:
    """Take some time for ``x`` = 98."""
    if job["x"] == 98:
        time.sleep(1.5)


def execute(workflow: Workflow, main: Any, observe: Callable[[], bool] | None = None) -> None:
    """Execute ``main`` until it ends or ``observe`` returns True."""
    workflow.orchestrator_function = main
    workflow.actions.clear()  # like a new process

    async def limited() -> None:
        async with asyncio.timeout(SECONDS):
            executing = asyncio.create_task(workflow.execute_async())
            while not executing.done():
                await asyncio.sleep(0.01)
                if observe is not None and observe():
                    executing.cancel()
            await executing

    try:
        with FakeLauncher(workflow.store, {"s": script}):
            asyncio.run(limited())
    except asyncio.CancelledError:
        assert observe is not None


def read(workflow: Workflow, what: Callable[[Tables], Any]) -> Any:
    with workflow.store.autocommit_scope.read() as session:
        return what(session.tables)


def unregistered(workflow: Workflow) -> list[FiringEntry]:
    found: list[FiringEntry] = read(workflow, unregistered_firings)
    return found


def report(workflow: Workflow) -> OrchestratorReport:
    found: OrchestratorReport = read(workflow, lambda tables: orchestrator_report(tables, "a"))
    return found


def stall(workflow: Workflow) -> StallReport | None:
    found: StallReport | None = read(
        workflow, lambda t: stall_reports(t, workflow.store.now()).get("a")
    )
    return found


# -- cancelled executions ----------------------------------------------------------------------


@pytest.mark.parametrize("passes", [0, 1, 2, 4, 8, 16, 32, 64, None])
def test_cancellations_release_the_lease(workflow: Workflow, passes: int | None) -> None:
    """Cancel after ``passes`` of the event loop, None: once main waits; then in each pass."""
    begun: list[bool] = []

    async def main(workflow: Workflow) -> None:
        begun.append(True)
        await workflow.s.select("x = 99")

    workflow.orchestrator_function = main

    async def cancelled() -> None:
        executing = asyncio.create_task(workflow.execute_async())
        for count in itertools.count():
            if executing.done():
                break
            if begun if passes is None else count >= passes:
                executing.cancel()
            await asyncio.sleep(0)
        assert executing.cancelled()

    asyncio.run(asyncio.wait_for(cancelled(), SECONDS))
    now = workflow.store.steady()
    assert read(workflow, lambda tables: live_orchestrator(tables, "a", now)) is None


# -- events that are no longer registered -----------------------------------------------------


@event
async def wait_for_ever(workflow: Workflow, runs: Any) -> None:
    """Start and never end."""
    workflow.vars.begun = True
    await workflow.s.select("x = 99")


async def old_main(workflow: Workflow) -> None:
    workflow.add_action("old", "s", "state = FINISHED", f=wait_for_ever)
    await workflow.s.create_task(x=1)
    await workflow.s.select("x = 99")


async def new_main(workflow: Workflow) -> None:
    workflow.add_action("new", "s", "x = 98", f=wait_for_ever)
    await workflow.s.select("x = 99")


@pytest.fixture
def left_open(workflow: Workflow) -> Workflow:
    """A workflow whose event ``old`` has an open firing; its orchestrator was interrupted."""
    execute(workflow, old_main, lambda: bool(workflow.vars.get("begun")))
    assert len(read(workflow, lambda tables: tables.open_firings("a"))) == 1
    return workflow


def test_an_open_firing_of_a_registered_event_is_not_named(left_open: Workflow) -> None:
    assert unregistered(left_open) == []
    seen: list[list[FiringEntry]] = []

    def observe() -> bool:
        seen.append(unregistered(left_open))
        return len(seen) > 50

    execute(left_open, old_main, observe)
    assert not any(seen)


def test_an_open_firing_of_an_unregistered_event_is_named(left_open: Workflow) -> None:
    execute(left_open, new_main, lambda: bool(unregistered(left_open)))
    (found,) = unregistered(left_open)  # no orchestrator is running: use the last registered events
    assert (found.run_name, found.event, found.done) == ("a", "s.old", None)
    assert [str(key) for key in found.runs] == ["s.1"]
    left_open.run_name = "b"
    execute(left_open, new_main, lambda: report_b(left_open).events is not None)
    assert len(unregistered(left_open)) == 1
    left_open.run_name = "a"
    execute(left_open, old_main, lambda: not unregistered(left_open))
    assert unregistered(left_open) == []


def report_b(workflow: Workflow) -> OrchestratorReport:
    found: OrchestratorReport = read(workflow, lambda tables: orchestrator_report(tables, "b"))
    return found


@pytest.mark.parametrize("waits", [True, False], ids=["waiting", "ended"])
def test_a_main_without_events_reports_all_open_firings(left_open: Workflow, waits: bool) -> None:
    async def main(workflow: Workflow) -> None:
        if waits:
            await workflow.s.select("x = 99")

    execute(left_open, main, (lambda: bool(unregistered(left_open))) if waits else None)
    assert [firing.event for firing in unregistered(left_open)] == ["s.old"]


def test_a_main_that_fails_before_it_registers_events_reports_none(left_open: Workflow) -> None:
    async def main(workflow: Workflow) -> None:
        raise LookupError("at once")

    with pytest.raises(LookupError):
        execute(left_open, main)
    assert unregistered(left_open) == []


def test_checking_one_event_reports_no_events(left_open: Workflow) -> None:
    left_open.add_action("new", "s", "x = 98", f=wait_for_ever)
    asyncio.run(left_open.check_event("new", "s"))
    assert unregistered(left_open) == []
    assert report(left_open).events == ("s.old",)


def test_events_registered_by_an_action_are_reported(workflow: Workflow) -> None:
    async def more(workflow: Workflow, runs: Any) -> None:
        workflow.add_action("later", "s", "x = 98", f=wait_for_ever)

    async def main(workflow: Workflow) -> None:
        workflow.add_action("first", "s", "state = FINISHED", f=more, once=True)
        workflow.s.create_task(x=1)

    execute(workflow, main, lambda: report(workflow).events == ("s.first", "s.later"))
    assert report(workflow).events == ("s.first", "s.later")


# -- stalled ----------------------------------------------------------------------------------


async def never_main(workflow: Workflow) -> None:
    await workflow.s.create_task(x=1)
    await workflow.s.select("x = 99")
    workflow.vars.through = True


def test_a_stall_report_has_time_and_awaits_and_is_withdrawn(
    workflow: Workflow, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    before = workflow.store.now()
    seen: list[StallReport | None] = []

    def observe() -> bool:
        found = stall(workflow)
        if found and not seen:
            seen.append(found)
            workflow.s.create_task(x=98)  # the launcher executes it
        elif not found and len(seen) == 1:
            seen.append(found)
            workflow.s.create_task(x=99)  # the await in main
        return False

    execute(workflow, never_main, observe)
    assert workflow.vars.through
    first = seen[0]
    assert first is not None
    assert before < first.since < workflow.store.now()
    assert first.waits == ("main waits for a run of s with x = 99",)
    assert seen[1] is None
    messages = [record.message for record in caplog.records if "stalled" in record.message]
    assert messages[0] == f"the workflow is stalled and waits: {first.waits[0]}"
    assert messages[1] == "the workflow is no longer stalled"


@pytest.mark.parametrize("seconds", [0.0, 0.1])
def test_repeated_evaluations_do_not_withdraw_a_stall_report(
    workflow: Workflow, caplog: pytest.LogCaptureFixture, seconds: float
) -> None:
    caplog.set_level(logging.WARNING)

    async def idle(workflow: Workflow) -> None:
        """Change nothing after a short pause."""
        await asyncio.sleep(seconds)

    async def main(workflow: Workflow) -> None:
        workflow.add_action("false", event=lambda: False, f=idle)
        workflow.add_action("true", event=lambda: True, f=idle)

    since: list[float] = []

    def observe() -> bool:
        found = stall(workflow)
        if found is not None:
            since.append(found.since)
        return bool(since) and workflow.store.now() > since[0] + 2

    execute(workflow, main, observe)
    assert len(set(since)) == 1
    assert caplog.text.count("no run can change state") == 1


def test_a_stopped_or_restarted_orchestrator_is_not_stalled(workflow: Workflow) -> None:
    execute(workflow, never_main, lambda: stall(workflow) is not None)
    assert report(workflow).stall is None
    # Simulate a killed orchestrator: its report and lease remain.
    name = "orchestrator:a"
    expected = OrchestratorReport(events=("s.x",), stall=StallReport(1.0, ("main waits",)))
    database = workflow.store.database
    run_transaction(database, lambda tables: tables.renew_lease(name, 1.0, asdict(expected)))
    assert report(workflow) == expected
    assert stall(workflow) is None
    asyncio.run(Lease(workflow.store, "a").acquire())
    assert report(workflow) == OrchestratorReport(events=("s.x",))


def run_out(tables: Tables) -> None:
    """Expire the lease of a process in another PID namespace."""
    name = "orchestrator:a"
    lease = tables.lease(name)
    lease["holder"] = {**lease["holder"], "namespace": 1}
    tables.renew_lease(name, 0.0)


def test_a_fenced_orchestrator_reports_nothing(workflow: Workflow) -> None:
    lease = Lease(workflow.store, "a")
    asyncio.run(lease.acquire())
    database = workflow.store.database
    run_transaction(database, run_out)
    asyncio.run(Lease(workflow.store, "a").acquire())
    lease.report_events(["s.x"])
    asyncio.run(lease.release())
    assert report(workflow).events is None


def test_a_stall_report_is_limited_in_length(workflow: Workflow) -> None:
    async def main(workflow: Workflow) -> None:
        await asyncio.gather(*(_never(workflow, x) for x in range(100, 150)))

    found: list[StallReport] = []

    def observe() -> bool:
        found.extend(filter(None, [stall(workflow)]))
        return bool(found)

    execute(workflow, main, observe)
    assert found[0].waits[-1] == "... and 30 more"
    assert len(found[0].waits) == 21


async def _never(workflow: Workflow, x: int) -> None:
    await workflow.s.select(f"x = {x}")
