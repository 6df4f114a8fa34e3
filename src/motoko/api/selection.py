"""Selections: the runs that satisfy a constraint, in the state of each use."""

from __future__ import annotations

import operator
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload
from weakref import ref

from motoko.api.run_list import selection_html
from motoko.api.study import Study
from motoko.core.changes import EditHolds
from motoko.core.holds import AddHolds, RemoveHolds
from motoko.core.records import RunKey
from motoko.core.run_targets import MAX_ID
from motoko.errors import ParameterError
from motoko.handles.frames import require_pandas, to_frame
from motoko.handles.html import ROWS
from motoko.handles.run import Job, Run, run_job_pair, run_job_pairs
from motoko.orchestrator.awaiting import replay_or_wait, wait_for_match
from motoko.storage.columns import read_columns
from motoko.storage.query import count_runs, existing_records, select_records, stream_ids
from motoko.storage.selected_runs import iterate_selected
from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    from pandas import DataFrame

    from motoko.core.constraints import Constraint
    from motoko.core.records import RunRecord


T = TypeVar("T")


class SelectableStudy(Study, Protocol):
    """The part of a task manager that its selections use."""

    @property
    def select(self) -> Callable[[str | Sequence[str]], TaskSelection]:
        """Return the function that selects runs."""


class _Iteration(Iterator[tuple[Run, Job]]):
    """An iteration over a selection; it reads runs as they are used, from the first use."""

    def __init__(self, selection: TaskSelection) -> None:
        self._selection = selection
        self._pairs: Iterator[tuple[Run, Job]] | None = None
        self._length: int | None = None

    @property
    def started(self) -> bool:
        """Whether a run was taken from it."""
        return self._pairs is not None and self._length is None

    def length(self) -> int:
        """Return the number of runs, which it reads together."""
        if self._length is None:
            pairs = self._selection.pairs()
            self._pairs, self._length = iter(pairs), len(pairs)
        return self._length

    def __next__(self) -> tuple[Run, Job]:
        if self._pairs is None:
            self._pairs = self._selection.stream()
        self._length = None
        return next(self._pairs)


class TaskSelection:
    """A query over one study's runs of the current run name, evaluated at each use.

    Iteration yields (run, job) in id order. ``await`` it to wait until a run matches.
    """

    def __init__(self, manager: SelectableStudy, constraint: Constraint) -> None:
        self._manager = manager
        self.constraint = constraint
        self._iteration: ref[_Iteration] | None = None

    @property
    def _arguments(self) -> tuple[str, str | None, Constraint]:
        return self._manager.name, self._manager.workflow.run_name, self.constraint

    def _keys(self) -> list[RunKey]:
        return [RunKey(self._manager.name, run_id) for run_id in self.ids]

    def pairs(self) -> list[tuple[Run, Job]]:
        """Return the matching runs as (run, job), in id order."""
        return self[:]

    def stream(self) -> Iterator[tuple[Run, Job]]:
        """Yield the runs that match now as (run, job), in id order."""
        store = self._manager.store
        for record in iterate_selected(store.scope(), *self._arguments):
            yield run_job_pair(store, record)

    def __iter__(self) -> Iterator[tuple[Run, Job]]:
        iteration = _Iteration(self)
        self._iteration = ref(iteration)
        return iteration

    def __len__(self) -> int:
        iteration = None if self._iteration is None else self._iteration()
        if not self.constraint.plan().exact and iteration is not None and not iteration.started:
            return iteration.length()  # list() calls both: one query is enough
        with self._manager.store.scope().read() as session:
            return count_runs(session, *self._arguments)

    def __bool__(self) -> bool:
        with self._manager.store.scope().read() as session:
            return next(stream_ids(session, *self._arguments), None) is not None

    def first(self) -> tuple[Run, Job] | None:
        """Return the matching run with the smallest id as (run, job); None without one."""
        return next(iter(self[:1]), None)

    @overload
    def __getitem__(self, index: int) -> tuple[Run, Job]: ...

    @overload
    def __getitem__(self, index: slice) -> list[tuple[Run, Job]]: ...

    def __getitem__(self, index: int | slice) -> tuple[Run, Job] | list[tuple[Run, Job]]:
        if isinstance(index, slice):
            return self._slice(index)
        position = operator.index(index)
        found = self._slice(slice(position, position + 1 or None))
        if not found:
            raise IndexError("list index out of range")
        return found[0]

    def _slice(self, wanted: slice) -> list[tuple[Run, Job]]:
        """Return some of the runs; read no run after the last of them, if it counts from 0."""
        with self._manager.store.scope().read() as session:
            records: Iterable[RunRecord]
            if self.constraint.plan().exact:
                ids = _taken(stream_ids(session, *self._arguments), wanted)
                records = session.tables.study(self._manager.name).records(ids)
            else:
                records = _taken(select_records(session, *self._arguments), wanted)
            return run_job_pairs(self._manager.store, records)

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
        with self._manager.store.scope().read() as session:
            return list(stream_ids(session, *self._arguments))

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

    def _current(self, keys: Sequence[RunKey]) -> list[tuple[Run, Job]]:
        store = self._manager.store
        with store.scope().read() as session:
            return run_job_pairs(store, existing_records(session, keys))

    def __repr__(self) -> str:
        return f"<runs of {self._manager.name} with {self._condition}>"

    def _repr_html_(self) -> str:
        return selection_html(self, self._manager, self._first_keys)

    def _first_keys(self) -> tuple[list[RunKey], int]:
        return [run.key for run, _ in self[:ROWS]], len(self)

    @property
    def _condition(self) -> str:
        return self.constraint.text or "any state"


def _taken(found: Iterator[T], wanted: slice) -> Iterable[T]:
    """Return what a list of the items would have there, and take no more than needed."""
    given = (wanted.start, wanted.stop, wanted.step)
    bounds = [None if bound is None else operator.index(bound) for bound in given]
    if any(bound is not None and bound < 0 for bound in bounds) or bounds[2] == 0:
        return list(found)[wanted]
    return islice(found, *(bound and min(bound, MAX_ID) for bound in bounds))
