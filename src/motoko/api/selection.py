"""Runs that scripts hold: those that one call requested, and those that constraints select."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, overload
from weakref import ref

from motoko.errors import ParameterError
from motoko.handles.run import Job, Run, pairs
from motoko.orchestrator.awaiting import (
    read_records,
    record_returned,
    replay_or_wait,
    run_failed_error,
    wait_for_all,
    wait_for_match,
    wait_for_runs,
    wait_until_committed,
)
from motoko.storage.query import existing_records, select_runs
from motoko.storage.run_requests import RunRequest
from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    from motoko.core.constraints import Constraint
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
    """The part of a task manager that its run lists and selections use."""

    name: str
    workflow: WorkflowView

    @property
    def store(self) -> WorkflowStore:
        """Return the workflow's store."""

    def select(self, constraints: str | Sequence[str] | None = None) -> TaskSelection:
        """Return the runs that satisfy ``constraints``."""


class RunList(Sequence[tuple[Run, Job]]):
    """The runs that one ``create_task`` asked for, as (run, job), in list order.

    ``await`` it to wait until all are in a terminal state; then RunFailed is raised if some failed,
    with all of those in ``runs``. With ``fail_fast`` the first failure raises it. ``settled()``
    never raises it. What another action or ``main`` asked for can be awaited too: that waits until
    it is committed. To read it is StateError before that.
    """

    def __init__(self, manager: Study, request: RunRequest, *, fail_fast: bool = False) -> None:
        self._manager = manager
        self._request = request
        self._fail_fast = fail_fast

    # -- reading ---------------------------------------------------------------------------

    def _known(self) -> list[RunKey]:
        return self._request.keys(self._manager.store.scope())

    def __len__(self) -> int:
        return len(self._request)

    @overload
    def __getitem__(self, index: int) -> tuple[Run, Job]: ...

    @overload
    def __getitem__(self, index: slice) -> list[tuple[Run, Job]]: ...

    def __getitem__(self, index: int | slice) -> tuple[Run, Job] | list[tuple[Run, Job]]:
        chosen = self._known()[index]
        if isinstance(chosen, list):
            return self._handles(chosen)
        return self._handles([chosen])[0]

    def __iter__(self) -> Iterator[tuple[Run, Job]]:
        return iter(self._handles(self._known()))

    def _handles(self, keys: list[RunKey]) -> list[tuple[Run, Job]]:
        store = self._manager.store
        with store.scope().read() as session:
            return pairs(store, [session.run(key) for key in keys])

    @property
    def runs(self) -> list[Run]:
        """Return the runs, in list order."""
        return [Run(self._manager.store, key) for key in self._known()]

    @property
    def ids(self) -> list[int]:
        """Return the runs' ids, in list order."""
        return [key.id for key in self._known()]

    def __repr__(self) -> str:
        return f"<{len(self)} runs of {self._manager.name}>"

    # -- waiting ---------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, RunList]:
        return self._ended().__await__()

    async def _ended(self) -> RunList:
        context, scope = self._waiting()

        async def wait() -> list[RunKey]:
            keys = await self._committed(scope)
            failed = await wait_for_all(context, scope, keys, fail_fast=self._fail_fast)
            if failed:
                raise run_failed_error(context, scope, failed)
            await scope.refresh()
            return keys

        keys = await replay_or_wait(context, scope, self._manager.name, wait)
        return self._with(keys)

    async def settled(self) -> RunList:
        """Wait until all runs are in a terminal state; return them, failed ones too.

        Failures are handled by this, if the caller completes.
        """
        context, scope = self._waiting()

        async def wait() -> list[RunKey]:
            keys = await self._committed(scope)
            failed.append(await wait_for_all(context, scope, keys))
            await scope.refresh()
            return keys

        failed: list[list[RunRecord]] = []
        keys = await replay_or_wait(context, scope, self._manager.name, wait)
        if not failed:  # a rerun: the await is on record
            failed.append(await self._recorded(scope, keys))
        record_returned(context, scope, failed[0])
        return self._with(keys)

    @staticmethod
    async def _recorded(scope: Scope, keys: list[RunKey]) -> list[RunRecord]:
        return await run_in_thread(lambda: read_records(scope, keys))

    def _waiting(self) -> tuple[AwaitContext, Scope]:
        scope = self._manager.store.scope()
        self._request.reissue(scope)
        return self._manager.workflow.context, scope

    def _with(self, keys: list[RunKey]) -> RunList:
        return self if keys == self._request.committed else self._of(keys)

    def _of(self, keys: list[RunKey]) -> RunList:
        request = RunRequest(
            self._manager.name, self._request.wanted_runs, self._manager.store.scope()
        )
        request.set_recorded(keys)
        return RunList(self._manager, request, fail_fast=self._fail_fast)

    async def _committed(self, scope: Scope) -> list[RunKey]:
        context = self._manager.workflow.context
        with context.awaiting():
            await scope.flush()
        return await wait_until_committed(context, scope, self._request)

    async def as_completed(self) -> AsyncIterator[Run]:
        """Yield each run as it reaches a terminal state, failed ones too.

        Failures are handled by this, if the caller completes.
        """
        context, scope = self._waiting()
        yielded: list[RunKey] = []
        records: list[AsyncIterator[RunRecord]] = []

        async def wait() -> list[RunKey]:
            if records:
                await scope.flush()
            else:
                keys = await self._committed(scope)
                left = [key for key in keys if key not in yielded]
                records.append(wait_for_runs(context, scope, left))
            record = await anext(records[0], None)
            if record is None:
                return []
            record_returned(context, scope, [record])
            await scope.refresh()
            return [record.key]

        while keys := await replay_or_wait(context, scope, self._manager.name, wait):
            if not records:  # a rerun: the await is on record
                record_returned(context, scope, await self._recorded(scope, keys))
            yielded += keys
            yield Run(self._manager.store, keys[0])


