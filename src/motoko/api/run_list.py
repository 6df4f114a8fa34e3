"""The runs that one call requested."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, overload

from motoko.core.run_keys import RunKeys, is_ascending
from motoko.handles.frames import require_pandas, to_frame
from motoko.handles.html import ROWS, html_or_message, runs_html
from motoko.handles.run import Job, Run, run_job_pairs
from motoko.orchestrator.awaiting import (
    record_returned,
    replay_or_wait,
    run_failed_error,
    wait_for_all,
    wait_for_runs,
    wait_until_committed,
)
from motoko.storage.columns import tabulate
from motoko.storage.query import read_records
from motoko.storage.run_requests import RunRequest
from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    from pandas import DataFrame

    from motoko.api.study import Study
    from motoko.core.records import RunKey, RunRecord
    from motoko.orchestrator.awaiting import AwaitContext
    from motoko.orchestrator.run_waiter import EndedRun
    from motoko.storage.scope import Scope
    from motoko.storage.session import Session

BATCH: Final = 500  # runs read together


class RunList(Sequence[tuple[Run, Job]]):
    """The runs that one ``create_task`` requested, as (run, job), in list order.

    ``await`` it to wait until all runs are in a terminal state. It then raises RunFailed with every
    failed run in ``runs``; with ``fail_fast``, it raises at the first failure. ``settled()`` never
    raises RunFailed. The runs of another action can be awaited, but reading them raises StateError
    until they are committed.
    """

    def __init__(
        self, manager: Study, requests: Sequence[RunRequest], *, fail_fast: bool = False
    ) -> None:
        self._manager = manager
        self._requests = requests
        self._fail_fast = fail_fast
        self._joined: RunKeys | None = None

    # -- reading ---------------------------------------------------------------------------

    def _keys(self) -> RunKeys:
        scope = self._manager.store.scope()
        return self._join([request.keys(scope) for request in self._requests])

    def _join(self, parts: Sequence[RunKeys]) -> RunKeys:
        """Return the runs of all requests; keep them in memory once if they are committed."""
        if len(parts) == 1:
            return parts[0]
        if self._joined is not None:
            return self._joined
        joined = RunKeys(self._manager.name, chain.from_iterable(part.ids for part in parts))
        if not is_ascending(joined.ids):
            joined = RunKeys(joined.study, dict.fromkeys(joined.ids))
        if all(request.committed is not None for request in self._requests):
            self._joined = joined
        return joined

    def __len__(self) -> int:
        return sum(map(len, self._requests)) if self._joined is None else len(self._joined)

    @overload
    def __getitem__(self, index: int) -> tuple[Run, Job]: ...

    @overload
    def __getitem__(self, index: slice) -> list[tuple[Run, Job]]: ...

    def __getitem__(self, index: int | slice) -> tuple[Run, Job] | list[tuple[Run, Job]]:
        keys = self._keys()
        if isinstance(index, slice):
            return list(self._handles(keys[index]))
        return next(self._handles([keys[index]]))

    def __iter__(self) -> Iterator[tuple[Run, Job]]:
        return self._handles(self._keys())

    def _handles(self, keys: Sequence[RunKey]) -> Iterator[tuple[Run, Job]]:
        store = self._manager.store
        for start in range(0, len(keys), BATCH):
            with store.scope().read() as session:
                found = list(_records(session, keys[start : start + BATCH]))
            yield from run_job_pairs(store, found)

    @property
    def runs(self) -> list[Run]:
        """Return the runs in list order."""
        return [Run(self._manager.store, key) for key in self._keys()]

    @property
    def ids(self) -> list[int]:
        """Return the ids of the runs in list order."""
        return self._keys().ids.tolist()

    def to_frame(
        self, columns: Sequence[str] | None = None, quantities: Sequence[str] | None = None
    ) -> DataFrame:
        """Return the runs as a pandas DataFrame, in list order; see ``TaskManager.frame``."""
        manager = self._manager
        require_pandas("to_frame")
        with manager.store.scope().read() as session:
            keys = self._keys()
            batches = (keys[start : start + BATCH] for start in range(0, len(keys), BATCH))
            records = (record for batch in batches for record in _records(session, batch))
            table = tabulate(
                session, manager.columns, records, columns,
                quantities=quantities, root=manager.bd_dir,
            )  # fmt: skip
        return to_frame(table)

    def __repr__(self) -> str:
        return f"<{len(self)} runs of {self._manager.name}>"

    def _repr_html_(self) -> str:
        return selection_html(self, self._manager, lambda: (self._keys()[:ROWS], len(self)))

    # -- waiting ---------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, RunList]:
        return self._wait_for_all().__await__()

    async def _wait_for_all(self) -> RunList:
        context, scope = self._begin_await()

        async def wait() -> Sequence[RunKey]:
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

        async def wait() -> Sequence[RunKey]:
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
    async def _read_records(scope: Scope, keys: Sequence[RunKey]) -> list[RunRecord]:
        return await run_in_thread(lambda: read_records(scope, keys))

    def _begin_await(self) -> tuple[AwaitContext, Scope]:
        scope = self._manager.store.scope()
        for request in self._requests:
            request.reissue(scope)
        return self._manager.workflow.context, scope

    def _with(self, keys: Sequence[RunKey]) -> RunList:
        committed = self._joined if len(self._requests) > 1 else self._requests[0].committed
        if keys is committed or keys == committed:
            return self
        request = RunRequest(self._manager.name, (), self._manager.store.scope())
        request.set_recorded(keys)
        return RunList(self._manager, [request], fail_fast=self._fail_fast)

    async def _wait_for_commit(self, scope: Scope) -> Sequence[RunKey]:
        context = self._manager.workflow.context
        with context.suspend_error_handlers():
            await scope.flush()
        requests = self._requests
        return self._join([await wait_until_committed(context, scope, r) for r in requests])

    async def as_completed(self) -> AsyncIterator[Run]:
        """Yield each run when it reaches a terminal state, failed ones, too.

        The failures count as handled if the caller completes.
        """
        context, scope = self._begin_await()
        replayed: set[RunKey] = set()
        ends: list[AsyncIterator[EndedRun]] = []

        async def wait() -> Sequence[RunKey]:
            if ends:
                await scope.flush()
            else:
                keys = await self._wait_for_commit(scope)
                left = [key for key in keys if key not in replayed] if replayed else keys
                ends.append(wait_for_runs(context, scope, left))
            ended = await anext(ends[0], None)
            if ended is None:
                return ()
            record_returned(context, scope, [ended.failure] if ended.failure else ())
            await scope.refresh()
            return [ended.key]

        while keys := await replay_or_wait(context, scope, self._manager.name, wait):
            if not ends:  # replayed from the record of the await
                record_returned(context, scope, await self._read_records(scope, keys))
                replayed.update(keys)
            yield Run(self._manager.store, keys[0])


def _records(session: Session, keys: Sequence[RunKey]) -> Iterator[RunRecord]:
    """Yield the records of a batch of runs of one study, in the given order."""
    ids = [session.present(key).id for key in keys]
    table = session.tables.study(keys[0].study)
    found = {record.id: record for record in table.records(ids)}
    return (found.get(run_id) or table.run(run_id) for run_id in ids)


def selection_html(
    shown: object, manager: Study, find: Callable[[], tuple[Sequence[RunKey], int]]
) -> str:
    """Return an HTML table of the first runs; ``find`` returns them and the number of all."""

    def render() -> str:
        keys, number = find()
        records = read_records(manager.store.scope(), keys)
        return runs_html(repr(shown).strip("<>"), records, number)

    return html_or_message(render, shown)
