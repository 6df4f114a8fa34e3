"""Consistency checks: do the records of a database agree with its indexes?"""

from __future__ import annotations

import contextlib
from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from BTrees.check import check as check_tree
from ZODB.POSException import POSError

from motoko.core.parameter_space import job_identity
from motoko.core.values import MISSING
from motoko.errors import DatabaseVersionError, MotokoError
from motoko.printable import join_names
from motoko.server.class_allow_list import check_record, references
from motoko.server.file_integrity import UNREADABLE_OBJECT, check_file
from motoko.server.safe_file import SafeFileStorage
from motoko.storage import history_archive
from motoko.storage.database import Database
from motoko.storage.run_counts import COUNTED, JOBS, count_indexes, count_keys
from motoko.storage.run_indexes import index_keys
from motoko.storage.schema import upgrade
from motoko.storage.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from motoko.storage.identities import Identities
    from motoko.storage.study_table import StudyTable

RECOUNTED: Final = ("states", "lifecycles", "queues", "remarks")
SAMPLE: Final = 200  # records of a study


def check_database_file(
    path: Path, progress: Callable[[int, int], None] = lambda done, total: None
) -> list[str]:
    """Read a database file completely; return its errors.

    DatabaseDamagedError if it is unreadable, DatabaseVersionError if a newer Motoko wrote it.
    ``progress`` gets the number of objects read, and of all objects.
    """
    with contextlib.closing(Database.read_file(path)) as database:
        errors = list(_check_objects(path, progress))
        with database.snapshot() as connection:
            return errors + check_tables(connection.root())


def _check_objects(path: Path, progress: Callable[[int, int], None]) -> Iterator[str]:
    """Yield the objects that cannot be loaded, or refer to missing ones."""
    storage = SafeFileStorage(path, committed=check_file(path).committed)
    try:
        known = {oid for oid in storage._index}  # noqa: SLF001, C416 - it is no Iterable to mypy
        for number, oid in enumerate(sorted(known)):
            progress(number, len(known))
            try:
                data, _ = storage.load(oid)
                check_record(data)
                missing = [one for one in references(data) if one not in known]
            except Exception as error:  # noqa: BLE001 - a corrupt record may raise anything
                yield f"object {oid.hex()} cannot be read: {error}"
                continue
            for one in missing:
                yield f"object {oid.hex()} refers to {one.hex()}, which is missing"
    finally:
        storage.close()


def check_tables(root: Any) -> list[str]:
    """Return all disagreements between the records in a snapshot and their indexes.

    Tables of an earlier format are upgraded in the snapshot; DatabaseVersionError for a newer one.
    """
    try:
        upgrade(root)
        errors = list(_check_trees(root["motoko"], "motoko"))
        tables, references = Tables(root), set[bytes]()
        for name in tables.study_names():
            errors += check_study(tables.study(name), references)
        return errors + check_firings(tables) + check_provenance(tables, references)
    except DatabaseVersionError:
        raise
    except (MotokoError, POSError, *UNREADABLE_OBJECT) as error:
        return [f"its tables cannot be read: {type(error).__name__}: {error}"]


def _check_trees(table: Any, place: str) -> Iterator[str]:
    """Yield the trees whose structure is broken."""
    for name, item in table.items():
        where = f"{place}.{name}"
        if hasattr(item, "_check"):
            try:
                item._check()  # noqa: SLF001 - the name is BTrees'
                check_tree(item)
            except AssertionError as error:
                yield f"{where} is not in order: {error}"
        if hasattr(item, "items"):
            inner = {key: one for key, one in item.items() if hasattr(one, "_p_oid")}
            yield from _check_trees(inner, where)


def check_study(table: StudyTable, references: set[bytes] | None = None) -> list[str]:
    """Return all disagreements between the indexes and a recount of all runs.

    Add the runs' references to facts of attempts to ``references``.
    """
    trees, name = table.trees, table.name
    errors = [f"{name}: {fault}" for fault in table.runs.problems()]
    expected: dict[str, dict[tuple[str, str], set[int]]] = {index: {} for index in RECOUNTED}
    identities: dict[bytes, int] = {}
    runs_of_job: Counter[int] = Counter()
    archived: Counter[int] = Counter()
    numbers = Counter[tuple[str, Any, str]]()
    stored_ids = table.runs.stored_ids()
    for record in table.records(stored_ids):
        keys = index_keys(record)
        counted = count_keys(record, keys, trees.get("uncounted", 0))
        numbers.update((index, *key) for index in COUNTED if (key := counted[index]) is not None)
        for index, sets in expected.items():
            if (key := keys[index]) is not None:
                sets.setdefault(key, set()).add(record.id)
        if record.identity in identities:
            errors.append(f"{name}: two runs have the same identity: {record.id}")
        identities[record.identity] = record.id
        if references is not None:
            references.update(filter(None, record.provenance))
        runs_of_job[record.job_id] += 1
        archived[record.id] += record.archived
        if trees["jobs"].get(record.job_id, MISSING) != record.job:
            errors.append(f"{record.key}: its job {record.job_id} differs")
    for index, sets in expected.items():
        stored = {key: set(ids) for key, ids in trees.get(index, {}).items() if ids}
        if stored != sets:
            errors.append(f"{name}: index {index} is {stored}, should be {sets}")
    numbers[JOBS] = len(runs_of_job)
    errors += _check_counts(table, +numbers)
    if dict(trees["runs_of_job"]) != runs_of_job:
        errors.append(f"{name}: index runs_of_job differs from a recount")
    errors += _check_identities(name, table.identities, identities)
    errors += _check_identities(name, table.jobs.identities, _job_digests(table))
    errors += _check_histories(table, archived)
    if set(trees["jobs"]) != set(runs_of_job):
        errors.append(f"{name}: some jobs have no runs")
    orphans = {run_id for run_id, _, _ in trees["quantities"]} - set(stored_ids)
    return [*errors, f"{name}: quantities of deleted runs: {orphans}"] if orphans else errors