class _Pairs(Iterator[tuple[Run, Job]]):
    """An iteration over a selection; it queries when it is first asked for anything."""

    def __init__(self, query: Callable[[], list[tuple[Run, Job]]]) -> None:
        self._query = query
        self._found: list[tuple[Run, Job]] | None = None
        self._next = 0

    @property
    def started(self) -> bool:
        return self._next > 0

    def count(self) -> int:
        return len(self._pairs())

    def _pairs(self) -> list[tuple[Run, Job]]:
        if self._found is None:
            self._found = self._query()
        return self._found

    def __next__(self) -> tuple[Run, Job]:
        self._next += 1
        if self._next > len(self._pairs()):
            raise StopIteration
        return self._pairs()[self._next - 1]


class TaskSelection:
    """A query over one study's runs of the current run name, asked anew at each use.

    Iteration yields (run, job) in id order. ``await`` it to wait until something matches.
    """

    def __init__(self, manager: Study, constraint: Constraint) -> None:
        self._manager = manager
        self.constraint = constraint
        self._begun: ref[_Pairs] | None = None

    def _keys(self) -> list[RunKey]:
        manager = self._manager
        with manager.store.scope().read() as session:
            return select_runs(session, manager.name, manager.workflow.run_name, self.constraint)

    def pairs(self) -> list[tuple[Run, Job]]:
        """Return (run, job) of what matches now, in id order."""
        manager = self._manager
        with manager.store.scope().read() as session:
            keys = select_runs(session, manager.name, manager.workflow.run_name, self.constraint)
            table = session.tables.study(manager.name)
            return pairs(manager.store, list(table.records(key.id for key in keys)))

    def __iter__(self) -> Iterator[tuple[Run, Job]]:
        begun = _Pairs(self.pairs)
        self._begun = ref(begun)
        return begun

    def __len__(self) -> int:
        begun = None if self._begun is None else self._begun()
        if begun is not None and not begun.started:
            return begun.count()  # list() asks for both
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
        """Return what matches now (these constraints too) as a list."""
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
        """Return the matching runs, in id order."""
        return [Run(self._manager.store, key) for key in self._keys()]

    @property
    def ids(self) -> list[int]:
        """Return the matching runs' ids, ascending."""
        return [key.id for key in self._keys()]

    def __await__(self) -> Generator[Any, None, list[tuple[Run, Job]]]:
        return self._matched(self.pairs).__await__()

    async def all(self, *constraints: str | Sequence[str]) -> list[tuple[Run, Job]]:
        """Wait until there are selected runs and every one of them satisfies ``constraints``."""
        wanted = self
        for constraint in constraints:
            wanted = wanted & constraint

        def settled() -> list[tuple[Run, Job]]:
            found = self.pairs()
            return found if len(found) == len(wanted) else []

        return await self._matched(settled)

    async def _matched(self, ask: Callable[[], list[tuple[Run, Job]]]) -> list[tuple[Run, Job]]:
        manager = self._manager
        scope = manager.store.scope()
        context = manager.workflow.context
        found: list[tuple[Run, Job]] = []

        async def wait() -> list[RunKey]:
            await scope.flush()
            wish = f"a run of {manager.name} with {self._wish}"
            found.extend(await wait_for_match(context, scope, manager.name, ask, wish))
            return [run.key for run, _ in found]

        keys = await replay_or_wait(context, scope, manager.name, wait)
        return found or await run_in_thread(lambda: self._current(keys))

    def _current(self, keys: list[RunKey]) -> list[tuple[Run, Job]]:
        store = self._manager.store
        with store.scope().read() as session:
            return pairs(store, existing_records(session, keys))

    def __repr__(self) -> str:
        return f"<runs of {self._manager.name} with {self._wish}>"

    @property
    def _wish(self) -> str:
        return self.constraint.text or "any state"
