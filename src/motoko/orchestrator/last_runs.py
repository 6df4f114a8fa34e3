"""Runs that are not in a terminal state when a workflow is about to end."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from motoko.core.states import NOT_ENDED
from motoko.storage.session import Session
from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    from motoko.core.states import Lifecycle
    from motoko.orchestrator.awaiting import AwaitContext
    from motoko.orchestrator.execution import WorkflowExecution
    from motoko.storage.store import WorkflowStore

logger = logging.getLogger("motoko.orchestrator")


def count_moving(store: WorkflowStore, run_name: str) -> dict[str, dict[Lifecycle, int]]:
    """Return how many runs of a run name can still move, by study and lifecycle state."""
    session = Session(store.database)
    try:
        tables = session.tables
        found: dict[str, dict[Lifecycle, int]] = {}
        for study in tables.study_names():
            table = tables.study(study)
            numbers = {state: len(table.ids(run_name, lifecycles=[state])) for state in NOT_ENDED}
            if any(numbers.values()):
                found[study] = {state: number for state, number in numbers.items() if number}
        return found
    finally:
        session.close()


async def wait_for_last_runs(execution: WorkflowExecution, context: AwaitContext) -> None:
    """Wait until no run of the run name can move; call it when ``main`` has returned."""
    store, run_name = execution.store, execution.run_name
    changed = execution.dispatcher.watch()
    try:
        while True:
            changed.clear()
            moving = await run_in_thread(lambda: count_moving(store, run_name))
            if not moving:
                return
            logger.info("main has returned; its runs have not ended: %s", _text(moving))
            with context.attended(moving), execution.stall.waiting("main", lambda: "its runs"):
                await changed.wait()
    finally:
        execution.dispatcher.forget(changed)


async def report_left(execution: WorkflowExecution) -> None:
    """Warn of runs that ``finished`` leaves as they are."""
    moving = await run_in_thread(lambda: count_moving(execution.store, execution.run_name))
    if moving:
        logger.warning(
            "finished was set while runs of %r are not in a terminal state (%s); they are left as "
            "they are, and the same run name takes them up again",
            execution.run_name, _text(moving),
        )  # fmt: skip


def _text(moving: dict[str, dict[Lifecycle, int]]) -> str:
    return ", ".join(
        f"{number} {state} in {study}"
        for study, numbers in moving.items()
        for state, number in numbers.items()
    )
