"""Recover the intact parts of a damaged database file in a new one.

Every whole transaction is found, also behind damage, and the newest whole state of each object is
kept. If the tables are inconsistent then, they are rebuilt from the records of the runs.
"""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from BTrees.OOBTree import OOBTree, OOTreeSet

from motoko.core.parameter_space import job_identity
from motoko.core.provenance import UNKNOWN
from motoko.errors import DatabaseDamagedError
from motoko.server.safe_file import SafeFileStorage
from motoko.storage import history_archive
from motoko.storage.backup import summarise
from motoko.storage.commit import run_transaction
from motoko.storage.consistency import check_database_file
from motoko.storage.damaged_tables import (
    UNREADABLE,
    copy_readable,
    read_histories,
    read_runs,
    read_tables,
)
from motoko.storage.database import Database
from motoko.storage.schema import create_tables
from motoko.storage.tables import Tables
from motoko.storage.whole_transactions import NewestStates, scan_file, write_image

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from motoko.core.records import RunKey, RunRecord, Transition

BATCH: Final = 1000  # runs in one commit
# Not copied: indexes are rebuilt; leases belong to running processes; the rest is new.
INDEXES: Final = frozenset(
    {"runs", "blocks", "jobs", "runs_of_job", "by_identity", "by_job", "by_identity_parts",
     "by_job_parts", "states", "lifecycles", "scripts", "queues", "remarks", "counts", "ids",
     "histories", "uncounted"}
)  # fmt: skip
NOT_COPIED: Final = frozenset({"version", "written_by", "studies", "leases", "renewals"})


@dataclass(slots=True)
class SalvageReport:
    """The result: whole transactions, and runs by study.

    ``gaps``: lost parts of the file, as (position, bytes). ``rebuilt``: tables were rebuilt.
    ``notes``: the parts of the tables that could not be read.
    """

    transactions: int = 0
    runs: dict[str, int] = field(default_factory=dict)
    gaps: list[tuple[int, int]] = field(default_factory=list)
    rebuilt: bool = False
    notes: list[str] = field(default_factory=list)


def salvage(source: Path, target: Path) -> SalvageReport:
    """Write the intact parts of ``source`` to ``target``; or raise DatabaseDamagedError."""
    report = SalvageReport()
    image = target.with_name(f"{target.name}.image")
    with source.open("rb") as file:
        newest = scan_file(file, source.stat().st_size, report.gaps)
        report.transactions = newest.transactions
        if not newest.places:
            raise DatabaseDamagedError(
                f"{source} holds no whole transaction", hint="Put a copy in its place."
            )
    write_image(newest, image)
    if check_database_file(image):
        report.rebuilt = True
        _rebuild(image, newest, target, report)
        report.notes += [
            f"still inconsistent: {problem}" for problem in check_database_file(target)
        ]
    else:
        image.rename(target)
        report.runs = summarise(target).runs
    return report


# -- the tables ------------------------------------------------------------------------------


def _rebuild(image: Path, newest: NewestStates, target: Path, report: SalvageReport) -> None:
    """Rebuild the tables of ``image`` in ``target``."""
    with (
        contextlib.closing(Database.read_file(image)) as old,
        contextlib.closing(Database(SafeFileStorage(target))) as new,
        old.snapshot() as connection,
    ):
        tables, studies = read_tables(connection, report.notes)
        runs = read_runs(connection, studies, newest, report.notes)
        names = sorted({*studies, *(record.study for record in runs.values())})
        run_transaction(new, lambda root: create_tables(root, names), initialising=True)
        run_transaction(
            new, lambda root: _copy(root, tables, studies, report.notes), initialising=True
        )
        ordered = [runs[key] for key in sorted(runs)]
        histories = read_histories(studies, report.notes)
        for start in range(0, len(ordered), BATCH):
            batch = ordered[start : start + BATCH]
            insert = functools.partial(_insert, records=batch, histories=histories)
            run_transaction(new, insert, initialising=True)
        report.runs = dict(Counter(record.study for record in ordered))


def _copy(
    root: Any, tables: dict[str, Any], studies: dict[str, dict[str, Any]], notes: list[str]
) -> None:
    motoko = root["motoko"]
    for name, table in tables.items():
        if name not in NOT_COPIED:
            motoko[name] = copy_readable(table, name, notes)
    _complete_firings(motoko)
    for table in motoko["studies"].values():
        del table["normalised"]
    for study, parts in studies.items():
        for name, table in parts.items():
            if name not in INDEXES:
                motoko["studies"][study][name] = copy_readable(table, f"{name} of {study}", notes)
        try:
            ids = dict(parts.get("ids", {}))
        except UNREADABLE:
            ids = {}
        for kind, number in ids.items():
            motoko["studies"][study]["ids"][kind] = number


def _complete_firings(motoko: Any) -> None:
    """Make the indexes of firings agree with their records.

    Each commit that opens or ends a firing writes both. If only the record is open, the commit that
    ended it is lost, and a later one wrote the index.
    """
    firings, listed = motoko["firings"], motoko["open"]
    for key in list(listed):
        if key not in firings or firings[key]["status"] != "open":
            listed.remove(key)
    for key, stored in firings.items():
        if stored["status"] == "open" and key not in listed:
            stored.update({"status": "done", "done": stored["opened"]})
        for one in stored.get("handled", ()):
            motoko.setdefault("handled", OOTreeSet()).insert((key[0], *one))


def _insert(
    root: Any, records: list[RunRecord], histories: Mapping[RunKey, Sequence[Transition]]
) -> None:
    tables = Tables(root)
    for found in records:
        stored = root["motoko"]["studies"][found.study]
        moves = histories.get(found.key, [])
        record = replace(_without_lost_facts(found, tables), archived=len(moves))
        tables.study(record.study).insert(record, job_identity(record.job))
        if moves:
            archive = stored.setdefault("histories", OOBTree())
            history_archive.append(archive, record.id, 0, moves)
        for kind, number in (("run", record.id), ("job", record.job_id)):
            stored["ids"][kind] = max(stored["ids"][kind], number)
    tables.flush()


def _without_lost_facts(record: RunRecord, tables: Tables) -> RunRecord:
    """Return the record without references to facts that are lost."""
    found = (one if tables.provenance(one) is not None else UNKNOWN for one in record.provenance)
    return replace(record, provenance=tuple(found))
