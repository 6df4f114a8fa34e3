"""One study's jobs, runs and indexes, as BTrees of plain data.

Layout (all keys plain, so that no class path of Motoko is stored)::

    runs          IOBTree   id -> PersistentMapping, the stored form of a RunRecord
    jobs          IOBTree   id -> dict of job values
    runs_of_job   IIBTree   job id -> number of its runs
    by_identity   OOBTree   run identity -> run id
    by_job        OOBTree   job identity -> job id
    states        OOBTree   (state as shown, run name) -> IITreeSet of run ids
    lifecycles    OOBTree   (lifecycle, run name) -> IITreeSet of run ids
    scripts       OOBTree   (digest of the scripts, run name) -> IITreeSet of run ids
    queues        OOBTree   (generator, machine name) -> IITreeSet of the ids of CREATED runs that
                            name at least one of them; "" for the other
    remarks       OOBTree   (reason, run name) -> IITreeSet of ids of FINISHED runs with a reason;
                            absent until one exists
    quantities    OOBTree   see quantities.py
    ids           PersistentMapping {"run": last id, "job": last id}
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from BTrees.IIBTree import IIBTree, difference, intersection, multiunion
from BTrees.IOBTree import IOBTree
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping

from motoko.core.parameter_space import describe_change, job_identity
from motoko.core.records import RunRecord, decode_record, encode_record
from motoko.core.states import FAILURES, TERMINAL, Lifecycle
from motoko.errors import ConflictError, UnknownRunError
from motoko.storage import quantities
from motoko.storage.bulk_read import prefetch, prefetch_leaves, prefetch_range, stored_data
from motoko.storage.run_indexes import INDEXES, add_to_index, index_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from motoko.core.changes import PushQuantities
    from motoko.core.edits import RunEdit

LAST: Final = "\U0010ffff"
MOST_KEPT: Final = 20_000  # records in the cache of a connection


def new_study_table() -> PersistentMapping:
    """Return the empty table of one study."""
    trees = ("by_identity", "by_job", "states", "lifecycles", "scripts", "queues", "quantities")
    return PersistentMapping(
        {
            "runs": IOBTree(),
            "jobs": IOBTree(),
            "runs_of_job": IIBTree(),
            **{name: OOBTree() for name in trees},
            "ids": PersistentMapping({"run": 0, "job": 0}),
        }
    )


class StudyTable:
    """Reads and writes one study's table in the snapshot of one connection."""

    def __init__(self, name: str, trees: Any) -> None:
        self.name = name
        self.trees = trees

    def __len__(self) -> int:
        return len(self.trees["runs"])

    # -- runs and jobs ---------------------------------------------------------------------

    def run(self, run_id: int) -> RunRecord:
        """Return one run's record; UnknownRunError if it does not exist."""
        return self._record(self.stored_run(run_id))

    def stored_run(self, run_id: int) -> Any:
        """Return the persistent object of one run."""
        stored = self.trees["runs"].get(run_id)
        if stored is None:
            raise UnknownRunError(f"study {self.name!r} has no run {run_id}")
        return stored

    def version(self, run_id: int) -> bytes | None:
        """Return a value that changes with every commit to the run, None before the first."""
        stored = self.trees["runs"].get(run_id)
        if stored is None or stored._p_jar is None:
            return None
        stored._p_activate()
        return bytes(stored._p_serial)  # noqa: SLF001 - ZODB's public names begin so

    def has_run(self, run_id: int) -> bool:
        """Return whether the run exists."""
        return run_id in self.trees["runs"]

    def has_ids(self, low: int, high: int) -> bool:
        """Return whether a run has an id from ``low`` to ``high``."""
        return next(iter(self.trees["runs"].keys(low, high)), None) is not None

    @staticmethod
    def _record(stored: Any) -> RunRecord:
        stored._p_activate()
        record = getattr(stored, "_v_record", None)
        if record is None:
            record = decode_record(stored.data)
            stored._v_record = record
        assert isinstance(record, RunRecord)
        return record

    def records(self, ids: Iterable[int], *, keep: bool = True) -> Iterator[RunRecord]:
        """Yield the records of ``ids``, loaded together if the storage supports that.

        Unless ``keep`` is False, they stay cached, except that MOST_KEPT or more would displace
        each other.
        """
        runs, wanted = self.trees["runs"], list(ids)
        prefetch_leaves(runs, wanted)
        stored = [item for item in map(runs.get, wanted) if item is not None]
        if keep and len(stored) < MOST_KEPT:
            prefetch(stored)
            yield from map(self._record, stored)
        else:
            for item, data in zip(stored, stored_data(stored), strict=True):
                yield self._record(item) if data is None else decode_record(data)

    def job(self, job_id: int) -> dict[str, Any]:
        """Return one job's values; UnknownRunError if it does not exist."""
        values = self.trees["jobs"].get(job_id)
        if values is None:
            raise UnknownRunError(f"study {self.name!r} has no job {job_id}")
        return dict(values)

    def job_ids(self) -> list[int]:
        """Return all job ids, ascending."""
        return list(self.trees["jobs"])

    def find(self, *identities: bytes | None) -> int | None:
        """Return the id of the run with the first of these identities that exists."""
        return self._first("by_identity", identities)

    def find_job(self, *identities: bytes | None) -> int | None:
        """Return the id of the job with the first of these identities that exists."""
        return self._first("by_job", identities)

    def _first(self, index: str, identities: Iterable[bytes | None]) -> int | None:
        found = (self.trees[index].get(identity) for identity in identities if identity)
        return next((int(number) for number in found if number is not None), None)

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
        if states is not None:
            sets = self.id_sets("states", states, run_name)
        elif lifecycles is not None or run_name is not None:
            sets = self.id_sets("lifecycles", lifecycles, run_name)
        else:
            prefetch_range(self.trees["runs"], id_min, id_max)
            return list(self.trees["runs"].keys(id_min, id_max))
        for ids in sets:
            prefetch_range(ids, *((id_min, id_max) if len(sets) == 1 else (None, None)))
        found = sets[0] if len(sets) == 1 else multiunion(sets)
        return list(found.keys(id_min, id_max))

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
        counts: dict[str, int] = {}
        for (state, name), ids in self.trees[index].items():
            if run_name in (None, name) and (n := len(ids)):
                counts[state] = counts.get(state, 0) + n
        return counts

    def counts_by_run_name(self, lifecycles: Iterable[str]) -> dict[str, int]:
        """Return the number of runs in these lifecycles, by run name."""
        counts: Counter[str] = Counter()
        for lifecycle in lifecycles:
            first, last = (lifecycle, ""), (lifecycle, LAST)
            for (_, name), ids in self.trees["lifecycles"].items(first, last):
                counts[name] += len(ids)
        return dict(+counts)

    def run_names(self) -> set[str]:
        """Return all run names with at least one run."""
        return {name for (_, name), ids in self.trees["lifecycles"].items() if ids}

    def had_run_name(self, run_name: str) -> bool:
        """Return whether a run has or had this run name, deleted runs included."""
        return any(name == run_name for _, name in self.trees["lifecycles"])

    def with_other_scripts(self, digest: str, run_name: str) -> list[int]:
        """Return the runs in a terminal state whose scripts have another digest, ascending."""
        trees = self.trees["scripts"].items()
        others = [ids for (of, name), ids in trees if name == run_name and of != digest]
        ended = self.id_sets("lifecycles", TERMINAL, run_name)
        return list(intersection(multiunion(others), multiunion(ended)))

    def finished_by_reason(self, run_name: str) -> dict[str, list[int]]:
        """Return the FINISHED runs that have a reason, by reason."""
        trees = self.trees.get("remarks", {}).items()
        return {text: list(ids) for (text, name), ids in trees if name == run_name and ids}

    def ended(self, run_name: str, *, failed: bool = False) -> Any:
        """Return the set of the runs in a terminal state, or of the failed ones."""
        return multiunion(self.id_sets("lifecycles", FAILURES if failed else TERMINAL, run_name))

    def created_ids(self, served: Callable[[str, str], bool]) -> list[int]:
        """Return the ids of the CREATED runs that are ``served``, ascending.

        ``served`` gets the generator and machine name that a run names, "" for none.
        """
        created = multiunion(self.id_sets("lifecycles", [Lifecycle.CREATED.value], None))
        queues = {key: ids for key, ids in self.trees["queues"].items() if ids}
        if served("", ""):
            others = [ids for key, ids in queues.items() if not served(*key)]
            return list(difference(created, multiunion(others)) if others else created)
        return list(multiunion([ids for key, ids in queues.items() if served(*key)]))

    # -- jobs with other parameters than the study -----------------------------------------

    def has_other_parameters(self, types: Mapping[str, str]) -> bool:
        """Return whether the oldest or the newest job has other parameters than ``types``."""
        jobs = self.trees["jobs"]
        ends = (jobs[jobs.minKey()], jobs[jobs.maxKey()]) if jobs else ()
        return any(describe_change(types, job) for job in ends)

    def count_other_parameters(
        self, types: Mapping[str, str], run_name: str | None = None
    ) -> dict[str, int]:
        """Return the number of runs with other parameters than ``types``, by difference."""
        run_names = self.run_names()
        jobs = self.trees["jobs"].items() if run_name is None or run_name in run_names else ()
        found = {job_id: how for job_id, job in jobs if (how := describe_change(types, job))}
        counts: Counter[str] = Counter()
        if found and (run_name is None or run_names == {run_name}):
            for job_id, how in found.items():
                counts[how] += self.trees["runs_of_job"][job_id]
        elif found:
            records = self.records(self.ids(run_name), keep=False)
            counts.update(found[run.job_id] for run in records if run.job_id in found)
        return dict(counts)

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

    def insert(self, record: RunRecord, job_digest: bytes) -> None:
        """Insert a run under ``record.id``, and its job if that is new."""
        trees = self.trees
        self._add_to_job(record, job_digest)
        stored = PersistentMapping()
        stored.data = encode_record(record)  # its constructor copies item by item, slowly
        trees["runs"][record.id] = stored
        trees["by_identity"][record.identity] = record.id
        self._reindex(None, record)

    def edit(self, run_id: int, edit: RunEdit) -> tuple[RunRecord, RunRecord]:
        """Apply one edit; return the records before and after."""
        stored = self.stored_run(run_id)
        old = self._record(stored)
        new = edit.apply(old)
        if new is not old and new != old:
            if new.identity != old.identity:
                new = self._move(old, new)
            stored.data = encode_record(new)
            stored._v_record = new
            self._reindex(old, new)
            if new.attempt != old.attempt:
                quantities.delete_series(self.trees["quantities"], run_id)
        return old, new

    def delete(self, run_id: int) -> RunRecord:
        """Delete a run, its quantities, and its job if that has no other run."""
        trees = self.trees
        record = self.run(run_id)
        self._reindex(record, None)
        quantities.delete_series(trees["quantities"], run_id)
        # Written once more: concurrent edits conflict, and other clients are notified.
        trees["runs"][run_id]._p_changed = True
        del trees["runs"][run_id]
        del trees["by_identity"][record.identity]
        self._remove_from_job(record.job_id)
        return record

    def _move(self, old: RunRecord, new: RunRecord) -> RunRecord:
        """Move a run to another identity and job; return its record with the job's id."""
        identities, digest = self.trees["by_identity"], job_identity(new.job)
        if identities.get(new.identity, new.id) != new.id:
            raise ConflictError(f"run {self.name}.{identities[new.identity]} has these values")
        job_id = self.find_job(job_identity(new.job, literal=True), digest)
        moved = new if job_id is None else replace(new, job_id=job_id)
        if moved.job_id != old.job_id:
            self._add_to_job(moved, digest)
            self._remove_from_job(old.job_id)
        del identities[old.identity]
        identities[moved.identity] = moved.id
        return moved

    def _add_to_job(self, record: RunRecord, digest: bytes) -> None:
        trees, job_id = self.trees, record.job_id
        if job_id not in trees["jobs"]:
            trees["jobs"][job_id] = dict(record.job)
            trees["by_job"][digest] = job_id
        # A counter: clients that add and remove runs of one job conflict. So a job is never
        # deleted while it gets another run.
        trees["runs_of_job"][job_id] = trees["runs_of_job"].get(job_id, 0) + 1

    def _remove_from_job(self, job_id: int) -> None:
        trees = self.trees
        left = trees["runs_of_job"][job_id] - 1
        if left:
            trees["runs_of_job"][job_id] = left
        else:
            del trees["runs_of_job"][job_id]
            del trees["by_job"][self.job_key(job_id)]
            del trees["jobs"][job_id]

    def job_key(self, job_id: int) -> bytes | None:
        """Return the key of a job in the index of jobs, None if it has none."""
        values, keys = self.trees["jobs"][job_id], self.trees["by_job"]
        digests = (job_identity(values), job_identity(values, literal=True))
        return next((digest for digest in digests if keys.get(digest) == job_id), None)

    def _reindex(self, old: RunRecord | None, new: RunRecord | None) -> None:
        before = {} if old is None else index_keys(old)
        after = {} if new is None else index_keys(new)
        for index in INDEXES:
            former, present = before.get(index), after.get(index)
            if former == present:
                continue
            if old is not None and former is not None:
                self.trees[index][former].remove(old.id)
            if new is not None and present is not None:
                add_to_index(self.trees.setdefault(index, OOBTree()), present, new.id)

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
