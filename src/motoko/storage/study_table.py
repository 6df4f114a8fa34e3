"""One study's jobs, runs and indexes, as BTrees of plain data.

Layout (all keys plain, so that no class path of Motoko is stored)::

    runs, blocks  IOBTree   see run_store.py
    jobs          IOBTree   id -> dict of job values
    runs_of_job   IIBTree   job id -> number of its runs
    by_identity   run identity -> run id, see identities.py
    by_job        job identity -> job id, see identities.py
    states        OOBTree   (state as shown, run name) -> IITreeSet of run ids
    lifecycles    OOBTree   (lifecycle, run name) -> IITreeSet of run ids
    queues        OOBTree   (generator, machine name) -> IITreeSet of the ids of CREATED runs that
                            name at least one of them; "" for the other
    remarks       OOBTree   (reason, run name) -> IITreeSet of ids of FINISHED runs with a reason;
                            absent until one exists
    counts        OOBTree   (index, key, run name) -> Length, see run_counts.py
    quantities    OOBTree   see quantities.py
    histories     OOBTree   see history_archive.py; absent until a run has a long history
    ids           PersistentMapping {"run": last id, "job": last id}
    uncounted     last run id of a former database of format 1; counts omit the scripts of its runs
    normalised    True: numbers were always normalised in identities; absent in older databases
"""

from __future__ import annotations

from contextlib import suppress
from copy import copy
from dataclasses import replace
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING, Any

from BTrees.IIBTree import IIBTree, multiunion
from BTrees.IOBTree import IOBTree
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping

from motoko.core.archived_history import archive, complete
from motoko.core.parameter_space import job_identity
from motoko.core.run_keys import FirstIds
from motoko.errors import ConflictError, UnknownRunError
from motoko.storage import history_archive, quantities
from motoko.storage.bulk_read import prefetch_leaves, prefetch_range, stream_keys
from motoko.storage.identities import Identities
from motoko.storage.record_reader import read_records
from motoko.storage.run_counts import LAST, RunCounts
from motoko.storage.run_indexes import RunIndexes
from motoko.storage.run_store import RunStore
from motoko.storage.study_jobs import StudyJobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from motoko.core.changes import PushQuantities
    from motoko.core.constraints.column_scan import ColumnScan
    from motoko.core.edits import RunEdit
    from motoko.core.records import RunRecord


def new_study_table() -> PersistentMapping:
    """Return the empty table of one study."""
    trees = (
        "by_identity", "by_job", "states", "lifecycles", "queues", "quantities", "counts"
    )  # fmt: skip
    return PersistentMapping(
        {
            "runs": IOBTree(),
            "blocks": IOBTree(),
            "jobs": IOBTree(),
            "runs_of_job": IIBTree(),
            **{name: OOBTree() for name in trees},
            "ids": PersistentMapping({"run": 0, "job": 0}),
            "normalised": True,
        }
    )


