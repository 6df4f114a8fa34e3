"""A study's runs and jobs of every run name, by id."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from motoko.core.records import RunKey
from motoko.errors import UnknownRunError
from motoko.handles.run import Job, Run

if TYPE_CHECKING:
    from motoko.storage.store import WorkflowStore
    from motoko.storage.study_table import StudyTable

T = TypeVar("T")


class _IdIndex(Mapping[int, Any]):
    """The runs or jobs of every run name, by id."""

    def __init__(self, ids: Any, make: Any, count: Any) -> None:
        self._ids = ids
        self._make = make
        self._count = count

    def __getitem__(self, item: int) -> Any:
        try:
            return self._make(item)
        except UnknownRunError as error:
            raise KeyError(str(error)) from None

    def __iter__(self) -> Iterator[int]:
        return iter(self._ids())

    def __len__(self) -> int:
        return int(self._count())


class StudyBase:
    """A study's tables: ``runs`` and ``jobs`` of every run name, by id."""

    def __init__(self, store: WorkflowStore, study: str) -> None:
        self._store = store
        self._study = study
        self.runs: Mapping[int, Run] = _IdIndex(
            lambda: self._query(lambda table: table.ids(None)), self._run, lambda: self._query(len)
        )
        self.jobs: Mapping[int, Job] = _IdIndex(
            lambda: self._query(lambda table: table.jobs.ids()),
            self._job,
            lambda: self._query(lambda table: len(table.jobs)),
        )

    def _query(self, query: Callable[[StudyTable], T]) -> T:
        with self._store.scope().read() as session:
            return query(session.tables.study(self._study))

    def _run(self, run_id: int) -> Run:
        key = RunKey(self._study, run_id)
        with self._store.scope().read() as session:
            session.run(key)  # raises UnknownRunError
        return Run(self._store, key)

    def _job(self, job_id: int) -> Job:
        return Job(
            self._store, self._study, job_id, self._query(lambda table: table.jobs.values(job_id))
        )
