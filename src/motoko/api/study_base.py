"""A study's tables, as ``task_manager.base`` shows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from motoko.core.records import RunKey
from motoko.errors import UnknownRunError
from motoko.handles.run import Job, Run

if TYPE_CHECKING:
    from motoko.storage.store import WorkflowStore


class _IdIndex(Mapping[int, Any]):
    """Runs or jobs of all run names, by id."""

    def __init__(self, ids: Any, make: Any) -> None:
        self._ids = ids
        self._make = make

    def __getitem__(self, item: int) -> Any:
        try:
            return self._make(item)
        except UnknownRunError as error:
            raise KeyError(str(error)) from None

    def __iter__(self) -> Iterator[int]:
        return iter(self._ids())

    def __len__(self) -> int:
        return len(self._ids())


class StudyBase:
    """A study's tables: ``runs`` and ``jobs`` by id, of every run name."""

    def __init__(self, store: WorkflowStore, study: str) -> None:
        self._store = store
        self._study = study
        self.runs: Mapping[int, Run] = _IdIndex(self._run_ids, self._run)
        self.jobs: Mapping[int, Job] = _IdIndex(self._job_ids, self._job)

    def _run_ids(self) -> list[int]:
        with self._store.scope().view() as session:
            return session.tables.study(self._study).ids(None)

    def _run(self, run_id: int) -> Run:
        key = RunKey(self._study, run_id)
        with self._store.scope().view() as session:
            session.run(key)
        return Run(self._store, key)

    def _job_ids(self) -> list[int]:
        with self._store.scope().view() as session:
            return session.tables.study(self._study).job_ids()

    def _job(self, job_id: int) -> Job:
        with self._store.scope().view() as session:
            values = session.tables.study(self._study).job(job_id)
        return Job(self._store, self._study, job_id, values)