class StudyTable:
    """Reads and writes one study's table in the snapshot of one connection."""

    def __init__(self, name: str, trees: Any) -> None:
        self.name = name
        self.trees = trees
        self.runs = RunStore(name, trees)
        self.identities = Identities(trees, "by_identity")
        self.jobs = StudyJobs(name, trees)
        self.numbers = RunCounts(trees["counts"])
        self._indexes = RunIndexes(trees, self.numbers)

    def reading(self, runs: RunStore) -> StudyTable:
        """Return this table with the records in ``runs``; only read it."""
        found = copy(self)
        found.runs = runs
        return found

    def __len__(self) -> int:
        return self.numbers.count("runs")

    @property
    def normalised(self) -> bool:
        """Whether no identity depends on how a number was written: 1 or 1.0."""
        return "normalised" in self.trees

    # -- runs and jobs ---------------------------------------------------------------------

    def run(self, run_id: int) -> RunRecord:
        """Return one run's record; UnknownRunError if it does not exist."""
        record = self.runs.find(run_id)
        if record is None:
            raise UnknownRunError(f"study {self.name!r} has no run {run_id}")
        return record

    def rely_on(self, run_id: int) -> None:
        """Refuse to commit if another session changes the run."""
        self.runs.rely_on(run_id)

    def version(self, run_id: int) -> bytes | None:
        """Return a value that changes with every commit to the run, None before the first."""
        return self.runs.version(run_id)

    def has_run(self, run_id: int) -> bool:
        """Return whether the run exists."""
        return self.runs.has(run_id)

    def has_ids(self, low: int, high: int) -> bool:
        """Return whether a run has an id from ``low`` to ``high``."""
        sets = self.id_sets("lifecycles", None, None)
        return any(next(iter(ids.keys(low, high)), None) is not None for ids in sets)

    def ids_around(self, low: int, high: int) -> list[int]:
        """Return the first and the last id, and those next to ``low`` and ``high``, ascending."""
        found: dict[str, list[int]] = {"first": [], "next": [], "before": [], "last": []}
        for ids in filter(None, self.id_sets("lifecycles", None, None)):
            found["first"].append(ids.minKey())
            found["last"].append(ids.maxKey())
            with suppress(ValueError):  # none is beyond
                found["next"].append(ids.minKey(high))
            with suppress(ValueError):
                found["before"].append(ids.maxKey(low))
        ends = [(min, "first"), (max, "before"), (min, "next"), (max, "last")]
        return sorted({end(found[which]) for end, which in ends if found[which]})

    def records(
        self,
        ids: Iterable[int],
        *,
        keep: bool = True,
        where: Callable[[RunRecord], bool] | None = None,
    ) -> Iterator[RunRecord]:
        """Yield the records of those of ``ids`` that satisfy ``where``, loaded in batches.

        Unless ``keep`` is False, the first of them stay in the cache.
        """
        return read_records(self.runs, ids, keep=keep, where=where)

    def scan(self, scan: ColumnScan, low: int, high: int) -> Iterator[int]:
        """Yield the ids from ``low`` to ``high`` of a superset of the runs that match, ascending.

        It reads columns of parameters, neither records nor indexes.
        """
        return self.runs.candidates(scan, low, high)

    def complete(self, record: RunRecord) -> RunRecord:
        """Return a run's record with its whole history. Most records have it anyway."""
        if not record.archived:
            return record
        return complete(record, history_archive.read(self.trees["histories"], record.id))

    def find(self, *identities: bytes | None) -> int | None:
        """Return the id of the run with the first of these identities that exists."""
        return self.identities.first(identities)

    # -- indexes ---------------------------------------------------------------------------

    def ids(
        self,
        run_name: str | None,
        *,
        states: Iterable[str] | None = None,
        lifecycles: Iterable[str] | None = None,
        id_min: int | None = None,
        id_max: int | None = None,
    ) -> list[int]:
        """Return the ids of one run name (None: of all) in these states, ascending."""
        sets = self._sets_in(run_name, states, lifecycles)
        for ids in sets:
            prefetch_range(ids, *((id_min, id_max) if len(sets) == 1 else (None, None)))
        found = sets[0] if len(sets) == 1 else multiunion(sets)
        return list(found.keys(id_min, id_max))

    def stream_ids(
        self,
        run_name: str | None,
        *,
        states: Iterable[str] | None = None,
        lifecycles: Iterable[str] | None = None,
        id_min: int | None = None,
        id_max: int | None = None,
    ) -> Iterator[int]:
        """Yield what ``ids`` returns, loading as little as possible; change no run meanwhile."""
        sets = self._sets_in(run_name, states, lifecycles)
        streams = [stream_keys(ids, id_min, id_max) for ids in sets]
        return streams[0] if len(streams) == 1 else merge(*streams)

    def _sets_in(
        self,
        run_name: str | None,
        states: Iterable[str] | None,
        lifecycles: Iterable[str] | None,
    ) -> list[Any]:
        """Return the sets of ids in these states as shown if given, else in these lifecycles."""
        if states is not None:
            return self.id_sets("states", states, run_name)
        return self.id_sets("lifecycles", lifecycles, run_name)

    def id_sets(self, index: str, names: Iterable[str] | None, run_name: str | None) -> list[Any]:
        """Return the sets of ids under these names of an index, for one run name or all."""
        tree = self.trees[index]
        if names is None:
            return [ids for (_, name), ids in tree.items() if run_name in (None, name)]
        if run_name is not None:
            found = (tree.get((name, run_name)) for name in names)
            return [ids for ids in found if ids is not None]
        return [ids for name in names for ids in tree.values((name, ""), (name, LAST))]

    def counts(self, run_name: str | None = None, *, index: str = "states") -> dict[str, int]:
        """Return the number of runs in each state as shown (or in each lifecycle)."""
        return self.numbers.by_key(index, run_name)

    def count(
        self,
        run_name: str | None,
        *,
        states: Iterable[str] | None = None,
        lifecycles: Iterable[str] | None = None,
    ) -> int:
        """Return the number of runs of one run name (None: of all) in these states."""
        if states is not None:
            return self.numbers.count("states", states, run_name)
        if lifecycles is None and run_name is None:
            return len(self)
        return self.numbers.count("lifecycles", lifecycles, run_name)

    def counts_by_run_name(self, lifecycles: Iterable[str]) -> dict[str, int]:
        """Return the number of runs in these lifecycles, by run name."""
        return self.numbers.by_run_name("lifecycles", lifecycles)

    def run_names(self) -> set[str]:
        """Return all run names with at least one run."""
        return set(self.numbers.by_run_name("lifecycles"))

    def had_run_name(self, run_name: str) -> bool:
        """Return whether a run has or had this run name, deleted runs included."""
        return any(name == run_name for _, name in self.trees["lifecycles"])

    def count_other_parameters(
        self, types: Mapping[str, str], run_name: str | None = None
    ) -> dict[str, int]:
        """Return the number of runs with other parameters than ``types``, by difference.

        It reads no other job if the oldest and the newest have these parameters.
        """
        if not self.jobs.has_other_parameters(types):
            return {}
        run_names = self.run_names()
        if run_name is None or run_names == {run_name}:
            return self.jobs.count_other_parameters(types)
        if run_name not in run_names:
            return {}
        return self.jobs.count_other_parameters(
            types, lambda: self.records(self.ids(run_name), keep=False)
        )

    def count_other_scripts(self, digest: str, run_name: str) -> int:
        """Return the number of runs in a terminal state whose scripts have another digest."""
        found = self.numbers.by_key("ended_scripts", run_name)
        return sum(number for of, number in found.items() if of != digest)

    def finished_by_reason(self, run_name: str, most: int | None = None) -> dict[str, FirstIds]:
        """Return the FINISHED runs that have a reason, by reason; of each at most ``most`` ids."""
        numbers = list(self.numbers.numbers("remarks", None, run_name))
        tree = self.trees["remarks"] if numbers else {}
        return {
            reason: FirstIds(list(islice(stream_keys(tree[reason, run_name]), most)), number)
            for reason, _, number in numbers
        }

    # -- writing ---------------------------------------------------------------------------

    @property
    def last_id(self) -> int:
        """Return the last run id that was reserved, 0 if none was."""
        return int(self.trees["ids"]["run"])

    def reserve(self, runs: int, jobs: int) -> tuple[int, int]:
        """Reserve ids; return the first run id and the first job id."""
        ids = self.trees["ids"]
        first = (ids["run"] + 1, ids["job"] + 1)
        if runs:
            ids["run"] += runs
        if jobs:
            ids["job"] += jobs
        return first

    def tidy_identities(self) -> bool:
        """Make a bounded step in each index of identities; return whether any was due."""
        ids = self.trees["ids"]
        steps = self.identities.step(ids["run"]), self.jobs.identities.step(ids["job"])
        return any(steps)

    def insert(self, record: RunRecord, job_digest: bytes) -> None:
        """Insert a run under ``record.id``, and its job if that is new."""
        self.jobs.add_run(record, job_digest)
        self.runs.insert(record)
        self.identities.add(record.identity, record.id)
        self._indexes.change(record.id, None, record)

    def edit(self, run_id: int, edit: RunEdit) -> tuple[RunRecord, RunRecord]:
        """Apply one edit; return the records before and after."""
        old = self.run(run_id)
        new = edit.apply(old)
        if new is not old and new != old:
            if new.identity != old.identity:
                new = self._move(old, new)
                self.runs.move(run_id)
            new, moves = archive(new)
            if moves:
                histories = self.trees.setdefault("histories", OOBTree())
                history_archive.append(histories, run_id, old.archived, moves)
            self.runs.update(new)
            self._indexes.change(run_id, old, new)
            if new.attempt != old.attempt:
                quantities.delete_series(self.trees["quantities"], run_id)
        return old, new

    def delete(self, run_id: int) -> RunRecord:
        """Delete a run, its quantities, and its job if that has no other run."""
        trees = self.trees
        record = self.run(run_id)
        self._indexes.change(run_id, record, None)
        quantities.delete_series(trees["quantities"], run_id)
        if record.archived:
            history_archive.delete(trees["histories"], run_id)
        self.runs.delete(run_id)
        self.identities.remove(record.identity)
        self.jobs.remove_run(record.job_id)
        return record

    def flush(self) -> None:
        """Store the inserted runs. Call it before the commit."""
        self.runs.flush()

    def _move(self, old: RunRecord, new: RunRecord) -> RunRecord:
        """Move a run to another identity and job; return its record with the job's id."""
        existing, digest = self.find(new.identity), job_identity(new.job)
        if existing not in (None, new.id):
            raise ConflictError(f"run {self.name}.{existing} has these values")
        job_id = self.jobs.find(job_identity(new.job, literal=True), digest)
        moved = new if job_id is None else replace(new, job_id=job_id)
        if moved.job_id != old.job_id:
            self.jobs.add_run(moved, digest)
            self.jobs.remove_run(old.job_id)
        self.identities.remove(old.identity)
        self.identities.add(moved.identity, moved.id)
        return moved

    # -- quantities ------------------------------------------------------------------------

    def push(self, push: PushQuantities) -> None:
        """Append points to a series, unless another attempt pushed them or they are stored."""
        record = self.run(push.key.id)
        outdated = record.token != push.token or record.lifecycle.is_terminal
        if not outdated and push.consumed > record.outbox_offset:
            quantities.append_points(self.trees["quantities"], push.key.id, push.name, push.points)

    def quantity(self, run_id: int, name: str) -> list[tuple[Any, Any]] | None:
        """Return a series as (step, value) pairs in the order pushed, None if it does not exist."""
        return quantities.read_points(self.trees["quantities"], run_id, name)

    def series(
        self, ids: Sequence[int], names: Sequence[str]
    ) -> list[dict[str, list[tuple[Any, Any]]]]:
        """Return the series of these names that each run has, as (step, value) pairs."""
        tree = self.trees["quantities"]
        prefetch_leaves(tree, [(run_id, names[0], 0) for run_id in ids])
        wanted = [(run_id, name) for run_id in ids for name in names]
        found = quantities.read_series(tree, wanted)
        return [{n: s for n in names if (s := found.get((run_id, n)))} for run_id in ids]

    def all_quantity_names(self) -> set[str]:
        """Return the names of all series of all runs."""
        return {name for _, name, _ in self.trees["quantities"]}

    def series_summaries(self, run_id: int) -> list[tuple[str, int, Any, Any]]:
        """Return name, number of points, last step and last value of a run's series, by name."""
        return quantities.series_summaries(self.trees["quantities"], run_id)

    def quantity_names(self, run_id: int) -> list[str]:
        """Return the names of a run's series, sorted."""
        return quantities.series_names(self.trees["quantities"], run_id)
