"""Collections of runs: those that one call requested, and those that a constraint selects."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, overload
from weakref import ref

from motoko.core.changes import EditHolds
from motoko.core.holds import AddHolds, RemoveHolds
from motoko.errors import ParameterError
from motoko.handles.frames import require_pandas, to_frame
from motoko.handles.html import ROWS, html_or_message, runs_html
from motoko.handles.run import Job, Run, run_job_pairs
from motoko.orchestrator.awaiting import (
    record_returned,
    replay_or_wait,
    run_failed_error,
    wait_for_all,
    wait_for_match,
    wait_for_runs,
    wait_until_committed,
)
from motoko.storage.columns import read_columns, tabulate
from motoko.storage.query import existing_records, read_records, select_runs
from motoko.storage.run_requests import RunRequest
from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    from pathlib import Path

    from pandas import DataFrame

    from motoko.config import StudyConfig
    from motoko.core.constraints import Columns, Constraint
    from motoko.core.records import RunKey, RunRecord
    from motoko.orchestrator.awaiting import AwaitContext
    from motoko.storage.scope import Scope
    from motoko.storage.store import WorkflowStore


class WorkflowView(Protocol):
    """The part of a workflow that its task managers use."""

    store: WorkflowStore
    context: AwaitContext

    @property
    def run_name(self) -> str | None:
        """Return the run name that scopes every selection."""


class Study(Protocol):
    """The part of a task manager that its run lists, selections and nodes use."""

    name: str
    workflow: WorkflowView
    bd_config: StudyConfig
    columns: Columns

    @property
    def bd_dir(self) -> Path:
        """Return the directory of the study's run directories."""

    @property
    def store(self) -> WorkflowStore:
        """Return the workflow's store."""

    @property
    def study_dir(self) -> Path:
        """Return the study's directory."""

    @property
    def select(self) -> Callable[[str | Sequence[str]], TaskSelection]:
        """Return the function that selects runs."""

    @property
    def create_task(self) -> Callable[..., RunList]:
        """Return the function that requests runs."""

    @property
    def find_task(self) -> Callable[..., list[Run] | None]:
        """Return the function that finds existing runs."""


