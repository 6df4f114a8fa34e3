"""One study's jobs, runs and indexes, as BTrees of plain data.

Layout (all keys plain, so that no class path of ours is stored)::

    runs          IOBTree   id -> PersistentMapping, the stored form of a RunRecord
    jobs          IOBTree   id -> dict of job values
    runs_of_job   IIBTree   job id -> number of its runs
    by_identity   OOBTree   run identity -> run id
    by_job        OOBTree   job identity -> job id
    states        OOBTree   (state as shown, run name) -> IITreeSet of run ids
    lifecycles    OOBTree   (lifecycle, run name) -> IITreeSet of run ids
    scripts       OOBTree   (digest of the scripts, run name) -> IITreeSet of run ids
    queues        OOBTree   (generator, machine name) -> IITreeSet of the ids of CREATED runs that
                            say where they are to run; "" for what such a run leaves open
    remarks       OOBTree   (reason, run name) -> IITreeSet of ids of FINISHED runs with a reason;
                            absent until there is one
    quantities    OOBTree   (run id, name, chunk) -> PersistentMapping {"points": [(step, value)]}
    ids           PersistentMapping {"run": last id, "job": last id}
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from BTrees.IIBTree import IIBTree, IITreeSet, difference, intersection, multiunion
from BTrees.IOBTree import IOBTree
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping

from motoko.core.parameter_space import describe_change, job_identity
from motoko.core.records import RunRecord, decode_record, encode_record
from motoko.core.states import TERMINAL, Lifecycle
from motoko.core.values import MISSING
from motoko.errors import UnknownRunError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from motoko.core.changes import PushQuantities
    from motoko.core.edits import RunEdit

CHUNK: Final = 500  # numbers of a series in one object: a push rewrites at most these
LAST: Final = "\U0010ffff"
INDEXES: Final = ("states", "lifecycles", "scripts")  # by a text and the run name


def new_study_table() -> PersistentMapping:
    """Return the empty table of one study."""
    return PersistentMapping(
        {
            "runs": IOBTree(),
            "jobs": IOBTree(),
            "runs_of_job": IIBTree(),
            "by_identity": OOBTree(),
            "by_job": OOBTree(),
            "states": OOBTree(),
            "lifecycles": OOBTree(),
            "scripts": OOBTree(),
            "queues": OOBTree(),
            "quantities": OOBTree(),
            "ids": PersistentMapping({"run": 0, "job": 0}),
        }
    )


def queue(record: RunRecord) -> tuple[str, str] | None:
    """Return where a CREATED run is to run: generator and machine name; None if it says neither."""
    if record.lifecycle is not Lifecycle.CREATED or not record.options:
        return None
    places = (record.options.get("generator"), record.options.get("machine_name"))
    return (str(places[0] or ""), str(places[1] or "")) if any(places) else None


def remark(record: RunRecord) -> tuple[str, str] | None:
    """Return what is to be said of a FINISHED run, and its run name; None for most."""
    if record.lifecycle is not Lifecycle.FINISHED or not record.reason:
        return None
    return record.reason, record.run_name


class StudyTable:
    """Reads and writes one study's table in the snapshot of one connection."""

    def __init__(self, name: str, table: Any) -> None:
        self.name = name
        self._table = table

    def __len__(self) -> int:
        return len(self._table["runs"])

    def run(self, run_id: int) -> RunRecord:
        """Return one run's record; UnknownRunError if there is none."""
        return self._record(self.stored_run(run_id))

    def stored_run(self, run_id: int) -> Any:
        """Return the persistent object of one run."""
        stored = self._table["runs"].get(run_id)
        if stored is None:
            raise UnknownRunError(f"study {self.name!r} has no run {run_id}")
        return stored

    def version(self, run_id: int) -> bytes | None:
        """Return what changes with every commit that writes the run, None if it has none yet."""
        stored = self._table["runs"].get(run_id)
        if stored is None or stored._p_jar is None:
            return None
        stored._p_activate()
        return bytes(stored._p_serial)  # noqa: SLF001 - ZODB's public names begin so

    def has_run(self, run_id: int) -> bool:
        """Return whether there is such a run."""
        return run_id in self._table["runs"]

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
        """Yield the records of ``ids``, fetched together where the storage can.

        They stay in memory for whoever reads them next, unless ``keep`` is False.
        """
        runs = self._table["runs"]
        stored = [item for item in (runs.get(run_id) for run_id in ids) if item is not None]
        self._prefetch(stored)
        for item in stored:
            new = item._p_changed is None
            record = self._record(item)
            if new and not keep:
                item._p_deactivate()  # noqa: SLF001 - ZODB's public names begin so
            yield record

    def _prefetch(self, stored: list[Any]) -> None:
        ghosts = [item for item in stored if item._p_changed is None]
        if len(ghosts) > 1 and ghosts[0]._p_jar is not None:
            ghosts[0]._p_jar.prefetch(ghosts)

    def job(self, job_id: int) -> dict[str, Any]:
        """Return one job's values; UnknownRunError if there is none."""
        values = self._table["jobs"].get(job_id)
        if values is None:
            raise UnknownRunError(f"study {self.name!r} has no job {job_id}")
        return dict(values)

    def job_ids(self) -> list[int]:
        """Return all job ids, ascending."""
        return list(self._table["jobs"])

    def seems_changed(self, types: Mapping[str, str]) -> bool:
        """Return whether the oldest or the newest job has other parameters than ``types``."""
        jobs = self._table["jobs"]
        ends = (jobs[jobs.minKey()], jobs[jobs.maxKey()]) if jobs else ()
        return any(describe_change(types, job) for job in ends)

    def changed(self, types: Mapping[str, str], run_name: str | None = None) -> dict[str, int]:
        """Return how many runs have jobs with other parameters than ``types``, by what differs.

        ``run_name`` None: of all run names.
        """
        run_names = self.run_names()
        jobs = self._table["jobs"].items() if run_name is None or run_name in run_names else ()
        found = {job_id: how for job_id, job in jobs if (how := describe_change(types, job))}
        counts: Counter[str] = Counter()
        if not found:
            return {}
        if run_name is None or run_names == {run_name}:
            for job_id, how in found.items():
                counts[how] += self._table["runs_of_job"][job_id]
        else:
            records = self.records(self.ids(run_name), keep=False)
            counts.update(found[run.job_id] for run in records if run.job_id in found)
        return dict(counts)

    def find(self, *identities: bytes | None) -> int | None:
        """Return the id of the run with the first of these identities that there is."""
        return self._first("by_identity", identities)

    def find_job(self, *identities: bytes | None) -> int | None:
        """Return the id of the job with the first of these identities that there is."""
        return self._first("by_job", identities)

    def _first(self, index: str, identities: Iterable[bytes | None]) -> int | None:
        found = (self._table[index].get(identity) for identity in identities if identity)
        return next((int(number) for number in found if number is not None), None)

    def ids(
        self,
        run_name: str | None,
        *,
        states: Iterable[str] | None = None,
        lifecycles: Iterable[str] | None = None,
        id_min: int | None = None,
        id_max: int | None = None,
    ) -> list[int]:
        """Return ids in ascending order, of one run name (None: of all) and these states."""
        if states is not None:
            sets = self._sets("states", states, run_name)
        elif lifecycles is not None or run_name is not None:
            sets = self._sets("lifecycles", lifecycles, run_name)
        else:
            return list(self._table["runs"].keys(id_min, id_max))
        if len(sets) == 1:
            return list(sets[0].keys(id_min, id_max))
        found = multiunion(sets)
        return list(found.keys(id_min, id_max))

    def _sets(self, index: str, names: Iterable[str] | None, run_name: str | None) -> list[Any]:
        tree = self._table[index]
        if names is None:
            return [ids for (_, name), ids in tree.items() if run_name in (None, name)]
        if run_name is not None:
            found = (tree.get((name, run_name)) for name in names)
            return [ids for ids in found if ids is not None]
        return [ids for name in names for ids in tree.values((name, ""), (name, LAST))]

    def counts(self, run_name: str | None = None, *, index: str = "states") -> dict[str, int]:
        """Return how many runs are in each state as shown (or in each lifecycle)."""
        counts: dict[str, int] = {}
        for (state, name), ids in self._table[index].items():
            if run_name in (None, name) and (n := len(ids)):
                counts[state] = counts.get(state, 0) + n
        return counts

    def counts_by_run_name(self, lifecycles: Iterable[str]) -> dict[str, int]:
        """Return how many runs each run name has in these lifecycles, where it has any."""
        counts: Counter[str] = Counter()
        for lifecycle in lifecycles:
            first, last = (lifecycle, ""), (lifecycle, LAST)
            for (_, name), ids in self._table["lifecycles"].items(first, last):
                counts[name] += len(ids)
        return dict(+counts)

    def outdated(self, digest: str, run_name: str) -> list[int]:
        """Return the runs that have ended and whose scripts have another digest, ascending."""
        trees = self._table["scripts"].items()
        others = [ids for (of, name), ids in trees if name == run_name and of != digest]
        ended = self._sets("lifecycles", TERMINAL, run_name)
        return list(intersection(multiunion(others), multiunion(ended)))

    def remarks(self, run_name: str) -> dict[str, list[int]]:
        """Return the FINISHED runs that something is to be said of, by what it is."""
        trees = self._table.get("remarks", {}).items()
        return {text: list(ids) for (text, name), ids in trees if name == run_name and ids}

    def waiting(self, served: Callable[[str, str], bool]) -> list[int]:
        """Return the ids of CREATED runs that are ``served``, ascending.

        ``served`` is asked with the generator and machine name that runs give, "" for none.
        """
        created = multiunion(self._sets("lifecycles", [Lifecycle.CREATED.value], None))
        choosy = {key: ids for key, ids in self._table["queues"].items() if ids}
        if served("", ""):
            others = [ids for key, ids in choosy.items() if not served(*key)]
            return list(difference(created, multiunion(others)) if others else created)
        return list(multiunion([ids for key, ids in choosy.items() if served(*key)]))

    def run_names(self) -> set[str]:
        """Return all run names with at least one run."""
        return {name for (_, name), ids in self._table["lifecycles"].items() if ids}

    # -- writing ---------------------------------------------------------------------------

    def reserve(self, runs: int, jobs: int) -> tuple[int, int]:
        """Take ids off the counters; returns the first run id and the first job id."""
        ids = self._table["ids"]
        first = (ids["run"] + 1, ids["job"] + 1)
        if runs:
            ids["run"] += runs
        if jobs:
            ids["job"] += jobs
        return first

    def insert(self, record: RunRecord, job_digest: bytes) -> None:
        """Insert a run under ``record.id``, and its job unless it is there."""
        table = self._table
        if record.job_id not in table["jobs"]:
            table["jobs"][record.job_id] = dict(record.job)
            table["by_job"][job_digest] = record.job_id
        stored = PersistentMapping()
        stored.data = encode_record(record)  # item by item, as its constructor does it, is slow
        table["runs"][record.id] = stored
        # A counter: two clients that add or remove runs of one job conflict, so that a job never
        # goes while it gets another run.
        table["runs_of_job"][record.job_id] = table["runs_of_job"].get(record.job_id, 0) + 1
        table["by_identity"][record.identity] = record.id
        for index, key in zip(INDEXES, _index_keys(record), strict=True):
            self._index(index, key, record)
        self._requeue(None, record)
        self._note_remark(None, record)

    def edit(self, run_id: int, edit: RunEdit) -> tuple[RunRecord, RunRecord]:
        """Apply one edit; returns the records before and after."""
        stored = self.stored_run(run_id)
        old = self._record(stored)
        new = edit.apply(old)
        if new is not old and new != old:
            stored.data = encode_record(new)
            stored._v_record = new
            self._reindex(old, new)
            if new.attempt != old.attempt:
                self._drop_quantities(run_id)
        return old, new

    def delete(self, run_id: int) -> RunRecord:
        """Remove a run, its quantities, and its job if that was the job's last run."""
        table = self._table
        record = self.run(run_id)
        for index, key in zip(INDEXES, _index_keys(record), strict=True):
            self._unindex(index, key, record)
        self._requeue(record, None)
        self._note_remark(record, None)
        self._drop_quantities(run_id)
        # Written once more, so that an edit under way elsewhere conflicts and others are told.
        table["runs"][run_id]._p_changed = True
        del table["runs"][run_id]
        del table["by_identity"][record.identity]
        left = table["runs_of_job"][record.job_id] - 1
        if left:
            table["runs_of_job"][record.job_id] = left
        else:
            del table["runs_of_job"][record.job_id]
            del table["by_job"][self._job_key(record.job_id)]
            del table["jobs"][record.job_id]
        return record

    def _job_key(self, job_id: int) -> bytes | None:
        """Return the key of a job in the index of jobs, None if it is not in it."""
        values, keys = self._table["jobs"][job_id], self._table["by_job"]
        digests = (job_identity(values), job_identity(values, literal=True))
        return next((digest for digest in digests if keys.get(digest) == job_id), None)

    def _reindex(self, old: RunRecord, new: RunRecord) -> None:
        for index, old_key, key in zip(INDEXES, _index_keys(old), _index_keys(new), strict=True):
            if old_key != key:
                self._unindex(index, old_key, old)
                self._index(index, key, new)
        self._requeue(old, new)
        self._note_remark(old, new)

    def _note_remark(self, old: RunRecord | None, new: RunRecord | None) -> None:
        was, becomes = (None if record is None else remark(record) for record in (old, new))
        if was == becomes:
            return
        remarks = self._table.setdefault("remarks", OOBTree())
        if old is not None and was is not None:
            remarks[was].remove(old.id)
        if new is not None and becomes is not None:
            if becomes not in remarks:
                remarks[becomes] = IITreeSet()
            remarks[becomes].insert(new.id)

    def _requeue(self, old: RunRecord | None, new: RunRecord | None) -> None:
        was, becomes = (None if record is None else queue(record) for record in (old, new))
        if was != becomes:
            queues = self._table["queues"]
            if old is not None and was is not None:
                queues[was].remove(old.id)
            if new is not None and becomes is not None:
                if becomes not in queues:
                    queues[becomes] = IITreeSet()
                queues[becomes].insert(new.id)

    def _index(self, index: str, key: str, record: RunRecord) -> None:
        tree = self._table[index]
        ids = tree.get((key, record.run_name))
        if ids is None:
            ids = tree[key, record.run_name] = IITreeSet()
        ids.insert(record.id)

    def _unindex(self, index: str, key: str, record: RunRecord) -> None:
        self._table[index][key, record.run_name].remove(record.id)

    # -- quantities ------------------------------------------------------------------------

    def push(self, push: PushQuantities) -> None:
        """Append points to a series, unless they are of another attempt or were taken already."""
        record = self.run(push.key.id)
        outdated = record.token != push.token or record.lifecycle.is_terminal
        if outdated or push.consumed <= record.outbox_offset:
            return
        tree = self._table["quantities"]
        run_id, name = push.key.id, push.name
        keys = tree.keys((run_id, name, 0), (run_id, name, 2**62))
        chunk = keys[-1][2] if keys else -1
        points = list(push.points)
        if chunk >= 0:
            last = tree[(run_id, name, chunk)]
            room, count = CHUNK - sum(map(_numbers, last["points"])), 0
            for point in points:
                room -= _numbers(point)
                if room < 0:
                    break
                count += 1
            if count:
                last["points"] = [*last["points"], *points[:count]]
                points = points[count:]
        for part in _parts(points):
            chunk += 1
            tree[(run_id, name, chunk)] = PersistentMapping({"points": part})

    def quantity(self, run_id: int, name: str) -> list[tuple[Any, Any]] | None:
        """Return a series as (step, value) pairs in the order pushed, None if there is none."""
        chunks = self._table["quantities"].values((run_id, name, 0), (run_id, name, 2**62))
        points: list[tuple[Any, Any]] | None = None
        for chunk in chunks:
            points = [] if points is None else points
            points.extend(chunk["points"])
        return points

    def quantity_names(self, run_id: int) -> list[str]:
        """Return the names of a run's series, sorted."""
        keys = self._table["quantities"].keys((run_id, "", 0), (run_id + 1, "", 0))
        return sorted({name for _, name, _ in keys})

    def _drop_quantities(self, run_id: int) -> None:
        tree = self._table["quantities"]
        for key in list(tree.keys((run_id, "", 0), (run_id + 1, "", 0))):
            del tree[key]

    # -- checking --------------------------------------------------------------------------

    def recount(self) -> list[str]:
        """Return every disagreement between the indexes and a recount of all runs."""
        wrong: list[str] = []
        expected: dict[str, dict[tuple[str, str], set[int]]] = {name: {} for name in INDEXES}
        identities: dict[bytes, int] = {}
        for record in self.records(list(self._table["runs"])):
            for index, key in zip(INDEXES, _index_keys(record), strict=True):
                expected[index].setdefault((key, record.run_name), set()).add(record.id)
            if record.identity in identities:
                wrong.append(f"{self.name}: two runs of one identity: {record.id}")
            identities[record.identity] = record.id
            if self._table["jobs"].get(record.job_id, MISSING) != record.job:
                wrong.append(f"{record.key}: its job {record.job_id} differs")
        for index, sets in expected.items():
            stored = {key: set(ids) for key, ids in self._table[index].items() if ids}
            if stored != sets:
                wrong.append(f"{self.name}: index {index} is {stored}, should be {sets}")
        queues: dict[tuple[str, str], set[int]] = {}
        for record in self.records(list(self._table["runs"])):
            place = queue(record)
            if place is not None:
                queues.setdefault(place, set()).add(record.id)
        if {key: set(ids) for key, ids in self._table["queues"].items() if ids} != queues:
            wrong.append(f"{self.name}: index queues differs from a recount")
        if dict(self._table["by_identity"]) != identities:
            wrong.append(f"{self.name}: index by_identity differs from a recount")
        return wrong + self._recount_jobs() + self._recount_quantities()

    def _recount_jobs(self) -> list[str]:
        wrong: list[str] = []
        runs = Counter(record.job_id for record in self.records(list(self._table["runs"])))
        if dict(self._table["runs_of_job"]) != runs:
            wrong.append(f"{self.name}: index runs_of_job differs from a recount")
        if set(self._table["jobs"]) != set(runs):
            wrong.append(f"{self.name}: there are jobs without runs")
        jobs = {self._job_key(job_id): job_id for job_id in self._table["jobs"]}
        if dict(self._table["by_job"]) != jobs:
            wrong.append(f"{self.name}: index by_job differs from a recount")
        return wrong

    def _recount_quantities(self) -> list[str]:
        orphans = {run_id for run_id, _, _ in self._table["quantities"]} - set(self._table["runs"])
        return [f"{self.name}: quantities of runs that are gone: {orphans}"] if orphans else []


def _numbers(point: tuple[Any, Any]) -> int:
    """Return how many numbers a point has: 1, or those of a vector or matrix."""

    def count(value: Any) -> int:
        return sum(map(count, value)) if isinstance(value, list | tuple) else 1

    return max(1, count(point[1]))


def _parts(points: list[tuple[Any, Any]]) -> Iterator[list[tuple[Any, Any]]]:
    """Split points so that each part has CHUNK numbers at most, or is one point."""
    part: list[tuple[Any, Any]] = []
    room = CHUNK
    for point in points:
        numbers = _numbers(point)
        if part and numbers > room:
            yield part
            part, room = [], CHUNK
        part.append(point)
        room -= numbers
    if part:
        yield part


def _index_keys(record: RunRecord) -> tuple[str, str, str]:
    """Return under what a run stands in each of INDEXES."""
    return record.state, record.lifecycle.value, record.scripts