def _check_histories(table: StudyTable, expected: Mapping[int, int]) -> Iterator[str]:
    """Yield the runs whose records count other archived entries than there are."""
    stored = history_archive.counts(table.trees.get("histories", {}))
    for run_id in sorted({*stored, *expected}):
        found, counted = stored.get(run_id, 0), expected.get(run_id, 0)
        if found != counted:
            yield f"{table.name}.{run_id}: its history has {found} archived entries, not {counted}"


def _job_digests(table: StudyTable) -> dict[bytes, int]:
    """Return the id of each job by its digest in the index, by the present one if it has none."""
    digests = {
        job_id: (job_identity(job), job_identity(job, literal=True))
        for job_id, job in table.trees["jobs"].items()
    }
    found = table.jobs.identities.find(chain.from_iterable(digests.values()))
    return {
        literal if found.get(literal) == job_id != found.get(digest) else digest: job_id
        for job_id, (digest, literal) in digests.items()
    }


def _check_identities(name: str, index: Identities, expected: Mapping[bytes, int]) -> Iterator[str]:
    """Yield the faults of an index of identities; without any, its difference from a recount."""
    faults = [f"{name}: index {index.name}: {fault}" for fault in index.problems()]
    yield from faults
    if not faults and (index.items() != expected or index.find(expected) != expected):
        yield f"{name}: index {index.name} differs from a recount"


def _check_counts(
    table: StudyTable, expected: Mapping[tuple[str, Any, str], int], *, without: str = ""
) -> list[str]:
    """Return a disagreement between the stored numbers and the ``expected`` ones.

    ``without``: an index whose numbers are not expected. The number of jobs may be absent.
    """
    stored = {key: n for key, n in table.numbers.stored().items() if key[0] != without}
    wrong = {key for key, _ in stored.items() ^ expected.items()}
    if JOBS not in table.trees["counts"]:
        wrong.discard(JOBS)
    return [
        f"{table.name}: the number under {key} is {stored.get(key, 0)}, "
        f"should be {expected.get(key, 0)}"
        for key in sorted(wrong, key=repr)
    ]


def check_indexes(root: Any) -> list[str]:
    """Return disagreements between the indexes in a snapshot, and with a sample of the records.

    This takes a fraction of the time of ``check_tables``, which reads every record, and treats
    other formats in the same way.
    """
    try:
        upgrade(root)
        tables = Tables(root)
        studies = [tables.study(name) for name in tables.study_names()]
        return [error for table in studies for error in _check_indexes(table)]
    except DatabaseVersionError:
        raise
    except (MotokoError, POSError, *UNREADABLE_OBJECT) as error:
        return [f"its tables cannot be read: {type(error).__name__}: {error}"]


def _check_indexes(table: StudyTable) -> Iterator[str]:
    trees, name = table.trees, table.name
    runs, jobs = table.ids(None), list(trees["jobs"])
    for index in ("states", "lifecycles"):
        if sorted(run_id for ids in trees[index].values() for run_id in ids) != runs:
            yield f"{name}: index {index} does not list each run once"
    yield from _check_counts(table, count_indexes(trees), without="ended_scripts")
    if sorted(table.identities.items().values()) != runs:
        yield f"{name}: index by_identity does not list each run once"
    if sorted(table.jobs.identities.items().values()) != jobs or list(trees["runs_of_job"]) != jobs:
        yield f"{name}: the indexes of jobs do not list each job once"
    if sum(trees["runs_of_job"].values()) != len(runs):
        yield f"{name}: index runs_of_job does not count each run once"
    for record in table.records(runs[:: len(runs) // SAMPLE + 1]):
        keys = index_keys(record)
        for index in RECOUNTED:
            key, listed = keys[index], trees.get(index, {})
            if key is not None and record.id not in listed.get(key, ()):
                yield f"{record.key}: index {index} does not list it under {key}"


def check_provenance(tables: Tables, references: Iterable[bytes]) -> list[str]:
    """Return the references of runs to facts that are not stored."""
    lost = [one.hex() for one in references if tables.provenance(one) is None]
    return [f"the provenance {join_names(sorted(lost))} is missing"] if lost else []


def check_firings(tables: Tables) -> list[str]:
    """Return all disagreements between the indexes and the records of firings."""
    firings = tables.firings()
    expected = {key for key, firing in firings if firing["status"] == "open"}
    listed = tables.open_firing_ids()
    errors = [] if listed == expected else [f"the open firings are {listed}, should be {expected}"]
    for (run_name, event, _), firing in firings:
        handled = {tuple(one) for one in firing.get("handled", ())}
        if tables.handled_failures(run_name, handled) != handled:
            errors.append(f"the failures that event {event} of {run_name!r} handled are not listed")
    return errors