class RunList(Sequence[tuple[Run, Job]]):
    """The runs that one ``create_task`` requested, as (run, job), in list order.

    ``await`` it to wait until all runs are in a terminal state. It then raises RunFailed with every
    failed run in ``runs``; with ``fail_fast``, it raises at the first failure. ``settled()`` never
    raises RunFailed. The runs of another action can be awaited, but reading them raises StateError
    until they are committed.
    """

    def __init__(self, manager: Study, request: RunRequest, *, fail_fast: bool = False) -> None:
        self._manager = manager
        self._request = request
        self._fail_fast = fail_fast

    # -- reading ---------------------------------------------------------------------------

    def _keys(self) -> list[RunKey]:
        return self._request.keys(self._manager.store.scope())

    def __len__(self) -> int:
        return len(self._request)

    @overload
    def __getitem__(self, index: int) -> tuple[Run, Job]: ...

    @overload
    def __getitem__(self, index: slice) -> list[tuple[Run, Job]]: ...

    def __getitem__(self, index: int | slice) -> tuple[Run, Job] | list[tuple[Run, Job]]:
        chosen = self._keys()[index]
        if isinstance(chosen, list):
            return self._handles(chosen)
        return self._handles([chosen])[0]

    def __iter__(self) -> Iterator[tuple[Run, Job]]:
        return iter(self._handles(self._keys()))

    def _handles(self, keys: list[RunKey]) -> list[tuple[Run, Job]]:
        store = self._manager.store
        with store.scope().read() as session:
            return run_job_pairs(store, [session.run(key) for key in keys])

    @property
    def runs(self) -> list[Run]:
        """Return the runs in list order."""
        return [Run(self._manager.store, key) for key in self._keys()]

    @property
    def ids(self) -> list[int]:
        """Return the ids of the runs in list order."""
        return [key.id for key in self._keys()]

    def to_frame(
        self, columns: Sequence[str] | None = None, quantities: Sequence[str] | None = None
    ) -> DataFrame:
        """Return the runs as a pandas DataFrame, in list order; see ``TaskManager.frame``."""
        manager = self._manager
        require_pandas("to_frame")
        with manager.store.scope().read() as session:
            keys = self._keys()
            together = session.tables.study(manager.name).records(key.id for key in keys)
            found = {record.key: record for record in together}
            records = [found.get(key) or session.run(key) for key in keys]
            table = tabulate(
                session, manager.columns, records, columns,
                quantities=quantities, root=manager.bd_dir,
            )  # fmt: skip
        return to_frame(table)

    def __repr__(self) -> str:
        return f"<{len(self)} runs of {self._manager.name}>"

    def _repr_html_(self) -> str:
        return _html(self, self._manager, self._keys)

    # -- waiting ---------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, RunList]:
        return self._wait_for_all().__await__()

    async def _wait_for_all(self) -> RunList:
        context, scope = self._begin_await()

        async def wait() -> list[RunKey]:
            keys = await self._wait_for_commit(scope)
            failed = await wait_for_all(context, scope, keys, fail_fast=self._fail_fast)
            if failed:
                raise run_failed_error(context, scope, failed)
            await scope.refresh()
            return keys

        keys = await replay_or_wait(context, scope, self._manager.name, wait)
        return self._with(keys)

    async def settled(self) -> RunList:
        """Wait until all runs are in a terminal state; return all of them.

        The failures count as handled if the caller completes.
        """
        context, scope = self._begin_await()

        async def wait() -> list[RunKey]:
            keys = await self._wait_for_commit(scope)
            failed.append(await wait_for_all(context, scope, keys))
            await scope.refresh()
            return keys

        failed: list[list[RunRecord]] = []
        keys = await replay_or_wait(context, scope, self._manager.name, wait)
        if not failed:  # replayed from the record of the await
            failed.append(await self._read_records(scope, keys))
        record_returned(context, scope, failed[0])
        return self._with(keys)

    @staticmethod
    async def _read_records(scope: Scope, keys: list[RunKey]) -> list[RunRecord]:
        return await run_in_thread(lambda: read_records(scope, keys))

    def _begin_await(self) -> tuple[AwaitContext, Scope]:
        scope = self._manager.store.scope()
        self._request.reissue(scope)
        return self._manager.workflow.context, scope

    def _with(self, keys: list[RunKey]) -> RunList:
        if keys == self._request.committed:
            return self
        request = RunRequest(
            self._manager.name, self._request.requested_runs, self._manager.store.scope()
        )
        request.set_recorded(keys)
        return RunList(self._manager, request, fail_fast=self._fail_fast)

    async def _wait_for_commit(self, scope: Scope) -> list[RunKey]:
        context = self._manager.workflow.context
        with context.suspend_error_handlers():
            await scope.flush()
        return await wait_until_committed(context, scope, self._request)

    async def as_completed(self) -> AsyncIterator[Run]:
        """Yield each run when it reaches a terminal state, failed ones, too.

        The failures count as handled if the caller completes.
        """
        context, scope = self._begin_await()
        yielded: list[RunKey] = []
        records: list[AsyncIterator[RunRecord]] = []

        async def wait() -> list[RunKey]:
            if records:
                await scope.flush()
            else:
                keys = await self._wait_for_commit(scope)
                left = [key for key in keys if key not in yielded]
                records.append(wait_for_runs(context, scope, left))
            record = await anext(records[0], None)
            if record is None:
                return []
            record_returned(context, scope, [record])
            await scope.refresh()
            return [record.key]

        while keys := await replay_or_wait(context, scope, self._manager.name, wait):
            if not records:  # replayed from the record of the await
                record_returned(context, scope, await self._read_records(scope, keys))
            yielded += keys
            yield Run(self._manager.store, keys[0])


class _Iteration(Iterator[tuple[Run, Job]]):
    """An iteration over a selection; it queries at the first use."""

    def __init__(self, query: Callable[[], list[tuple[Run, Job]]]) -> None:
        self._query = query
        self.position = 0

    @cached_property
    def pairs(self) -> list[tuple[Run, Job]]:
        return self._query()

    def __next__(self) -> tuple[Run, Job]:
        self.position += 1
        if self.position > len(self.pairs):
            raise StopIteration
        return self.pairs[self.position - 1]


