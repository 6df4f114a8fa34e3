"""The jobs of one study: their values, their identities, and the number of runs of each."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from BTrees.Length import Length

from motoko.core.parameter_space import describe_change, job_identity
from motoko.errors import UnknownRunError
from motoko.storage.bulk_read import stream_keys
from motoko.storage.identities import Identities
from motoko.storage.run_counts import JOBS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from motoko.core.records import RunRecord


class StudyJobs:
    """Reads and writes the jobs in a study's table in one transaction."""

    def __init__(self, study: str, trees: Any) -> None:
        self._study = study
        self._values = trees["jobs"]
        self._runs = trees["runs_of_job"]
        self._counts = trees["counts"]
        self._number: Any = None
        self.identities = Identities(trees, "by_job")

    # -- reading ---------------------------------------------------------------------------

    def values(self, job_id: int) -> dict[str, Any]:
        """Return one job's values; UnknownRunError if it does not exist."""
        values = self._values.get(job_id)
        if values is None:
            raise UnknownRunError(f"study {self._study!r} has no job {job_id}")
        return dict(values)

    def __len__(self) -> int:
        stored = self._counts.get(JOBS)
        return self._recount() if stored is None else int(stored())

    def _recount(self) -> int:
        return sum(1 for _ in stream_keys(self._runs, keep=False))

    def ids(self) -> list[int]:
        """Return all job ids, ascending."""
        return list(self._values)

    def find(self, *identities: bytes | None) -> int | None:
        """Return the id of the job with the first of these identities that exists."""
        return self.identities.first(identities)

    def key(self, job_id: int) -> bytes | None:
        """Return the key of a job in the index of jobs, None if it has none."""
        values = self._values[job_id]
        digests = (job_identity(values), job_identity(values, literal=True))
        return next((one for one in digests if self.find(one) == job_id), None)

    # -- jobs with other parameters than the study -----------------------------------------

    def has_other_parameters(self, types: Mapping[str, str]) -> bool:
        """Return whether the oldest or the newest job has other parameters than ``types``."""
        jobs = self._values
        ends = (jobs[jobs.minKey()], jobs[jobs.maxKey()]) if jobs else ()
        return any(describe_change(types, job) for job in ends)

    def count_other_parameters(
        self, types: Mapping[str, str], runs: Callable[[], Iterable[RunRecord]] | None = None
    ) -> dict[str, int]:
        """Return the number of runs with other parameters than ``types``, by difference.

        ``runs`` returns the runs to count; None: all.
        """
        jobs = self._values.items()
        found = {job_id: how for job_id, job in jobs if (how := describe_change(types, job))}
        counts: Counter[str] = Counter()
        if runs is None:
            for job_id, how in found.items():
                counts[how] += self._runs[job_id]
        elif found:
            counts.update(found[run.job_id] for run in runs() if run.job_id in found)
        return dict(counts)

    # -- writing ---------------------------------------------------------------------------

    def add_run(self, record: RunRecord, digest: bytes) -> None:
        """Count a run of its job, which is inserted if it is new."""
        job_id = record.job_id
        if job_id not in self._values:
            self._count(1)
            self._values[job_id] = dict(record.job)
            self.identities.add(digest, job_id)
        # A counter: clients that add and remove runs of one job conflict. So a job is never
        # deleted while it gets another run.
        self._runs[job_id] = self._runs.get(job_id, 0) + 1

    def _count(self, change: int) -> None:
        """Change the number of jobs, which a table from before it was stored gets now."""
        if self._number is None:
            self._number = self._counts.get(JOBS)
        if self._number is None:
            self._number = self._counts[JOBS] = Length(self._recount())
        self._number.change(change)

    def remove_run(self, job_id: int) -> None:
        """Count one run less of a job, which is deleted with its last run."""
        left = self._runs[job_id] - 1
        if left:
            self._runs[job_id] = left
            return
        self._count(-1)
        del self._runs[job_id]
        if (digest := self.key(job_id)) is not None:
            self.identities.remove(digest)
        del self._values[job_id]
