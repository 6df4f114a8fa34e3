"""Evaluate Python conditions: the async ones in the event loop, the others in threads."""

from __future__ import annotations

import contextlib
import inspect
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import anyio.lowlevel

from motoko.core.firing import ConditionKind
from motoko.errors import EventError
from motoko.handles.run import run_job_pairs
from motoko.orchestrator.actions import call_in_thread, is_async, to_run_list
from motoko.storage.run_requests import RequestOrigin
from motoko.storage.scope import AutocommitScope
from motoko.storage.threads import run_in_thread, run_in_user_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from motoko.core.changes import Change
    from motoko.core.records import RunKey, RunRecord
    from motoko.orchestrator.actions import Action
    from motoko.storage.database import Database
    from motoko.storage.run_requests import RunRequest
    from motoko.storage.session import Session
    from motoko.storage.store import WorkflowStore

CALLS: Final = 100  # of an async run filter between two turns of the loop

# The studies and variables that the current evaluation has read.
condition_reads: ContextVar[set[str] | None] = ContextVar("motoko_condition_reads", default=None)


@dataclass(frozen=True, slots=True)
class Matches:
    """The evaluated runs, or all runs of a study, and those of them that satisfy a condition."""

    event: str
    evaluated: frozenset[RunKey] | str
    matching: frozenset[RunKey]


@dataclass(frozen=True, slots=True)
class Truth:
    """Whether a condition that returned no runs holds."""

    event: str
    study: str
    holds: bool


async def evaluate_run_filter(
    condition: Any, store: WorkflowStore, read_records: Callable[[], list[RunRecord]]
) -> frozenset[RunKey]:
    """Return the keys of the records for which ``f(run, job)`` is true."""
    matching: list[RunKey] = []
    if is_async(condition):
        found = await run_in_thread(lambda: run_job_pairs(store, read_records()))
        for number, (run, job) in enumerate(found, 1):
            if await condition(run, job):
                matching.append(run.key)
            if number % CALLS == 0:
                await anyio.lowlevel.checkpoint()
        return frozenset(matching)

    def evaluate() -> list[tuple[RunKey, Any]]:
        results = [
            (run.key, condition(run, job)) for run, job in run_job_pairs(store, read_records())
        ]
        return [(key, r if inspect.iscoroutine(r) else bool(r)) for key, r in results]

    results = await run_in_user_thread(evaluate)
    return frozenset([key for key, r in results if (await r if inspect.iscoroutine(r) else r)])


async def evaluate_function(
    action: Action, workflow: Any, task_manager: Any, study: str
) -> Matches | Truth:
    """Evaluate ``f(workflow, task_manager)`` or ``f()``."""
    no_arguments = action.kind is ConditionKind.NO_ARGUMENTS
    arguments = () if no_arguments else (workflow, task_manager)
    condition: Any = action.condition
    if is_async(condition):
        result = await condition(*arguments)
    else:
        result = await call_in_thread(lambda: condition(*arguments))
    # Reading a selection may query the database.
    return await run_in_thread(lambda: to_result(action.id, study, result))


def to_result(event: str, study: str, returned: Any) -> Matches | Truth:
    """Return the result of a condition that ``returned`` something. It may read a selection."""
    runs = to_run_list(returned)
    if runs is None:
        return Truth(event, study, bool(returned))
    return Matches(event, study, frozenset(run.key for run in runs))


class ReadOnlyScope(AutocommitScope):
    """The scope of conditions: every read is fresh, and every write is an error."""

    blind = False
    event_name = "condition"

    def __init__(self, database: Database) -> None:
        super().__init__(lambda: database, cause="condition")
        self.origin = RequestOrigin("a condition")

    @contextlib.contextmanager
    def read(self) -> Iterator[Session]:
        """Yield the session, and record the studies and variables that are read."""
        with super().read() as session:
            outer, session.tables.reads = session.tables.reads, condition_reads.get()
            try:
                yield session
            finally:
                session.tables.reads = outer

    def write(self, *_changes: Change) -> None:
        """Raise EventError: a condition only reads."""
        raise EventError(
            "a condition wrote to the workflow's database",
            hint="Conditions may be evaluated at any time, any number of times: write in actions.",
        )

    def enqueue(self, _request: RunRequest) -> None:
        """Raise EventError: a condition only reads."""
        self.write()

    def begin_nested(self, *, prepared: bool = False) -> None:
        """Return None: a condition has nothing to commit."""