class TaskSelection:
    """A query over one study's runs of the current run name, evaluated at each use.

    Iteration yields (run, job) in id order. ``await`` it to wait until a run matches.
    """

    def __init__(self, manager: Study, constraint: Constraint) -> None:
        self._manager = manager
        self.constraint = constraint
        self._iteration: ref[_Iteration] | None = None

    def _keys(self) -> list[RunKey]:
        manager = self._manager
        with manager.store.scope().read() as session:
            return select_runs(session, manager.name, manager.workflow.run_name, self.constraint)

    def pairs(self) -> list[tuple[Run, Job]]:
        """Return the matching runs as (run, job), in id order."""
        manager = self._manager
        with manager.store.scope().read() as session:
            keys = select_runs(session, manager.name, manager.workflow.run_name, self.constraint)
            table = session.tables.study(manager.name)
            return run_job_pairs(manager.store, list(table.records(key.id for key in keys)))

    def __iter__(self) -> Iterator[tuple[Run, Job]]:
        iteration = _Iteration(self.pairs)
        self._iteration = ref(iteration)
        return iteration

    def __len__(self) -> int:
        iteration = None if self._iteration is None else self._iteration()
        if iteration is not None and iteration.position == 0:
            return len(iteration.pairs)  # list() calls both: one query is enough
        return len(self._keys())

    def __bool__(self) -> bool:
        return bool(self._keys())

    @overload
    def __getitem__(self, index: int) -> tuple[Run, Job]: ...

    @overload
    def __getitem__(self, index: slice) -> list[tuple[Run, Job]]: ...

    def __getitem__(self, index: int | slice) -> tuple[Run, Job] | list[tuple[Run, Job]]:
        return self.pairs()[index]

    def __call__(self, constraints: str | Sequence[str] | None = None) -> list[tuple[Run, Job]]:
        """Return the runs that match, with these additional constraints, as (run, job)."""
        chosen = self if constraints is None else self & constraints
        return chosen.pairs()

    def __and__(self, other: TaskSelection | str | Sequence[str]) -> TaskSelection:
        if isinstance(other, TaskSelection):
            if other._manager.name != self._manager.name:
                raise ParameterError(
                    f"selections of the studies {self._manager.name!r} and "
                    f"{other._manager.name!r} cannot be combined"
                )
            return TaskSelection(self._manager, self.constraint & other.constraint)
        return self & self._manager.select(other)

    @property
    def runs(self) -> list[Run]:
        """Return the matching runs in id order."""
        return [Run(self._manager.store, key) for key in self._keys()]

    @property
    def ids(self) -> list[int]:
        """Return the ids of the matching runs in ascending order."""
        return [key.id for key in self._keys()]

    def hold(self) -> None:
        """Hold the matching runs: no launcher claims them until they are released."""
        scope, now = self._manager.store.scope(), self._manager.store.now()
        scope.write(EditHolds(AddHolds(now, scope.cause, runs=self._keys())))

    def release(self) -> None:
        """Release the matching runs, except those that a hold of their study or run name covers."""
        self._manager.store.scope().write(EditHolds(RemoveHolds(runs=self._keys())))

    def to_frame(
        self, columns: Sequence[str] | None = None, quantities: Sequence[str] | None = None
    ) -> DataFrame:
        """Return the matching runs as a pandas DataFrame; see ``TaskManager.frame``."""
        manager = self._manager
        require_pandas("to_frame")
        with manager.store.scope().read() as session:
            table = read_columns(
                session, manager.columns, manager.workflow.run_name, self.constraint, columns,
                quantities=quantities, root=manager.bd_dir, keep=True,
            )  # fmt: skip
        return to_frame(table)

    def __await__(self) -> Generator[Any, None, list[tuple[Run, Job]]]:
        return self._wait_for(self.pairs).__await__()

    async def all(self, *constraints: str | Sequence[str]) -> list[tuple[Run, Job]]:
        """Wait until the selection has runs and all of them satisfy ``constraints``."""
        narrowed = self
        for constraint in constraints:
            narrowed = narrowed & constraint

        def query() -> list[tuple[Run, Job]]:
            found = self.pairs()
            return found if len(found) == len(narrowed) else []

        return await self._wait_for(query)

    async def _wait_for(self, query: Callable[[], list[tuple[Run, Job]]]) -> list[tuple[Run, Job]]:
        manager = self._manager
        scope = manager.store.scope()
        context = manager.workflow.context
        found: list[tuple[Run, Job]] = []

        async def wait() -> list[RunKey]:
            await scope.flush()
            description = f"a run of {manager.name} with {self._condition}"
            found.extend(await wait_for_match(context, scope, manager.name, query, description))
            return [run.key for run, _ in found]

        keys = await replay_or_wait(context, scope, manager.name, wait)
        return found or await run_in_thread(lambda: self._current(keys))

    def _current(self, keys: list[RunKey]) -> list[tuple[Run, Job]]:
        store = self._manager.store
        with store.scope().read() as session:
            return run_job_pairs(store, existing_records(session, keys))

    def __repr__(self) -> str:
        return f"<runs of {self._manager.name} with {self._condition}>"

    def _repr_html_(self) -> str:
        return _html(self, self._manager, self._keys)

    @property
    def _condition(self) -> str:
        return self.constraint.text or "any state"


def _html(shown: object, manager: Study, find: Callable[[], list[RunKey]]) -> str:
    def render() -> str:
        keys = find()
        records = read_records(manager.store.scope(), keys[:ROWS])
        return runs_html(repr(shown).strip("<>"), records, len(keys))

    return html_or_message(render, shown)
